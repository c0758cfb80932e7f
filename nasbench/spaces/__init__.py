"""The set of plans a search may draw from: the `Space` a person writes, and the same resolved for a backbone.

A slot of a space is a few categorical choices (a composition such as `gate(a, b)`, then one variant for each of its
letters), always all asked for, so that every sampler sees a flat space without conditionals. What a composition does
not use is ignored and disappears in the canonical form: plans are counted, enumerated and drawn as distinct plans.
"""

from nasbench.spaces._choices import SlotChoices
from nasbench.spaces._compositions import LETTERS, letters_of, usual_compositions
from nasbench.spaces._files import list_spaces, ready_made
from nasbench.spaces._filters import Selector
from nasbench.spaces._overrides import Override
from nasbench.spaces._quotas import Quota, Restriction
from nasbench.spaces._slots import SlotLike, SlotSelector
from nasbench.spaces._space import ResolvedSpace, Space, load_space

__all__ = [
    "LETTERS",
    "Override",
    "Quota",
    "ResolvedSpace",
    "Restriction",
    "Selector",
    "SlotChoices",
    "SlotLike",
    "SlotSelector",
    "Space",
    "letters_of",
    "list_spaces",
    "load_space",
    "ready_made",
    "usual_compositions",
]

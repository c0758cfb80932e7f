"""The set of plans from which a search chooses: a `Space` as a person writes it, or fitted to a backbone (resolved).

Each slot has a few categorical choices: a composition such as `gate(a, b)`, and one variant for each letter. A sampler
always sets all of these choices, so it sees a flat space without conditions. If a composition does not use a letter,
the variant of this letter is ignored and does not appear in the plan's canonical form. Plans are counted, enumerated
and drawn as distinct plans.
"""

from nasbench.spaces._choices import SlotChoices
from nasbench.spaces._compositions import LETTERS, letters_of, usual_compositions
from nasbench.spaces._files import list_spaces, read_space_file, ready_made
from nasbench.spaces._filters import Selector
from nasbench.spaces._overrides import Override
from nasbench.spaces._quotas import Quota, Restriction
from nasbench.spaces._slots import SlotLike, SlotSelector
from nasbench.spaces._space import GivenPlans, ResolvedSpace, Space, load_space

__all__ = [
    "LETTERS",
    "GivenPlans",
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
    "read_space_file",
    "ready_made",
    "usual_compositions",
]

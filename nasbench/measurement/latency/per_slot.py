"""Latency and MACs of a plan, slot by slot. Both are shown, because MACs do not predict latency well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from nasbench.backbones import slots
from nasbench.backbones.insertion import insert, plan_of
from nasbench.library.expression import Expression
from nasbench.library.plan import NECK, Plan
from nasbench.measurement.costs.model_costs import measure
from nasbench.measurement.latency.profiler import Profile, profile

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PerSlot", "profile_slots"]

_BARE, _WHOLE = "bare", "whole"


@dataclass(frozen=True)
class PerSlot:
    """The cost of a plan, slot by slot.

    Attributes:
        plan: The plan, resolved for the slots of the backbone.
        profile: Latency of the bare backbone ("bare"), of the whole plan ("whole") and of each slot alone (its name).
        macs: Number of MACs for one input, under the same names.
        necked: Slots that only reach the output with the neck of the plan. They are measured together with it.
    """

    plan: Plan
    profile: Profile
    macs: Mapping[str, int]
    necked: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-serialisable data: the rows of `frame`, and the samples and counts behind these rows."""
        rows = self.frame().to_dict("records")
        return {"plan": self.plan.text, "rows": rows, "profile": self.profile.to_dict(), "macs": dict(self.macs)}

    def frame(self) -> pd.DataFrame:
        """Return a table with one row for each slot and one for the whole plan.

        A row contains the added MACs and the added time, each also as a share of the bare backbone's. The times of the
        slots need not add up to the time of the whole plan.
        """
        bare_ms, rows = self.profile[_BARE].latency_ms, []
        for name in (*self.plan, _WHOLE):
            ratio, low, high = self.profile.ratio(name)
            macs = self.macs[name] - self.macs[_BARE]
            text = self.plan.text if name == _WHOLE else self.plan[name].canonical()
            rows.append(
                {
                    "slot": name,
                    "expression": f"{text} with neck {self.plan.neck}" if name in self.necked else text,
                    "added_macs": macs,
                    "added_macs_share": macs / self.macs[_BARE],
                    "added_ms": (ratio - 1) * bare_ms,
                    "added_share": ratio - 1,
                    "added_share_low": low - 1,
                    "added_share_high": high - 1,
                    "verdict": self.profile[name].verdict,
                }
            )
        import pandas as pd

        return pd.DataFrame(rows)


def profile_slots(
    backbone: str | nn.Module,
    plan: Plan | Mapping[str, Any] | Expression | str | None,
    *,
    input_size: Sequence[int],
    identity_init: bool = False,
    attach: Callable[[nn.Module], nn.Module] = lambda host: host,
    **options: Any,
) -> PerSlot:
    """Measure the bare backbone, each slot of a plan alone, and the whole plan, side by side.

    Args:
        backbone: A backbone, as for `insert`.
        plan: A plan, as for `insert`.
        input_size: Shape of one input, without the batch dimension.
        identity_init: Whether modules are inserted with gates, as for `insert`.
        attach: Puts a head on the host with a plan, as `Task.attach`.
        options: Options of `profile`.

    Raises:
        InputError: For the same reasons as `insert` and `profile`.
    """
    size = tuple(input_size)
    fitted = plan_of(insert(backbone, plan, input_size=size))
    alone = {slot.name for slot in slots(backbone, size)}
    necked = tuple(slot for slot in fitted if slot not in alone)
    parts = {slot: {slot: fitted[slot], **({NECK: fitted[NECK]} if slot in necked else {})} for slot in fitted}
    plans = {_BARE: Plan({}), **{slot: Plan(part) for slot, part in parts.items()}, _WHOLE: fitted}
    models = {
        name: attach(insert(backbone, part, input_size=size, identity_init=identity_init))
        for name, part in plans.items()
    }
    macs = {name: measure(model, input_size=size).macs for name, model in models.items()}
    return PerSlot(fitted, profile(models, input_size=size, reference=_BARE, **options), macs, necked)

"""The equal-cost control of a plan: in each slot of the plan, a plain residual bottleneck that adds about as many MACs.

What a neck adds, and what modules add in slots that only reach the output with that neck, goes to the finest level that
the head reads.

A module can help because of its operation, or only because it makes the model larger. A comparison with the control
shows which of the two is true. The control is an ordinary plan with a text and a hash. It is trained with the budget
and the seeds of its plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nasbench.backbones.dense import LEVEL
from nasbench.library.expression import Expression, parse
from nasbench.library.plan import NECK, Plan
from nasbench.measurement.costs.plan_costs import PlanCosts
from nasbench.runs.schema import RecordedControl

__all__ = ["MODULE", "Control", "SlotControl", "control_for"]

MODULE = "bottleneck"
"""Name of the module of the library from which controls are built."""


@dataclass(frozen=True)
class SlotControl:
    """The bottleneck in one slot of a control.

    Attributes:
        slot: Name of the slot.
        width: Number of inner channels of the bottleneck.
        plan_macs: MACs that the plan adds in this slot.
        control_macs: MACs that the bottleneck adds in this slot.
    """

    slot: str
    width: int
    plan_macs: int
    control_macs: int

    @property
    def ratio(self) -> float | None:
        """MACs that the control adds, divided by the MACs that the plan adds. None if the plan adds none."""
        return self.control_macs / self.plan_macs if self.plan_macs else None


@dataclass(frozen=True)
class Control:
    """The control of a plan.

    Attributes:
        plan: The control as a plan, with the same slots, but the finest level that the head reads in place of `neck`
            and of slots that only reach the output with it.
        slots: The bottleneck of each slot, in network order.
        plan_params: Parameters that the plan adds.
        control_params: Parameters that the control adds. They can differ from those that the plan adds, because the
            control matches MACs.
        exact: Whether the plan's MACs are exact. If they are only a lower bound, the control can be too small.
    """

    plan: Plan
    slots: tuple[SlotControl, ...]
    plan_params: int
    control_params: int
    exact: bool

    @property
    def ratio(self) -> float | None:
        """MACs that the control adds in all slots, divided by the MACs that the plan adds. None if the plan adds none.

        It can be far above 1: if the plan adds fewer MACs than the smallest bottleneck, the control has the smallest
        bottleneck.
        """
        added = sum(slot.plan_macs for slot in self.slots)
        return sum(slot.control_macs for slot in self.slots) / added if added else None

    @property
    def record(self) -> RecordedControl:
        """The control in the form that the journal records."""
        return RecordedControl(
            plan=self.plan.text,
            plan_hash=self.plan.hash,
            ratio=self.ratio,
            slots={slot.slot: slot.ratio for slot in self.slots},
            plan_params=self.plan_params,
            control_params=self.control_params,
            exact=self.exact,
        )


def control_for(plan: Plan, costs: PlanCosts) -> Control:
    """Return the control of a plan. In each slot, it adds as nearly as possible the MACs that the plan adds.

    Args:
        plan: A plan whose slots are resolved to those of `costs`. The control of the bare backbone is empty.
        costs: Counts the costs of plans in this backbone.

    Raises:
        UnsupportedError: If a module of the plan does not support its slot.
    """

    def added(part: Mapping[str, Expression], to: Mapping[str, Expression]) -> int:
        return costs(Plan({**to, **part})).macs - costs(Plan(to)).macs

    def macs(slot: str, expression: str) -> int:
        return added({slot: parse(expression)}, {})

    neck = {slot: expression for slot, expression in plan.items() if slot == NECK}
    targets: dict[str, int] = {}
    for slot, expression in plan.items():
        # No plain block goes in place of a neck, or into a slot that does not reach the output without the neck. What
        # they add is given to the finest level that the head reads.
        stays = slot != NECK and slot in costs.slots
        at = slot if stays else next(name for name in costs.slots if name.startswith(LEVEL))
        own = added({slot: expression}, {} if slot == NECK else neck)
        targets[at] = targets.get(at, 0) + own
    slots = []
    for slot, target in targets.items():
        width = _nearest(target, lambda w, at=slot: macs(at, _block(w)))  # type: ignore[misc]
        slots.append(SlotControl(slot, width, target, macs(slot, _block(width))))
    control = Plan({slot.slot: parse(_block(slot.width)) for slot in slots})
    whole, of_control = costs(plan), costs(control)
    return Control(
        control,
        tuple(slots),
        plan_params=whole.params - costs.bare.params,
        control_params=of_control.params - costs.bare.params,
        exact=not whole.unknown_ops,
    )


def _block(width: int) -> str:
    return f"{MODULE}(width={width})"


def _nearest(target: int, macs: Callable[[int], int]) -> int:
    """Return the width, at least 1, whose MACs are nearest to `target`. Of two equally near widths, return the smaller.

    `macs` must increase with the width.
    """
    # Double the width until it is too large, then bisect. This tries few widths, and each one must be built and
    # counted.
    high = 1
    while macs(high) < target:
        high *= 2
    low = high // 2  # macs(low) < target <= macs(high), unless high is 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if macs(middle) < target else (low, middle)
    return high if low < 1 or macs(high) - target < target - macs(low) else low

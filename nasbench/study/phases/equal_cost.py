"""The equal-cost control of a plan: a plain residual bottleneck in the same slots, as dear as what the plan adds.

A module may help because of what it does, or only because it makes the model larger. The control tells: it is a plan
like any other, with text and hash, trained under the same budget and seeds, and nothing in it is new.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nasbench.library.expression import parse
from nasbench.library.plan import Plan
from nasbench.measurement.costs.plan_costs import PlanCosts
from nasbench.runs.schema import RecordedControl

__all__ = ["MODULE", "Control", "SlotControl", "control_for"]

MODULE = "bottleneck"
"""The module of the library that controls are made of."""


@dataclass(frozen=True)
class SlotControl:
    """What stands in one slot of the control.

    Attributes:
        slot: The slot.
        width: Inner channels of the bottleneck.
        plan_macs: MACs that the plan adds in this slot.
        control_macs: MACs that the bottleneck adds there.
    """

    slot: str
    width: int
    plan_macs: int
    control_macs: int

    @property
    def ratio(self) -> float | None:
        """MACs of the control over the plan's; None where the plan adds none."""
        return self.control_macs / self.plan_macs if self.plan_macs else None


@dataclass(frozen=True)
class Control:
    """The control of a plan.

    Attributes:
        plan: The control, a plan in the same slots.
        slots: Slot by slot, in network order.
        plan_params: Parameters that the plan adds.
        control_params: Parameters that the control adds: the match is by MACs, this shows what it left open.
        exact: Whether the plan's MACs are exact; of a lower bound the control may be too small.
    """

    plan: Plan
    slots: tuple[SlotControl, ...]
    plan_params: int
    control_params: int
    exact: bool

    @property
    def ratio(self) -> float | None:
        """MACs that the control adds over those that the plan adds, all slots together; None where the plan adds none.

        Above 1 the control is the larger: where a plan adds less than the smallest bottleneck does, that one is used.
        """
        added = sum(slot.plan_macs for slot in self.slots)
        return sum(slot.control_macs for slot in self.slots) / added if added else None

    @property
    def record(self) -> RecordedControl:
        """What is recorded of it."""
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
    """Return the control of a plan: in each of its slots the bottleneck whose added MACs come nearest to the plan's.

    Args:
        plan: A plan resolved to the slots of `costs`; the bare backbone has an empty control.
        costs: Counts plans in this host.

    Raises:
        UnsupportedError: If a module of the plan cannot serve its slot.
    """

    def macs(slot: str, expression: str) -> int:
        return costs(Plan({slot: parse(expression)})).macs - costs.bare.macs

    slots = []
    for slot, expression in plan.items():
        target = macs(slot, expression.canonical())
        width = _nearest(target, lambda w, at=slot: macs(at, _block(w)))  # type: ignore[misc]
        slots.append(SlotControl(slot, width, target, macs(slot, _block(width))))
    control = Plan({found.slot: parse(_block(found.width)) for found in slots})
    added, of_control = costs(plan), costs(control)
    return Control(
        control,
        tuple(slots),
        plan_params=added.params - costs.bare.params,
        control_params=of_control.params - costs.bare.params,
        exact=not added.unknown_ops,
    )


def _block(width: int) -> str:
    return f"{MODULE}(width={width})"


def _nearest(target: int, macs: Callable[[int], int]) -> int:
    """Return the width from 1 on whose rising `macs` is nearest to `target`; of two as near the smaller."""
    high = 1
    while macs(high) < target:
        high *= 2
    low = high // 2  # macs(low) < target <= macs(high), unless high is 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if macs(middle) < target else (low, middle)
    return high if low < 1 or macs(high) - target < target - macs(low) else low

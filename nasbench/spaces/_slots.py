"""Select slots by name, by pattern, or by their size, channels and layout."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import AfterValidator, Discriminator, Field, Tag

from nasbench.errors import SpaceError, UnknownNameError
from nasbench.library.plan import is_stage_slot
from nasbench.spaces._filters import is_pattern
from nasbench.spaces._reading import Many, Written

__all__ = ["STAGES", "SlotLike", "SlotSelector", "SlotsWritten", "choose_slots"]

STAGES = "stages"
"""The word for every stage slot. In a backbone without stages it means every slot."""

_LAYOUTS = ("NCHW", "NHWC", "NLC", "NCL")


class SlotLike(Protocol):
    """The attributes of a slot that a space needs. `nasbench.backbones.Slot` has them all."""

    @property
    def name(self) -> str:
        """Name of the slot."""

    @property
    def channels(self) -> int:
        """Number of channels C of the tensor at the slot."""

    @property
    def size(self) -> tuple[int, ...]:
        """Spatial size of the tensor: `(H, W)`, or `(L,)` for a sequence of length L."""

    @property
    def layout(self) -> str:
        """Layout of the tensor in the backbone: NCHW, NHWC, NLC or NCL."""

    @property
    def dims(self) -> int:
        """Number of spatial dimensions, 1 or 2."""

    @property
    def levels(self) -> tuple[int, ...]:
        """Number of channels of each level, at the slot of a neck. Empty at other slots."""

    @property
    def necks(self) -> tuple[str, ...] | None:
        """Necks of plans, as expressions, with which the slot reaches the output. None if it always does."""

    @property
    def rows_are_series(self) -> bool:
        """Whether the two dimensions are series and time. A one-dimensional module then gets each row separately."""


def _layout(text: str) -> str:
    if text.upper() not in _LAYOUTS:
        raise UnknownNameError("layout", text, _LAYOUTS)
    return text.upper()


class SlotSelector(Written):
    """The slots that meet every given condition.

    Attributes:
        pattern: Names or shell patterns. `stages` means every stage slot.
        exclude: Names or shell patterns of slots to leave out.
        min_size: Smallest allowed length of the longer side.
        max_size: Largest allowed length of the longer side.
        min_positions: Smallest allowed number of positions (H·W, or L).
        max_positions: Largest allowed number of positions.
        min_channels: Smallest allowed number of channels.
        max_channels: Largest allowed number of channels.
        dims: Number of spatial dimensions, 1 or 2.
        layout: NCHW, NHWC, NLC or NCL.
        first: Number of slots to take, from the beginning of the network, of those that meet all other conditions.
        last: The same from the end of the network. If both are given, a slot must be among the first and among the
            last.
    """

    word: ClassVar[str] = "slot selector"

    pattern: Many[str] = ("*",)
    exclude: Many[str] = ()
    min_size: int | None = Field(default=None, ge=1)
    max_size: int | None = Field(default=None, ge=1)
    min_positions: int | None = Field(default=None, ge=1)
    max_positions: int | None = Field(default=None, ge=1)
    min_channels: int | None = Field(default=None, ge=1)
    max_channels: int | None = Field(default=None, ge=1)
    dims: Literal[1, 2] | None = None
    layout: Annotated[str, AfterValidator(_layout)] | None = None
    first: int | None = Field(default=None, ge=1)
    last: int | None = Field(default=None, ge=1)

    def choose(self, slots: Sequence[SlotLike]) -> list[SlotLike]:
        """Return the selected slots in network order."""
        left_out = {name for text in self.exclude for name in _named(text, slots)}
        named = {name for text in self.pattern for name in _named(text, slots)} - left_out
        met = [slot for slot in slots if slot.name in named and self._takes(slot)]
        chosen = met[: self.first] if self.first else met
        return [slot for slot in chosen if not self.last or slot in met[-self.last :]]

    def _takes(self, slot: SlotLike) -> bool:
        positions = 1
        for side in slot.size:
            positions *= side
        return (
            _within(max(slot.size), self.min_size, self.max_size)
            and _within(positions, self.min_positions, self.max_positions)
            and _within(slot.channels, self.min_channels, self.max_channels)
            and self.dims in (None, slot.dims)
            and self.layout in (None, slot.layout)
        )


SlotsWritten = Many[
    Annotated[
        Annotated[str, Tag("<name>")] | Annotated[SlotSelector, Tag("<selector>")],
        Discriminator(lambda given: "<name>" if isinstance(given, str) else "<selector>"),
    ]
]
"""Slots as a person writes them: names, patterns and selectors."""


def choose_slots(
    written: Sequence[str | SlotSelector], slots: Sequence[Any], what: str, *, optional: bool = False
) -> list[Any]:
    """Return the slots that names, patterns and selectors select, in network order.

    Args:
        written: Names, patterns and selectors.
        slots: The slots from which to choose.
        what: What the slots are for, for messages.
        optional: Whether patterns and selectors are allowed to match nothing. A space for several backbones needs this.

    Raises:
        SpaceError: If a name is not one of the slots, or if nothing matches and `optional` is False.
    """
    chosen: set[str] = set()
    for entry in written:
        if isinstance(entry, SlotSelector):
            chosen |= {slot.name for slot in entry.choose(slots)}
        else:
            chosen |= set(_named(entry, slots))
    if not chosen and not optional:
        spelt = ", ".join(str(w) if isinstance(w, str) else str(w.model_dump()) for w in written)
        raise SpaceError(
            f"{what}: no slot matches {spelt or 'nothing'}; the backbone has {_names(slots)}{_near(written, slots)}"
        )
    # A slot that is given by its full name must exist, even if another entry matches a slot.
    missing = [w for w in written if isinstance(w, str) and w != STAGES and not is_pattern(w) and w not in chosen]
    if missing:
        raise SpaceError(
            f"{what}: no slot matches {missing[0]}; the backbone has {_names(slots)}{_near(missing, slots)}. A pattern "
            f"({missing[0]}*) is allowed to match nothing"
        )
    return [slot for slot in slots if slot.name in chosen]


def _named(text: str, slots: Sequence[SlotLike]) -> list[str]:
    names = [slot.name for slot in slots]
    if text == STAGES:
        return [name for name in names if is_stage_slot(name)] or names
    return fnmatch.filter(names, text) if is_pattern(text) else [name for name in names if name == text]


def _near(written: Sequence[Any], slots: Sequence[SlotLike]) -> str:
    text = next((w for w in written if isinstance(w, str)), "")
    message = str(UnknownNameError("slot", text, [slot.name for slot in slots]))
    return "; did you mean" + message.partition("did you mean")[2] if "did you mean" in message else ""


def _names(slots: Sequence[SlotLike]) -> str:
    return ", ".join(slot.name for slot in slots) or "none"


def _within(value: int, low: int | None, high: int | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)

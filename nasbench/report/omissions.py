"""The parts of a report that could not be made, with one sentence for each reason."""

from __future__ import annotations

from dataclasses import dataclass, field

from nasbench.errors import NasbenchError

__all__ = ["Omissions"]


@dataclass
class Omissions:
    """Collects the parts of a report that could not be made.

    Attributes:
        left_out: The parts that the page does not have, by reason.
        kept: The parts that the page has as they were before, with the dates on which they were made, by reason.
    """

    left_out: dict[str, list[str]] = field(default_factory=dict)
    kept: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, error: Exception, kept_of: str = "") -> None:
        """Add a part.

        Args:
            what: The part, as a noun phrase.
            error: Why it could not be made.
            kept_of: The date on which the part that the page shows instead was made. "" if there is none.
        """
        # Nasbench's own messages are written for the user. For other errors the class is a part of the message.
        text = str(error) if isinstance(error, NasbenchError) else f"{type(error).__name__}: {error}"
        reason = " ".join(text.split())
        if kept_of:
            self.kept.setdefault(reason, []).append(f"{what} of {kept_of}")
        else:
            self.left_out.setdefault(reason, []).append(what)

    def add_reason(self, reason: str) -> None:
        """Add a reason that the reader must know even if no part is left out for it."""
        if reason not in self.left_out and reason not in self.kept:
            self.left_out[reason] = ["nothing"]

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each reason."""
        return (
            *(f"The report leaves out {', '.join(parts)}: {reason}" for reason, parts in self.left_out.items()),
            *(
                f"The report keeps {', '.join(parts)}, because it could not be made anew: {reason}"
                for reason, parts in self.kept.items()
            ),
        )

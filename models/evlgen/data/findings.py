"""What a look at some data found, and how it is said: of a source of a recipe, or of a split of a published set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from evlgen.data.broken_items import SHOWN
from evlgen.errors import FileFailure


@dataclass
class Findings:
    """Findings about one source or split.

    Attributes:
        error: why nothing could be looked at, or why training would refuse what is there; may be empty.
        items: with captions, or questions.
        frames: that were decoded; None if nothing was.
        broken: items that cannot be used, and why.
        repeated: names whose captions are given twice.
        checked: False when the check was stopped before all files were looked at.
    """

    error: str = ""
    items: int = 0
    frames: int | None = None
    broken: list[FileFailure] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    checked: bool = True

    @property
    def is_fine(self) -> bool:
        """Nothing is wrong."""
        return not self.lines()

    def counts(self) -> dict[str, int]:
        """Broken items by kind."""
        return dict(Counter(b.kind for b in self.broken))

    def faults(self) -> list[str]:
        """What is wrong with the whole, a line each."""
        return []

    def lines(self) -> list[str]:
        """All that is wrong, a line each; of long lists the beginning."""
        lines = [*self.faults(), *([self.error] if self.error else [])]
        lines += [f"{b.name}: {b.reason}" for b in self.broken[:SHOWN]]
        if len(self.broken) > SHOWN:
            lines.append(f"and {len(self.broken) - SHOWN} more (--json lists them)")
        return lines + names_line(self.repeated, "have their captions twice")

    def row(self) -> dict[str, Any]:
        """All of it for JSON."""
        return {**asdict(self), "counts": self.counts(), "is_fine": self.is_fine}


def names_line(names: Sequence[str], what: str) -> list[str]:
    """A line on some items; none where there are none."""
    more = ", ..." if len(names) > SHOWN else ""
    return [f"{len(names)} items {what}: {', '.join(names[:SHOWN])}{more}"] if names else []

"""What a look at some data finds: items that cannot be used, borne up to a share that the recipe states, and the rest.

Findings are about a source of a recipe, or a split of a published set.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evlgen.errors import EvlgenError, Failure
from evlgen.system.files import write_text

SHOWN = 3


class BrokenItemError(EvlgenError):
    """An item that was taken for a good one cannot be used."""

    def __init__(self, broken: Failure) -> None:
        super().__init__(
            f"{broken.name} cannot be used: {broken.message}", "mend it or leave it out of the captions, then go on"
        )
        self.broken = broken


def too_many(broken: int, total: int, share: float) -> bool:
    """Whether so many of `total` items are more than `share` (0 to 1) of them."""
    return broken > share * total


def check_share(
    what: str,
    broken: Sequence[Failure],
    total: int,
    share: float,
    *,
    count: int | None = None,
    listed: Path | None = None,
) -> None:
    """Stop when more of a source is broken than the recipe bears.

    Args:
        what: the source.
        broken: its broken items, the first of which are shown.
        total: how many items it has, the broken ones included.
        share: so many of them (0 to 1) may be broken.
        count: how many are broken, where only the first are kept.
        listed: a file that lists them all.

    Raises:
        EvlgenError: names the share and the first items with their reasons.
    """
    count = len(broken) if count is None else count
    if not too_many(count, total, share):
        return
    first = "; ".join(f"{b.name}: {b.message}" for b in broken[:SHOWN])
    more = count - SHOWN
    raise EvlgenError(
        f"{what}: {count} of {total} items ({count / total:.1%}) cannot be used, data.max_broken_share "
        f"allows {share:.1%}: {first}" + (f"; and {more} more" if more > 0 else ""),
        (f"all are listed in {listed}; " if listed is not None else "")
        + "mend them and run again, what is computed is kept; or raise data.max_broken_share",
    )


def list_broken(folder: Path, source: str, broken: Sequence[Failure]) -> Path | None:
    """List broken items of a source in a folder, as JSON lines; without any, or where that cannot be written, None."""
    name = "".join(c if c.isalnum() or c in ".-" else "-" for c in source)
    path = folder / f"broken-{name}.jsonl"
    with suppress(EvlgenError, OSError):  # a list beside a read-only cache is not worth a failed run
        if broken:
            write_text(path, "".join(json.dumps(b.listed(), ensure_ascii=False) + "\n" for b in broken))
            return path
        path.unlink(missing_ok=True)
    return None


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
    broken: list[Failure] = field(default_factory=list)
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
        lines += [f"{b.name}: {b.message}" for b in self.broken[:SHOWN]]
        if len(self.broken) > SHOWN:
            lines.append(f"and {len(self.broken) - SHOWN} more (--json lists them)")
        return lines + names_line(self.repeated, "have their captions twice")

    def row(self) -> dict[str, Any]:
        """All of it for JSON."""
        broken = [b.listed() for b in self.broken]
        return {**asdict(self), "broken": broken, "counts": self.counts(), "is_fine": self.is_fine}


def names_line(names: Sequence[str], what: str) -> list[str]:
    """A line on some items; none where there are none."""
    more = ", ..." if len(names) > SHOWN else ""
    return [f"{len(names)} items {what}: {', '.join(names[:SHOWN])}{more}"] if names else []

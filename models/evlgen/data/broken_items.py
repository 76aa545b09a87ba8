"""Items that cannot be used: counted, listed, and borne up to a share that the recipe states."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from evlgen.errors import EvlgenError, FileFailure
from evlgen.system.files import write_text

SHOWN = 3


class BrokenItemError(EvlgenError):
    """An item that was taken for a good one cannot be used."""

    def __init__(self, broken: FileFailure) -> None:
        super().__init__(
            f"{broken.name} cannot be used: {broken.reason}", "mend it or leave it out of the captions, then go on"
        )
        self.broken = broken


def too_many(broken: int, total: int, share: float) -> bool:
    """Whether so many of `total` items are more than `share` (0 to 1) of them."""
    return broken > share * total


def check_share(
    what: str,
    broken: Sequence[FileFailure],
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
    first = "; ".join(f"{b.name}: {b.reason}" for b in broken[:SHOWN])
    more = count - SHOWN
    raise EvlgenError(
        f"{what}: {count} of {total} items ({count / total:.1%}) cannot be used, data.max_broken_share "
        f"allows {share:.1%}: {first}" + (f"; and {more} more" if more > 0 else ""),
        (f"all are listed in {listed}; " if listed is not None else "")
        + "mend them and run again, what is computed is kept; or raise data.max_broken_share",
    )


def list_broken(folder: Path, source: str, broken: Sequence[FileFailure]) -> Path | None:
    """List broken items of a source in a folder, as JSON lines; without any, or where that cannot be written, None."""
    name = "".join(c if c.isalnum() or c in ".-" else "-" for c in source)
    path = folder / f"broken-{name}.jsonl"
    with suppress(EvlgenError, OSError):  # a list beside a read-only cache is not worth a failed run
        if broken:
            write_text(path, "".join(json.dumps(asdict(b), ensure_ascii=False) + "\n" for b in broken))
            return path
        path.unlink(missing_ok=True)
    return None

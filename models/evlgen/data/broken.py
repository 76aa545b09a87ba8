"""Items that cannot be used: counted, listed, and borne up to a share that the recipe states."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from evlgen.errors import EvlgenError
from evlgen.system.files import write_text

SHOWN = 3


@dataclass(frozen=True)
class Broken:
    """Why an item cannot be used.

    Attributes:
        name: as the captions file spells it.
        kind: missing, unreadable, cut, no-captions, or a kind of `evlgen.errors.VideoError`.
        reason: in words.
    """

    name: str
    kind: str
    reason: str


class BrokenItemError(EvlgenError):
    """An item that was taken for a good one cannot be used."""

    def __init__(self, broken: Broken) -> None:
        super().__init__(
            f"{broken.name} cannot be used: {broken.reason}", "mend it or leave it out of the captions, then go on"
        )
        self.broken = broken


def too_many(broken: int, total: int, share: float) -> bool:
    """Whether so many of `total` items are more than `share` (0 to 1) of them."""
    return broken > share * total


def check_share(what: str, broken: Sequence[Broken], total: int, share: float, listed: Path | None) -> None:
    """Stop when more of a source is broken than the recipe bears.

    Raises:
        EvlgenError: names the share and the first items with their reasons.
    """
    check_count(what, len(broken), broken[:SHOWN], total, share, listed)


def check_count(what: str, count: int, shown: Sequence[Broken], total: int, share: float, listed: Path | None) -> None:
    """The same where only the number of broken items is kept, and the first of them to be shown.

    Raises:
        EvlgenError: as for `check_share`.
    """
    if not too_many(count, total, share):
        return
    first = "; ".join(f"{b.name}: {b.reason}" for b in shown)
    more = count - len(shown)
    raise EvlgenError(
        f"{what}: {count} of {total} items ({count / total:.1%}) cannot be used, data.max_broken_share "
        f"allows {share:.1%}: {first}" + (f"; and {more} more" if more else ""),
        (f"all are listed in {listed}; " if listed is not None else "")
        + "mend them and run again, what is computed is kept; or raise data.max_broken_share",
    )


def write_list(path: Path, broken: Sequence[Broken]) -> Path | None:
    """List broken items as JSON lines; no file when there are none. None if it cannot be written."""
    with suppress(EvlgenError):  # a list beside a read-only cache is not worth a failed run
        if not broken:
            path.unlink(missing_ok=True)
            return None
        write_text(path, "".join(json.dumps(asdict(b), ensure_ascii=False) + "\n" for b in broken))
        return path
    return None

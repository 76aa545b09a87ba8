"""Putting into a store what is not there yet of a source's items: decoded, perhaps encoded, and named in its journal.

A run that is stopped or killed keeps what it has done, and so the next one has the rest to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evlgen.data.caption_sources import ReadSource
from evlgen.data.decoding import Frames, decode_items
from evlgen.data.findings import check_share, list_broken, too_many
from evlgen.data.media import MISSING
from evlgen.data.planning import EncodingPlan, check_room, make_plan
from evlgen.data.store import Entry, FeatureStore, Writer
from evlgen.errors import Failure
from evlgen.system.progress import ProgressCallback

Views = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class StoreFilling:
    """What of a source is to be in a store.

    Attributes:
        store: where it is kept.
        source: whose items they are.
        names: of these items.
        known: broken items of the source that are not among `names`; they count.
        max_broken_share: so many of its items (0 to 1) may be of no use.
        retry: try items again whose decoding ran out of time or crashed before.
    """

    store: FeatureStore
    source: ReadSource
    names: Sequence[str]
    known: Sequence[Failure]
    max_broken_share: float
    retry: bool = False

    def check(self, broken: dict[int, Failure]) -> list[Failure]:
        """All broken items of the source, those at some positions of `names` among them; listed beside the rows.

        Raises:
            EvlgenError: they are too many.
        """
        found = [*self.known, *(broken[n] for n in sorted(broken))]
        listed = list_broken(self.store.place, self.source.name, found) if self.store.place.exists() else None
        check_share(self.source.name, found, self.source.total, self.max_broken_share, listed=listed)
        return found

    def fill(
        self,
        what: str,
        work: Callable[[str, Frames], tuple[Views, int, str]],
        encode: Callable[[Views], NDArray[np.float16]],
        *,
        probe: NDArray[np.float16],
        batch_rows: int = 1,
        side: int | None = None,
        backend: str = "pyav",
        report: ProgressCallback | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[int, Failure] | None:
        """Decode and encode what is not there.

        Args:
            what: is computed, for progress.
            work: gets a name and its frames; gives its views, how many frames there are, and the hash of its file.
            encode: gives rows (R, N, C) of views.
            probe: see `FeatureStore.writing`.
            batch_rows: so many views are encoded at a time.
            side: see `decode_items`.
            backend: likewise.
            report: called with (what, done, total, "items").
            stop: asked after every item; what is computed is kept.

        Returns:
            position -> why the item there is broken; None if it was stopped.

        Raises:
            EvlgenError: too many items are broken, or the disk is or would be full. What is computed is kept.
        """
        plan = make_plan(self.names, self.source.media, self.store, retry=self.retry)
        if not (plan.todo or plan.moved):
            return plan.broken
        if not too_many(len(plan.broken) + len(self.known), self.source.total, self.max_broken_share):
            check_room(self.source.name, plan, self.store.place)
        with self.store.writing(probe) as writer:
            self.check(plan.broken)
            plan = make_plan(
                self.names, self.source.media, self.store, retry=self.retry
            )  # others may have worked meanwhile
            for entry in plan.moved:
                writer.add_entry(entry)
            rows = _Rows(writer, encode, batch_rows, self.store.facts["views"])
            todo, done = [self.names[n] for n in plan.todo], 0
            results = decode_items(
                todo, self.source.media, work, max_frames=self.store.facts["max_frames"], side=side, backend=backend
            )
            for done, (number, result) in enumerate(results, start=1):
                name = todo[number]
                if isinstance(result, Failure):
                    self._give_up(plan, plan.todo[number], result, writer)
                else:
                    views, frames, digest = result
                    rows.add(views, Entry(name, plan.stamps[name], digest, rows.next_row, frames))
                if report is not None:
                    report(f"{what} of {self.source.name}", done, len(todo), "items")
                if stop():
                    break
            rows.flush(1)
            writer.commit()
        return plan.broken if done == len(todo) else None

    def _give_up(self, plan: EncodingPlan, number: int, broken: Failure, writer: Writer) -> None:
        plan.broken[number] = broken
        stamp = plan.stamps[broken.name]
        if stamp != MISSING:
            writer.add_entry(Entry(broken.name, stamp, "", 0, 0, broken.kind, broken.message))
        self.check(plan.broken)


class _Rows:
    """Views wait until there are enough to encode, entries until their rows are in the store."""

    def __init__(
        self, writer: Writer, encode: Callable[[Views], NDArray[np.float16]], batch_rows: int, views: int
    ) -> None:
        self._writer, self._encode, self._batch_rows, self._views = writer, encode, batch_rows, views
        self._waiting: Views = []
        self._entries: deque[Entry] = deque()
        self.next_row = writer.count

    def add(self, views: Views, entry: Entry) -> None:
        self._waiting += views
        self._entries.append(entry)
        self.next_row += len(views)
        self.flush(self._batch_rows)

    def flush(self, least: int) -> None:
        """Encode while so many views are waiting."""
        while len(self._waiting) >= least:
            self._writer.add_rows(self._encode(self._waiting[: self._batch_rows]))
            del self._waiting[: self._batch_rows]
        while self._entries and self._entries[0].row + self._entries[0].frames * self._views <= self._writer.count:
            self._writer.add_entry(self._entries.popleft())

"""Frozen vision features, computed once and kept on disk.

A frozen tower gives the same tokens for the same picture every time, and on a CPU it costs more than the connector.
Features are float16 in an append-only store (store.py) for each tower, transform and media; in it every item goes by
its name with the stamp and the hash of its file. So a killed run goes on where it was, a new item costs itself only,
and a changed file or tower is never served from what another one gave; nor is what a disk has spoiled.

Shapes: R rows of the store (items x frames x views), N tokens, C channels of the tower's features.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evlgen.data.broken import Broken, check_share, too_many, write_list
from evlgen.data.captions import CaptionedItem
from evlgen.data.decoding import Frames, decode_items
from evlgen.data.encoder import Encoder, encode_rows, fingerprint, probe
from evlgen.data.media import MISSING, MediaStore
from evlgen.data.planning import Plan, check_room, content_hash, make_plan
from evlgen.data.store import CHECKED_BYTES, Entry, FeatureStore, Writer
from evlgen.data.views import make_views
from evlgen.weights.cache import cache_root

BATCH_ROWS = 16
BATCH_ROWS_ON_A_GPU = 64


class Report(Protocol):
    """Told how far something is: in bytes, as downloads are, unless another unit is given."""

    def __call__(self, name: str, done: int, total: int | None, unit: str = "bytes") -> None:
        """Say that `done` of `total` units of `name` are done."""
        ...


@dataclass
class FeatureCache:
    """Features of the usable items of one source.

    Attributes:
        rows: memory map (R, N, C), float16.
        first_row: item -> its first row; rows of an item are frames x views, views fastest.
        frames: item -> number of frames.
        views: variants of every frame.
        usable: positions of these items among those that were asked for; None: all of them.
        broken: the others, and why.
        store: that they are in; it looks at rows before they are used.
    """

    rows: NDArray[np.float16]
    first_row: list[int]
    frames: list[int]
    views: int
    usable: list[int] | None = None
    broken: list[Broken] = field(default_factory=list)
    store: FeatureStore | None = None

    @property
    def place(self) -> Path | None:
        """Folder of the store."""
        return None if self.store is None else self.store.place

    @property
    def bytes_used(self) -> int:
        """Of the rows of these items, on disk."""
        return sum(self.frames) * self.views * int(np.prod(self.rows.shape[1:])) * 2

    def get(self, item: int, frames: list[int], view: int) -> NDArray[np.float16]:
        """Features (F, N, C) of some frames of an item.

        Raises:
            EvlgenError: they are not what was written.
        """
        rows = [self.first_row[item] + f * self.views + view for f in frames]
        if self.store is not None:
            self.store.check_rows(rows)
        return self.rows[rows]


def open_store(
    encoder: Encoder,
    media: MediaStore,
    *,
    views: int,
    max_frames: int,
    place: Path | None = None,
    folder: Path | None = None,
) -> FeatureStore:
    """The store of a source, as it is on disk now; nothing is made.

    Args:
        encoder: its tower as it is, device and precision included.
        media: where the files are.
        views: variants per frame.
        max_frames: frames kept per video.
        place: the store's own folder; None: under its fingerprint in
        folder: the cache directory; None: the user's own.

    Raises:
        UsageError: `place` holds what another tower or transform made.
    """
    facts = fingerprint(encoder, views=views, max_frames=max_frames)
    if place is None:
        digest = hashlib.sha256(json.dumps([facts, str(media.path)]).encode()).hexdigest()
        place = (folder or cache_root()).absolute() / "features" / digest[:24]
    return FeatureStore(place, facts, tokens=encoder.config.vision.tokens, width=encoder.vision.feature_width)


def build_features(
    encoder: Encoder,
    items: Sequence[CaptionedItem],
    media: MediaStore,
    *,
    views: int,
    max_frames: int,
    place: Path | None = None,
    folder: Path | None = None,
    name: str = "",
    uncaptioned: Sequence[Broken] = (),
    max_broken_share: float = 0.0,
    retry: bool = False,
    report: Report | None = None,
    stop: Callable[[], bool] = lambda: False,
    backend: str = "pyav",
) -> FeatureCache | None:
    """Open the features of a source, computing first what is not there yet.

    Args:
        encoder: its vision tower is used as it is (device and precision).
        items: what to encode.
        media: where the files are.
        views: variants per frame: 0 is the plain picture, the others are random crops, every second one mirrored.
        max_frames: frames kept per video.
        place: see `open_store`.
        folder: see `open_store`.
        name: of the source, for progress and errors.
        uncaptioned: broken items of the source that are not among `items`; they count.
        max_broken_share: so many of the items (0 to 1) may be of no use.
        retry: try items again whose decoding ran out of time or crashed before.
        report: called with (what, done, total, "items").
        stop: asked after every item; True gives the computation up and returns None. What is computed is kept.
        backend: decoder of videos.

    Raises:
        UsageError: `place` holds what another tower or transform made.
        EvlgenError: too many items are broken, or the disk is or would be full. What is computed is kept.
    """
    name = name or media.path.name
    names = [item.name for item in items]
    store = open_store(encoder, media, views=views, max_frames=max_frames, place=place, folder=folder)
    computed = probe(encoder)
    store.check_probe(computed)
    if store.bytes_used <= CHECKED_BYTES:
        store.forget_damaged()
    plan = make_plan(names, media, store, retry=retry)
    listed = store.place / f"broken-{''.join(c if c.isalnum() or c in '.-' else '-' for c in name)}.jsonl"

    def check(broken: dict[int, Broken]) -> list[Broken]:
        found = [*uncaptioned, *(broken[n] for n in sorted(broken))]
        total = len(names) + len(uncaptioned)
        kept = None
        if store.place.exists():
            kept = write_list(listed, found)
        check_share(name, found, total, max_broken_share, kept)
        return found

    if plan.todo or plan.moved:
        if not too_many(len(plan.broken) + len(uncaptioned), len(names) + len(uncaptioned), max_broken_share):
            check_room(name, plan, store.place)
        with store.writing(computed) as writer:
            check(plan.broken)
            plan = make_plan(names, media, store, retry=retry)  # another process may have worked while we waited
            job = _Job(encoder, names, media, store, writer, plan, backend)
            if not job.run(lambda: check(job.broken), name, report, stop):
                return None
    broken = plan.broken
    listing = check(broken)
    usable = [n for n in range(len(names)) if n not in broken]
    entries = [store.entries[names[n]] for n in usable]
    first, frames = [e.row for e in entries], [e.frames for e in entries]
    return FeatureCache(store.rows(), first, frames, views, usable, listing, store)


@dataclass
class _Job:
    """Encodes what a plan says and appends it to the store."""

    encoder: Encoder
    names: Sequence[str]
    media: MediaStore
    store: FeatureStore
    writer: Writer
    plan: Plan
    backend: str

    @property
    def broken(self) -> dict[int, Broken]:
        """Broken items so far; grows while the job runs."""
        return self.plan.broken

    def run(self, check: Callable[[], Any], label: str, report: Report | None, stop: Callable[[], bool]) -> bool:
        """False when it was stopped."""
        for entry in self.plan.moved:
            self.writer.add_entry(entry)
        facts, side = self.store.facts, self.encoder.config.vision.image_size
        todo = [self.names[n] for n in self.plan.todo]

        def work(name: str, frames: Frames) -> tuple[list[NDArray[np.uint8]], int, str]:
            digest = content_hash(self.media, name, self.plan.stamps[name])
            return make_views(name, frames, facts["views"], side), len(frames), digest

        rows = BATCH_ROWS_ON_A_GPU if self._on_gpu() else BATCH_ROWS
        waiting: list[NDArray[np.uint8]] = []
        order: deque[Entry] = deque()
        next_row = self.writer.count
        whole = side if facts["views"] == 1 else None  # crops are cut from the whole frame
        results = decode_items(
            todo, self.media, work, max_frames=facts["max_frames"], side=whole, backend=self.backend
        )  # fmt: skip
        done = 0
        for done, (number, result) in enumerate(results, start=1):
            name = todo[number]
            if isinstance(result, Broken):
                self._give_up(self.plan.todo[number], result)
                check()
            else:
                views, frames, digest = result
                waiting += views
                order.append(Entry(name, self.plan.stamps[name], digest, next_row, frames))
                next_row += len(views)
            while len(waiting) >= rows:
                self._flush(waiting[:rows], order)
                del waiting[:rows]
            if report is not None:
                report(f"features of {label}", done, len(todo), "items")
            if stop():
                break
        if waiting:
            self._flush(waiting, order)
        self.writer.commit()
        return done == len(todo)

    def _on_gpu(self) -> bool:
        return bool(next(self.encoder.vision.trunk.parameters()).device.type != "cpu")

    def _flush(self, views: list[NDArray[np.uint8]], order: deque[Entry]) -> None:
        count = self.writer.add_rows(encode_rows(self.encoder, views))
        while order and order[0].row + order[0].frames * self.store.facts["views"] <= count:
            self.writer.add_entry(order.popleft())

    def _give_up(self, number: int, broken: Broken) -> None:
        self.plan.broken[number] = broken
        stamp = self.plan.stamps[broken.name]
        if stamp != MISSING:
            self.writer.add_entry(Entry(broken.name, stamp, "", 0, 0, broken.kind, broken.reason))

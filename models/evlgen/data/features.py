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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evlgen.data.captions import CaptionedItem
from evlgen.data.decoding import Frames
from evlgen.data.encoder import Encoder, encode_rows, fingerprint, probe
from evlgen.data.media import MediaStore
from evlgen.data.planning import content_hash
from evlgen.data.store import CHECKED_BYTES, FeatureStore
from evlgen.data.store_filling import StoreFilling
from evlgen.data.views import make_views
from evlgen.errors import FileFailure
from evlgen.system.progress import ProgressCallback
from evlgen.weights.cache import cache_root

BATCH_ROWS = 16
BATCH_ROWS_ON_A_GPU = 64


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
    broken: list[FileFailure] = field(default_factory=list)
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
    uncaptioned: Sequence[FileFailure] = (),
    max_broken_share: float = 0.0,
    retry: bool = False,
    report: ProgressCallback | None = None,
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
    names = [item.name for item in items]
    store = open_store(encoder, media, views=views, max_frames=max_frames, place=place, folder=folder)
    computed = probe(encoder)
    store.check_probe(computed)
    if store.bytes_used <= CHECKED_BYTES:
        store.forget_damaged()
    side, total = encoder.config.vision.image_size, len(names) + len(uncaptioned)
    filling = StoreFilling(
        store, names, media, name or media.path.name, uncaptioned, total, max_broken_share, retry
    )  # fmt: skip

    def work(name: str, frames: Frames) -> tuple[list[NDArray[np.uint8]], int, str]:
        return make_views(name, frames, views, side), len(frames), content_hash(media, name, media.stamp(name))

    on_gpu = next(encoder.vision.trunk.parameters()).device.type != "cpu"
    broken = filling.fill(
        "features",
        work,
        lambda shown: encode_rows(encoder, shown),
        probe=computed,
        batch_rows=BATCH_ROWS_ON_A_GPU if on_gpu else BATCH_ROWS,
        side=side if views == 1 else None,  # crops are cut from the whole frame
        backend=backend,
        report=report,
        stop=stop,
    )
    if broken is None:
        return None
    listing = filling.check(broken)
    usable = [n for n in range(len(names)) if n not in broken]
    entries = [store.entries[names[n]] for n in usable]
    first, frames = [e.row for e in entries], [e.frames for e in entries]
    return FeatureCache(store.rows(), first, frames, views, usable, listing, store)

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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlgen.data.caption_sources import CaptionedItem, ReadSource, frames_of
from evlgen.data.decoding import Frames
from evlgen.data.encoder import Encoder, encode_rows, fingerprint, probe
from evlgen.data.planning import content_hash
from evlgen.data.store import CHECKED_BYTES, FeatureStore
from evlgen.data.store_filling import StoreFilling
from evlgen.data.views import make_views
from evlgen.errors import Failure, UsageError
from evlgen.recipes import expand_path
from evlgen.recipes.data_schema import DataConfig
from evlgen.system.progress import ProgressCallback
from evlgen.weights.cache import cache_root

BATCH_ROWS = 16
BATCH_ROWS_ON_A_GPU = 64

MOST_VIEWS_LOOKED_FOR = 16
"""Features with up to so many views are looked for where some with fewer are asked for."""


@dataclass
class FeatureCache:
    """Features of the usable items of one source.

    Attributes:
        rows: memory map (R, N, C), float16.
        first_row: item -> its first row; rows of an item are frames x kept views, views fastest.
        frames: item -> number of frames.
        views: variants of every frame that are used, the first of those that are kept.
        store: that they are in; it looks at rows before they are used.
    """

    rows: NDArray[np.float16]
    first_row: list[int]
    frames: list[int]
    views: int
    store: FeatureStore | None = None

    @property
    def kept_views(self) -> int:
        """Variants of every frame that there are rows of."""
        return self.views if self.store is None else int(self.store.facts["views"])

    @property
    def bytes_used(self) -> int:
        """How much the rows of these items take on the disk."""
        return sum(self.frames) * self.kept_views * int(np.prod(self.rows.shape[1:])) * 2

    def get(self, item: int, frames: list[int], view: int) -> NDArray[np.float16]:
        """Features (F, N, C) of some frames of an item.

        Raises:
            EvlgenError: they are not what was written.
        """
        rows = [self.first_row[item] + f * self.kept_views + view for f in frames]
        if self.store is not None:
            self.store.check_rows(rows)
        return self.rows[rows]


@dataclass(frozen=True)
class PreparedSource:
    """The usable items of a source with their features, position by position."""

    source: ReadSource
    items: list[CaptionedItem]
    cache: FeatureCache
    broken: list[Failure]

    def row(self) -> dict[str, Any]:
        """What there is of it, for JSON."""
        return {
            "source": self.source.name,
            "role": self.source.role,
            "items": len(self.items),
            "captions": sum(len(item.captions) for item in self.items),
            "frames": sum(self.cache.frames),
            "bytes": self.cache.bytes_used,
            "broken": [b.listed() for b in self.broken],
            "features": str(self.cache.store.place) if self.cache.store else None,
        }


def feature_store(
    encoder: Encoder, source: ReadSource, data: DataConfig, *, folder: Path | None = None
) -> FeatureStore:
    """The store of a source, as it is on disk now; nothing is made.

    Where there is none yet, one of the same frames with more views serves, if it has all items: views 0 to V - 1 of a
    frame are the same whatever V is.

    Args:
        encoder: its tower as it is, device and precision included.
        source: whose features; where its configuration names no folder for them, it is one of the cache directory.
        data: how many frames of a video are kept.
        folder: the cache directory; None: the user's own.

    Raises:
        UsageError: the folder holds what another tower or transform made.
    """
    facts = fingerprint(encoder, views=source.config.views, max_frames=frames_of(source, data, encoder.config))
    tokens, width = encoder.config.vision.tokens, encoder.vision.feature_width
    if source.config.features is not None:
        return FeatureStore(expand_path(source.config.features).absolute(), facts, tokens=tokens, width=width)

    def store_of(views: int) -> FeatureStore:
        made_by = {**facts, "views": views}
        digest = hashlib.sha256(json.dumps([made_by, str(source.media.path)]).encode()).hexdigest()
        place = (folder or cache_root()).absolute() / "features" / digest[:24]
        return FeatureStore(place, made_by, tokens=tokens, width=width)

    own = store_of(source.config.views)
    if own.entries:
        return own
    wanted = set(source.names)
    for views in range(source.config.views + 1, MOST_VIEWS_LOOKED_FOR + 1):
        with suppress(UsageError):  # what is wrong with a store that nobody asked for stops nobody
            richer = store_of(views)
            if richer.entries.keys() >= wanted:
                return richer
    return own


def prepare_source(
    encoder: Encoder,
    source: ReadSource,
    data: DataConfig,
    *,
    retry: bool = False,
    report: ProgressCallback | None = None,
    stop: Callable[[], bool] = lambda: False,
    folder: Path | None = None,
) -> PreparedSource | None:
    """Open the features of a source, computing first what is not there yet.

    Args:
        encoder: a model, or a `FrozenTower`; its vision tower is used as it is (device and precision).
        source: what to encode. Of its views, 0 is the plain picture, the others are random crops, every second one
            mirrored.
        data: how many frames of a video are kept, and how many items may be of no use.
        retry: try items again whose decoding ran out of time or crashed before.
        report: called with (what, done, total, "items").
        stop: asked after every item; True gives the computation up and returns None. What is computed is kept.
        folder: the cache directory; None: the user's own.

    Raises:
        UsageError: the folder of the features holds what another tower or transform made.
        EvlgenError: too many items are broken, or the disk is or would be full. What is computed is kept.
    """
    store = feature_store(encoder, source, data, folder=folder)
    views, side = int(store.facts["views"]), encoder.config.vision.image_size
    computed = probe(encoder)
    store.check_probe(computed)
    if store.bytes_used <= CHECKED_BYTES:
        store.forget_damaged()
    filling = StoreFilling(store, source, source.names, source.uncaptioned, data.max_broken_share, retry)

    def work(name: str, frames: Frames) -> tuple[list[NDArray[np.uint8]], int, str]:
        digest = content_hash(source.media, name, source.media.stamp(name))
        return make_views(name, frames, views, side), len(frames), digest

    on_gpu = next(encoder.vision.trunk.parameters()).device.type != "cpu"
    broken = filling.fill(
        "features",
        work,
        lambda shown: encode_rows(encoder, shown),
        probe=computed,
        batch_rows=BATCH_ROWS_ON_A_GPU if on_gpu else BATCH_ROWS,
        side=side if views == 1 else None,  # crops are cut from the whole frame
        report=report,
        stop=stop,
    )
    if broken is None:
        return None
    listing = filling.check(broken)
    items = [item for n, item in enumerate(source.items) if n not in broken]
    entries = [store.entries[item.name] for item in items]
    first, frames = [e.row for e in entries], [e.frames for e in entries]
    return PreparedSource(source, items, FeatureCache(store.rows(), first, frames, source.config.views, store), listing)

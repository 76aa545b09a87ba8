"""How many frames each item has, known before training without decoding everything: for runs on pixels.

Videos are counted from their packets' times, which finds what cannot be opened; the answers are kept, beside the
features, in a store that has no rows (store.py), by name and stamp of the file. A picture has one frame, and there may
be a hundred million: of one it is only looked whether its file is there. Items to validate on are few, so they are
decoded once, and that is kept likewise: what is scored must not change on the way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evlgen.data.caption_sources import ReadSource
from evlgen.data.decoding import missing
from evlgen.data.media import MISSING, is_picture
from evlgen.data.store import FeatureStore
from evlgen.data.store_filling import StoreFilling
from evlgen.data.views import TRANSFORM
from evlgen.errors import Failure
from evlgen.system.progress import ProgressCallback
from evlgen.video.pyav_backend import COUNTING
from evlgen.weights.cache import cache_root

LAYOUT = 2  # raise when a count means something else


@dataclass(frozen=True)
class FrameIndex:
    """The usable items of a source.

    Attributes:
        usable: their positions among those that were asked for.
        frames: of each of these.
        broken: the others, and why.
        place: folder of the index.
    """

    usable: list[int]
    frames: list[int]
    broken: list[Failure]
    place: Path


def build_index(
    source: ReadSource,
    *,
    max_frames: int,
    max_broken_share: float = 0.0,
    retry: bool = False,
    report: ProgressCallback | None = None,
    stop: Callable[[], bool] = lambda: False,
    folder: Path | None = None,
) -> FrameIndex | None:
    """Open the index of a source, counting first what is not there yet; None if it was stopped.

    Args:
        source: whose items; those to validate on are all decoded once instead, pictures too.
        max_frames: frames chosen of a video, as for the feature cache.
        max_broken_share: so many of the items (0 to 1) may be of no use.
        retry: try items again whose decoding ran out of time or crashed before.
        report: called with (what, done, total, "items").
        stop: asked after every item; what is counted is kept.
        folder: the cache directory; None: the user's own.

    Raises:
        EvlgenError: too many items are broken, or the disk is full. What is counted is kept.
    """
    names, media, thorough = source.names, source.media, source.role == "validation"
    facts = {"layout": LAYOUT, "views": 0, "max_frames": max_frames, "frames": TRANSFORM["frames"], "decoded": thorough}
    digest = hashlib.sha256(json.dumps([facts, str(media.path)]).encode()).hexdigest()
    store = FeatureStore((folder or cache_root()).absolute() / "index" / digest[:24], facts, tokens=1, width=1)
    broken: dict[int, Failure] = {}
    counted: list[int] = []
    for n, one in enumerate(names):
        if thorough or not is_picture(media.resolve(one) or one):
            counted.append(n)
        elif (stamp := media.stamp(one)) == MISSING:
            broken[n] = missing(media, one)
        elif stamp[0] == 0:
            broken[n] = Failure("empty-file", "the file is empty", one)
    known = [*source.uncaptioned, *broken.values()]
    filling = StoreFilling(store, source, [names[n] for n in counted], known, max_broken_share, retry)
    filling.check({})
    found = filling.fill(
        "frames",
        lambda _, frames: ([], len(frames), ""),
        lambda _: np.zeros((0, 1, 1), np.float16),
        probe=np.zeros(0, np.float16),
        side=64,
        backend="pyav" if thorough else COUNTING,
        report=report,
        stop=stop,
    )
    if found is None:
        return None
    listing = filling.check(found)
    broken |= {counted[at]: why for at, why in found.items()}
    frames = dict.fromkeys(range(len(names)), 1) | {
        n: store.entries[names[n]].frames for n in counted if n not in broken
    }
    usable = [n for n in frames if n not in broken]
    return FrameIndex(usable, [frames[n] for n in usable], listing, store.place)

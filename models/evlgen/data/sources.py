"""From the data section of a recipe to sources that can be trained on: read, open or build the features, leave out
what is broken."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evlgen.configuration import EVLGenConfig
from evlgen.data.broken import Broken
from evlgen.data.captions import CaptionedItem, read_captions
from evlgen.data.datasets.finding import resolve_source
from evlgen.data.decoding import decode_items
from evlgen.data.encoder import Encoder, encode_rows
from evlgen.data.features import BATCH_ROWS, FeatureCache, Report, build_features, open_store
from evlgen.data.index import build_index
from evlgen.data.media import MediaStore
from evlgen.data.pixels import FrameReader, PixelSource
from evlgen.data.planning import free_bytes, make_plan
from evlgen.data.views import make_views
from evlgen.recipes import DataSource, expand_path
from evlgen.recipes.data import DataConfig

SAMPLE_ITEMS = 32
SAMPLE_SECONDS = 10.0


@dataclass(frozen=True)
class ReadSource:
    """A source whose captions are read and whose media are found.

    Attributes:
        name: for logs; unique among the sources of a recipe.
        role: what it is for.
        config: as the recipe has it, with captions and media in place of a data set's name.
        items: with captions.
        uncaptioned: items without; they are broken.
        media: their files.
    """

    name: str
    role: Literal["train", "validation"]
    config: DataSource
    items: list[CaptionedItem]
    uncaptioned: list[Broken]
    media: MediaStore

    @property
    def place(self) -> Path | None:
        """The folder of its features, where the recipe names one."""
        return None if self.config.features is None else expand_path(self.config.features).absolute()


@dataclass(frozen=True)
class PreparedSource:
    """The usable items of a source with their features, position by position."""

    source: ReadSource
    items: list[CaptionedItem]
    cache: FeatureCache
    broken: list[Broken]


@dataclass(frozen=True)
class Estimate:
    """What building the features of a source would take.

    Attributes:
        name: of the source.
        items: all of them.
        todo: those that are to be encoded.
        bytes_at_most: exact but for videos with fewer frames than asked for.
        free_bytes: on the disk where they would go.
        seconds: None where nothing is to be done or nothing could be measured.
        place: the folder.
    """

    name: str
    items: int
    todo: int
    bytes_at_most: int
    free_bytes: int
    seconds: float | None
    place: Path


def read_source(config: DataSource, role: Literal["train", "validation"], *, lower_case: bool) -> ReadSource:
    """Read the captions of a source and open its media.

    Raises:
        UsageError: see `resolve_source`, `read_captions` and `MediaStore`.
    """
    name = source_name(config)
    config = resolve_source(config)
    found = read_captions(config, lower_case=lower_case)
    media = MediaStore(config.media)
    bare = [Broken(name, "no-captions", f"{where} has no captions") for name, where in found.uncaptioned.items()]
    return ReadSource(name, role, config, found.items, bare, media)


def source_name(config: DataSource) -> str:
    """The folder of the captions, or the data set, and the split or else the captions file."""
    if config.dataset is not None:
        return f"{config.dataset}/{config.split}"
    captions = expand_path(config.captions).absolute()
    return f"{captions.parent.name}/{config.split or captions.stem}"


def read_sources(data: DataConfig) -> tuple[list[ReadSource], list[ReadSource]]:
    """The captioned sources to train on and those to validate on, with names that differ; shards are left out.

    Raises:
        UsageError: see `read_source`.
    """
    roles: list[tuple[Literal["train", "validation"], DataSource]] = [
        *(("train", s) for s in data.train if not s.shards),
        *(("validation", s) for s in data.validation),
    ]
    sources: list[ReadSource] = []
    taken: dict[str, int] = {}
    for role, config in roles:
        read = read_source(config, role, lower_case=data.lower_case)
        taken[read.name] = taken.get(read.name, 0) + 1
        if taken[read.name] > 1:
            read = ReadSource(**{**vars(read), "name": f"{read.name}#{taken[read.name]}"})
        sources.append(read)
    count = len(sources) - len(data.validation)
    return sources[:count], sources[count:]


def frames_of(source: ReadSource, data: DataConfig, config: EVLGenConfig) -> int:
    """Frames of a video that are cached or decoded: to validate on, those that captioning and evaluation look at."""
    return config.temporal.frames if source.role == "validation" else data.frames_kept


def prepare_source(
    encoder: Encoder,
    source: ReadSource,
    data: DataConfig,
    *,
    retry: bool = False,
    report: Report | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> PreparedSource | None:
    """Open the features of a source, computing first what is missing; None if it was stopped.

    Args:
        encoder: a model, or a `FrozenTower`.
        source: what to prepare.
        data: max_frames and max_broken_share.
        retry: see `build_features`.
        report: called with (what, done, total, "items").
        stop: asked after every item.

    Raises:
        UsageError, EvlgenError: see `build_features`.
    """
    cache = build_features(
        encoder,
        source.items,
        source.media,
        views=source.config.views,
        max_frames=frames_of(source, data, encoder.config),
        place=source.place,
        name=source.name,
        uncaptioned=source.uncaptioned,
        max_broken_share=data.max_broken_share,
        retry=retry,
        report=report,
        stop=stop,
    )
    if cache is None:
        return None
    assert cache.usable is not None
    return PreparedSource(source, [source.items[n] for n in cache.usable], cache, cache.broken)


def open_pixels(
    source: ReadSource,
    data: DataConfig,
    reader: FrameReader,
    *,
    retry: bool = False,
    report: Report | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[list[CaptionedItem], PixelSource] | None:
    """The usable items of a source with their frames, which are decoded when asked for; None if it was stopped.

    Args:
        source: what to open; items to validate on are decoded once at first, so that none fails later.
        data: max_broken_share.
        reader: decodes; so many frames of a video as it gives are opened.
        retry: try items again whose decoding ran out of time or crashed before.
        report: called with (what, done, total, "items") while frames are counted.
        stop: asked after every item.

    Raises:
        EvlgenError: see `build_index`.
    """
    names = [item.name for item in source.items]
    index = build_index(
        names,
        source.media,
        max_frames=reader.max_frames,
        thorough=source.role == "validation",
        name=source.name,
        uncaptioned=source.uncaptioned,
        max_broken_share=data.max_broken_share,
        retry=retry,
        report=report,
        stop=stop,
    )
    if index is None:
        return None
    pixels = PixelSource(
        source.name,
        names,
        source.media,
        index,
        reader,
        views=source.config.views,
        total=len(names) + len(source.uncaptioned),
        max_broken_share=data.max_broken_share,
    )
    return [source.items[n] for n in index.usable], pixels


def estimate_source(encoder: Encoder, source: ReadSource, data: DataConfig) -> Estimate:
    """What building the features of a source would take; the time is measured on some of its items."""
    views = source.config.views
    frames = frames_of(source, data, encoder.config)
    store = open_store(encoder, source.media, views=views, max_frames=frames, place=source.place)
    names = [item.name for item in source.items]
    plan = make_plan(names, source.media, store)
    todo = [names[n] for n in plan.todo]
    sample = todo[:: max(1, len(todo) // SAMPLE_ITEMS)][:SAMPLE_ITEMS]
    seconds = _measure(encoder, sample, source, frames)
    return Estimate(
        source.name,
        len(names) + len(source.uncaptioned),
        len(todo),
        plan.bytes_at_most,
        free_bytes(store.place),
        None if seconds is None else seconds * len(todo),
        store.place,
    )


def _measure(encoder: Encoder, names: Sequence[str], source: ReadSource, max_frames: int) -> float | None:
    """Seconds an item, start-up aside."""
    views, side = source.config.views, encoder.config.vision.image_size
    whole = side if views == 1 else None
    results = decode_items(
        names, source.media, lambda n, f: make_views(n, f, views, side), max_frames=max_frames, side=whole
    )
    started: float | None = None
    done = -1
    for _, made in results:
        rows = [] if isinstance(made, Broken) else made
        for at in range(0, len(rows), BATCH_ROWS):
            encode_rows(encoder, rows[at : at + BATCH_ROWS])
        done += 1
        if started is None:
            started = time.monotonic()
        elif time.monotonic() - started > SAMPLE_SECONDS:
            break
    if started is None or done < 1:
        return None
    return (time.monotonic() - started) / done

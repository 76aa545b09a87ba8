"""From the data section of a recipe to sources that can be trained on: read, open or build the features, leave out
what is broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from evlgen.configuration import EVLGenConfig
from evlgen.data.captions import CaptionedItem, read_captions
from evlgen.data.datasets.finding import resolve_source
from evlgen.data.decoding import FrameReader
from evlgen.data.encoder import Encoder
from evlgen.data.features import FeatureCache, build_features
from evlgen.data.frame_index import build_index
from evlgen.data.media import MediaStore
from evlgen.data.pixels import PixelSource
from evlgen.errors import FileFailure
from evlgen.recipes import DataSource, expand_path
from evlgen.recipes.data import DataConfig
from evlgen.system.progress import ProgressCallback

Role = Literal["train", "validation"]


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
    role: Role
    config: DataSource
    items: list[CaptionedItem]
    uncaptioned: list[FileFailure]
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
    broken: list[FileFailure]

    def row(self) -> dict[str, Any]:
        """What there is of it, for JSON."""
        return {
            "source": self.source.name,
            "role": self.source.role,
            "items": len(self.items),
            "captions": sum(len(item.captions) for item in self.items),
            "frames": sum(self.cache.frames),
            "bytes": self.cache.bytes_used,
            "broken": [asdict(b) for b in self.broken],
            "features": str(self.cache.place),
        }


def read_source(config: DataSource, role: Role, *, lower_case: bool) -> ReadSource:
    """Read the captions of a source and open its media.

    Raises:
        UsageError: see `resolve_source`, `read_captions` and `MediaStore`.
    """
    name = source_name(config)
    config = resolve_source(config)
    found = read_captions(config, lower_case=lower_case)
    media = MediaStore(config.media)
    bare = [FileFailure(name, "no-captions", f"{where} has no captions") for name, where in found.uncaptioned.items()]
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
    taken: Counter[str] = Counter()

    def read(config: DataSource, role: Role) -> ReadSource:
        source = read_source(config, role, lower_case=data.lower_case)
        taken[source.name] += 1
        again = taken[source.name]
        return source if again == 1 else replace(source, name=f"{source.name}#{again}")

    train = [read(config, "train") for config in data.train if not config.shards]
    return train, [read(config, "validation") for config in data.validation]


def frames_of(source: ReadSource, data: DataConfig, config: EVLGenConfig) -> int:
    """Frames of a video that are cached or decoded: to validate on, those that captioning and evaluation look at."""
    return config.temporal.frames if source.role == "validation" else data.frames_kept


def prepare_source(
    encoder: Encoder,
    source: ReadSource,
    data: DataConfig,
    *,
    retry: bool = False,
    report: ProgressCallback | None = None,
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
    report: ProgressCallback | None = None,
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

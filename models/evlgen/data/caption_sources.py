"""From the data section of a recipe to sources whose captions are read and whose media are found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

from evlgen.configuration import EVLGenConfig
from evlgen.data.captions import CaptionedItem, read_captions
from evlgen.data.datasets.locating import resolve_source
from evlgen.data.media import MediaStore
from evlgen.errors import FileFailure
from evlgen.recipes import DataSource, expand_path
from evlgen.recipes.data import DataConfig

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
    def names(self) -> list[str]:
        """The names of the items with captions."""
        return [item.name for item in self.items]

    @property
    def total(self) -> int:
        """How many items there are, those without captions included."""
        return len(self.items) + len(self.uncaptioned)


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

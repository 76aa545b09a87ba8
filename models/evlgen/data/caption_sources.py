"""From the data section of a recipe to sources: captioned items to train on, and where their media are.

`evlgen.annotations` reads the file of captions, whatever its layout; here rows are gathered by picture or video, with
captions in one line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from evlgen.annotations.caption_layouts import AnnotationRow, read_caption_rows
from evlgen.annotations.splits import chosen_splits
from evlgen.configuration import EVLGenConfig
from evlgen.data.datasets.locating import resolve_source
from evlgen.data.media import MediaStore
from evlgen.errors import Failure, UsageError
from evlgen.recipes import DataSource, expand_path
from evlgen.recipes.data_schema import DataConfig

Role = Literal["train", "validation"]


@dataclass(frozen=True)
class CaptionedItem:
    """One picture or video with its reference captions.

    Attributes:
        name: as the captions file spells it.
        captions: or answers to questions about it.
        prompts: what each caption goes on from; empty: none has a prompt.
    """

    name: str
    captions: tuple[str, ...]
    prompts: tuple[str, ...] = ()

    @property
    def prompted(self) -> list[tuple[str, str]]:
        """Every caption with its prompt, which may be empty."""
        return list(zip(self.captions, self.prompts or ("",) * len(self.captions), strict=True))

    @property
    def prompt(self) -> str:
        """What a model is asked about it, where it can be asked one thing only: the first prompt."""
        return self.prompts[0] if self.prompts else ""

    @property
    def references(self) -> tuple[str, ...]:
        """The captions that go on from `prompt`."""
        return tuple(caption for caption, prompt in self.prompted if prompt == self.prompt)


def make_item(name: str, prompted: Iterable[tuple[str, str]]) -> CaptionedItem:
    """An item of captions with their prompts."""
    captions, prompts = zip(*prompted, strict=True)
    return CaptionedItem(name, captions, prompts if any(prompts) else ())


@dataclass(frozen=True)
class CaptionFile:
    """What a captions file says about a source.

    Attributes:
        items: those that have captions, in file order, each name once.
        uncaptioned: names of those that have none, and where each stands.
        repeated: names whose rows say twice what their captions are.
    """

    items: list[CaptionedItem]
    uncaptioned: dict[str, str]
    repeated: list[str]


def read_captions(source: DataSource, *, lower_case: bool) -> CaptionFile:
    """Read the items of a source; rows of the same picture or video gather.

    Raises:
        UsageError: the file is missing or a row is not what it must be, file and line are named; or no row is left.
    """
    source = resolve_source(source)
    path = expand_path(source.captions)
    if not path.exists():
        raise UsageError(f"captions file {path} does not exist", "check data.*.captions in the recipe")
    read = list(read_caption_rows(path, answers=True).rows)
    if source.split is not None:
        names: dict[str, set[str]] = {}
        for row in read:
            if row.split is not None:
                names.setdefault(row.split, set()).add(row.name)
        wanted = chosen_splits(path, source.split, {split: len(found) for split, found in names.items()})
        read = [row for row in read if row.split in wanted]
    rows: dict[str, list[AnnotationRow]] = {}
    for row in read:
        rows.setdefault(row.name, []).append(row)
    items: list[CaptionedItem] = []
    uncaptioned: dict[str, str] = {}
    for name, found in list(rows.items())[: source.limit]:
        captions = [(clean_caption(c, lower_case=lower_case), row.prompt) for row in found for c in row.captions]
        if kept := [one for one in captions if one[0]]:
            items.append(make_item(name, kept))
        else:
            uncaptioned[name] = found[0].where
    return CaptionFile(items, uncaptioned, [n for n, found in rows.items() if sum(r.whole for r in found) > 1])


def read_items(source: DataSource, *, lower_case: bool) -> list[CaptionedItem]:
    """Items of a source, in file order; here every item must have captions.

    Raises:
        UsageError: as for `read_captions`, and for an item without captions.
    """
    source = resolve_source(source)
    found = read_captions(source, lower_case=lower_case)
    for name, where in found.uncaptioned.items():
        raise UsageError(f"{expand_path(source.captions)} {where}: {name} has no captions")
    return found.items


def clean_caption(text: str, *, lower_case: bool) -> str:
    """One line, single spaces; with `lower_case` also no final full stop."""
    text = " ".join(text.split())
    return text.lower().rstrip(" .") if lower_case else text


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
    uncaptioned: list[Failure]
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
    bare = [Failure("no-captions", f"{where} has no captions", name) for name, where in found.uncaptioned.items()]
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

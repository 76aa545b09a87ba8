"""Is the data of a recipe what the recipe says? Every file named there, every source counted, every finding listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from evlgen.data.broken import Broken, too_many
from evlgen.data.captions import read_captions
from evlgen.data.cutting import cut_short
from evlgen.data.datasets.finding import resolve_source
from evlgen.data.decoding import decode_items, missing
from evlgen.data.features import Report
from evlgen.data.media import MISSING, MediaStore, file_path
from evlgen.data.shards.checking import ShardFacts, check_shards
from evlgen.data.shards.finding import shards_name
from evlgen.data.sources import source_name
from evlgen.errors import EvlgenError, UsageError
from evlgen.recipes import DataSource
from evlgen.recipes.data import DataConfig

_REPORTED = 1000
"""Files between two reports of looking."""


@dataclass
class SourceCheck:
    """Findings about one source.

    Attributes:
        name: of the source.
        role: train or validation.
        error: why nothing could be looked at, or why training would refuse what is there; may be empty.
        items: all of them.
        captions: of all items.
        frames: that would be encoded; None if nothing was decoded.
        broken: items that cannot be used, and why.
        repeated: names whose captions are given twice.
        shared: names of validation items that are trained on as well.
        share_allowed: data.max_broken_share.
        shards: of a source of shards, what there is of them.
        checked: False when the check was stopped before all files were looked at.
    """

    name: str
    role: Literal["train", "validation"]
    error: str = ""
    items: int = 0
    captions: int = 0
    frames: int | None = None
    broken: list[Broken] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    share_allowed: float = 0.0
    checked: bool = True
    shards: ShardFacts | None = None

    @property
    def is_fine(self) -> bool:
        """Nothing is wrong with it."""
        fine_shards = self.shards is None or self.shards.is_fine
        return fine_shards and not (self.error or self.broken or self.repeated or self.shared)

    @property
    def stops_a_run(self) -> bool:
        """Whether training would refuse it."""
        return bool(self.error) or too_many(len(self.broken), self.items, self.share_allowed)

    def counts(self) -> dict[str, int]:
        """Broken items by kind."""
        return dict(Counter(b.kind for b in self.broken))


def check_data(
    data: DataConfig,
    *,
    decode: bool = False,
    report: Report | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[SourceCheck]:
    """Look at every source of a recipe; what is wrong with one hides nothing of the others.

    Args:
        data: the recipe's data section.
        decode: decode every file, and count frames; otherwise a file must be there and not be empty, and shards must
            be there and whole.
        report: called with (what, done, total, "items").
        stop: asked after every item; True ends the check early.
    """
    checks: list[SourceCheck] = []
    trained: set[tuple[Any, str]] = set()
    sources: list[tuple[Literal["train", "validation"], DataSource]] = []
    sources += [("train", s) for s in data.train]
    sources += [("validation", s) for s in data.validation]
    for role, config in sources:
        check = SourceCheck("", role, share_allowed=data.max_broken_share)
        checks.append(check)
        if config.shards:
            _shards(check, config, data, decode, report, stop)
            continue
        try:
            check.name = source_name(config)
            config = resolve_source(config)
            found = read_captions(config, lower_case=data.lower_case)
            media = MediaStore(config.media)
            names = [item.name for item in found.items]
            keys = {(media.path, media.resolve(name) or name): name for name in names}
        except UsageError as error:
            check.name = check.name or config.captions or str(config.dataset)
            check.error = str(error)
            continue
        check.items = len(names) + len(found.uncaptioned)
        check.captions = sum(len(item.captions) for item in found.items)
        check.repeated = found.repeated
        check.broken = [Broken(n, "no-captions", f"{where} has no captions") for n, where in found.uncaptioned.items()]
        if role == "train":
            trained |= keys.keys()
        else:
            check.shared = [name for key, name in keys.items() if key in trained]
        if decode:
            decoded = decode_files(check.name, names, media, data.frames_kept, report, stop)
            check.frames, check.checked = decoded.frames, decoded.whole
            check.broken += decoded.broken
        else:
            looked = look_at_files(check.name, names, media, report, stop)
            check.broken += looked.broken
            check.checked = looked.whole
    return checks


def _shards(
    check: SourceCheck,
    config: DataSource,
    data: DataConfig,
    decode: bool,
    report: Report | None,
    stop: Callable[[], bool],
) -> None:
    check.name = config.shards
    try:
        check.name = shards_name(config)
        found = check_shards(config, data, decode=decode, report=report, stop=stop)
    except EvlgenError as error:
        check.error = str(error)
        return
    if found is None:
        check.checked = False
        return
    check.shards, check.items, check.broken, check.checked = found.facts, found.samples, found.broken, found.checked
    check.error = found.refused
    check.captions = found.samples if found.captions is None else found.captions
    check.frames = found.pictures


@dataclass(frozen=True)
class Looked:
    """What looking at files gave.

    Attributes:
        broken: files that cannot be used.
        whole: False when it was stopped before all files were looked at.
        frames: of all files that were decoded.
    """

    broken: list[Broken]
    whole: bool
    frames: int = 0


def look_at_files(
    what: str,
    names: Sequence[str],
    media: MediaStore,
    report: Report | None = None,
    stop: Callable[[], bool] = lambda: False,
    *,
    ends: bool = False,
) -> Looked:
    """Find files that are not there or are empty; with `ends` also those that are cut, as far as their ends tell.

    The ends are looked at in folders only: an archive has checksums or lengths of its own. Progress is told, as
    "looking at `what`", where there are so many that it takes a while.
    """
    broken: list[Broken] = []
    done = 0
    for done, name in enumerate(names, start=1):
        if report is not None and done % _REPORTED == 0:
            report(f"looking at {what}", done, len(names), "items")
        stamp = media.stamp(name)
        if stamp == MISSING:
            broken.append(missing(media, name))
        elif stamp[0] == 0:
            broken.append(Broken(name, "empty-file", "the file is empty"))
        elif ends and media.is_folder:
            try:
                reason = cut_short(file_path(media, name))
            except OSError as error:
                broken.append(Broken(name, "unreadable", f"it cannot be read: {error.strerror}"))
            else:
                broken += [Broken(name, "cut", reason)] if reason else []
        if stop():
            break
    return Looked(broken, done == len(names))


def decode_files(
    what: str,
    names: Sequence[str],
    media: MediaStore,
    max_frames: int,
    report: Report | None,
    stop: Callable[[], bool],
) -> Looked:
    """Decode files and count frames; progress is told as "checking `what`"."""
    frames = done = 0
    broken: list[Broken] = []
    results = decode_items(names, media, lambda _, frames: len(frames), max_frames=max_frames, side=64)
    for done, (_, result) in enumerate(results, start=1):
        if isinstance(result, Broken):
            broken.append(result)
        else:
            frames += result
        if report is not None:
            report(f"checking {what}", done, len(names), "items")
        if stop():
            break
    return Looked(broken, done == len(names), frames)

"""Is the data of a recipe what the recipe says? Every file named there, every source counted, every finding listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from evlgen.data.broken import Broken, too_many
from evlgen.data.captions import read_captions
from evlgen.data.decoding import decode_items, missing
from evlgen.data.features import Report
from evlgen.data.media import MISSING, MediaStore
from evlgen.data.shards.checking import ShardFacts, check_shards
from evlgen.data.shards.finding import shards_name
from evlgen.data.sources import source_name
from evlgen.errors import EvlgenError, UsageError
from evlgen.recipes import DataSource
from evlgen.recipes.schema import DataConfig


@dataclass
class SourceCheck:
    """Findings about one source.

    Attributes:
        name: of the source.
        role: train or validation.
        error: why nothing could be looked at; empty if it could.
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
            found = read_captions(config, lower_case=data.lower_case)
            media = MediaStore(config.media)
        except UsageError as error:
            check.name = check.name or config.captions
            check.error = str(error)
            continue
        names = [item.name for item in found.items]
        check.items = len(names) + len(found.uncaptioned)
        check.captions = sum(len(item.captions) for item in found.items)
        check.repeated = found.repeated
        check.broken = [Broken(n, "no-captions", f"{where} has no captions") for n, where in found.uncaptioned.items()]
        keys = {(media.path, media.resolve(name) or name): name for name in names}
        if role == "train":
            trained |= keys.keys()
        else:
            check.shared = [name for key, name in keys.items() if key in trained]
        if decode:
            _decode(check, names, media, data.max_frames, report, stop)
        else:
            _look(check, names, media)
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
    check.captions = found.samples if found.captions is None else found.captions
    check.frames = found.pictures


def _look(check: SourceCheck, names: list[str], media: MediaStore) -> None:
    for name in names:
        stamp = media.stamp(name)
        if stamp == MISSING:
            check.broken.append(missing(media, name))
        elif stamp[0] == 0:
            check.broken.append(Broken(name, "empty-file", "the file is empty"))


def _decode(
    check: SourceCheck,
    names: list[str],
    media: MediaStore,
    max_frames: int,
    report: Report | None,
    stop: Callable[[], bool],
) -> None:
    check.frames = 0
    results = decode_items(names, media, lambda _, frames: len(frames), max_frames=max_frames, side=64)
    for done, (_, result) in enumerate(results, start=1):
        if isinstance(result, Broken):
            check.broken.append(result)
        else:
            check.frames += result
        if report is not None:
            report(f"checking {check.name}", done, len(names), "items")
        if stop():
            check.checked = done == len(names)
            break

"""Is the data of a recipe what the recipe says? Every file named there, every source counted, every finding listed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from evlgen.data.caption_sources import read_captions, source_name
from evlgen.data.datasets.locating import resolve_source
from evlgen.data.file_checks import decode_files, look_at_files
from evlgen.data.findings import Findings, names_line, too_many
from evlgen.data.media import MediaStore
from evlgen.data.shards import count_shards, open_reader
from evlgen.data.shards.counting import shards_name
from evlgen.data.shards.shard_facts import ShardFacts, decode_samples, shard_facts
from evlgen.errors import EvlgenError, Failure
from evlgen.recipes import DataSource
from evlgen.recipes.data_schema import DataConfig
from evlgen.system.progress import ProgressCallback


@dataclass
class SourceCheck(Findings):
    """Findings about one source of a recipe.

    Attributes:
        name: of the source.
        role: train or validation.
        captions: of all items.
        shared: names of validation items that are trained on as well.
        share_allowed: data.max_broken_share.
        shards: of a source of shards, what there is of them.
    """

    name: str = ""
    role: Literal["train", "validation"] = "train"
    captions: int = 0
    shared: list[str] = field(default_factory=list)
    share_allowed: float = 0.0
    shards: ShardFacts | None = None

    @property
    def stops_a_run(self) -> bool:
        """Whether training would refuse it."""
        return bool(self.error) or too_many(len(self.broken), self.items, self.share_allowed)

    def faults(self) -> list[str]:
        """What is wrong with its shards."""
        return [] if self.shards is None else self.shards.faults()

    def lines(self) -> list[str]:
        """All that is wrong, a line each."""
        return super().lines() + names_line(self.shared, "are trained on as well")

    def row(self) -> dict[str, Any]:
        """All of it for JSON."""
        return {**super().row(), "stops_a_run": self.stops_a_run}


def check_data(
    data: DataConfig,
    *,
    decode: bool = False,
    report: ProgressCallback | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[SourceCheck]:
    """Look at every source of a recipe; what is wrong with one hides nothing of the others.

    Args:
        data: the recipe's data section.
        decode: decode every file, and count frames; otherwise a file must be there and not be empty, and shards must
            be there and whole.
        report: called with (what, done, total, unit).
        stop: asked after every item, and every shard that is scanned; True ends the check early.
    """
    look, checks = _Look(data, decode, report, stop), list[SourceCheck]()
    trained: set[tuple[Any, str]] = set()
    roles: list[tuple[Literal["train", "validation"], DataSource]] = []
    roles += [("train", s) for s in data.train]
    roles += [("validation", s) for s in data.validation]
    for role, config in roles:
        check = SourceCheck(role=role, share_allowed=data.max_broken_share)
        checks.append(check)
        try:
            keys = (look.at_shards if config.shards else look.at_captions)(check, config)
        except EvlgenError as error:
            check.name = check.name or config.shards or config.captions or str(config.dataset)
            check.error = str(error)
            continue
        if role == "train":
            trained |= keys.keys()
        else:
            check.shared = [name for key, name in keys.items() if key in trained]
    return checks


Keys = dict[tuple[Any, str], str]
"""Media and the real name of a file there -> its name in the captions."""


@dataclass(frozen=True)
class _Look:
    """How sources are looked at; see `check_data`."""

    data: DataConfig
    decode: bool
    report: ProgressCallback | None
    stop: Callable[[], bool]

    def at_captions(self, check: SourceCheck, config: DataSource) -> Keys:
        check.name = source_name(config)
        config = resolve_source(config)
        read = read_captions(config, lower_case=self.data.lower_case)
        media = MediaStore(config.media)
        names = [item.name for item in read.items]
        keys: Keys = {(media.path, media.resolve(name) or name): name for name in names}
        check.items = len(names) + len(read.uncaptioned)
        check.captions = sum(len(item.captions) for item in read.items)
        check.repeated = read.repeated
        bare = read.uncaptioned.items()
        check.broken = [Failure("no-captions", f"{where} has no captions", name) for name, where in bare]
        if self.decode:
            decode_files(check, check.name, names, media, self.data.frames_kept, self.report, self.stop)
        else:
            look_at_files(check, check.name, names, media, self.report, self.stop)
        return keys

    def at_shards(self, check: SourceCheck, config: DataSource) -> Keys:
        check.name = shards_name(config)
        reader = open_reader(config, self.data)
        try:
            found = count_shards(config, reader, report=self.report, stop=self.stop)
            if found is None:
                check.checked = False
                return {}
            check.items = check.captions = int(found.samples.sum())
            try:
                found.check_whole(self.data.max_broken_share)
            except EvlgenError as error:
                check.error = str(error)
            if self.decode:
                check.captions = decode_samples(check, found, self.data, self.report, self.stop)
            check.shards = shard_facts(found)
        finally:
            reader.close()
        return {}

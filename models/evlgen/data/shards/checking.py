"""Looking at the shards of a source: which are there, how many samples they have, and what is wrong with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evlgen.data.broken import Broken, BrokenItemError
from evlgen.data.features import Report
from evlgen.data.shards.finding import FoundShards, count_shards, open_reader, shards_name
from evlgen.data.shards.patterns import numbering_gaps
from evlgen.data.shards.reading import ShardReader
from evlgen.data.shards.source import ShardSource
from evlgen.data.shards.tar import ends_whole
from evlgen.errors import EvlgenError
from evlgen.recipes import DataSource
from evlgen.recipes.data import DataConfig

SIDE = 64
"""Of the pictures that a check decodes."""

THREADS = 2
WAITING = 16


@dataclass
class ShardFacts:
    """What there is of the shards of a source.

    Attributes:
        shards: that are there.
        bytes: of these whose size is known without fetching them.
        counted: how many shards were counted from sizes.json or stats, and how many by a scan.
        gaps: shards that are named, or lie between others by their number, and are not there.
        truncated: shards that end too early; of remote ones those that have been scanned.
        other_numbers: shard -> (samples that it was counted with, samples in it), of scanned ones that differ.
    """

    shards: int
    bytes: int
    counted: dict[str, int]
    gaps: list[str] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)
    other_numbers: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def is_fine(self) -> bool:
        """Nothing is wrong."""
        return not (self.gaps or self.truncated or self.other_numbers)


@dataclass
class ShardCheck:
    """Findings about a source of shards.

    Attributes:
        facts: about the shards.
        samples: of them all, as counted.
        captions: that were found; None if samples were not looked at.
        pictures: that were decoded; likewise.
        broken: samples that cannot be used, and why.
        checked: False when the check was stopped before all samples were looked at.
        refused: why training would refuse the shards as a whole; empty if it would not.
    """

    facts: ShardFacts
    samples: int
    captions: int | None = None
    pictures: int | None = None
    broken: list[Broken] = field(default_factory=list)
    checked: bool = True
    refused: str = ""


@dataclass(frozen=True)
class PreparedShards:
    """A source whose index is made.

    Attributes:
        name: of the source.
        samples: as counted.
        facts: about the shards.
        scanned: shards whose members are listed in the index.
        index: folder of the index.
    """

    name: str
    samples: int
    facts: ShardFacts
    scanned: int
    index: Path


def check_shards(
    config: DataSource,
    data: DataConfig,
    *,
    decode: bool = False,
    report: Report | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> ShardCheck | None:
    """Look at the shards of a source; None if it was stopped before they were counted.

    Args:
        config: the source.
        data: of the recipe.
        decode: read every caption and decode every picture; otherwise a look at names, sizes and the ends of files.
        report: called with (what, done, total, unit).
        stop: asked after every shard that is scanned and every sample that is decoded.

    Raises:
        UsageError, EvlgenError: see `open_reader` and `count_shards`.
    """
    reader = open_reader(config, data)
    try:
        found = count_shards(config, reader, report=report, stop=stop)
        if found is None:
            return None
        check = ShardCheck(shard_facts(found), int(found.samples.sum()))
        try:
            found.check_whole(data.max_broken_share)
        except EvlgenError as error:
            check.refused = str(error)
        if decode:
            _decode(check, found, data, report, stop)
            check.facts = shard_facts(found)
        return check
    finally:
        reader.close()


def prepare_shards(
    config: DataSource,
    data: DataConfig,
    *,
    report: Report | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> PreparedShards | None:
    """Make the index of a source: numbers of samples, and for local shards where their members lie; None if stopped.

    What is done is kept, so the same call goes on. Remote shards are scanned when they are fetched: here only those
    whose number of samples nothing says.

    Raises:
        UsageError, EvlgenError: see `open_reader`, `count_shards` and `FoundShards.check_whole`.
    """
    reader = open_reader(config, data)
    try:
        found = count_shards(config, reader, report=report, stop=stop)
        if found is None:
            return None
        shards = reader.files.shards
        todo = [n for n in range(len(shards)) if reader.files.remote is None and reader.known_index(n) is None]
        for done, number in enumerate(todo, start=1):
            reader.index(number)
            if report is not None:
                report(f"index of {found.name}", done, len(todo), "shards")
            if stop():
                return None
        found.check_whole(data.max_broken_share)
        scanned = sum(reader.known_index(n) is not None for n in range(len(shards)))
        return PreparedShards(
            found.name, int(found.samples.sum()), shard_facts(found), scanned, reader.folder / "index"
        )
    finally:
        reader.close()


def shard_facts(found: FoundShards) -> ShardFacts:
    """What can be said without reading more than the ends of local shards, and the index of scanned ones."""
    reader = found.reader
    shards = reader.files.shards
    facts = ShardFacts(len(shards), sum(max(s.size, 0) for s in shards), found.counts.sources)
    named = [s.path for s in shards]
    facts.gaps = list(dict.fromkeys([*reader.files.missing, *numbering_gaps([*named, *reader.files.missing])]))
    for number, shard in enumerate(shards):
        index, said = reader.known_index(number), int(found.counts.samples[number])
        if index is not None and len(index.rows) != said:
            facts.other_numbers[shard.path] = (said, len(index.rows))
        whole = _ends_whole(reader, number) if index is None else not index.truncated
        if not whole:
            facts.truncated.append(shard.path)
    return facts


def _ends_whole(reader: ShardReader, number: int) -> bool:
    shard = reader.files.shards[number]
    if reader.files.remote is not None:
        return shard.size != 0
    try:
        return ends_whole(Path(shard.path))
    except OSError:
        return False


def _decode(
    check: ShardCheck, found: FoundShards, data: DataConfig, report: Report | None, stop: Callable[[], bool]
) -> None:
    with ThreadPoolExecutor(THREADS) as threads:

        def submit(work: Callable[[], Any]) -> Future[Any]:
            return threads.submit(work)

        source = ShardSource(
            found, lambda _: [0], submit, side=SIDE, lower_case=data.lower_case, max_broken_share=1.0
        )  # fmt: skip
        check.captions = check.pictures = 0
        for done, broken in enumerate(_looked_at(source, check), start=1):
            if broken is not None:
                check.broken.append(broken)
            if report is not None:
                report(f"checking {shards_name(found.config)}", done, check.samples, "items")
            if stop():
                check.checked = done == check.samples
                break


def _looked_at(source: ShardSource, check: ShardCheck) -> Iterator[Broken | None]:
    """Every sample in the order of the shards: None, or why it cannot be used."""
    waiting: deque[Callable[[], Any]] = deque()

    def first() -> Broken | None:
        try:
            waiting.popleft()()
        except BrokenItemError as error:
            return error.broken
        check.pictures = (check.pictures or 0) + 1
        return None

    for sample in range(len(source)):
        try:
            source.token_ids[sample]
        except BrokenItemError as error:
            yield error.broken
            continue
        check.captions = (check.captions or 0) + 1
        waiting.append(source.cache.ask(sample, [0], 0))
        if len(waiting) == WAITING:
            yield first()
    while waiting:
        yield first()

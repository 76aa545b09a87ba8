"""Looking at the shards of a source: which are there, how many samples they have, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evlgen.data.decoding import as_they_get_done
from evlgen.data.findings import BrokenItemError, Findings
from evlgen.data.shards.counting import FoundShards, count_shards
from evlgen.data.shards.reader import ShardReader, open_reader
from evlgen.data.shards.shard_names import name_spans, numbering_gaps
from evlgen.data.shards.shard_source import ShardSource
from evlgen.data.shards.tar_index import ends_whole
from evlgen.errors import Failure
from evlgen.recipes import DataSource
from evlgen.recipes.data_schema import DataConfig
from evlgen.system.progress import ProgressCallback

SIDE = 64
"""To which pictures are resized that a check decodes, in pixels."""

THREADS = 2
_SHOWN_CHARACTERS = 400


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

    def faults(self) -> list[str]:
        """What is wrong, a line each; of long lists the beginning."""
        other = [f"{path} has {has}, not {said}" for path, (said, has) in self.other_numbers.items()]
        each = (
            ("missing in the numbering", self.gaps, name_spans(self.gaps)),
            ("truncated", self.truncated, name_spans(self.truncated)),
            ("other numbers of samples", other, ", ".join(other)),
        )
        return [f"{what} ({len(found)}): {_shortened(text)}" for what, found, text in each if found]


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} ... (--json lists them)"


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

    def row(self) -> dict[str, Any]:
        """All of it for JSON."""
        return {**asdict(self), "index": str(self.index)}


def prepare_shards(
    config: DataSource,
    data: DataConfig,
    *,
    report: ProgressCallback | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> PreparedShards | None:
    """Make the index of a source: numbers of samples, and for local shards where their members lie; None if stopped.

    What is done is kept, so the same call goes on. Remote shards are scanned when they are fetched: here only those
    whose number of samples nothing says.

    Args:
        config: the source.
        data: max_broken_share and shard_cache_gb.
        report: called with (what, done, total, "shards").
        stop: asked after every shard.

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
    reader, counts = found.reader, found.counts
    shards, missing = reader.files.shards, reader.files.missing
    facts = ShardFacts(len(shards), sum(max(s.size, 0) for s in shards), counts.sources)
    facts.gaps = list(dict.fromkeys([*missing, *numbering_gaps([*(s.path for s in shards), *missing])]))
    for number, shard in enumerate(shards):
        index, said = reader.known_index(number), int(counts.samples[number])
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


def decode_samples(
    check: Findings,
    found: FoundShards,
    data: DataConfig,
    report: ProgressCallback | None,
    stop: Callable[[], bool],
) -> int:
    """Read every caption and decode every picture.

    Args:
        check: gets the pictures that were decoded as frames, what is broken, and whether all samples were looked at.
        found: the shards.
        data: lower_case.
        report: called with (what, done, total, "items").
        stop: asked after every sample.

    Returns:
        How many samples have a caption.
    """
    captions = check.frames = 0
    with ThreadPoolExecutor(THREADS) as threads:
        source = ShardSource(
            found, lambda _: [0], threads.submit, side=SIDE, lower_case=data.lower_case, max_broken_share=1.0
        )  # fmt: skip

        def look(sample: int) -> tuple[bool, Failure | None]:
            captioned = False
            try:
                captioned = bool(source.captions_of(sample))
                source.decode(sample, frames=1, view=0)
            except BrokenItemError as error:
                return captioned, error.broken
            return captioned, None

        for done, (_, (captioned, broken)) in enumerate(as_they_get_done(threads, look, range(len(source))), start=1):
            captions += captioned
            check.frames += broken is None
            check.broken += [] if broken is None else [broken]
            if report is not None:
                report(f"checking {found.name}", done, check.items, "items")
            if stop():
                check.checked = done == check.items
                break
    return captions

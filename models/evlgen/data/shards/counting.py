"""How many samples every shard has: from a sizes.json, from img2dataset's NNNNN_stats.json, or by a scan.

The numbers decide which sample every draw gives, so they depend on these files alone, never on what has been scanned
before. What a shard lacks of its number is broken; what it has beyond is not used.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlgen.data.findings import too_many
from evlgen.data.shards.reader import ShardReader
from evlgen.data.shards.shard_names import name_spans
from evlgen.errors import EvlgenError, Failure, UsageError
from evlgen.recipes import DataSource, expand_variables
from evlgen.system.jsons import parse_json, read_json, write_json
from evlgen.system.progress import ProgressCallback

SIZES_FILE = "sizes.json"
_MEND = "mend or remove it; shards are then scanned"

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """Samples of every shard.

    Attributes:
        samples: (shards,).
        sources: how many shards were counted from sizes.json, stats or a scan.
        truncated: positions of scanned shards that end too early. Of the others what is missing is found when it is
            drawn, since their number is known.
    """

    samples: Int64
    sources: dict[str, int]
    truncated: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class FoundShards:
    """A source whose shards are found and counted.

    Attributes:
        name: for logs.
        config: as the recipe has it.
        reader: of the shards.
        counts: samples of every shard, as the files say.
        samples: (shards,), the same with `limit` applied.
    """

    name: str
    config: DataSource
    reader: ShardReader
    counts: Counts
    samples: Int64

    @property
    def digest(self) -> str:
        """A hash (64 bits) of what decides which sample a draw gives: names and numbers, not where the shards lie."""
        names = [shard.name for shard in self.reader.files.shards]
        return hashlib.sha256(json.dumps([names, self.samples.tolist()]).encode()).hexdigest()[:16]

    @property
    def truncated(self) -> list[Failure]:
        """Shards of which nothing says how many samples they had before they were cut off."""
        cut = [(self.reader.files.shards[n].name, int(self.counts.samples[n])) for n in self.counts.truncated]
        return [Failure("cut", f"the shard is cut off; {left} samples are left of it", name) for name, left in cut]

    def check_whole(self, max_broken_share: float) -> None:
        """Hold shards that are missing or cut off against the share that may be of no use.

        Raises:
            EvlgenError: they are more, the first are named.
        """
        files, truncated = self.reader.files, self.counts.truncated
        lost = len(files.missing) + len(truncated)
        if truncated and too_many(lost, files.named, max_broken_share):
            cut = name_spans([files.shards[n].path for n in truncated])
            raise EvlgenError(
                f"shards {self.config.shards}: {len(truncated)} of {files.named} are cut off"
                + (f" and {len(files.missing)} are missing" if files.missing else "")
                + f" ({lost / files.named:.1%}, data.max_broken_share allows {max_broken_share:.1%}): {cut[:300]}",
                "fetch them again, leave them out, or raise data.max_broken_share to train on what is left of them",
            )


def shards_name(config: DataSource) -> str:
    """Folder and file of the pattern: laion/{00000..11499}."""
    folder, _, file = expand_variables(config.shards).rpartition("/")
    place = folder.rpartition("/")[2]
    return f"{place}/{file.removesuffix('.tar')}" if place else file.removesuffix(".tar")


def count_shards(
    config: DataSource,
    reader: ShardReader,
    *,
    report: ProgressCallback | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> FoundShards | None:
    """Count the samples of a source; what is scanned for it is kept, so it may be stopped and go on later.

    Args:
        config: the source.
        reader: of its shards; one with a split has to scan them all.
        report: called with (what, done, total, "shards").
        stop: asked after every scanned shard; True gives up and returns None.

    Raises:
        UsageError: a file that says numbers is not what it must be, or there are no samples.
        EvlgenError: a shard cannot be fetched or read.
    """
    name = shards_name(config)
    counts = _read_kept(reader)
    if counts is None:
        counts = _count(reader, f"samples of {name}", report, stop)
        if counts is None:
            return None
        _keep(reader, counts)
    if not counts.samples.sum():
        raise UsageError(
            f"shards {config.shards}: none of {len(reader.files.shards)} shards has a sample"
            + (f" of split {config.split!r}" if config.split else ""),
            "a sample is KEY.jpg with KEY.txt, or with KEY.json that has a caption",
        )
    samples = counts.samples
    if config.limit is not None:
        samples = np.clip(config.limit - (np.cumsum(samples) - samples), 0, samples)
    return FoundShards(name, config, reader, counts, samples)


def _count(reader: ShardReader, what: str, report: ProgressCallback | None, stop: Callable[[], bool]) -> Counts | None:
    shards = reader.files.shards
    samples = np.array([-1] * len(shards) if reader.split is not None else _said(reader), dtype=np.int64)
    unknown = np.flatnonzero(samples < 0).tolist()
    sources = Counter({"scan": len(unknown), "sizes or stats": len(shards) - len(unknown)})
    truncated = []
    for done, number in enumerate(unknown, start=1):
        index = reader.index(number)
        samples[number] = len(index.rows)
        truncated += [number] if index.truncated else []
        if report is not None:
            report(what, done, len(unknown), "shards")
        if stop():
            return None
    return Counts(samples, {how: n for how, n in sources.items() if n}, truncated)


def _said(reader: ShardReader) -> list[int]:
    """Samples as files beside the shards say; -1 where none does."""
    files = reader.files
    in_sizes: dict[str, int] = {}
    for path, content in files.read_small(sorted({f"{s.folder}/{SIZES_FILE}" for s in files.shards})).items():
        for name, count in _parsed(path, content).items():
            in_sizes[f"{path.removesuffix(SIZES_FILE)}{name}"] = _whole(path, name, count)
    beside = {s.path: f"{s.path.removesuffix('.tar')}_stats.json" for s in files.shards if s.path not in in_sizes}
    stats = files.read_small(list(beside.values()))
    for path, place in beside.items():
        if place in stats:
            in_sizes[path] = _whole(place, "successes", _parsed(place, stats[place]).get("successes"))
    return [in_sizes.get(s.path, -1) for s in files.shards]


def _parsed(path: str, content: bytes) -> dict[str, Any]:
    try:
        parsed = parse_json(content, path)
    except UsageError as error:
        raise UsageError(error.what, _MEND) from None
    if not isinstance(parsed, dict):
        raise UsageError(f"{path} is not a JSON object", _MEND)
    return parsed


def _whole(path: str, key: str, count: Any) -> int:
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise UsageError(f"{path}: {key} is {count!r}, expected a number of samples", _MEND)
    return count


def _kept_path(reader: ShardReader) -> Path | None:
    """Asking for thousands of small remote files takes its time; numbers of unchanged shards are kept."""
    shards = reader.files.shards
    if reader.files.remote is None or not all(s.stamp for s in shards):
        return None
    digest = hashlib.sha256("\n".join(s.digest(reader.split) for s in shards).encode()).hexdigest()[:32]
    return reader.folder / "counts" / f"{digest}.json"


def _read_kept(reader: ShardReader) -> Counts | None:
    path = _kept_path(reader)
    with suppress(EvlgenError, ValueError, KeyError, TypeError, OverflowError):
        if path is not None:
            kept = read_json(path)
            return Counts(np.array(kept["samples"], dtype=np.int64), kept["sources"], kept["truncated"])
    return None


def _keep(reader: ShardReader, counts: Counts) -> None:
    path = _kept_path(reader)
    if path is not None:
        kept = {"samples": counts.samples.tolist(), "sources": counts.sources, "truncated": counts.truncated}
        write_json(path, kept)

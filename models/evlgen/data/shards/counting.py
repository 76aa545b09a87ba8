"""How many samples every shard has: from a sizes.json, from img2dataset's NNNNN_stats.json, or by a scan.

The numbers decide which sample every draw gives, so they depend on these files alone, never on what has been scanned
before. What a shard lacks of its number is broken; what it has beyond is not used.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlgen.data.features import Report
from evlgen.data.shards.files import Shard
from evlgen.data.shards.reading import ShardReader
from evlgen.errors import EvlgenError, UsageError
from evlgen.system.jsons import parse_json, read_json, write_json

SIZES_FILE = "sizes.json"

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


def count_samples(
    reader: ShardReader, name: str, *, report: Report | None = None, stop: Callable[[], bool] = lambda: False
) -> Counts | None:
    """Count the samples of a source; what is scanned for it is kept, so it may be stopped and go on later.

    Args:
        reader: of the shards; one with a split has to scan them all.
        name: of the source.
        report: called with (what, done, total, "shards").
        stop: asked after every scanned shard; True gives up and returns None.

    Raises:
        UsageError: a file that says numbers is not what it must be.
        EvlgenError: a shard cannot be fetched or read.
    """
    shards = reader.files.shards
    if (kept := _read_kept(reader)) is not None:
        return kept
    said = [-1] * len(shards) if reader.split is not None else _said(reader)
    samples = np.array(said, dtype=np.int64)
    unknown = np.flatnonzero(samples < 0).tolist()
    sources = Counter({"scan": len(unknown), "sizes or stats": len(shards) - len(unknown)})
    truncated = []
    for done, number in enumerate(unknown, start=1):
        index = reader.index(number)
        samples[number] = len(index.rows)
        truncated += [number] if index.truncated else []
        if report is not None:
            report(f"samples of {name}", done, len(unknown), "shards")
        if stop():
            return None
    counts = Counts(samples, {what: n for what, n in sources.items() if n}, truncated)
    _keep(reader, counts)
    return counts


def _said(reader: ShardReader) -> list[int]:
    """Samples as files beside the shards say; -1 where none does."""
    shards = reader.files.shards
    in_sizes: dict[str, int] = {}
    for path, content in reader.files.read_small(sorted({f"{s.folder}/{SIZES_FILE}" for s in shards})).items():
        sizes = _parsed(path, content)
        for name, count in sizes.items():
            in_sizes[f"{path.removesuffix(SIZES_FILE)}{name}"] = _whole(path, name, count)
    rest = [s for s in shards if s.path not in in_sizes]
    stats = reader.files.read_small([_stats_path(s) for s in rest])
    found: list[int] = []
    for shard in shards:
        path = _stats_path(shard)
        if shard.path in in_sizes:
            found.append(in_sizes[shard.path])
        elif path in stats:
            found.append(_whole(path, "successes", _parsed(path, stats[path]).get("successes")))
        else:
            found.append(-1)
    return found


def _stats_path(shard: Shard) -> str:
    return f"{shard.path.removesuffix('.tar')}_stats.json"


def _parsed(path: str, content: bytes) -> dict[str, Any]:
    try:
        parsed = parse_json(content, path)
    except UsageError as error:
        raise UsageError(error.what, "mend or remove it; shards are then scanned") from None
    if not isinstance(parsed, dict):
        raise UsageError(f"{path} is not a JSON object", "mend or remove it; shards are then scanned")
    return parsed


def _whole(path: str, key: str, count: Any) -> int:
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise UsageError(
            f"{path}: {key} is {count!r}, expected a number of samples", "mend or remove it; shards are then scanned"
        )
    return count


def _kept_path(reader: ShardReader) -> Any:
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
    if path is None:
        return
    kept = {"samples": counts.samples.tolist(), "sources": counts.sources, "truncated": counts.truncated}
    write_json(path, kept)

"""From a recipe's `shards` to readers with numbers of samples: looked at before anything large is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evlgen.data.broken import Broken, too_many
from evlgen.data.features import Report
from evlgen.data.shards.counting import Counts, Int64, count_samples
from evlgen.data.shards.files import ShardFiles
from evlgen.data.shards.patterns import spans
from evlgen.data.shards.reading import ShardReader
from evlgen.errors import EvlgenError, UsageError
from evlgen.recipes import DataSource, expand_variables
from evlgen.recipes.data import DataConfig
from evlgen.weights.cache import cache_root


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
        """Of all that decides which sample every draw gives (64 bits): names and numbers; not where the shards lie."""
        names = [shard.name for shard in self.reader.files.shards]
        return hashlib.sha256(json.dumps([names, self.samples.tolist()]).encode()).hexdigest()[:16]

    @property
    def truncated(self) -> list[Broken]:
        """Shards of which nothing says how many samples they had before they were cut off."""
        at = self.counts.truncated
        cut = [(self.reader.files.shards[n].name, int(self.counts.samples[n])) for n in at]
        return [Broken(name, "cut", f"the shard is cut off; {left} samples are left of it") for name, left in cut]

    def check_whole(self, max_broken_share: float) -> None:
        """Hold shards that are missing or cut off against the share that may be of no use.

        Raises:
            EvlgenError: they are more, the first are named.
        """
        files = self.reader.files
        named, lost = len(files.shards) + len(files.missing), len(files.missing) + len(self.counts.truncated)
        if self.counts.truncated and too_many(lost, named, max_broken_share):
            cut = spans([files.shards[n].path for n in self.counts.truncated])
            raise EvlgenError(
                f"shards {self.config.shards}: {len(self.counts.truncated)} of {named} are cut off"
                + (f" and {len(files.missing)} are missing" if files.missing else "")
                + f" ({lost / named:.1%}, data.max_broken_share allows {max_broken_share:.1%}): {cut[:300]}",
                "fetch them again, leave them out, or raise data.max_broken_share to train on what is left of them",
            )


def shards_name(config: DataSource) -> str:
    """Folder and file of the pattern: laion/{00000..11499}."""
    folder, _, file = expand_variables(config.shards).rpartition("/")
    place = folder.rpartition("/")[2]
    return f"{place}/{file.removesuffix('.tar')}" if place else file.removesuffix(".tar")


def open_reader(config: DataSource, data: DataConfig, folder: Path | None = None) -> ShardReader:
    """Look for the shards of a source.

    Args:
        config: the source.
        data: max_broken_share, shard_cache_gb.
        folder: the cache directory; None: the user's own.

    Raises:
        UsageError: the pattern is not one, none or too few of its shards are there, or the bound on fetched shards is
            below a window of them.
        EvlgenError: the file system does not answer.
    """
    files = ShardFiles(config.shards)
    named = len(files.shards) + len(files.missing)
    if too_many(len(files.missing), named, data.max_broken_share):
        raise UsageError(
            f"shards {config.shards}: {len(files.missing)} of {named} are missing ({len(files.missing) / named:.1%}, "
            f"data.max_broken_share allows {data.max_broken_share:.1%}): {spans(files.missing)[:300]}",
            "fetch them, name ranges without them, or raise data.max_broken_share",
        )
    limit_bytes = int(data.shard_cache_gb * 1e9)
    largest = sum(sorted((s.size for s in files.shards), reverse=True)[: config.shard_window])
    if files.remote is not None and largest > limit_bytes:
        raise UsageError(
            f"data.shard_cache_gb {data.shard_cache_gb:g} is below a window of {config.shard_window} shards of "
            f"{config.shards}, which takes {largest / 1e9:.3g} GB",
            "raise it, best to twice the window, or lower shard_window",
        )
    return ShardReader(
        files, (folder or cache_root()).absolute() / "shards", split=config.split, limit_bytes=limit_bytes,
        most_open=2 * config.shard_window + 2,
    )  # fmt: skip


def count_shards(
    config: DataSource,
    reader: ShardReader,
    *,
    report: Report | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> FoundShards | None:
    """Count the samples of a source; None if it was stopped.

    Args:
        config: the source.
        reader: of `open_reader`.
        report, stop: see `count_samples`.

    Raises:
        UsageError, EvlgenError: see `count_samples`; or there are no samples.
    """
    name = shards_name(config)
    counts = count_samples(reader, name, report=report, stop=stop)
    if counts is None:
        return None
    if not counts.samples.sum():
        raise UsageError(
            f"shards {config.shards}: none of {len(reader.files.shards)} shards has a sample"
            + (f" of split {config.split!r}" if config.split else ""),
            "a sample is KEY.jpg with KEY.txt, or with KEY.json that has a caption",
        )
    return FoundShards(name, config, reader, counts, limited(counts.samples, config.limit))


def limited(samples: Int64, limit: int | None) -> Int64:
    """The numbers of which the first `limit` samples of a source are made."""
    if limit is None:
        return samples
    before = np.cumsum(samples) - samples
    taken: Int64 = np.clip(limit - before, 0, samples)
    return taken

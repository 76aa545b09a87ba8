"""Bytes from shards, wherever they are: local ones by seeking in them, remote ones once they are fetched.

Daemon threads fetch and scan the shards that will be needed next. Which bytes a sample has does not depend on them.
"""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from evlgen.data.findings import too_many
from evlgen.data.shards.fetched import FetchedShards
from evlgen.data.shards.listing import Shard, ShardFiles
from evlgen.data.shards.shard_names import name_spans
from evlgen.data.shards.tar_index import ShardIndex, member_name, scan
from evlgen.errors import EvlgenError, UsageError
from evlgen.recipes import DataSource
from evlgen.recipes.data_schema import DataConfig
from evlgen.system.files import replacing
from evlgen.weights.cache import cache_errors, cache_root

LAYOUT = 2  # raise when an index means something else
THREADS = 4
REMOVED = 5
"""So often another process may remove a fetched shard before this one has opened it."""


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
    missing, named = len(files.missing), files.named
    if too_many(missing, named, data.max_broken_share):
        raise UsageError(
            f"shards {config.shards}: {missing} of {named} are missing ({missing / named:.1%}, "
            f"data.max_broken_share allows {data.max_broken_share:.1%}): {name_spans(files.missing)[:300]}",
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
    kept = (folder or cache_root()).absolute() / "shards"
    return ShardReader(
        files, kept, split=config.split, limit_bytes=limit_bytes, most_open=2 * config.shard_window + 2
    )  # fmt: skip


class ShardReader:
    """Reads samples of shards; may be used from several threads.

    Args:
        files: the shards.
        folder: of what is kept about shards, and of fetched ones.
        split: see `scan`.
        limit_bytes: of fetched shards.
        most_open: so many shards are open at a time.
    """

    def __init__(
        self, files: ShardFiles, folder: Path, *, split: str | None = None, limit_bytes: int, most_open: int
    ) -> None:
        self.files, self.folder, self.split, self.most_open = files, folder, split, most_open
        self.fetched = FetchedShards(folder / "fetched", limit_bytes)
        self._open: OrderedDict[int, tuple[BinaryIO, ShardIndex, threading.Lock]] = OrderedDict()
        self._lock = threading.Lock()
        self._going: dict[int, Future[None]] = {}
        self._jobs: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._kept: deque[set[Path]] = deque(maxlen=2)  # a step may still draw from the window before

    def index(self, number: int) -> ShardIndex:
        """What is in a shard; fetches and scans it if that has not been done.

        Raises:
            EvlgenError: it cannot be fetched or read.
        """
        return self._opened(number)[1]

    def known_index(self, number: int) -> ShardIndex | None:
        """What is in a shard that has been scanned before, as a memory map; a damaged one is scanned again."""
        try:
            return ShardIndex.from_array(np.load(self._index_path(self.files.shards[number]), mmap_mode="r"))
        except (OSError, ValueError, EOFError):
            return None

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Some bytes of a shard.

        Raises:
            EvlgenError: it cannot be fetched or read.
        """
        file, _, lock = self._opened(number)
        try:
            with lock:  # a file has one position
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise self._unreadable(number, error) from None

    def key(self, number: int, offset: int) -> str:
        """The WebDataset key of the sample that has a member at `offset`; "" if its header does not say."""
        if offset < 512:
            return ""
        name = member_name(self.read(number, offset - 512, 512))
        folder, slash, last = name.removeprefix("./").rpartition("/")
        return f"{folder}{slash}{last.partition('.')[0]}"

    def expect(self, now: Sequence[int], soon: Sequence[int]) -> None:
        """Say which shards are in use and which come next: they are fetched and scanned in this order, ahead.

        In a folder that is too small for both, those of `now` stay.
        """
        with self._lock:
            self._kept.append({self.fetched.path(self.files.shards[n]) for n in now})
            for number in now:
                self.fetched.touch(self.files.shards[number])
            for number in (*now, *soon):
                if number not in self._going and number not in self._open:
                    self._going[number] = Future()
                    self._jobs.put(number)
            while len(self._threads) < THREADS:
                thread = threading.Thread(target=self._work, daemon=True, name="shards")
                self._threads.append(thread)
                thread.start()

    def close(self) -> None:
        """Close all files and end the threads, a fetch in progress not waited for."""
        with self._lock:
            self._closed = True
            for _ in self._threads:
                self._jobs.put(None)
            self._threads.clear()
            for file, _, _ in self._open.values():
                file.close()
            self._open.clear()

    def _work(self) -> None:
        while (number := self._jobs.get()) is not None:
            with suppress(Exception):  # whoever needs the shard tries again, and hears why
                path = None if self._closed else self._path(number, wanted=False)
                if path is not None and self.known_index(number) is None:
                    self._scan(number, path)
            with self._lock:
                future = self._going.pop(number)
            future.set_result(None)

    def _opened(self, number: int) -> tuple[BinaryIO, ShardIndex, threading.Lock]:
        with self._lock:
            if number in self._open:
                self._open.move_to_end(number)
                return self._open[number]
            going = self._going.get(number)
        if going is not None:
            going.result()
        for attempt in range(REMOVED):
            try:
                path = self._path(number, wanted=True)
                assert path is not None, "what is wanted is fetched"
                index = self.known_index(number) or self._scan(number, path)
                file = path.open("rb")
                break
            except OSError as error:
                gone = isinstance(error, FileNotFoundError) and self.files.remote is not None
                if not gone or attempt + 1 == REMOVED:
                    raise self._unreadable(number, error) from None
        with self._lock:
            self._open[number] = (file, index, threading.Lock())
            while len(self._open) > self.most_open:
                self._open.popitem(last=False)  # closed with its last user
            return self._open[number]

    def _path(self, number: int, *, wanted: bool) -> Path | None:
        shard = self.files.shards[number]
        if self.files.remote is None:
            return Path(shard.path)
        with self._lock:
            keep = set[Path]().union(*self._kept)
        return self.fetched.fetch(self.files.remote, shard, self.files.address(number), keep, wanted=wanted)

    def _index_path(self, shard: Shard) -> Path:
        digest = shard.digest(LAYOUT, self.split)
        return self.folder / "index" / digest[:2] / f"{digest[2:]}.npy"

    def _scan(self, number: int, path: Path) -> ShardIndex:
        index = scan(path, self.split)
        target = self._index_path(self.files.shards[number])
        with cache_errors(self.folder), replacing(target) as aside, aside.open("wb") as file:
            np.save(file, index.to_array())
        return index

    def _unreadable(self, number: int, error: OSError) -> EvlgenError:
        return EvlgenError(
            f"{self.files.address(number)} cannot be read: {error.strerror or error}",
            "bring it back, then go on with --resume; or leave it out of shards in a new run",
        )

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

from evlgen.data.shards.fetched import FetchedShards
from evlgen.data.shards.files import Shard, ShardFiles
from evlgen.data.shards.tar import ShardIndex, member_name, scan
from evlgen.errors import EvlgenError
from evlgen.system.files import replacing
from evlgen.weights.cache import disk_errors

LAYOUT = 2  # raise when an index means something else
THREADS = 4
REMOVED = 5
"""So often another process may remove a fetched shard before this one has opened it."""


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

    def address(self, number: int) -> str:
        """Of a shard, as a user would write it."""
        shard = self.files.shards[number]
        if self.files.remote is None or shard.path.startswith(f"{self.files.protocol}://"):
            return shard.path
        return f"{self.files.protocol}://{shard.path}"

    def index(self, number: int) -> ShardIndex:
        """What is in a shard; fetches and scans it if that has not been done.

        Raises:
            EvlgenError: it cannot be fetched or read.
        """
        return self._opened(number)[1]

    def known_index(self, number: int) -> ShardIndex | None:
        """The same if it has been scanned before, as a memory map; a damaged one is scanned again."""
        path = self._index_path(self.files.shards[number])
        try:
            return ShardIndex.from_array(np.load(path, mmap_mode="r"))
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
        return self.fetched.fetch(self.files.remote, shard, self.address(number), keep, wanted=wanted)

    def _index_path(self, shard: Shard) -> Path:
        digest = shard.digest(LAYOUT, self.split)
        return self.folder / "index" / digest[:2] / f"{digest[2:]}.npy"

    def _scan(self, number: int, path: Path) -> ShardIndex:
        index = scan(path, self.split)
        target = self._index_path(self.files.shards[number])
        with disk_errors(self.folder), replacing(target) as aside, aside.open("wb") as file:
            np.save(file, index.to_array())
        return index

    def _unreadable(self, number: int, error: OSError) -> EvlgenError:
        return EvlgenError(
            f"{self.address(number)} cannot be read: {error.strerror or error}",
            "bring it back, then go on with --resume; or leave it out of shards in a new run",
        )

"""Remote shards on the local disk: each fetched once, whole, and within a bound; the least recently used go.

Several processes share the folder. A shard is fetched under a lock into a file of another name, so what carries its
name is whole. Its room is taken before: KEY.room, an empty file of the shard's size, is counted until the shard is
there. Who has a shard open keeps reading it although another process removes it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from evlgen.data.shards.listing import Shard
from evlgen.system.files import is_full
from evlgen.system.locks import locked
from evlgen.system.remote_files import any_error, download
from evlgen.weights.cache import cache_errors

LEFT_SECONDS = 24 * 3600.0
"""What is older and was never finished, a killed run has left."""


class FetchedShards:
    """A folder of fetched shards.

    Args:
        folder: made if missing.
        limit_bytes: of all shards in it; a single shard may be larger.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes

    def path(self, shard: Shard) -> Path:
        """Where a shard lies once it is fetched."""
        return self.folder / f"{shard.digest()}.tar"

    def touch(self, shard: Shard) -> bool:
        """Mark a shard as used now; False if it is not here."""
        try:
            os.utime(self.path(shard))
        except OSError:
            return False
        return True

    def fetch(self, files: Any, shard: Shard, address: str, keep: Collection[Path], *, wanted: bool) -> Path | None:
        """A shard's file, fetched if it is not here.

        Args:
            files: the fsspec file system.
            shard: which.
            address: of the shard, for errors.
            keep: files to be removed last.
            wanted: it is needed now; otherwise it is only fetched where that removes none of `keep`.

        Returns:
            None if there is no room and it is not needed now.

        Raises:
            EvlgenError: it cannot be fetched, or the disk is full.
        """
        target = self.path(shard)
        if self.touch(shard):
            return target
        with cache_errors(self.folder), locked(self.folder / "locks" / f"{target.name[:2]}.lock"):
            if self.touch(shard):  # another process was faster
                return target
            aside, room = target.with_suffix(".part"), target.with_suffix(".room")  # nobody else's, under the lock
            with locked(self.folder / "locks" / "room.lock"):
                if not self._make_room(max(shard.size, 0), keep, wanted):
                    return None
                room.touch()
                os.truncate(room, max(shard.size, 0))
            try:
                self._download(files, shard, address, aside)
                aside.replace(target)
            finally:
                room.unlink(missing_ok=True)
                aside.unlink(missing_ok=True)
        return target

    def _download(self, files: Any, shard: Shard, address: str, aside: Path) -> None:
        try:
            download(files, shard.path, aside, None if shard.size == -1 else shard.size, is_ours=self._is_ours)
        except Exception as error:
            if isinstance(error, OSError) and self._is_ours(error):
                raise
            with any_error(
                f"{address} cannot be fetched", "check the network and your rights, then go on with --resume"
            ):
                raise

    def _is_ours(self, error: OSError) -> bool:
        """Whether the disk refused it, not the file system that is fetched from: a full disk names no file."""
        return is_full(error) or str(error.filename or "").startswith(str(self.folder))

    def _make_room(self, size: int, keep: Collection[Path], wanted: bool) -> bool:
        found: list[tuple[bool, float, int, Path]] = []
        for path in self.folder.iterdir():
            with suppress(OSError):  # another process may have removed it
                facts = path.stat()
                if path.suffix in (".room", ".part") and time.time() - facts.st_mtime > LEFT_SECONDS:
                    path.unlink()
                elif path.suffix in (".room", ".tar"):
                    found.append((path in keep, facts.st_mtime, facts.st_size, path))
        excess = size + sum(entry[2] for entry in found) - self.limit_bytes
        for kept, _, has, path in sorted(found):
            if excess <= 0:
                return True
            if (kept and not wanted) or path.suffix != ".tar":
                continue
            path.unlink(missing_ok=True)
            excess -= has
        return excess <= 0 or wanted

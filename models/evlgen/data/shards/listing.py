"""Which shards there are, on a disk or anywhere that fsspec reaches; with what tells that one has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from evlgen.data.shards.shard_names import expand_braces, has_wildcards
from evlgen.errors import UsageError
from evlgen.recipes import expand_variables
from evlgen.system.remote_files import RIGHTS, WEB, any_error, open_file_system, stamp_of

_UNLISTED = WEB
"""There are no folders to list: shards that the pattern names are taken to be there."""

_ABSENT = (403, 404)
"""What web servers answer for a file that is not there; buckets that may not be listed say 403."""


@dataclass(frozen=True)
class Shard:
    """A tar file.

    Attributes:
        path: on its file system.
        size: in bytes; -1 where it is not known before it is fetched.
        stamp: of its version; "" where none is known.
    """

    path: str
    size: int
    stamp: str

    @property
    def name(self) -> str:
        """Without the folder."""
        return self.path.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """Where it lies."""
        return self.path.rpartition("/")[0]

    def digest(self, *what: Any) -> str:
        """A name (128 bits) for what is derived from this version of the file."""
        return hashlib.sha256(json.dumps([self.path, self.size, self.stamp, *what]).encode()).hexdigest()[:32]


class ShardFiles:
    """The shards of a pattern.

    Attributes:
        pattern: as the recipe has it.
        remote: the file system, or None for local paths.
        shards: those that are there, in the order of the pattern.
        missing: names in the pattern's ranges and lists that are not.

    Raises:
        UsageError: the pattern is not one, no shard is there, or the file system's package is not installed.
        EvlgenError: the file system does not answer.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        text = expand_variables(pattern)
        self.remote: Any = None
        self.protocol = text.partition("://")[0] if "://" in text else ""
        self.missing: list[str] = []
        self._folders: dict[str, dict[str, Shard]] = {}
        if self.protocol:
            self.remote, _ = open_file_system(f"shards {pattern}", text.partition("{")[0])
            names = [self.remote._strip_protocol(name) for name in expand_braces(text)]
        else:
            names = [str(Path(name).expanduser().absolute()) for name in expand_braces(text)]
        found: dict[str, Shard] = {}
        with any_error(f"shards {pattern} cannot be listed", RIGHTS):
            for name in names:
                here = self._find(name)
                found |= {shard.path: shard for shard in here}
                if not here and not has_wildcards(name):
                    self.missing.append(name)
        self.shards = list(found.values())
        if not self.shards:
            raise UsageError(f"shards {pattern}: there is no such file", "check data.train[].shards in the recipe")

    @property
    def named(self) -> int:
        """How many shards the pattern names: those that are there and those that are missing."""
        return len(self.shards) + len(self.missing)

    def address(self, number: int) -> str:
        """A shard's address, as a user would write it."""
        path = self.shards[number].path
        return path if self.remote is None or path.startswith(f"{self.protocol}://") else f"{self.protocol}://{path}"

    def _find(self, name: str) -> list[Shard]:
        if self.remote is None:
            paths = sorted(glob(name)) if has_wildcards(name) else [name]  # noqa: PTH207 - a Path has no root
            stats = [(path, Path(path).stat()) for path in paths if Path(path).is_file()]
            return [Shard(path, facts.st_size, str(facts.st_mtime_ns)) for path, facts in stats]
        if has_wildcards(name):
            if self.protocol in _UNLISTED:
                raise UsageError(
                    f"shards {self.pattern}: {self.protocol} has no folders to look into",
                    "write a range {00000..00099}",
                )
            listed = self.remote.glob(name, detail=True)
            return [_remote(path, listed[path]) for path in sorted(listed)]
        if self.protocol in _UNLISTED:
            return [Shard(name, -1, "")]
        folder = name.rpartition("/")[0]
        if folder not in self._folders:  # one listing, not a question for each of thousands of shards
            try:
                beside = self.remote.ls(folder, detail=True)
            except FileNotFoundError:
                beside = []
            self._folders[folder] = {facts["name"]: _remote(facts["name"], facts) for facts in beside}
        shard = self._folders[folder].get(name)
        return [] if shard is None else [shard]

    def read_small(self, paths: Sequence[str]) -> dict[str, bytes]:
        """Contents of the files among these that are there.

        Raises:
            EvlgenError: the file system does not answer.
        """
        if self.remote is None or not paths:
            return {path: Path(path).read_bytes() for path in paths if Path(path).is_file()}
        answers = self.remote.cat(list(paths), on_error="return")  # many at once where the file system can
        found: dict[str, bytes] = {}
        for path, answer in answers.items():
            if isinstance(answer, bytes):
                found[path] = answer
            elif not isinstance(answer, FileNotFoundError) and getattr(answer, "status", 0) not in _ABSENT:
                with any_error(f"{path} cannot be read", RIGHTS):
                    raise answer
        return found


def _remote(path: str, facts: dict[str, Any]) -> Shard:
    size = facts.get("size")
    return Shard(path, -1 if size is None else int(size), stamp_of(facts))

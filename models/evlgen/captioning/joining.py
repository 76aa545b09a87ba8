"""Several caption files as one, sorted by name: what `evlgen merge` does after parts were captioned apart.

Of several lines about a video one stays: words by hand before captions, captions before failures, and among equals that
of the file named last, in which the last line counts. Lines are copied as they are, but for the folder that names are
relative to, which is told as seen from the new file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evlgen.captioning.discover import natural_key
from evlgen.captioning.journal import Journal, read_captions
from evlgen.errors import UsageError
from evlgen.system.files import write_bytes
from evlgen.system.names import escaped, printable
from evlgen.system.remote_files import is_address

_WORTH = {"error": 0, "empty": 1}


@dataclass(frozen=True)
class Joined:
    """What was written.

    Attributes:
        out: the file.
        videos: lines in it.
        failed: those without a caption.
        twice: videos that several files had lines about.
    """

    out: Path
    videos: int
    failed: int
    twice: int


def join_journals(files: Sequence[Path], out: Path) -> Joined:
    """Write one caption file of several; what `out` holds already takes part as the first of them.

    Args:
        files: caption files; runs may still be writing to them, and what they have written by now counts.
        out: an existing file is replaced at once or not at all.

    Raises:
        UsageError: a file is missing or holds no captions, or two hold captions of different files of one name.
        JournalError: a run is writing to `out`.
        EvlgenError: it cannot be written.
    """
    if not files:
        raise UsageError("no file to merge", "name those of the parts: captions.shard-*.jsonl")
    lines = {path: read_captions(path) for path in files if not _same(path, out)}
    for path, last in lines.items():
        if not last and path.stat().st_size:
            raise UsageError(f"{path} holds no captions", "name files that evlgen caption wrote")
    with Journal(out):  # refuses what is no caption file, and holds off runs that would write to it
        chosen: dict[str, tuple[dict[str, Any], Path]] = {}
        twice: set[str] = set()
        for path, last in [(out, read_captions(out)), *lines.items()]:
            for name, row in last.items():
                row = {**row, "root": _root(row, path, out)} if isinstance(row.get("root"), str) else row
                if name in chosen:
                    before, where = chosen[name]
                    _refuse_others(name, before, where, row, path)
                    if path != out and where != out:
                        twice.add(name)
                    if _worth(row) < _worth(before):
                        continue
                chosen[name] = (row, path)
        rows = [chosen[name][0] for name in sorted(chosen, key=natural_key)]
        text = "".join(escaped(json.dumps(row, ensure_ascii=False, allow_nan=False)) + "\n" for row in rows)
        write_bytes(out, text.encode(), hint="the files of the parts are as they were")
    failed = sum(row["status"] in _WORTH for row in rows)
    return Joined(out, len(rows), failed, len(twice))


def _same(one: Path, other: Path) -> bool:
    return os.path.abspath(one) == os.path.abspath(other)  # noqa: PTH100 - links stay


def _worth(row: dict[str, Any]) -> int:
    return 3 if row.get("edited") is True else _WORTH.get(row["status"], 2)


def _root(row: dict[str, Any], path: Path, out: Path) -> str:
    """The folder of a row's name as seen from `out`; an address is the same from everywhere."""
    if is_address(row["root"]):
        return str(row["root"])
    there = os.path.normpath(path.absolute().parent / row["root"])
    try:
        return Path(os.path.relpath(there, out.absolute().parent)).as_posix()
    except ValueError:  # Windows: two drives
        return Path(there).as_posix()


def _refuse_others(name: str, before: dict[str, Any], where: Path, row: dict[str, Any], path: Path) -> None:
    """Raise a UsageError if two rows of one name are about files in two folders."""
    roots = {one["root"] for one in (before, row) if isinstance(one.get("root"), str)}
    if len(roots) == 2:
        raise UsageError(
            f"{printable(name)} is a file of two folders, {printable(str(before['root']))} in {where} and "
            f"{printable(str(row['root']))} in {path}",
            "merge files of one folder, or caption both folders in one run",
        )

"""Which shards a run draws from, kept in its folder: with other ones a resumed run would draw other samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evlgen.data.shards import FoundShards
from evlgen.errors import EvlgenError, UsageError
from evlgen.system.jsons import parse_json, write_json

SHARDS_FILE = "shards.json"


def keep_shards(found: Sequence[FoundShards], folder: Path, resume: bool) -> None:
    """Write down the shards of a new run; of a resumed one, look whether they are still the same.

    Args:
        found: the sources of shards, in the order of the recipe; none: nothing is done.
        folder: of the run.
        resume: whether it goes on.

    Raises:
        UsageError: the run was started on other shards.
        EvlgenError: the folder cannot be written, or what was kept is damaged.
    """
    if not found:
        return
    path = folder / SHARDS_FILE
    now = [
        {"shards": len(one.samples), "samples": int(one.samples.sum()), "digest": one.digest, "name": one.name}
        for one in found
    ]
    if resume and path.is_file():
        for before, here in zip(_kept(path), now, strict=False):
            if before["digest"] != here["digest"]:
                raise UsageError(
                    f"{folder} was started on other shards: {here['name']} has {here['samples']} samples in "
                    f"{here['shards']} shards, it had {before['samples']} in {before['shards']}",
                    "bring back the shards and the files with their numbers, or start a new run in another --out",
                )
        return
    write_json(path, now, indent=2, hint="free some disk, or choose another --out")


def check_alike(digests: Sequence[str], processes: int) -> None:
    """See that all processes found the same shards: on disks of their own some may lack what others have.

    Args:
        digests: of every source, process after process.
        processes: how many there are.

    Raises:
        UsageError: they differ.
    """
    each = len(digests) // processes
    if any(digests[n] != digests[n % each] for n in range(len(digests))):
        raise UsageError(
            "the processes of this run find different shards",
            "every machine needs all of them, or none of a missing one",
        )


def _kept(path: Path) -> list[dict[str, Any]]:
    try:
        kept: list[dict[str, Any]] = parse_json(path.read_bytes(), "it")
        if not all({"digest", "samples", "shards"} <= one.keys() for one in kept):
            raise ValueError("it does not say which shards there were")
    except (OSError, UsageError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise EvlgenError(f"{path} is damaged: {reason}", "start a new run in another --out") from None
    return kept

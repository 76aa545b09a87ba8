"""The cache directory, its disk, and which parts of the embedded model lie in it."""

import os
import shutil

from evlgen.weights import cache_root, cached
from evlgen.weights.catalogue import MODELS
from evlgen.weights.removing import cache_sizes
from evlgen_cli.diagnosis.check import Check
from evlgen_cli.texts import human_bytes

ROOM_BYTES = 1_000_000_000
"""What fetching and converting the embedded model takes, with some room."""


def cache() -> Check:
    """The cache directory: can it be written, what it holds, and how much room is left."""
    root = cache_root()
    there = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        return Check(
            "cache", "broken", f"{root} cannot be written", "set EVLGEN_CACHE to a directory that you can write"
        )
    free = shutil.disk_usage(there).free
    sizes = cache_sizes()
    parts_of_it = ", ".join(f"{name} {human_bytes(size)}" for name, size in sizes.items())
    holds = f"{human_bytes(sum(sizes.values()))} ({parts_of_it})" if sizes else "empty"
    found = f"{root}, {holds}; {human_bytes(free)} free on its disk"
    if free < ROOM_BYTES:
        return Check("cache", "note", found, "free some space, or set EVLGEN_CACHE to a directory on another disk")
    return Check("cache", "ok", found)


def parts() -> Check:
    """Which parts of the embedded model are here."""
    here = {part.name: cached(part.source) is not None for part in MODELS["evlgen-mini"]}
    wanted = [part.name for part in MODELS["evlgen-mini"] if part.needed_for == "captioning"]
    missing = [name for name in wanted if not here[name]]
    found = ", ".join(f"{name} {'cached' if is_here else 'not cached'}" for name, is_here in here.items())
    hint = "evlgen models pull fetches them now, captioning when first needed" if missing else ""
    return Check("evlgen-mini", "note" if missing else "ok", found, hint)

"""Files that are computed once from fetched ones, e.g. a language model converted from GGUF, and kept in the cache."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from evlgen.errors import WeightsError
from evlgen.system.files import sync
from evlgen.weights.cache import cache_root, staging

MANIFEST = "manifest.json"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def derived(key: str, build: Callable[[Path], None], *, cache_dir: Path | None = None) -> Path:
    """Return the directory derived/KEY in the cache; have it built first if it is not there or not complete.

    Args:
        key: its name. It must change whenever the result would: put the hash of the inputs and a version in it.
        build: fills the empty directory that it is given. If it raises, or the process dies, nothing is kept.
        cache_dir: instead of the user's cache directory.

    Raises:
        WeightsError: `build` wrote nothing, or the cache cannot be written.
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"a key is letters, digits, '.', '_' and '-', not {key!r}")
    root = (cache_dir or cache_root()).absolute()
    place = root / "derived" / key
    if is_complete(place):
        return place
    with staging(root, f"derived-{key}") as work:
        if is_complete(place):  # another process built it while we waited for the lock
            return place
        build(work)
        sizes = {p.relative_to(work).as_posix(): p.stat().st_size for p in sorted(work.rglob("*")) if p.is_file()}
        if not sizes:
            raise WeightsError(f"nothing was built for {key}")
        (work / MANIFEST).write_text(json.dumps({"key": key, "bytes": sizes}, indent=2) + "\n", encoding="utf-8")
        for path in work.rglob("*"):
            if path.is_file():
                with path.open("r+b") as handle:
                    os.fsync(handle.fileno())
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        work.rename(place)
        sync(place.parent)
    return place


def is_complete(place: Path) -> bool:
    """Whether `place` holds every file of its manifest at its size."""
    try:
        sizes = json.loads((place / MANIFEST).read_text(encoding="utf-8"))["bytes"]
        return all((place / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, AttributeError):
        return False

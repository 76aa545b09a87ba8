"""Files that are computed once from fetched ones, e.g. a language model converted from GGUF, and kept in the cache.

A manifest beside them holds the checksum of every file. They are compared whenever the files are about to be read:
what a disk or a careless program has changed is built again, and never gives wrong captions.
"""

import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evlgen.errors import EvlgenError, WeightsError
from evlgen.system.files import sync
from evlgen.system.hashes import checksum
from evlgen.system.jsons import read_json, write_json
from evlgen.weights.cache import cache_root, staging

MANIFEST = "manifest.json"
_FOLDER = "derived"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_compared: dict[Path, list[tuple[str, int, int]]] = {}
"""Folders that this process has compared, with the marks that their files had then."""


def derived(key: str, build: Callable[[Path], None]) -> Path:
    """Return the directory derived/KEY in the cache; have it built first if it is not there, or not as it was built.

    Args:
        key: its name. It must change whenever the result would: put the hash of the inputs and a version in it.
        build: fills the empty directory that it is given. If it raises, or the process dies, nothing is kept.

    Raises:
        WeightsError: `build` wrote nothing.
        EvlgenError: the cache cannot be written.
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"a key is letters, digits, '.', '_' and '-', not {key!r}")
    root = cache_root()
    place = root / _FOLDER / key
    if is_whole(place):
        return place
    with staging(root, f"derived-{key}") as work:
        if is_whole(place):  # another process built it while we waited for the lock
            return place
        build(work)
        files = sorted(p for p in work.rglob("*") if p.is_file())
        if not files:
            raise WeightsError(f"nothing was built for {key}")
        checksums = {p.relative_to(work).as_posix(): checksum(p) for p in files}
        write_json(work / MANIFEST, {"key": key, "checksums": checksums}, indent=2)
        mode = stat.S_IMODE((work / MANIFEST).stat().st_mode)
        for path in files:
            path.chmod(mode)  # as the umask says: safetensors leaves files to their owner alone
            sync(path)
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        work.rename(place)
        sync(place.parent)
    return place


def verify_derived() -> tuple[list[str], list[str]]:
    """Compare all that is derived with its checksums, and remove what differs: it is built again when it is needed.

    Returns:
        the keys of what is whole, and of what was removed.
    """
    root = cache_root()
    whole: list[str] = []
    removed: list[str] = []
    for place in sorted((root / _FOLDER).glob("*")):
        if is_whole(place, again=True):
            whole.append(place.name)
        else:
            with staging(root, f"derived-{place.name}"):  # not while another process builds it
                shutil.rmtree(place, ignore_errors=True)
            removed.append(place.name)
    return whole, removed


def is_whole(place: Path, *, again: bool = False) -> bool:
    """Whether `place` holds every file of its manifest as it was built.

    Args:
        place: the folder.
        again: read the files even if this process has done so and they look unchanged.
    """
    try:
        manifest: Any = read_json(place / MANIFEST)
        checksums: dict[str, str] = manifest["checksums"]
        marks = [(name, (s := (place / name).stat()).st_size, s.st_mtime_ns) for name in checksums]
        if again or _compared.get(place) != marks:
            if not all(checksum(place / name) == expected for name, expected in checksums.items()):
                return False
            _compared[place] = marks
        return True
    except (OSError, EvlgenError, KeyError, TypeError, AttributeError):
        return False

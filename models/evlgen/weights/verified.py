"""SHA-256 of files, computed once: a file that was verified is trusted while its size, modification time and checksum
stay.

The records live in the cache directory under verified/, one small JSON file per hash. A cache that cannot be written
only costs the hashing again.
"""

from contextlib import suppress
from pathlib import Path

from evlgen.errors import EvlgenError
from evlgen.system.hashes import checksum, sha256_of
from evlgen.system.jsons import read_json, write_json

_SUM = "checksum"


def is_verified(path: Path, sha256: str, root: Path, *, again: bool = False) -> bool:
    """Whether `path` is a file with this hash.

    Args:
        path: the file; may be missing.
        sha256: the hash that it must have.
        root: the cache directory that keeps the records.
        again: hash it even if a record says that this was done.
    """
    if not path.is_file():
        return False
    if not again and is_recorded(path, sha256, root) and _read(root, sha256).get(_SUM) == checksum(path):
        return True
    if sha256_of(path) != sha256:
        forget(sha256, root)
        return False
    record(path, sha256, root)
    return True


def is_recorded(path: Path, sha256: str, root: Path) -> bool:
    """Whether `path` was verified before and looks unchanged since; never reads it."""
    return path.is_file() and _read(root, sha256).items() >= _mark(path).items()


def record(path: Path, sha256: str, root: Path) -> None:
    """Remember that `path` has this hash."""
    with suppress(EvlgenError):  # only costs the hashing again
        write_json(root / "verified" / f"{sha256}.json", {**_mark(path), _SUM: checksum(path)})


def forget(sha256: str, root: Path) -> None:
    """Drop what is remembered of a hash."""
    (root / "verified" / f"{sha256}.json").unlink(missing_ok=True)


def _mark(path: Path) -> dict[str, object]:
    status = path.stat()
    return {"path": str(path.absolute()), "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _read(root: Path, sha256: str) -> dict[str, object]:
    try:
        kept = read_json(root / "verified" / f"{sha256}.json")
    except EvlgenError:
        return {}
    return kept if isinstance(kept, dict) else {}

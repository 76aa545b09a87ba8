"""A cheap content fingerprint: the size and a hash of the first, middle and last 64 KiB.

It tells a replaced or re-encoded file from the one that was captioned, at three reads a file however large it is. It is
not proof against somebody who edits bytes elsewhere on purpose. Reading may never come back (a network drive that has
stalled), so it is done in children that can be killed: before each decoding, or by `fingerprints`.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evlgen.video.clip import DecodeFailure

CHUNK_BYTES = 64 * 1024
READ_ONLY = "evlgen.video.content_fingerprint:decode_nothing"
"""The backend, by its name for `DecodePool`, that leaves it at the fingerprint."""

_MOST_WORKERS = 8  # three small reads a file: network drives answer in parallel
_FILES_PER_WORKER = 64  # so few are read sooner than another process starts


def content_fingerprint(path: Path) -> str:
    """`SIZE-HASH`, both hexadecimal (128 bits of hash). The size is what the folder says, and no more is read.

    Raises:
        OSError: the file is missing, cannot be read, or is no plain file (reading a pipe would wait for ever).
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    digest = hashlib.blake2b(digest_size=16)
    size_bytes = path.stat().st_size
    if size_bytes:  # files of the kernel that wait for news say 0
        with path.open("rb") as file:
            for offset in (0, max(0, (size_bytes - CHUNK_BYTES) // 2), max(0, size_bytes - CHUNK_BYTES)):
                file.seek(offset)
                digest.update(file.read(CHUNK_BYTES))
    return f"{size_bytes:x}-{digest.hexdigest()}"


def content_fingerprint_or_none(path: Path) -> str | None:
    """The fingerprint, or None for a file that cannot be read: the decoder will say why."""
    try:
        return content_fingerprint(path)
    except OSError:
        return None


def content_fingerprints(paths: Sequence[Path], timeout_seconds: float) -> dict[Path, str | None]:
    """The fingerprint of every file, read in children; None for one that cannot be read or does not answer in time.

    Raises:
        EvlgenError: the children cannot be started.
    """
    from evlgen.video.pool import DecodePool  # which starts the children that import this file

    if not paths:
        return {}
    workers = min(_MOST_WORKERS, 1 + len(paths) // _FILES_PER_WORKER)
    with DecodePool(workers, timeout_seconds, READ_ONLY) as pool:
        return {result.path: result.fingerprint for result in pool.map(paths)}


def decode_nothing(path: Path, *_: Any) -> DecodeFailure:
    """What the child answers that was asked for a fingerprint only."""
    return DecodeFailure(path, "no-frames", f"{path}: not decoded")

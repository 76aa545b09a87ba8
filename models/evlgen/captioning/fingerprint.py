"""A cheap content fingerprint: the size and a hash of the first, middle and last 64 KiB.

It tells a replaced or re-encoded file from the one that was captioned, at three reads a file however large it is. It is
not proof against somebody who edits bytes elsewhere on purpose.
"""

import hashlib
from pathlib import Path

CHUNK_BYTES = 64 * 1024


def fingerprint(path: Path) -> str:
    """`SIZE-HASH`, both hexadecimal (128 bits of hash).

    Raises:
        OSError: the file is missing, cannot be read, or is no plain file (reading a pipe would wait for ever).
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        size_bytes = file.seek(0, 2)
        for offset in (0, max(0, (size_bytes - CHUNK_BYTES) // 2), max(0, size_bytes - CHUNK_BYTES)):
            file.seek(offset)
            digest.update(file.read(CHUNK_BYTES))
    return f"{size_bytes:x}-{digest.hexdigest()}"


def fingerprint_or_none(path: Path) -> str | None:
    """The fingerprint, or None for a file that cannot be read: the decoder will say why."""
    try:
        return fingerprint(path)
    except OSError:
        return None

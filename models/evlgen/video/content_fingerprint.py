"""A cheap content fingerprint: the size and a hash of the first, middle and last 64 KiB.

It tells a replaced or re-encoded file from the one that was captioned, at three reads a file however large it is. It is
not proof against somebody who edits bytes elsewhere on purpose. Reading may never come back (a network drive that has
stalled), so it is done in children that can be killed: before each decoding, or by `content_fingerprints`, whose
children are this file by itself. It imports nothing of the library, so that they start in a moment.
"""

import hashlib
import os
import queue
import sys
import threading
from pathlib import Path

CHUNK_BYTES = 64 * 1024


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


def main() -> None:
    """Say that it is ready, then answer each line of standard input, a path in hexadecimal digits, with a line.

    That is the fingerprint, or nothing. The end of the input ends the process, even while a file does not answer.
    """
    paths: queue.SimpleQueue[str] = queue.SimpleQueue()

    def answer() -> None:
        while True:
            path = Path(os.fsdecode(bytes.fromhex(paths.get())))
            os.write(1, f"{content_fingerprint_or_none(path) or ''}\n".encode())

    threading.Thread(target=answer, daemon=True).start()
    os.write(1, b"\n")
    for line in sys.stdin:
        paths.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()

"""Files that were cut short, told from a few bytes at both ends: what `evlgen data check NAME` does without decoding.

MP4-like files by the lengths of their boxes (ISO 14496-12), AVI and Matroska by the length that they state, JPEG and
PNG by their end marks. A picture without its mark is decoded before it is blamed: some programs write more behind it.
"""

from __future__ import annotations

from pathlib import Path

from evlgen.data.decoding import decode_picture
from evlgen.video.container import missing_bytes

_TAIL_BYTES = 4096
_END_MARKS = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG": b"IEND"}


def cut_short(path: Path) -> str:
    """What a file lacks by its own account, in words; empty if nothing is missing or nothing can be told.

    Raises:
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(max(size - _TAIL_BYTES, 0))
        tail = file.read()
    mark = next((end for start, end in _END_MARKS.items() if head.startswith(start)), None)
    if mark is not None:
        return "" if mark in tail else _picture(path)
    if head[4:8] in (b"ftyp", b"moov", b"mdat"):
        return _boxes(path, size)
    return _lacking(missing_bytes(path))


def _picture(path: Path) -> str:
    try:
        decode_picture(path.read_bytes())
    except Exception as error:  # Pillow raises whatever it likes on bad input
        return f"the file is cut: {' '.join(str(error).split())}"
    return ""


def _boxes(path: Path, size: int) -> str:
    at, names = 0, set()
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if not head[4:8].isalnum():  # no box, but something that was appended
                break
            names.add(head[4:8])
            if length == 1:  # a large box has its length behind its name
                length = int.from_bytes(head[8:16], "big")
            if length < 8:  # it goes on to the end, whatever that is
                break
            at += length
    return _lacking(at - size) or ("" if b"moov" in names else "the file is cut: its index (moov) is missing")


def _lacking(count: int) -> str:
    return f"the file is cut: {count} bytes are missing by its own account" if count > 0 else ""

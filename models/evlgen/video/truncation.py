"""Notice a file that was cut short where its demuxer does not: Matroska, WebM and AVI state their own length.

MP4-like files need none of this: their index lists every frame (packets.py). Streams made to be cut have no length.
"""

import struct
from pathlib import Path

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def missing_bytes(path: Path) -> int:
    """How many bytes the file lacks by its own account; 0 when nothing is missing or nothing is said."""
    with path.open("rb") as file:
        head = file.read(4096)
    stated = 0
    if head[:4] == b"RIFF" and len(head) >= 8:
        stated = 8 + int(struct.unpack("<I", head[4:8])[0])
    elif head[:4] == _EBML:
        stated = _matroska_length(head)
    return max(stated - path.stat().st_size, 0)


def _matroska_length(head: bytes) -> int:
    """End of the first segment (RFC 8794 and 9559); 0 when it is of unknown length, as in live recordings."""
    header = _size(head, 4)
    if header is None:
        return 0
    at = header[0] + header[1]
    segment = _size(head, at + 4)
    if head[at : at + 4] != _SEGMENT or segment is None:
        return 0
    return segment[0] + segment[1]


def _size(head: bytes, at: int) -> tuple[int, int] | None:
    """(position after the size field, size), or None when unknown; section 4 of RFC 8794."""
    if at >= len(head) or head[at] == 0:
        return None
    width = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
    return None if value == (1 << 7 * width) - 1 else (at + width, value)

"""Files of a source, looked at one by one: are they there, whole, and can they be decoded?

Files that were cut short are told from a few bytes at both ends, without decoding: MP4-like files by the lengths of
their boxes (ISO 14496-12), AVI and Matroska by the length that they state, JPEG and PNG by their end marks. A picture
without its mark is decoded before it is blamed: some programs write more behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from evlgen.data.decoding import decode_items, decode_picture, missing
from evlgen.data.findings import Findings
from evlgen.data.media import MISSING, MediaStore, file_path
from evlgen.errors import Failure
from evlgen.system.progress import ProgressCallback
from evlgen.video.container import missing_bytes

_REPORTED = 1000
"""Files between two reports of looking."""

_TAIL_BYTES = 4096
_END_MARKS = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG": b"IEND"}


def look_at_files(
    found: Findings,
    what: str,
    names: Sequence[str],
    media: MediaStore,
    report: ProgressCallback | None = None,
    stop: Callable[[], bool] = lambda: False,
    *,
    ends: bool = False,
) -> None:
    """Find files that are not there or are empty.

    Args:
        found: gets what is broken, and whether all files were looked at.
        what: is looked at, for progress.
        names: of the files.
        media: where they are.
        report: told of progress where there are so many files that it takes a while.
        stop: asked after every file.
        ends: find those that are cut as well. Only in folders: an archive has checksums or lengths of its own.
    """
    done = 0
    for done, name in enumerate(names, start=1):
        if report is not None and done % _REPORTED == 0:
            report(f"looking at {what}", done, len(names), "items")
        stamp = media.stamp(name)
        if stamp == MISSING:
            found.broken.append(missing(media, name))
        elif stamp[0] == 0:
            found.broken.append(Failure("empty-file", "the file is empty", name))
        elif ends and media.is_folder:
            try:
                reason = cut_short(file_path(media, name))
            except OSError as error:
                found.broken.append(Failure("unreadable", f"it cannot be read: {error.strerror}", name))
            else:
                found.broken += [Failure("cut", reason, name)] if reason else []
        if stop():
            break
    found.checked = done == len(names)


def decode_files(
    found: Findings,
    what: str,
    names: Sequence[str],
    media: MediaStore,
    max_frames: int,
    report: ProgressCallback | None,
    stop: Callable[[], bool],
) -> None:
    """Decode files and count their frames.

    Args:
        found: gets what is broken, the frames, and whether all files were looked at.
        what: is checked, for progress.
        names: of the files.
        media: where they are.
        max_frames: of a video.
        report: told of progress.
        stop: asked after every file.
    """
    found.frames = done = 0
    results = decode_items(names, media, lambda _, frames: len(frames), max_frames=max_frames, side=64)
    for done, (_, result) in enumerate(results, start=1):
        if isinstance(result, Failure):
            found.broken.append(result)
        else:
            found.frames += result
        if report is not None:
            report(f"checking {what}", done, len(names), "items")
        if stop():
            break
    found.checked = done == len(names)


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

"""What a caption file says, video by video: which lines count, what they hold, and where the files are.

Lines may have been written by any version, or by hand: what is of the wrong type is left out, and stops nothing.
A line may be about a part of its video, from `start_seconds` to `end_seconds`. Of each part the last line counts, and
of a video whose parts were chosen anew (other settings), those that were chosen last; a person's captions always count.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evlgen.captioning import read_rows
from evlgen.errors import UsageError
from evlgen.system.files import os_errors
from evlgen.system.names import printable
from evlgen.system.remote_files import is_address
from evlgen.system.suffixes import IMAGE_SUFFIXES

_BEGINNING = b'{"video": '

SAME_SECONDS = 0.001
"""Times that differ by no more are the same: lines have them with three decimals."""

Span = tuple[float | None, float | None]


@dataclass(frozen=True)
class ExportRow:
    """One line; attributes as of `evlgen.captioning.CaptionRow`, in plain values.

    Attributes:
        start_seconds: where the part begins that it is about; None: at the start.
        end_seconds: where it ends; None: at the end.
        error: kind and message, of a video without a caption.
        edited: a person wrote the caption.
        values: all that stands in the line.
    """

    video: str
    status: str
    caption: str | None
    start_seconds: float | None
    end_seconds: float | None
    duration_seconds: float | None
    log_probability: float | None
    token_count: int | None
    confidence: float | None
    tags: tuple[tuple[str, float], ...]
    alternatives: tuple[tuple[str, float | None], ...]
    timestamps_seconds: tuple[float, ...]
    fingerprint: str | None
    error: tuple[str, str] | None
    warnings: tuple[str, ...]
    edited: bool
    values: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ExportRow:
        """The line with these values."""
        caption, error, status = values.get("caption"), values.get("error"), values["status"]
        seen = map(_number, _list(values.get("timestamps_seconds")))
        tags, others = _objects(values.get("tags")), _objects(values.get("alternatives"))
        return cls(
            video=values["video"],
            status=status,
            caption=caption.strip() or None if isinstance(caption, str) else None,
            start_seconds=_number(values.get("start_seconds")),
            end_seconds=_number(values.get("end_seconds")),
            duration_seconds=_number(values.get("duration_seconds")),
            log_probability=_number(values.get("log_probability")),
            token_count=_count(values.get("token_count")),
            confidence=_number(values.get("confidence")),
            tags=tuple((str(one.get("name")), _number(one.get("probability")) or 0.0) for one in tags),
            alternatives=tuple((str(one.get("caption")), _number(one.get("log_probability"))) for one in others),
            timestamps_seconds=tuple(seconds for seconds in seen if seconds is not None),
            fingerprint=_text(values.get("fingerprint")),
            error=(str(error.get("kind")), str(error.get("message"))) if isinstance(error, dict) else None,
            warnings=tuple(str(one) for one in _list(values.get("warnings"))),
            edited=values.get("edited") is True,
            values=values,
        )

    @property
    def span(self) -> Span:
        """The part of the video that it is about."""
        return self.start_seconds, self.end_seconds

    @property
    def log_probability_per_token(self) -> float | None:
        """By which captions of different lengths can be compared."""
        if self.log_probability is None or not self.token_count:
            return None
        return self.log_probability / self.token_count

    @property
    def lacks(self) -> str:
        """Why there is no caption: "empty", or the kind of the error; "" if there is one."""
        return "" if self.caption else self.error[0] if self.error else "empty"


@dataclass(frozen=True)
class Clip:
    """A video or picture, with what is said of it.

    Attributes:
        name: as in the caption file.
        path: where the file should be.
        rows: the lines that count, in the order of their parts.
        lines: every line about it, in the order in which they were written.
    """

    name: str
    path: Path
    rows: tuple[ExportRow, ...]
    lines: tuple[ExportRow, ...]

    def with_equal_merged(self) -> Clip:
        """The clip with one row for parts that follow each other without a gap and have the same caption.

        The row is that of the first part, up to the end of the last; parts without a caption stay as they are.
        """
        rows: list[ExportRow] = []
        for row in self.rows:
            before = rows[-1] if rows else None
            if before is not None and row.caption and before.caption and _is_more_of(row, before):
                rows[-1] = replace(before, end_seconds=max(before.end_seconds or 0.0, row.end_seconds or 0.0))
            else:
                rows.append(row)
        return replace(self, rows=tuple(rows))

    @property
    def captioned(self) -> tuple[ExportRow, ...]:
        """The rows that have a caption."""
        return tuple(row for row in self.rows if row.caption)

    @property
    def lacks(self) -> str:
        """Why it has no caption at all; "" if it has one."""
        return "" if self.captioned else self.rows[-1].lacks

    @property
    def caption(self) -> str:
        """Its caption; those of its parts as sentences in one line, each once where neighbours are equal."""
        texts = [" ".join((row.caption or "").split()) for row in self.captioned]
        texts = [text for place, text in enumerate(texts) if place == 0 or text != texts[place - 1]]
        ended = [text if text.endswith((".", "!", "?")) else f"{text}." for text in texts]
        return texts[0] if len(texts) == 1 else " ".join(ended)

    def states(self) -> Iterator[Clip]:
        """The video as it stood after each of its lines."""
        for count in range(1, len(self.lines) + 1):
            yield replace(self, rows=_counting(self.lines[:count]))

    @property
    def is_picture(self) -> bool:
        """Whether it is a picture, which no subtitles can be shown over."""
        return self.path.suffix.lower() in IMAGE_SUFFIXES


@dataclass(frozen=True)
class CaptionFile:
    """A caption file, read.

    Attributes:
        path: the file.
        clips: in the order in which their names first appear.
    """

    path: Path
    clips: tuple[Clip, ...]

    def lacking(self) -> Counter[str]:
        """Videos, or parts of them, without a caption, by reason."""
        return Counter(row.lacks for clip in self.clips for row in clip.rows if row.lacks)


def read_caption_file(path: Path, media: Path | None = None, names: Iterable[str] | None = None) -> CaptionFile:
    """What `evlgen caption` has written.

    Args:
        path: the file.
        media: folder that the names are relative to; by default the one that the lines say, else the file's own.
        names: only these videos.

    Raises:
        UsageError: the file is missing, or no caption file; or `media` is no folder.
    """
    if media is not None and not media.is_dir():
        raise UsageError(f"--media {printable(media)} is not a folder", "name the folder that was captioned")
    lines = lines_by_video(path, names)
    if not lines and names is None:
        said = "holds no captions yet" if not path.stat().st_size else "is not a caption file"
        raise UsageError(f"{printable(path)} {said}", "evlgen caption VIDEOS --out captions.jsonl writes one")
    folder = path.absolute().parent
    clips = (clip_of(name, _place(name, of[-1], folder, media), of) for name, of in lines.items())
    return CaptionFile(path, tuple(clips))


def is_caption_file(path: Path) -> bool:
    """Whether a file is there and begins like one, whatever it is called."""
    if not path.is_file():
        return False
    with os_errors(path, "cannot be read"), path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING


def lines_by_video(path: Path, names: Iterable[str] | None = None) -> dict[str, list[ExportRow]]:
    """Every line about each video, in the order in which they were written.

    Raises:
        UsageError: the file is missing.
    """
    wanted = None if names is None else frozenset(names)
    lines: dict[str, list[ExportRow]] = {}
    for values in read_rows(path):
        if wanted is None or values["video"] in wanted:
            lines.setdefault(values["video"], []).append(ExportRow.of(values))
    return lines


def clip_of(name: str, path: Path, lines: Sequence[ExportRow]) -> Clip:
    """A video with all lines about it."""
    return Clip(name, path, _counting(lines), tuple(lines))


def _counting(lines: Sequence[ExportRow]) -> tuple[ExportRow, ...]:
    chosen = next((one.values["settings_hash"] for one in reversed(lines) if not one.edited), None)
    last = {one.span: one for one in lines}
    rows = [one for one in last.values() if one.edited or one.values["settings_hash"] == chosen]
    return tuple(sorted(rows, key=lambda row: (row.start_seconds or 0.0, row.end_seconds or math.inf)))


def _is_more_of(row: ExportRow, before: ExportRow) -> bool:
    """Whether a part goes on where the one before it ends, and says the same; words are compared, not blanks."""
    if row.start_seconds is None or row.end_seconds is None or before.end_seconds is None:
        return False
    if row.start_seconds - before.end_seconds > SAME_SECONDS:
        return False
    return (row.caption or "").split() == (before.caption or "").split()


def _place(name: str, row: ExportRow, folder: Path, media: Path | None) -> Path:
    root = row.values.get("root")
    if is_address(name):  # elsewhere; a copy lies in a folder as the file lies in the one that was captioned
        inside = name.removeprefix(f"{root}/") if isinstance(root, str) else name
        name = inside if inside != name else name.rpartition("/")[2]
        return Path(os.path.normpath((media.absolute() if media is not None else folder) / name))
    base = media.absolute() if media is not None else folder / root if isinstance(root, str) else folder
    return Path(os.path.normpath(base / name))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in _list(value) if isinstance(one, dict)]

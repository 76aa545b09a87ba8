"""A caption for each part of a video: its scenes, windows of equal length, or what a table says (`--segments`).

Parts are found before anything is captioned, in children with a deadline, and scenes are kept in the cache by the
content of the file: a run that goes on finds the same ones at once. A file that gives no parts (a picture, a damaged
video) is captioned, or fails, as a whole.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from evlgen.captioning.items import Span, Video
from evlgen.captioning.remote import remote_fingerprints
from evlgen.errors import EvlgenError, UsageError
from evlgen.system.cpus import usable_cpus
from evlgen.system.jsons import read_json, write_json
from evlgen.system.names import printable
from evlgen.system.progress import ProgressCallback
from evlgen.video import DecodeFailure, DecodePool, Parts, content_fingerprints
from evlgen.video.segments import SCENES, WHOLE
from evlgen.weights.cache import cache_root

SCENES_TAKE = 20
"""To find scenes all frames are decoded: so many times the deadline of a video that is captioned."""

_COLUMNS = ("video", "start", "end")
_CLOCK = re.compile(r"(?:(?:(\d{1,4}):)?(\d{1,2}):)?(\d{1,9}(?:[.,]\d{1,9})?)")
_MOST_WORKERS = 16


@dataclass(frozen=True)
class Segments:
    """A rule for parts.

    Attributes:
        rule: as it stands in the settings of a row: "scenes", "fixed:10", "file:" and a hash of the file's content.
        seconds: length of a part, of "fixed".
        table: parts by name of the video, of "file".
        source: the file.
    """

    rule: str
    seconds: Fraction | None = None
    table: dict[str, list[Span]] | None = None
    source: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Segments:
        """What `--segments` says.

        Raises:
            UsageError: it is none of the rules, or the file is not what it must be.
        """
        if text == "scenes":
            if find_spec("scenedetect") is None:
                raise UsageError("--segments scenes needs PySceneDetect", "pip install 'evlgen[scenes]'")
            return cls(text)
        if text.startswith("fixed:"):
            seconds = _seconds(text.removeprefix("fixed:"))
            if seconds is None or not Fraction(1, 10) <= seconds <= 86_400:
                raise UsageError(f"--segments {text}: expected 0.1 to 86400 seconds", "--segments fixed:10")
            return cls(f"fixed:{float(seconds):g}", seconds=seconds)
        path = Path(text)
        if not path.is_file():
            raise UsageError(f"--segments {text} is no rule and no file", "give scenes, fixed:SECONDS or a CSV file")
        content = path.read_bytes()
        return cls(f"file:{hashlib.sha256(content).hexdigest()[:8]}", table=_read_table(path, content), source=path)

    def of(
        self,
        videos: Sequence[Video],
        timeout_seconds: float,
        report: ProgressCallback | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> list[Video]:
        """The parts of videos, in order.

        Args:
            videos: whole ones.
            timeout_seconds: for one video, to look at its length; scenes may take `SCENES_TAKE` times as long.
            report: told how many videos are done.
            note: told in a line of videos whose parts cannot be found.

        Raises:
            UsageError: the table names none of the videos.
            EvlgenError: scenes cannot be found on this machine.
        """
        if self.table is not None:
            if not any(video.name in self.table for video in videos):
                raise UsageError(
                    f"{self.source} names none of the {len(videos)} videos",
                    f"its first is {printable(next(iter(self.table)))}; the first video is {printable(videos[0].name)}",
                )
            spans = self.table
        elif self.seconds is not None:
            ends = _kept_bounds(videos, WHOLE, timeout_seconds, report, note)
            spans = {name: _windows(times[-1], self.seconds) for name, times in ends.items()}
        else:
            found = _kept_bounds(videos, SCENES, timeout_seconds * SCENES_TAKE, report, note)
            spans = {name: list(pairwise(times)) for name, times in found.items()}
        return [part for video in videos for part in _parts(video, spans.get(video.name, []))]


def _parts(video: Video, spans: Sequence[Span]) -> Iterator[Video]:
    if not spans:
        yield video
    for span in spans:
        yield replace(video, span=span)


def _windows(duration: Fraction, seconds: Fraction) -> list[Span]:
    """Windows of equal length; what is left at the end, if less than half of one, belongs to the last."""
    count = max(1, int(duration / seconds + Fraction(1, 2)))
    starts = [number * seconds for number in range(count)]
    return list(zip(starts, [*starts[1:], duration], strict=True)) if duration > 0 else []


def _kept_bounds(
    videos: Sequence[Video],
    backend: str,
    timeout_seconds: float,
    report: ProgressCallback | None,
    note: Callable[[str], None],
) -> dict[str, list[Fraction]]:
    """As of `_bounds`, and out of the cache where they are known: scenes, and lengths of videos that are elsewhere."""
    far = [video for video in videos if video.source is not None]
    near = [video for video in videos if video.source is None]
    if backend == WHOLE and not far:
        return _bounds(videos, backend, timeout_seconds, report, note)
    folder = cache_root() / ("scenes" if backend == SCENES else "lengths")
    here = content_fingerprints([video.path for video in near], timeout_seconds)
    prints = {video.name: here[video.path] for video in near}
    prints |= {item.name: fingerprint for item, fingerprint in remote_fingerprints(far).items()}
    kept = {name: folder / f"{fingerprint}.json" for name, fingerprint in prints.items() if fingerprint is not None}
    known = {name: times for name, path in kept.items() if (times := _read_kept(path)) is not None}
    new = _bounds([video for video in videos if video.name not in known], backend, timeout_seconds, report, note)
    folder.mkdir(parents=True, exist_ok=True)
    for name, times in new.items():
        if name in kept:
            write_json(kept[name], [str(time) for time in times])
    return known | new


def _read_kept(path: Path) -> list[Fraction] | None:
    if not path.is_file():
        return None
    try:
        return [Fraction(text) for text in read_json(path)]
    except (EvlgenError, ValueError, TypeError):  # damaged: found again
        return None


def _bounds(
    videos: Sequence[Video],
    backend: str,
    timeout_seconds: float,
    report: ProgressCallback | None,
    note: Callable[[str], None],
) -> dict[str, list[Fraction]]:
    """What a backend of video/segments.py finds, by name of the video; without those that give less than two times."""
    if not videos:
        return {}
    names: dict[Path, list[str]] = {}
    files = {video.path: Parts(video.path, (), video.source) for video in videos}
    for video in videos:
        names.setdefault(video.path, []).append(video.name)
    found: dict[str, list[Fraction]] = {}
    step = "parts" if backend == WHOLE else "scenes"
    workers = min(_MOST_WORKERS, max(1, usable_cpus()), len(names))
    with DecodePool(workers, timeout_seconds, backend) as pool:
        for done, result in enumerate(pool.map(files.values()), 1):
            if report is not None:
                report(step, done, len(names), "videos")
            if isinstance(result, DecodeFailure):
                name = names[Path(result.path)][0]
                note(f"{printable(name)}: no {step} found, it is taken as a whole: {result.named(name).message}")
            elif result.timestamps[-1] > result.timestamps[0]:
                found |= {name: list(result.timestamps) for name in names[Path(result.path)]}
    return found


def _read_table(path: Path, content: bytes) -> dict[str, list[Span]]:
    """Parts of a CSV file with the columns video, start and end.

    Raises:
        UsageError: a column is missing, or a line is no part; its number is named.
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8: {error.reason} at byte {error.start}", "save it as UTF-8") from error
    reader = csv.DictReader(lines)
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise UsageError(f"{path} has no column {', '.join(missing)}", f"its first line names {', '.join(_COLUMNS)}")
    table: dict[str, list[Span]] = {}
    for row in reader:
        start, end = (_seconds(row[name] or "") for name in ("start", "end"))
        if not row["video"] or start is None or end is None or not start < end:
            raise UsageError(
                f"{path}, line {reader.line_num}: {row['start']} to {row['end']} is no part of a video",
                "give seconds or H:MM:SS.mmm, the start before the end",
            )
        table.setdefault(row["video"], []).append((start, end))
    if not table:
        raise UsageError(f"{path} has no lines", f"one for each part: {', '.join(_COLUMNS)}")
    return {name: sorted(set(spans)) for name, spans in table.items()}


def _seconds(text: str) -> Fraction | None:
    """Seconds, M:SS or H:MM:SS, with a decimal part; None if it is neither."""
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        return None
    hours, minutes, seconds = match.groups()
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + Fraction(seconds.replace(",", "."))

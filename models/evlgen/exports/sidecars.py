"""A file for each video, beside it or in a folder: captions as .txt for trainers, subtitles as .srt and .vtt.

A trainer takes the text by the file's name without suffix, so a.mp4 and a.jpg in one folder would share a.txt: none
gets one, and both are named. A file that is there is left alone, unless it says what some line of the caption file says
or said: then it is ours, and is brought up to date.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from evlgen.errors import EvlgenError, UsageError
from evlgen.exports.caption_template import CaptionTemplate
from evlgen.exports.cues import as_srt, as_vtt, cues_of
from evlgen.exports.report import ExportOptions, Report
from evlgen.exports.rows import CaptionFile, Clip
from evlgen.system.files import os_errors, write_text

Texts = Callable[[Clip, CaptionTemplate], str]
"""What the file of a video says; empty: it has none."""

SIDECARS: dict[str, Texts] = {
    "txt": lambda clip, template: template.render(clip, clip.caption) if clip.captioned else "",
    "srt": lambda clip, template: as_srt(cues_of(clip, template)),
    "vtt": lambda clip, template: as_vtt(cues) if (cues := cues_of(clip, template)) else "",
}
"""What is written by suffix."""


def write_sidecars(file: CaptionFile, to: str, out: Path | None, options: ExportOptions, report: Report) -> None:
    """Write the file of each video that has a caption.

    Args:
        file: the captions.
        to: which of `SIDECARS`.
        out: folder for them, in which they lie as the videos do in theirs; None: beside the videos. A file with the
            suffix itself takes the captions of the only video.
        options: template, and whether files that are there are replaced.
        report: is filled in.

    Raises:
        UsageError: a single file for several videos.
    """
    report.lacking = file.lacking()
    clips = [clip for clip in file.clips if clip.captioned]
    if out is not None and out.suffix.lower() == f".{to}":
        if len(file.clips) > 1:
            raise UsageError(
                f"{out} would hold the captions of one video, and {file.path} has those of {len(file.clips)}",
                f"--to {to} without --out writes a file beside each video; --out FOLDER collects them",
            )
        for clip in clips:
            _put(clip, out, SIDECARS[to], options, report)
        return
    places = {clip.name: sidecar_path(clip, to, out) for clip in clips}
    shared = clashing(places.values())
    for clip in clips:
        place = places[clip.name]
        if out is None and not clip.path.exists():
            report.missing.append(clip.name)
        elif place in shared or place == clip.path:
            report.clashes.append(clip.name)
        else:
            _put(clip, place, SIDECARS[to], options, report)


def _put(clip: Clip, place: Path, texts: Texts, options: ExportOptions, report: Report) -> None:
    try:
        put_sidecar(clip, place, texts, options, report)
    except EvlgenError as error:  # it stops no other
        report.failed[clip.name] = str(error)


def sidecar_path(clip: Clip, to: str, out: Path | None) -> Path:
    """Where the file of a video goes: its own name with another suffix."""
    if out is None:
        return Path(f"{os.path.splitext(clip.path)[0]}.{to}")  # noqa: PTH122 - as trainers do it
    inside = [part for part in PurePosixPath(clip.name).parts if part not in ("/", "..")]
    return out / f"{os.path.splitext('/'.join(inside))[0]}.{to}"  # noqa: PTH122


def clashing(places: Iterable[Path]) -> frozenset[Path]:
    """The paths that come more than once."""
    return frozenset(path for path, count in Counter(places).items() if count > 1)


def put_sidecar(clip: Clip, place: Path, texts: Texts, options: ExportOptions, report: Report) -> None:
    """Write one file, unless it is another's.

    Args:
        clip: the video.
        place: the file.
        texts: what it says, see `SIDECARS`.
        options: template, and whether files that are there are replaced.
        report: is filled in.

    Raises:
        EvlgenError: it cannot be read or written.
    """
    text = texts(clip, options.template)
    if not text:
        report.lacking["picture"] += 1
        return
    report.captions += len(clip.captioned)
    with os_errors(place, "cannot be read"):
        there = _read(place)
    if there is not None and there.strip() == text.strip():
        report.unchanged += 1
        return
    another = there is not None and there.strip() and not _ours(there, clip, texts, options.template)
    if another and not options.overwrite:
        report.kept.append(place)
        return
    write_text(place, text)
    report.written += 1


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except FileNotFoundError:
        return None


def _ours(there: str, clip: Clip, texts: Texts, template: CaptionTemplate) -> bool:
    states = [as_shown for state in clip.states() for as_shown in (state, state.with_equal_merged())]
    said = {texts(state, how).strip() for state in states for how in (template, CaptionTemplate())}
    return there.strip() in said

"""Copies of videos with their captions: as a track that players can switch on, or drawn into the pictures.

ffmpeg does it, through ffmpeg-python: the system's program, else that of the package imageio-ffmpeg. With a track,
pictures and sound are copied as they are; with --burn pictures are encoded again (H.264), sound is copied.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

from evlgen.errors import EvlgenError, UsageError
from evlgen.exports.cues import as_srt, cues_of
from evlgen.exports.report import ExportOptions, Report, clips_there
from evlgen.exports.rows import CaptionFile, Clip
from evlgen.exports.sidecars import clashing
from evlgen.system.child_processes import die_with_parent
from evlgen.system.files import replacing
from evlgen.system.progress import ProgressCallback
from evlgen.video.backends import find_ffmpeg
from evlgen.video.container import OPENED_FORMATS

_TRACKS = {".mp4": "mov_text", ".m4v": "mov_text", ".mov": "mov_text", ".mkv": "srt", ".webm": "webvtt"}
"""What a container takes; the videos of others are put into .mkv."""

_MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
_LONGEST_SECONDS = 4 * 3600.0  # for one video: against programs that hang


def write_subtitled(
    file: CaptionFile, out: Path, options: ExportOptions, report: Report, progress: ProgressCallback
) -> None:
    """Write a copy of each captioned video into a folder; one that cannot be written stops no other.

    Args:
        file: the captions.
        out: the folder, in which copies lie as the videos do in theirs.
        options: template, track or pictures, and whether copies that are there are replaced.
        report: is filled in.
        progress: told of every video.

    Raises:
        UsageError: there is no ffmpeg program.
        EvlgenError: ffmpeg-python is shadowed by another package, or the folder cannot be written to.
    """
    ffmpeg = import_module("ffmpeg")
    if not hasattr(ffmpeg, "input"):
        raise EvlgenError("the package ffmpeg shadows ffmpeg-python", "uninstall both, then install ffmpeg-python")
    program = _program()
    clips = clips_there(file, report)
    places = {clip.name: _place(clip, out, options.burn) for clip in clips}
    shared = clashing(places.values())
    for done, clip in enumerate(clips, 1):
        place = places[clip.name]
        if clip.is_picture:
            report.lacking["picture"] += 1
        elif place in shared or place == clip.path:
            report.clashes.append(clip.name)
        elif place.exists() and not options.overwrite:
            report.kept.append(place)
        elif reason := _write(ffmpeg, program, clip, place, options):
            report.failed[clip.name] = reason
        else:
            report.written += 1
            report.captions += len(clip.captioned)
        progress("exporting", done, len(clips), "videos")


def _program() -> str:
    try:
        return find_ffmpeg()
    except UsageError:
        hint = "install ffmpeg with the system's package manager, or run pip install imageio-ffmpeg"
        raise UsageError("--to subtitles needs the ffmpeg program, and there is none", hint) from None


def _place(clip: Clip, out: Path, burn: bool) -> Path:
    inside = "/".join(part for part in PurePosixPath(clip.name).parts if part not in ("/", ".."))
    stem, suffix = os.path.splitext(inside)  # noqa: PTH122 - pathlib has no name for it in a path as a whole
    kept = suffix.lower() in _TRACKS and not (burn and suffix.lower() == ".webm")
    return out / f"{stem}{suffix.lower() if kept else '.mkv'}"


def _write(ffmpeg: Any, program: str, clip: Clip, place: Path, options: ExportOptions) -> str:
    """Write one copy; gives the reason where that failed."""
    try:
        with tempfile.TemporaryDirectory(prefix="evlgen-") as folder, replacing(place) as aside:
            (Path(folder) / "captions.srt").write_text(as_srt(cues_of(clip, options.template)), encoding="utf-8")
            graph = _graph(ffmpeg, clip, place.suffix, aside, options.burn)
            _run(ffmpeg.compile(graph, cmd=program, overwrite_output=True), folder)
    except _FailedError as error:
        return str(error)
    return ""


def _graph(ffmpeg: Any, clip: Clip, suffix: str, aside: Path, burn: bool) -> Any:
    """What ffmpeg is to do; it runs in the folder of captions.srt, whose name needs no quotes."""
    video = ffmpeg.input(
        f"file:{clip.path}", protocol_whitelist="file", format_whitelist=OPENED_FORMATS, v="error", nostdin=None
    )
    target = f"file:{aside}"
    if burn:
        drawn = video["v:0"].filter("subtitles", "captions.srt")
        encoded = {"vcodec": "libx264", "pix_fmt": "yuv420p", "crf": 18, "acodec": "copy"}
        return ffmpeg.output(drawn, video["a?"], target, format=_MUXERS[suffix], **encoded)
    track = ffmpeg.input("captions.srt", f="srt")
    return ffmpeg.output(
        video["v"], video["a?"], track["s:0"], target, format=_MUXERS[suffix], vcodec="copy", acodec="copy",
        scodec=_TRACKS[suffix], **{"metadata:s:s:0": "title=Captions", "disposition:s:0": "default"},
    )  # fmt: skip


def _run(command: list[str], folder: str) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LONGEST_SECONDS, check=False,
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _FailedError(f"ffmpeg took longer than {_LONGEST_SECONDS / 3600:g} hours") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise _FailedError(f"ffmpeg: {said[-1] if said else f'exit code {done.returncode}'}")


class _FailedError(Exception):
    """ffmpeg could not write a copy."""

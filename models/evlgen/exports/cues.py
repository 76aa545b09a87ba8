"""Subtitles as text: SubRip (.srt) and WebVTT (.vtt, W3C), one cue for each part of a video.

A caption without times is shown over the whole video: over its declared length, or, where none is declared, until a
little after the last frame that the model saw.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from evlgen.exports.caption_template import CaptionTemplate
from evlgen.exports.rows import Clip, ExportRow

_SHORTEST_SECONDS = 0.1  # players drop cues of no length
_TAG = re.compile(r"<(/?[A-Za-z!][^<>]*)>")
_BRACE = re.compile(r"\{(?=\\)")  # of commands that players take over from another format


@dataclass(frozen=True)
class Cue:
    """A text and when it is shown."""

    start_seconds: float
    end_seconds: float
    text: str


def cues_of(clip: Clip, template: CaptionTemplate) -> list[Cue]:
    """The captions of a video with their times, in order; none for a picture."""
    if clip.is_picture:
        return []
    found = []
    for row in clip.captioned:
        start = max(row.start_seconds or 0.0, 0.0)
        end = max(row.end_seconds if row.end_seconds is not None else _end(row), start + _SHORTEST_SECONDS)
        found.append(Cue(start, end, template.render(clip, row.caption or "")))
    return found


def as_srt(cues: list[Cue]) -> str:
    """The text of an .srt file. The format knows no escapes: what players take for markup is spelled otherwise."""
    blocks = []
    for number, cue in enumerate(cues, 1):
        text = _BRACE.sub("(", _TAG.sub(r"‹\1›", _lines(cue.text))).replace("-->", "→")
        blocks.append(f"{number}\n{_time(cue.start_seconds, ',')} --> {_time(cue.end_seconds, ',')}\n{text}\n")
    return "\n".join(blocks)


def as_vtt(cues: list[Cue]) -> str:
    """The text of a .vtt file."""
    blocks = ["WEBVTT\n"]
    for cue in cues:
        text = _lines(cue.text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{_time(cue.start_seconds, '.')} --> {_time(cue.end_seconds, '.')}\n{text}\n")
    return "\n".join(blocks)


def _end(row: ExportRow) -> float:
    if row.duration_seconds is not None and row.duration_seconds > 0:
        return row.duration_seconds
    seen = row.timestamps_seconds
    gap = (seen[-1] - seen[0]) / (len(seen) - 1) if len(seen) > 1 else 0.0
    return (seen[-1] if seen else 0.0) + max(gap, 1.0)


def _lines(text: str) -> str:
    """An empty line would end the cue; nothing at all is no cue."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip()) or "–"


def _time(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{mark}{rest % 1000:03d}"

"""All captions as one page of HTML that opens from disk and asks the network for nothing.

gallery.js draws only the cards that can be seen, so that thousands of videos scroll without lag.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from evlgen.exports.posters import make_posters
from evlgen.exports.report import ExportOptions, Report
from evlgen.exports.rows import CaptionFile, Clip, ExportRow
from evlgen.system.files import write_text
from evlgen.system.names import printable
from evlgen.system.pages import render_drawn
from evlgen.system.progress import ProgressCallback


def write_gallery(
    file: CaptionFile, out: Path, options: ExportOptions, report: Report, progress: ProgressCallback
) -> None:
    """Write the page, and its pictures.

    Args:
        file: the captions; videos without one are shown with the reason.
        out: the page.
        options: where pictures go.
        report: is filled in.
        progress: told of every video that is read for its picture.

    Raises:
        EvlgenError: the page or a picture cannot be written.
    """
    posters = make_posters(file.clips, options.posters, out, progress)
    folder = out.absolute().parent
    items = [_item(clip, posters.get(clip.name), folder) for clip in file.clips]
    write_text(out, render_gallery(items, title=file.path.name))
    report.captions = sum(len(clip.captioned) for clip in file.clips)
    report.written = 1


def render_gallery(items: Sequence[Mapping[str, Any]], *, title: str) -> str:
    """The page as text.

    Args:
        items: what gallery.js shows of each video, see `_item`.
        title: its heading.
    """
    without = sum(1 for item in items if not item.get("caption"))
    return render_drawn("evlgen.exports", "gallery", items, title=printable(title), count=len(items), without=without)


def _item(clip: Clip, poster: str | None, folder: Path) -> dict[str, Any]:
    """What the page shows of a video; what there is nothing to say of is left out."""
    row = clip.rows[-1]
    whole = row.span == (None, None)
    sure = [part.confidence for part in clip.captioned if part.confidence is not None]
    scored = [one for one in (_score(row) for row in clip.captioned) if one is not None]
    values = {
        "name": printable(clip.name),
        "caption": printable(clip.caption) if clip.captioned else None,
        "status": row.status,
        "poster": poster,
        "link": _link(clip.path, folder),
        "picture": clip.is_picture,
        "duration": row.duration_seconds,
        "score": min(scored, default=None),
        "confidence": min(sure, default=None),
        "logp": row.log_probability if whole else None,
        "tokens": row.token_count if whole else None,
        "times": list(row.timestamps_seconds),
        "tags": [[printable(name), round(p, 3)] for name, p in row.tags],
        "others": [[printable(text), p] for text, p in row.alternatives],
        "parts": [_part(row) for row in clip.rows if row.span != (None, None)],
        "warnings": list(dict.fromkeys(printable(text) for part in clip.rows for text in part.warnings)),
        "error": [printable(text) for text in row.error] if row.error else None,
        "edited": any(part.edited for part in clip.rows),
        "model": printable(str(row.values.get("model") or "")),
    }
    return {name: value for name, value in values.items() if value or (value == 0 and value is not False)}


def _part(row: ExportRow) -> list[Any]:
    return [row.start_seconds or 0.0, row.end_seconds, printable(row.caption or row.lacks), _score(row)]


def _score(row: ExportRow) -> float | None:
    score = row.log_probability_per_token
    return None if score is None else round(score, 3)


def _link(path: Path, folder: Path) -> str:
    """Where the video is, as seen from the page; the page and the videos may move together."""
    try:
        address = Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # Windows: two drives
        return path.as_uri()
    first = quote(address.encode("utf-8", "surrogateescape"))
    return first if "/" in first else f"./{first}"

"""A small picture of each video, the frame in its middle: inside a page as data, or in a folder beside it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from evlgen.exports.rows import Clip
from evlgen.system.cpus import usable_cpus
from evlgen.system.files import write_bytes
from evlgen.system.progress import ProgressCallback
from evlgen.video import ClipFrames, DecodePool, Sampler
from evlgen.video.picture import as_jpeg, jpeg_url

MOST_INSIDE = 200
"""More pictures than this go beside the page: it stays a few megabytes."""

_SIDE, _QUALITY = 360, 78  # pixels of the longer side; about 12 kB a picture
_MOST_WORKERS = 8
_OURS = re.compile(r"[0-9a-f]{20}\.jpg")


def make_posters(clips: Sequence[Clip], where: str, page: Path, progress: ProgressCallback) -> dict[str, str]:
    """The address of each video's picture, by its name; videos that cannot be decoded have none.

    Pictures beside the page are kept from one export to the next, as long as the videos are the same.

    Args:
        clips: the videos.
        where: "inside", "beside", "none", or "auto" by their number.
        page: the page that shows them.
        progress: told of every video that is read.

    Raises:
        EvlgenError: a picture cannot be written.
    """
    if where == "auto":
        where = "inside" if len(clips) <= MOST_INSIDE else "beside"
    if where == "none":
        return {}
    folder = page.with_name(f"{page.stem}-posters")
    files = {clip.name: folder / f"{_key(clip)}.jpg" for clip in clips} if where == "beside" else {}
    made = {name: _address(file) for name, file in files.items() if file.is_file()}
    wanted: dict[Path, list[str]] = {}
    for clip in clips:
        if clip.name not in made and clip.path.is_file():
            wanted.setdefault(clip.path, []).append(clip.name)
    workers = min(max(1, usable_cpus()), _MOST_WORKERS)
    with DecodePool(workers, sampler=Sampler(frames=1), size=_SIDE) as pool:
        for done, result in enumerate(pool.map(wanted), 1):
            if isinstance(result, ClipFrames):
                picture = as_jpeg(result.frames[0], _QUALITY)
                for name in wanted[result.path]:
                    if name in files:
                        write_bytes(files[name], picture)
                        made[name] = _address(files[name])
                    else:
                        made[name] = jpeg_url(picture)
            progress("exporting", done, len(wanted), "videos")
    if where == "beside" and folder.is_dir():
        used = {file.name for file in files.values()}
        for old in folder.iterdir():
            if _OURS.fullmatch(old.name) and old.name not in used:
                old.unlink()
    return made


def _key(clip: Clip) -> str:
    said = f"{clip.name}\0{clip.lines[-1].fingerprint}"
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def _address(file: Path) -> str:
    return f"{quote(file.parent.name)}/{file.name}"

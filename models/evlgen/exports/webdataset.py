"""WebDataset: tar files that hold each video with its caption, KEY.mp4, KEY.txt and KEY.json, one behind the other.

Files are streamed into the tar, so that a video may be larger than memory. A key ends at the first dot of the file's
name (the rule of the format), so dots in names become underscores. Equal videos give equal bytes: times and owners are
left out.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from evlgen.errors import UsageError
from evlgen.exports.caption_template import CaptionTemplate
from evlgen.exports.report import ExportOptions, Report, clips_there
from evlgen.exports.rows import CaptionFile, Clip
from evlgen.system.files import os_errors, replacing
from evlgen.system.progress import ProgressCallback

_SHARD = re.compile(r"\d{5,}\.tar")


def write_shards(
    file: CaptionFile, out: Path, options: ExportOptions, report: Report, progress: ProgressCallback
) -> None:
    """Write 00000.tar, 00001.tar and so on into a folder.

    Args:
        file: the captions.
        out: the folder.
        options: template, size of a shard, and whether shards that are there are replaced.
        report: is filled in.
        progress: told of every video.

    Raises:
        UsageError: shards are there already.
        EvlgenError: a video cannot be read, or a shard not be written.
    """
    before = sorted(one.name for one in out.glob("*.tar") if _SHARD.fullmatch(one.name)) if out.is_dir() else []
    if before and not options.overwrite:
        raise UsageError(f"{out} holds shards already, such as {before[0]}", "choose another --out, or --overwrite")
    clips = clips_there(file, report)
    keys = shard_keys([clip.name for clip in clips])
    done = 0
    for number, group in enumerate(_groups(clips, options.shard_megabytes * 1_000_000)):
        name = f"{number:05d}.tar"
        with replacing(out / name) as aside, tarfile.open(aside, "w") as tar:
            for clip in group:
                _add(tar, keys[clip.name], clip, options.template)
                done += 1
                progress("exporting", done, len(clips), "videos")
        before = [one for one in before if one != name]
        report.written += 1
    for left in before:
        (out / left).unlink()
    report.captions = len(clips)


def shard_keys(names: Sequence[str]) -> dict[str, str]:
    """A key for each name, no two alike: the name without suffix and dots, with a number where that is not enough."""
    keys: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        path = PurePosixPath(name)
        parts = [part.replace(".", "_") for part in path.with_suffix("").parts if part not in ("/", "..")]
        plain = key = "/".join(parts)
        number = 1
        while key in taken:
            number += 1
            key = f"{plain}-{number}"
        taken.add(key)
        keys[name] = key
    return keys


def _groups(clips: Sequence[Clip], most_bytes: int) -> Iterator[list[Clip]]:
    group: list[Clip] = []
    size = 0
    for clip in clips:
        with os_errors(clip.path, "cannot be read"):
            own = clip.path.stat().st_size
        if group and size + own > most_bytes:
            yield group
            group, size = [], 0
        group.append(clip)
        size += own
    if group:
        yield group


def _add(tar: tarfile.TarFile, key: str, clip: Clip, template: CaptionTemplate) -> None:
    with os_errors(clip.path, "cannot be read"), clip.path.open("rb") as content:
        member = tarfile.TarInfo(f"{key}{clip.path.suffix.lower() or '.bin'}")
        member.size = clip.path.stat().st_size
        tar.addfile(member, content)
    rows = [row.values for row in clip.captioned]
    said = {"video": clip.name, "caption": template.render(clip, clip.caption), "rows": rows}
    for suffix, text in (("txt", str(said["caption"])), ("json", json.dumps(said, ensure_ascii=False))):
        content_bytes = text.encode("utf-8", "replace")
        member = tarfile.TarInfo(f"{key}.{suffix}")
        member.size = len(content_bytes)
        tar.addfile(member, io.BytesIO(content_bytes))

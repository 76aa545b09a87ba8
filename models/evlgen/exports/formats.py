"""The formats by name, and the one function that exports."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from evlgen.errors import UsageError
from evlgen.exports import gallery, sidecars, subtitles, tables, webdataset
from evlgen.exports.report import POSTERS, ExportOptions, Report
from evlgen.exports.rows import CaptionFile, is_caption_file, read_caption_file
from evlgen.system.names import printable
from evlgen.system.progress import ProgressCallback

Write = Callable[[CaptionFile, Path, ExportOptions, Report, ProgressCallback], None]
Table = Callable[[CaptionFile, Path, ExportOptions, Report], None]


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        what: in a few words.
        default: what it is called where nothing else is said: an ending behind the caption file's own name, or a whole
            name; "" for files beside the videos.
        write: writes it, into the file or folder that is named.
        worded: whether prefix, suffix and template play a part.
    """

    what: str
    default: str
    write: Write | None
    worded: bool = True


def _table(write: Table) -> Write:
    return lambda file, out, options, report, progress: write(file, out, options, report)


FORMATS: dict[str, Format] = {
    "csv": Format("a table", ".csv", _table(tables.write_csv), worded=False),
    "txt": Format("text beside each video", "", None),
    "srt": Format("subtitles beside each video", "", None),
    "vtt": Format("subtitles for the web beside each video", "", None),
    "html": Format("a page to look through", ".html", gallery.write_gallery, worded=False),
    "musubi": Format("the list that musubi-tuner reads", ".musubi.jsonl", _table(tables.write_musubi)),
    "metadata-csv": Format("metadata.csv of a Hugging Face folder", "metadata.csv", _table(tables.write_metadata)),
    "metadata-jsonl": Format("the same as JSON lines", "metadata.jsonl", _table(tables.write_metadata)),
    "coco": Format("COCO results", ".coco.json", _table(tables.write_coco), worded=False),
    "parquet": Format("a typed table", ".parquet", _table(tables.write_parquet), worded=False),
    "webdataset": Format("tar shards with videos and captions", "-shards", webdataset.write_shards),
    "subtitles": Format("copies of the videos with subtitles", "-subtitles", subtitles.write_subtitled),
}


def export_captions(
    captions: Path,
    to: str,
    out: Path | None = None,
    *,
    media: Path | None = None,
    options: ExportOptions | None = None,
    names: Iterable[str] | None = None,
    progress: ProgressCallback = lambda *_: None,
) -> Report:
    """Write the captions of a file in another format; the file itself is only read.

    Args:
        captions: what `evlgen caption` has written.
        to: one of `FORMATS`.
        out: file or folder to write; None: beside the videos, or beside the caption file and named after it.
        media: folder of the videos, where it is not the one that the file names.
        options: template around captions, and what single formats can do.
        names: only these videos.
        progress: told of every video, by formats that read or write videos.

    Raises:
        UsageError: there is no such format, or the options do not fit it; or the file is none of captions.
        EvlgenError: what is to be written cannot be.
    """
    options = options or ExportOptions()
    chosen = format_named(to)
    check_options(to, options)
    file = read_caption_file(captions, media, names)
    if options.merge_equal:
        file = replace(file, clips=tuple(clip.with_equal_merged() for clip in file.clips))
    if chosen.write is None:
        report = Report(to, out)
        sidecars.write_sidecars(file, to, out, options, report)
        return report
    place = out or _default(captions, chosen.default, file)
    _refuse_captions(place, captions)
    report = Report(to, place)
    chosen.write(file, place, options, report, progress)
    return report


def format_named(to: str) -> Format:
    """The format of this name.

    Raises:
        UsageError: there is none.
    """
    if to not in FORMATS:
        near = difflib.get_close_matches(to, FORMATS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(FORMATS)}"
        raise UsageError(f"--to {printable(to)} is no format", hint)
    return FORMATS[to]


def check_options(to: str, options: ExportOptions) -> None:
    """See that the options mean something in this format.

    Raises:
        UsageError: they do not; all of them are named.
    """
    problems = []
    if not FORMATS[to].worded and not options.template.plain:
        worded = ", ".join(name for name, one in FORMATS.items() if one.worded)
        problems.append(f"--to {to} holds captions as they are; --prefix, --suffix and --template are for {worded}")
    if options.burn and to != "subtitles":
        problems.append("--burn is for --to subtitles")
    if options.posters not in POSTERS:
        problems.append(f"--posters {options.posters} is not one of {', '.join(POSTERS)}")
    elif options.posters != ExportOptions.posters and to != "html":
        problems.append("--posters is for --to html")
    if not 1 <= options.shard_megabytes <= 1_000_000:
        problems.append(f"--shard-mb {options.shard_megabytes} is not between 1 and 1000000")
    elif options.shard_megabytes != ExportOptions.shard_megabytes and to != "webdataset":
        problems.append("--shard-mb is for --to webdataset")
    if problems:
        raise UsageError("; ".join(problems))


def _default(captions: Path, ending: str, file: CaptionFile) -> Path:
    if ending.startswith("metadata."):  # it must lie with the files that it is about
        return _folder_of(file) / ending
    return captions.with_name(f"{captions.stem}{ending}")


def _folder_of(file: CaptionFile) -> Path:
    return Path(os.path.commonpath([clip.path.parent for clip in file.clips]))


def _refuse_captions(place: Path, captions: Path) -> None:
    """A caption file is what everything else is made of: none is ever replaced."""
    if is_caption_file(place):
        same = " that is exported" if place.samefile(captions) else ""
        raise UsageError(f"{place} is a caption file{same}, which must not be replaced", "choose another --out")

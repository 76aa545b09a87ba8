"""Exports to addresses (s3://, gs://, ...): made here, then copied there through fsspec, file by file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from evlgen.errors import UsageError
from evlgen.exports.formats import FORMATS, export_captions, format_named
from evlgen.exports.report import ExportOptions, Report
from evlgen.system.names import printable
from evlgen.system.remote_files import RIGHTS, any_error, open_file_system, public_name

_RELATIVE = ("html", "metadata-csv", "metadata-jsonl")
"""Formats that name videos as seen from where they lie."""


def export_elsewhere(captions: Path, to: str, url: str, options: ExportOptions, **how: Any) -> Report:
    """Write the captions of a file to an address; what is there already is replaced by `options.overwrite` alone.

    Args:
        captions: as of `export_captions`, like `to`, `options` and what else it takes.
        url: a file; a folder for formats that are several files.

    Raises:
        UsageError: the format has its place beside the videos, something is there already, or as of `export_captions`.
        EvlgenError: the file system does not take it.
    """
    format_named(to)
    name = printable(public_name(url))
    if to in _RELATIVE:
        fit = ", ".join(one for one in FORMATS if one not in _RELATIVE)
        raise UsageError(f"--to {to} names videos as seen from the file, and cannot go to {name}", f"--to {fit} can")
    files, target = open_file_system(f"--out {name}", url.rstrip("/"))
    with tempfile.TemporaryDirectory(prefix="evlgen-") as folder:
        top = Path(folder) / target.rpartition("/")[2]
        report = export_captions(captions, to, top, options=options, **how)
        # musubi's list of pictures lies beside its list of videos
        made = {
            path: target.rpartition("/")[0] + "/" + path.relative_to(folder).as_posix()
            for path in sorted(Path(folder).rglob("*"))
            if path.is_file()
        }
        with any_error(f"--out {name} cannot be written", RIGHTS, url):
            there = [place for place in made.values() if not options.overwrite and files.isfile(place)]
            if there:
                more = f" and {len(there) - 1} more" if len(there) > 1 else ""
                raise UsageError(f"{printable(there[0])}{more} is there already", "--overwrite replaces it")
            for path, place in made.items():
                files.makedirs(place.rpartition("/")[0], exist_ok=True)
                files.put_file(str(path), place)
    report.out = name
    return report

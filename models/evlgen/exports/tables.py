"""One table of all captions: CSV, COCO results, the lists that trainers read, Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from evlgen.errors import EvlgenError, UsageError
from evlgen.exports.edited_exports import changed_by_hand
from evlgen.exports.report import ExportOptions, Report, clips_there
from evlgen.exports.rows import CaptionFile, ExportRow
from evlgen.system.files import replacing, write_text
from evlgen.system.jsons import write_json
from evlgen.system.names import printable

CSV_COLUMNS = (
    *("video", "caption", "start_seconds", "end_seconds", "duration_seconds", "status"),
    *("log_probability", "token_count", "confidence", "edited", "model"),
)
_NUMBERED = re.compile(r"(?:COCO_[A-Za-z]+\d{4}_)?0*(\d{1,18})")


def write_csv(file: CaptionFile, out: Path, options: ExportOptions, report: Report) -> None:
    """A row for each caption, in UTF-8, as RFC 4180 has it; `evlgen edit --from` reads it back.

    Args:
        file: the captions.
        out: the file to write.
        options: of the export.
        report: is filled in.

    Raises:
        UsageError: the table is there and a person has changed captions in it, which would be lost.
    """
    if not options.overwrite:
        refuse_changed_table(file, out)
    report.lacking = file.lacking()
    rows = [_flat(row) for clip in file.clips for row in clip.captioned]
    write_text(out, csv_text(CSV_COLUMNS, rows))
    report.captions, report.written = len(rows), 1


def refuse_changed_table(file: CaptionFile, out: Path) -> None:
    """See that a table may be replaced.

    Raises:
        UsageError: it holds captions that the caption file never held.
    """
    if out.is_file() and (changed := changed_by_hand(file, out)):
        raise UsageError(
            f"{out} has {len(changed)} captions that {file.path} has not, such as that of {printable(changed[0])}",
            f"evlgen edit {file.path} --from {out} takes them in, evlgen export --overwrite drops them",
        )


def write_coco(file: CaptionFile, out: Path, options: ExportOptions, report: Report) -> None:
    """COCO's results, [{image_id, caption}], as pycocoevalcap and evaluation servers read them.

    Arguments are those of `write_csv`, here and below.

    Raises:
        UsageError: a video has several captions, which the format has no place for.
    """
    if several := next((clip.name for clip in file.clips if len(clip.captioned) > 1), None):
        raise UsageError(
            f"COCO results hold one caption an item, and {several} has captions of several parts", "use --to csv"
        )
    report.lacking = file.lacking()
    clips = [clip for clip in file.clips if clip.captioned]
    ids = coco_ids([clip.name for clip in clips])
    write_json(out, [{"image_id": ids[clip.name], "caption": clip.caption} for clip in clips])
    report.captions, report.written = len(clips), 1


def coco_ids(names: Sequence[str]) -> dict[str, int | str]:
    """An id for each name, all of one kind.

    Numbers, where every file is called by one (COCO_val2014_000000391895.jpg: 391895) and no two by the same; else
    names without suffix, where no two are alike; else whole names.
    """
    stems = [PurePosixPath(name).with_suffix("").as_posix() for name in names]
    numbers = [match and int(match[1]) for stem in stems if (match := _NUMBERED.fullmatch(PurePosixPath(stem).name))]
    kinds: list[Sequence[Any]] = [numbers, stems]
    for ids in kinds:
        if len(ids) == len(names) == len(set(ids)):
            return dict(zip(names, ids, strict=True))
    return dict(zip(names, names, strict=True))


def write_metadata(file: CaptionFile, out: Path, options: ExportOptions, report: Report) -> None:
    """metadata.csv or metadata.jsonl, as Hugging Face's VideoFolder and ImageFolder read it: file_name and text.

    Names are relative to the folder of the list, as it must be.
    """
    folder = out.absolute().parent
    rows = [
        {"file_name": Path(name).as_posix(), "text": options.template.render(clip, clip.caption)}
        for clip in clips_there(file, report)
        for name in [os.path.relpath(clip.path, folder)]
    ]
    if out.suffix.lower() == ".csv":
        write_text(out, csv_text(("file_name", "text"), rows))
    else:
        _write_lines(out, rows)
    report.captions, report.written = len(rows), 1


def write_musubi(file: CaptionFile, out: Path, options: ExportOptions, report: Report) -> None:
    """The list that musubi-tuner reads as video_jsonl_file; pictures, where there are any, in a list of their own.

    Paths are absolute: older versions look for others in the working directory only.
    """
    kinds: dict[str, list[dict[str, str]]] = {"video_path": [], "image_path": []}
    for clip in clips_there(file, report):
        kind = "image_path" if clip.is_picture else "video_path"
        kinds[kind].append({kind: str(clip.path), "caption": options.template.render(clip, clip.caption)})
    places = {"video_path": out, "image_path": out.with_stem(f"{out.stem}-images") if kinds["video_path"] else out}
    for kind, rows in kinds.items():
        if rows or (kind == "video_path" and not kinds["image_path"]):
            _write_lines(places[kind], rows)
            report.written += 1
    report.captions = sum(map(len, kinds.values()))


def write_parquet(file: CaptionFile, out: Path, options: ExportOptions, report: Report) -> None:
    """A row for each caption, with typed columns: those of the CSV, tags, alternatives and frames.

    Raises:
        EvlgenError: pyarrow is not installed, or the file cannot be written.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise EvlgenError("Parquet needs pyarrow, which is not installed", "pip install 'evlgen[parquet]'") from None
    report.lacking = file.lacking()
    text, number, whole = pa.string(), pa.float64(), pa.int64()
    scored = {"tags": ("name", "probability"), "alternatives": ("caption", "log_probability")}
    fields: dict[str, Any] = {
        **dict.fromkeys(("video", "caption"), text),
        **dict.fromkeys(("start_seconds", "end_seconds", "duration_seconds"), number),
        "status": text,
        "log_probability": number,
        "token_count": whole,
        "confidence": number,
        "edited": pa.bool_(),
        **dict.fromkeys(("model", "model_hash", "settings_hash", "fingerprint"), text),
        **{name: pa.list_(pa.struct({inner[0]: text, inner[1]: number})) for name, inner in scored.items()},
        "timestamps_seconds": pa.list_(number),
        "warnings": pa.list_(text),
    }
    rows = [_flat(row) for clip in file.clips for row in clip.captioned]
    for flat, row in zip(rows, (row for clip in file.clips for row in clip.captioned), strict=True):
        hashes = {name: row.values.get(name) for name in ("model_hash", "settings_hash", "fingerprint")}
        flat |= {name: value if isinstance(value, str) else None for name, value in hashes.items()}
        for name, inner in scored.items():
            flat[name] = [dict(zip(inner, one, strict=True)) for one in getattr(row, name)]
        flat |= {"timestamps_seconds": list(row.timestamps_seconds), "warnings": list(row.warnings)}
    columns = {name: pa.array([_sound(row[name]) for row in rows], kind) for name, kind in fields.items()}
    with replacing(out) as aside:
        parquet.write_table(pa.table(columns), aside)
    report.captions, report.written = len(rows), 1


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A table as RFC 4180 has it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(row: ExportRow) -> dict[str, Any]:
    model = row.values.get("model")
    values = {name: getattr(row, name) for name in CSV_COLUMNS if name != "model"}
    return {**values, "model": model if isinstance(model, str) else None}


def _write_lines(out: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _sound(value: Any) -> Any:
    """Names of files may hold bytes that are no text, which Parquet has no place for."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(value, str) else value

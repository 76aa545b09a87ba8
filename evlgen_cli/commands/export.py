"""`evlgen export`: captions in another format; parses, calls `evlgen.exports.export_captions`, shows its report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evlgen.system.remote_files import is_address
from evlgen_cli import completion
from evlgen_cli.console import NAMES_SHOWN, download_progress, err, first_names, print_json, table
from evlgen_cli.exits import Exit
from evlgen_cli.options import (
    CaptionsArgument,
    JsonOption,
    MergeEqualOption,
    PrefixOption,
    SuffixOption,
    TemplateOption,
)

if TYPE_CHECKING:
    from evlgen.exports import Report


def export(
    captions: CaptionsArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORMAT",
            show_default=False,
            autocompletion=completion.export_format,
            help="csv; html (a page to look through); txt, srt, vtt (a file beside each video); musubi, metadata-csv, "
            "metadata-jsonl (lists that trainers read); coco; parquet; webdataset (tar shards); subtitles (copies of "
            "the videos).",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            show_default="beside the videos, or CAPTIONS",
            help="File or folder to write, also an address (s3://bucket/x.csv). Of srt and vtt a file for the only "
            "video, or a folder.",
        ),
    ] = None,
    media: Annotated[
        Path | None,
        typer.Option(help="Folder of the videos, where they have moved.", show_default="the one that was captioned"),
    ] = None,
    prefix: PrefixOption = "",
    suffix: SuffixOption = "",
    template: TemplateOption = "{caption}",
    merge_equal: MergeEqualOption = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that hold anything else, edits by hand included.")
    ] = False,
    burn: Annotated[
        bool, typer.Option("--burn", help="Draw subtitles into the pictures instead of adding a track.")
    ] = False,
    posters: Annotated[
        str,
        typer.Option(
            help="Pictures of html: inside the page, beside it in a folder, none; auto: inside up to 200 videos."
        ),
    ] = "auto",
    shard_mb: Annotated[int, typer.Option(help="Megabytes of a shard of a WebDataset.")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Write captions as tables, a page, subtitles, sidecars, lists for trainers or shards. CAPTIONS is only read.

    Files beside videos are left alone where they hold what no line of the caption file ever said.
    Exit code 3: some videos have no caption, or their files are missing; the others are written.
    """
    from evlgen.exports import CaptionTemplate, ExportOptions, export_captions, export_elsewhere

    options = ExportOptions(
        template=CaptionTemplate(prefix, suffix, template),
        overwrite=overwrite,
        merge_equal=merge_equal,
        burn=burn,
        posters=posters,
        shard_megabytes=shard_mb,
    )
    with download_progress() as bar:
        if output is not None and is_address(output):
            report = export_elsewhere(captions, to, output, options, media=media, progress=bar)
        else:
            out = None if output is None else Path(output)
            report = export_captions(captions, to, out, media=media, options=options, progress=bar)
    if as_json:
        print_json(report.as_dict())
    else:
        table(["export", ""], report_rows(report))
    warn(report)
    if not report.complete:
        raise typer.Exit(Exit.SOME_FAILED)


def report_rows(report: "Report") -> list[tuple[str, str]]:
    """What was done, as lines of a table."""
    rows = [("captions", str(report.captions)), ("files written", str(report.written))]
    if report.unchanged:
        rows.append(("files unchanged", str(report.unchanged)))
    if report.kept:
        rows.append(("files left alone", f"{len(report.kept)} (they hold something else; --overwrite replaces them)"))
    rows += [(f"no caption: {kind}", str(count)) for kind, count in sorted(report.lacking.items())]
    counts = {"file missing": report.missing, "one file for several": report.clashes, "failed": report.failed}
    rows += [(what, str(len(names))) for what, names in counts.items() if names]
    rows.append(("output", "beside the videos" if report.out is None else str(report.out)))
    return rows


def warn(report: "Report") -> None:
    """Name what was left out, on standard error."""
    if report.missing:
        err.print(f"warning: files are not there (--media names their folder): {first_names(report.missing)}")
    if report.clashes:
        err.print(f"warning: these would share a file, and have none: {first_names(report.clashes)}")
    for name, reason in list(report.failed.items())[:NAMES_SHOWN]:
        err.print(f"error: {name}: {reason}")

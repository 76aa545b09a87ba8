"""`evlgen edit`: captions by hand; parses, calls `evlgen.exports.edit_caption` or `edit_from`, shows the result."""

from pathlib import Path
from typing import Annotated

import typer

from evlgen.errors import UsageError
from evlgen.system.names import printable
from evlgen_cli.console import err, print_json, table
from evlgen_cli.exits import Exit
from evlgen_cli.options import CaptionsArgument, JsonOption, PrefixOption, SuffixOption, TemplateOption

_NAMES_SHOWN = 3


def edit(
    captions: CaptionsArgument,
    video: Annotated[
        str | None,
        typer.Argument(metavar="VIDEO", show_default=False, help="A video: its name in CAPTIONS, or its path."),
    ] = None,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", show_default=False, help="Its caption.")] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            show_default=False,
            help="Take in what was changed in an export: a CSV, JSON lines, or a folder of .txt files.",
        ),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Put the model's own caption of VIDEO back.")] = False,
    start: Annotated[
        float | None, typer.Option(help="Start in seconds of the part, where a video has captions of several.")
    ] = None,
    prefix: PrefixOption = "",
    suffix: SuffixOption = "",
    template: TemplateOption = "{caption}",
    as_json: JsonOption = False,
) -> None:
    """Write captions by hand: they win over the model's from now on, whatever the settings of later runs are.

    The file only grows: what the model said stays in its earlier lines. With --from, texts that the file ever held
    are no edits; give the --prefix, --suffix and --template of the export.
    Exit code 3: some names in --from are none of CAPTIONS.
    """
    from evlgen.exports import CaptionTemplate, edit_caption, edit_from

    if (source is None) != (video is not None) or (source is None and undo == (text is not None)):
        raise UsageError(
            "evlgen edit takes a VIDEO with a TEXT or --undo, or --from",
            'evlgen edit captions.jsonl a.mp4 "a dog"',
        )
    if source is not None:
        report = edit_from(captions, source, CaptionTemplate(prefix, suffix, template))
    else:
        assert video is not None
        report = edit_caption(captions, video, text, start)
    if as_json:
        print_json(report.as_dict())
    else:
        counts = {"unchanged": report.unchanged, "empty, left": report.empty, "names not taken": len(report.unknown)}
        rows = [("put back" if undo else "edited", str(len(report.edited)))]
        table(["edits", ""], rows + [(what, str(count)) for what, count in counts.items() if count])
    if report.unknown:
        shown = ", ".join(report.unknown[:_NAMES_SHOWN]) + (", ..." if len(report.unknown) > _NAMES_SHOWN else "")
        err.print(printable(f"warning: {captions} has no line about these, or several: {shown}"))
        raise typer.Exit(Exit.SOME_FAILED)

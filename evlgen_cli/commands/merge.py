"""`evlgen merge`: the caption files of several parts as one."""

from pathlib import Path
from typing import Annotated

import typer

from evlgen_cli.console import err, print_json
from evlgen_cli.exits import Exit
from evlgen_cli.options import JsonOption, out_file


def merge(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Caption files, such as those of evlgen caption --shard.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            parser=out_file,
            metavar="FILE",
            help="The file of all, sorted by name; what it holds already takes part.",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Make one caption file of several.

    Of several lines about a video one stays: words by hand, else a caption, else a failure; of equals the last.
    Exit code 3: some videos have no caption.
    """
    from evlgen.captioning.joining import join_journals

    joined = join_journals(files, output)
    if as_json:
        print_json({**vars(joined), "out": str(joined.out)})
    twice = f", {joined.twice} of them in several files" if joined.twice else ""
    failed = f", {joined.failed} without a caption" if joined.failed else ""
    err.print(f"{joined.out}: {joined.videos} videos{twice}{failed}")
    if joined.failed:
        raise typer.Exit(Exit.SOME_FAILED)

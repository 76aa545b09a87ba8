"""`evlgen data`: videos and captions to work on."""

from pathlib import Path
from typing import Annotated

import typer

from evlgen_cli.console import download_progress, out, print_json
from evlgen_cli.options import JsonOption

app = typer.Typer(no_args_is_help=True, help="Get videos and captions to work on.")


@app.callback()
def data() -> None:
    """Get videos and captions to work on."""


@app.command()
def samples(
    output: Annotated[Path, typer.Option("--out", help="The folder for the clips; made if missing.")] = Path("samples"),
    as_json: JsonOption = False,
) -> None:
    """Fetch three short real clips, check their hashes, and print where they are."""
    from evlgen.weights.samples import copy_samples

    with download_progress() as report:
        paths = copy_samples(output, report=report)
    if as_json:
        print_json([str(path) for path in paths])
        return
    for path in paths:
        out.print(str(path))

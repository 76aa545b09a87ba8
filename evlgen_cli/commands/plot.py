"""`evlgen plot`: the curves of training runs as a picture."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from evlgen_cli.console import out


def plot(
    runs: Annotated[list[Path], typer.Argument(help="Folders of training runs (of a chain: runs/NAME/STEP).")],
    picture: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A .png, .svg or .pdf.", show_default="curves.png in the first run"),
    ] = None,
    axis: Annotated[
        Literal["steps", "seconds", "items", "flops"],
        typer.Option("--x", help="What curves are drawn over. FLOPs are counted, without those of the vision tower."),
    ] = "steps",
) -> None:
    """Draw losses, gap, scores and learning rate of runs, several on top of each other; needs the extra plot.

    Runs that differ in their seed alone are one line, with a band from the least to the most.
    """
    from evlgen.workflow.run_curves import plot_runs

    place = picture or runs[0] / "curves.png"
    plot_runs(runs, place, axis)
    out.print(str(place))

"""The `evlgen` command: the table of commands, and the entry point.

`evlgen --help` must stay under 0.3 s: command files import torch, transformers, av and numpy inside function bodies
only. Errors are handled in one place (handler.py).
"""

import gc
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from evlgen import __version__
from evlgen_cli import streams
from evlgen_cli.commands import data, models
from evlgen_cli.commands.bench import bench
from evlgen_cli.commands.caption import caption
from evlgen_cli.commands.compare import compare
from evlgen_cli.commands.doctor import doctor
from evlgen_cli.commands.edit import edit
from evlgen_cli.commands.eval import evaluate
from evlgen_cli.commands.export import export
from evlgen_cli.commands.frames import frames
from evlgen_cli.commands.merge import merge
from evlgen_cli.commands.plot import plot
from evlgen_cli.commands.recipes import recipes
from evlgen_cli.commands.serve import serve
from evlgen_cli.commands.train import train
from evlgen_cli.commands.visualize import visualize
from evlgen_cli.console import out
from evlgen_cli.handler import one_line_errors, whole_output
from evlgen_cli.options import with_new_names

COMMANDS: dict[str, Callable[..., None] | typer.Typer] = {
    # name: a function (a command) or a Typer (a group of commands), in the order of --help
    "caption": caption,
    "merge": merge,
    "export": export,
    "edit": edit,
    "frames": frames,
    "train": train,
    "plot": plot,
    "eval": evaluate,
    "compare": compare,
    "bench": bench,
    "visualize": visualize,
    "serve": serve,
    "recipes": recipes,
    "models": models.app,
    "data": data.app,
    "doctor": doctor,
}


class _Group(TyperGroup):
    """The root group: what escapes from any command below it ends in the one handler."""

    def invoke(self, ctx: Any) -> Any:
        with one_line_errors():
            return super().invoke(ctx)


class _Command(TyperCommand):
    """A command whose options may be given by the names that they had before."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_new_names(args))


app = typer.Typer(cls=_Group, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(f"evlgen {__version__}")
        raise typer.Exit


@app.callback()
def evlgen(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Caption video on the machine you have; train, measure and look inside captioners that merge tokens."""


for _name, _command in COMMANDS.items():
    if isinstance(_command, typer.Typer):
        app.add_typer(_command, name=_name)
    else:
        app.command(_name, cls=_Command)(_command)


def main() -> None:
    """The entry point of the `evlgen` program."""
    streams.prepare()
    gc.set_threshold(50_000, 20, 100)  # imports and weights make objects by the million and throw few away
    try:
        with whole_output():
            app(prog_name="evlgen")
    finally:
        gc.freeze()  # what is left goes with the process: looking for rings in a loaded model takes half a second

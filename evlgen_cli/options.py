"""Options that several commands share, so that they are spelled and explained in one way."""

from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output instead of a table.")]

ModelOption = Annotated[
    str, typer.Option("--model", help="A model: evlgen-mini, a folder, or a hub name.", show_default=True)
]

DeviceOption = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps: where the model runs.", show_default=True)
]

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one key of the recipe, e.g. optimizer.lr=1e-4."),
]

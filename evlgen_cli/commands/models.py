"""`evlgen models`: which models there are, and bringing their parts onto this machine."""

from typing import Annotated, Any

import typer

from evlgen_cli.console import download_progress, err, print_json, table
from evlgen_cli.options import JsonOption
from evlgen_cli.texts import human_bytes

app = typer.Typer(no_args_is_help=True, help="See and fetch the models' pre-trained parts.")


@app.command("ls")
def ls(as_json: JsonOption = False) -> None:
    """List the models, the parts they are made of, and which of those are on this machine."""
    from evlgen.weights.catalogue import MODELS

    models = {name: [_describe(part) for part in parts] for name, parts in MODELS.items()}
    if as_json:
        print_json([{"name": name, "parts": parts} for name, parts in models.items()])
        return
    rows = [
        (name, p["name"], human_bytes(p["bytes"]), "yes" if p["cached"] else "no", p["licence"], p["what"])
        for name, parts in models.items()
        for p in parts
    ]
    table(("model", "part", "size", "cached", "licence", "what"), rows)


@app.command("pull")
def pull(
    name: Annotated[str, typer.Argument(help="The model.")] = "evlgen-mini",
    training: Annotated[bool, typer.Option("--training", help="Also what only training needs.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash what is here already again; fetch it anew if it is damaged.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch a model's parts now, so that captioning needs no network later. Prints where they are."""
    from evlgen.weights import fetch_all
    from evlgen.weights.catalogue import model_parts

    parts = [part for part in model_parts(name) if training or part.needed_for == "captioning"]
    with download_progress() as report:
        paths = fetch_all([part.source for part in parts], report=report, verify=verify)
    if as_json:
        print_json([_describe(part) for part in parts])
    else:
        table(("part", "path"), [(part.name, str(path)) for part, path in zip(parts, paths, strict=True)])
    counted = "1 part" if len(parts) == 1 else f"{len(parts)} parts"
    err.print(f"{name}: {counted}, {human_bytes(sum(part.bytes for part in parts))}, hashes as pinned")


def _describe(part: Any) -> dict[str, Any]:
    from dataclasses import asdict

    from evlgen.weights import cached

    path = cached(part.source)
    return asdict(part) | {"cached": path is not None, "path": None if path is None else str(path)}

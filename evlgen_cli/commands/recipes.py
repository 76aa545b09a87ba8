"""`evlgen recipes ls | show | copy | check`."""

from pathlib import Path
from typing import Annotated

import typer

from evlgen_cli import completion
from evlgen_cli.console import err, out, print_json, table
from evlgen_cli.options import JsonOption, SetOption

recipes = typer.Typer(
    no_args_is_help=True,
    help="List, print, copy, check and make training recipes, chains of them, and tables of models.",
)

_Name = Annotated[str, typer.Argument(help="A recipe's name or a YAML file.", autocompletion=completion.recipe)]


@recipes.command("ls")
def ls(as_json: JsonOption = False) -> None:
    """List the recipes that come with evlgen."""
    from evlgen.recipes import Chain, load_any, recipe_names

    loaded = [load_any(name) for name in recipe_names()]
    if as_json:
        print_json([{"name": r.name, "summary": r.summary, "chain": isinstance(r, Chain)} for r in loaded])
    else:
        table(["recipe", "what it does"], [(r.name, r.summary) for r in loaded])


@recipes.command("show")
def show(
    name: _Name,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Every setting with its value: what it extends, --set and defaults.")
    ] = False,
    overrides: SetOption = None,
) -> None:
    """Print a recipe; its header is its manual."""
    from evlgen.recipes import Chain, find_recipe, load_any
    from evlgen.recipes.yamls import read_text

    if not resolved and not overrides:
        out.file.write(read_text(find_recipe(name)))
        return
    import yaml

    loaded = load_any(name, overrides or [])
    values = (loaded.recipe if isinstance(loaded, Chain) else loaded).model_dump(mode="json")
    out.file.write(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


@recipes.command("copy")
def copy(name: _Name, to: Annotated[Path, typer.Argument(help="The new file; it must not exist yet.")]) -> None:
    """Copy a recipe, to be changed and run with `evlgen train --recipe FILE`."""
    from evlgen.errors import UsageError
    from evlgen.recipes import find_recipe
    from evlgen.recipes.yamls import read_text
    from evlgen.system.files import write_text

    source = find_recipe(name)
    if to.exists():
        raise UsageError(f"{to} exists already", "name another file")
    write_text(to, read_text(source), hint="name another file")
    out.print(f"{to}")


@recipes.command("check")
def check(name: _Name, overrides: SetOption = None) -> None:
    """Validate a recipe, or a chain and the recipe of every step, without running it; every mistake is named."""
    from evlgen.recipes import Chain, TableRecipe, load_any

    loaded = load_any(name, overrides or [])
    if isinstance(loaded, TableRecipe):
        out.print(f"{loaded.name}: fine; {len(loaded.models)} models on {loaded.dataset}")
        return
    if not isinstance(loaded, Chain):
        tokens = loaded.model.tokens_per_layer()
        flow = f"{loaded.model.vision.tokens} -> {' -> '.join(map(str, tokens))}"
        out.print(f"{loaded.name}: fine; tokens per layer {flow}")
        return
    out.print(f"{loaded.name}: fine; {len(loaded.steps)} steps")
    rows = []
    for step in loaded.steps:
        recipe = loaded.recipes.get(step.name)
        uses = [wanted for wanted, _ in step.references().values()]
        uses += [recipe.name] if recipe is not None else []
        uses += [model] if (model := getattr(step, "model", None)) else []
        rows.append([step.name, step.kind, ", ".join(uses)])
    table(["step", "kind", "uses"], rows)


@recipes.command("new")
def new(
    data: Annotated[
        Path,
        typer.Option("--data", help="Your captions: CSV, TSV or JSONL with a column of files and one of captions."),
    ],
    media: Annotated[
        Path | None,
        typer.Option("--media", help="Folder, .tar or .zip of the files.", show_default="the folder of --data"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--out", "-o", help="The recipe to write.", show_default="beside --data")
    ] = None,
) -> None:
    """Write a recipe that trains evlgen-mini on your own captions; its header has the commands that follow.

    Columns are found by their names. Where no split is called val, items to choose by are held out, the same ones every
    time, and a copy of the captions with splits is written beside the recipe. docs/your-data.md says more.
    """
    from evlgen.training.own_data import look_at, said_of, write_recipe

    found = look_at(data, media)
    name = "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "-" for c in data.stem.lower())
    recipe = output or data.with_name(f"{name}.yaml")
    written = write_recipe(found, recipe)
    for line in said_of(found):
        err.print(line)
    for path in written:
        out.print(f"{path}")
    err.print(f"next: evlgen data check --recipe {recipe}")
    err.print(f"      evlgen train --recipe {recipe}")


@recipes.command("schema")
def schema() -> None:
    """Print the JSON schema of recipes, for editors: they complete keys and underline mistakes as you type."""
    from evlgen.recipes.reference import json_schema

    print_json(json_schema())


@recipes.command("keys")
def keys(
    below: Annotated[
        str, typer.Argument(help="Only keys that begin so, such as train or scst.", show_default="all")
    ] = "",
) -> None:
    """Print every key of a recipe: its type, default and meaning, as docs/recipe-keys.md has them."""
    from evlgen.recipes.reference import markdown, rows

    if not below:
        out.file.write(markdown())
        return
    found = [row for row in rows() if row[0] == below or row[0].startswith(f"{below}.")]
    if not found:
        from evlgen.errors import UsageError

        raise UsageError(f"no key of a recipe begins with {below}", "evlgen recipes keys lists them all")
    table(["key", "type", "default", "meaning"], found)

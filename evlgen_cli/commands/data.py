"""`evlgen data`: videos and captions to work on: samples, published sets, what a recipe needs, is it all there."""

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from evlgen_cli import completion
from evlgen_cli.commands.data_sets import broken_cell, list_sets, show_findings, show_set_check
from evlgen_cli.console import download_progress, err, out, print_json, table
from evlgen_cli.exits import Exit
from evlgen_cli.human_numbers import human_bytes, human_seconds
from evlgen_cli.options import DeviceOption, JsonOption, SetOption
from evlgen_cli.signals import stop_on_signals

if TYPE_CHECKING:
    from evlgen.data.features import PreparedSource
    from evlgen.data.preparing import Estimate
    from evlgen.data.recipe_check import SourceCheck
    from evlgen.data.shards.shard_facts import PreparedShards, ShardFacts

_STOPPING = "stopping after this item; once more to stop at once"
_RECIPE = typer.Option(
    "--recipe",
    help="A recipe's name (evlgen recipes ls) or a YAML file.",
    show_default=False,
    autocompletion=completion.recipe,
)

app = typer.Typer(
    no_args_is_help=True, help="Get videos and captions to work on; check published data sets; prepare a recipe's data."
)


@app.callback()
def data() -> None:
    """Get videos and captions to work on; check published data sets; prepare a recipe's data."""


@app.command()
def samples(
    output: Annotated[Path, typer.Option("--out", "-o", help="The folder for the clips; made if missing.")] = Path(
        "samples"
    ),
    as_json: JsonOption = False,
) -> None:
    """Fetch three short real clips, check their hashes, and print where they are."""
    from evlgen.weights.parts import copy_samples

    with download_progress() as report:
        paths = copy_samples(output, report=report)
    if as_json:
        print_json([str(path) for path in paths])
        return
    for path in paths:
        out.print(str(path))


@app.command("ls")
def list_known(as_json: JsonOption = False) -> None:
    """List the published data sets that evlgen knows: splits, sizes, terms.

    --json has the files that are looked for, and where they come from.
    """
    list_sets(as_json)


@app.command()
def check(
    name: Annotated[
        str | None, typer.Argument(help="A published data set (evlgen data ls), with --root.", show_default=False)
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", help="The folder that holds the files of NAME.", show_default=False)
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="Only this split of NAME.", show_default="all")] = None,
    recipe: Annotated[str | None, _RECIPE] = None,
    overrides: SetOption = None,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every file, and count frames.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at every file of a published data set, or at every file that a recipe names.

    Exit code 3 if something is missing, empty, cut or broken.
    """
    from evlgen.errors import UsageError

    if (name is None) == (recipe is None):
        raise UsageError("give a data set or --recipe, one of the two", "evlgen data check msvd --root DIR")
    if recipe is not None:
        if root is not None or split is not None:
            raise UsageError("--root and --split are for a data set by its name", "with --recipe leave them away")
        _check_recipe(recipe, overrides or [], decode, as_json)
        return
    assert name is not None
    if overrides:
        raise UsageError("--set is for --recipe", f"with {name} leave it away")
    _check_set(name, root, split, decode, as_json)


def _check_set(name: str, root: Path | None, split: str | None, decode: bool, as_json: bool) -> None:
    from evlgen.data.datasets.registry import find_set
    from evlgen.data.datasets.set_check import check_set
    from evlgen.errors import UsageError

    known = find_set(name)
    if root is None:
        raise UsageError(f"where is {known.title}?", f"evlgen data check {known.name} --root DIR")
    stop = Event()
    with stop_on_signals(stop, _STOPPING), download_progress() as report:
        done = check_set(name, root, split=split, decode=decode, report=report, stop=stop.is_set)
    show_set_check(done, as_json)
    if stop.is_set():
        raise typer.Exit(Exit.INTERRUPTED)
    if not done.is_fine:
        raise typer.Exit(Exit.SOME_FAILED)


def _check_recipe(recipe: str, overrides: list[str], decode: bool, as_json: bool) -> None:
    from evlgen.data.recipe_check import check_data
    from evlgen.recipes import load_recipe

    loaded = load_recipe(recipe, overrides)
    stop = Event()
    with stop_on_signals(stop, _STOPPING), download_progress() as report:
        checks = check_data(loaded.data, decode=decode, report=report, stop=stop.is_set)
    if as_json:
        print_json([one.row() for one in checks])
    else:
        columns = ["source", "for", "items", "captions", "frames", "broken", "verdict"]
        table(columns, [_check_cells(one) for one in checks])
        for one in checks:
            if one.shards is not None:
                err.print(f"{one.name}: {_size_line(one.shards)}")
            show_findings(one.name, one)
    if stop.is_set():
        raise typer.Exit(Exit.INTERRUPTED)
    if not all(one.is_fine for one in checks):
        raise typer.Exit(Exit.SOME_FAILED)


@app.command()
def prepare(
    recipe: Annotated[str, _RECIPE],
    overrides: SetOption = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only say how many bytes and how much time it would take.")
    ] = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Compute the features of a recipe's data, or the index of its shards; stopped or killed, it goes on from there."""
    from evlgen.data.preparing import estimate_data, prepare_all_shards, prepare_data
    from evlgen.recipes import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    stop = Event()
    indexed: list[PreparedShards] = []
    with stop_on_signals(stop, _STOPPING), download_progress() as report:
        if loaded.data.has_shards and not estimate:
            indexed, prepared = prepare_all_shards(loaded, report=report, stop=stop.is_set), []
        elif estimate:
            estimates = estimate_data(loaded, device=device, report=report)
        else:
            prepared = prepare_data(loaded, device=device, report=report, stop=stop.is_set)
    if estimate:
        _show_estimates(estimates, as_json)
        return
    if as_json:
        print_json([one.row() for one in indexed or prepared])
    elif loaded.data.has_shards:
        columns = ["source", "shards", "samples", "size", "indexed", "index"]
        table(columns, [_indexed_cells(one) for one in indexed])
    else:
        columns = ["source", "for", "items", "frames", "broken", "size", "features"]
        table(columns, [_prepared_cells(one) for one in prepared])
    if stop.is_set():
        err.print("stopped; the same command goes on from here")
        raise typer.Exit(Exit.INTERRUPTED)


def _check_cells(one: "SourceCheck") -> list[str]:
    frames = "-" if one.frames is None else str(one.frames)
    verdict = "fine" if one.is_fine else "stops a run" if one.stops_a_run else "look below"
    return [one.name, one.role, str(one.items), str(one.captions), frames, broken_cell(one), verdict]


def _size_line(facts: "ShardFacts") -> str:
    counted = " and ".join(f"{n} by {what}" for what, n in facts.counted.items())
    return f"{facts.shards} shards, {human_bytes(facts.bytes)}; samples counted: {counted}"


def _prepared_cells(one: "PreparedSource") -> list[str]:
    row = one.row()
    counts = [str(row[key]) for key in ("items", "frames")]
    return [row["source"], row["role"], *counts, str(len(one.broken)), human_bytes(row["bytes"]), row["features"]]


def _indexed_cells(one: "PreparedShards") -> list[str]:
    size = human_bytes(one.facts.bytes)
    return [one.name, str(one.facts.shards), str(one.samples), size, str(one.scanned), str(one.index)]


def _show_estimates(estimates: "list[Estimate]", as_json: bool) -> None:
    if as_json:
        print_json([one.row() for one in estimates])
        return
    rows = []
    for one in estimates:
        time = "-" if one.seconds is None else human_seconds(one.seconds)
        rows.append([one.name, str(one.items), str(one.todo), human_bytes(one.bytes_at_most), time, str(one.place)])
    table(["source", "items", "to do", "at most", "time", "features"], rows)
    total = sum(one.bytes_at_most for one in estimates)
    seconds = sum(one.seconds or 0.0 for one in estimates)
    free = min((one.free_bytes for one in estimates), default=0)
    out.print(f"in all at most {human_bytes(total)} and about {human_seconds(seconds)}; {human_bytes(free)} are free")

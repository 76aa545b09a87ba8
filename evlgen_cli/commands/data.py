"""`evlgen data`: videos and captions to work on: samples, published sets, what a recipe needs, is it all there."""

from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evlgen_cli import completion
from evlgen_cli.console import download_progress, err, out, print_json, table
from evlgen_cli.exits import Exit
from evlgen_cli.options import DeviceOption, JsonOption, SetOption
from evlgen_cli.signals import stop_on_signals, tell
from evlgen_cli.texts import human_bytes, human_seconds

if TYPE_CHECKING:
    from evlgen.data.checking import SourceCheck
    from evlgen.data.shards.checking import PreparedShards
    from evlgen.data.sources import Estimate, PreparedSource

SHOWN = 3
SHOWN_CHARACTERS = 400

RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe",
        help="A recipe's name (evlgen recipes ls) or a YAML file.",
        show_default=False,
        autocompletion=completion.recipe,
    ),
]

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
    from evlgen.weights.samples import copy_samples

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
    from evlgen_cli.commands.data_sets import list_sets

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
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="A recipe's name (evlgen recipes ls) or a YAML file.",
            show_default=False,
            autocompletion=completion.recipe,
        ),
    ] = None,
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
    from evlgen.data.datasets.checking import check_set
    from evlgen.data.datasets.registry import find_set
    from evlgen.errors import UsageError
    from evlgen_cli.commands.data_sets import show_check

    known = find_set(name)
    if root is None:
        raise UsageError(f"where is {known.title}?", f"evlgen data check {known.name} --root DIR")
    stop = Event()
    with stop_on_signals(stop, _say_stopping), download_progress() as report:
        done = check_set(name, root, split=split, decode=decode, report=report, stop=stop.is_set)
    show_check(done, as_json)
    if stop.is_set():
        raise typer.Exit(Exit.INTERRUPTED)
    if not done.is_fine:
        raise typer.Exit(Exit.SOME_FAILED)


def _check_recipe(recipe: str, overrides: list[str], decode: bool, as_json: bool) -> None:
    from evlgen.data.checking import check_data
    from evlgen.recipes import load_recipe

    loaded = load_recipe(recipe, overrides)
    stop = Event()
    with stop_on_signals(stop, _say_stopping), download_progress() as report:
        checks = check_data(loaded.data, decode=decode, report=report, stop=stop.is_set)
    if as_json:
        print_json([_check_row(one) for one in checks])
    else:
        columns = ["source", "for", "items", "captions", "frames", "broken", "verdict"]
        table(columns, [_check_cells(one) for one in checks])
        for one in checks:
            for line in _findings(one):
                err.print(line)
    if stop.is_set():
        raise typer.Exit(Exit.INTERRUPTED)
    if not all(one.is_fine for one in checks):
        raise typer.Exit(Exit.SOME_FAILED)


@app.command()
def prepare(
    recipe: RecipeOption,
    overrides: SetOption = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Only say how many bytes and how much time it would take.")
    ] = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Compute the features of a recipe's data, or the index of its shards; stopped or killed, it goes on from there."""
    from evlgen.data.prepare import estimate_data, prepare_all_shards, prepare_data
    from evlgen.recipes import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    stop = Event()
    indexed: list[PreparedShards] = []
    with stop_on_signals(stop, _say_stopping), download_progress() as report:
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
        print_json([_indexed_row(one) for one in indexed] or [_prepared_row(one) for one in prepared])
    elif loaded.data.has_shards:
        columns = ["source", "shards", "samples", "size", "indexed", "index"]
        table(columns, [_indexed_cells(one) for one in indexed])
    else:
        columns = ["source", "for", "items", "frames", "broken", "size", "features"]
        table(columns, [_prepared_cells(one) for one in prepared])
    if stop.is_set():
        err.print("stopped; the same command goes on from here")
        raise typer.Exit(Exit.INTERRUPTED)


def _say_stopping() -> None:
    tell("stopping after this item; once more to stop at once")


def _check_row(one: "SourceCheck") -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(one), "counts": one.counts(), "is_fine": one.is_fine, "stops_a_run": one.stops_a_run}


def _check_cells(one: "SourceCheck") -> list[str]:
    frames = "-" if one.frames is None else str(one.frames)
    verdict = "fine" if one.is_fine else "stops a run" if one.stops_a_run else "look below"
    broken = ", ".join(f"{count} {kind}" for kind, count in one.counts().items()) or "0"
    return [one.name, one.role, str(one.items), str(one.captions), frames, broken, verdict]


def _findings(one: "SourceCheck") -> list[str]:
    """What is wrong with a source, a line each."""
    lines = [f"{one.name}: {one.error}"] if one.error else []
    lines += _shard_lines(one)
    lines += [f"{one.name}: {b.name}: {b.reason}" for b in one.broken[:SHOWN]]
    if len(one.broken) > SHOWN:
        lines.append(f"{one.name}: and {len(one.broken) - SHOWN} more (--json lists them)")
    for names, what in ((one.repeated, "have their captions twice"), (one.shared, "are trained on as well")):
        if names:
            more = ", ..." if len(names) > SHOWN else ""
            lines.append(f"{one.name}: {len(names)} items {what}: {', '.join(names[:SHOWN])}{more}")
    return lines


def _shard_lines(one: "SourceCheck") -> list[str]:
    """What there is of shards, and what is wrong with them."""
    from evlgen.data.shards.patterns import spans

    if one.shards is None:
        return []
    facts = one.shards
    counted = " and ".join(f"{n} by {what}" for what, n in facts.counted.items())
    lines = [f"{one.name}: {facts.shards} shards, {human_bytes(facts.bytes)}; samples counted: {counted}"]
    for paths, what in ((facts.gaps, "missing in the numbering"), (facts.truncated, "truncated")):
        if paths:
            lines.append(f"{one.name}: {what} ({len(paths)}): {_short(spans(paths))}")
    if facts.other_numbers:
        each = [f"{path} has {has}, not {said}" for path, (said, has) in facts.other_numbers.items()]
        lines.append(f"{one.name}: other numbers of samples ({len(each)}): {_short(', '.join(each))}")
    return lines


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ... (--json lists them)"


def _prepared_row(one: "PreparedSource") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "source": one.source.name,
        "role": one.source.role,
        "items": len(one.items),
        "captions": sum(len(item.captions) for item in one.items),
        "frames": sum(one.cache.frames),
        "bytes": one.cache.bytes_used,
        "broken": [asdict(b) for b in one.broken],
        "features": str(one.cache.place),
    }


def _prepared_cells(one: "PreparedSource") -> list[str]:
    row = _prepared_row(one)
    counts = [str(row[key]) for key in ("items", "frames")]
    return [row["source"], row["role"], *counts, str(len(one.broken)), human_bytes(row["bytes"]), row["features"]]


def _indexed_row(one: "PreparedShards") -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(one), "index": str(one.index)}


def _indexed_cells(one: "PreparedShards") -> list[str]:
    facts = one.facts
    size = human_bytes(facts.bytes)
    return [one.name, str(facts.shards), str(one.samples), size, str(one.scanned), str(one.index)]


def _show_estimates(estimates: "list[Estimate]", as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print_json([{**asdict(one), "place": str(one.place)} for one in estimates])
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

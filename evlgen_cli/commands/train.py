"""`evlgen train`: run a recipe or a chain, log it, save on Ctrl-C or SIGTERM, go on with --resume."""

import os
import shlex
import sys
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evlgen_cli import completion
from evlgen_cli.commands.chain import PART, run_chain_recipe
from evlgen_cli.commands.estimate import HELP, show_estimate
from evlgen_cli.commands.train_report import say_end, train_and_tell
from evlgen_cli.console import download_progress, err
from evlgen_cli.exits import Exit
from evlgen_cli.options import DeviceOption, JsonOption, SetOption
from evlgen_cli.signals import SAVING, stop_on_signals

if TYPE_CHECKING:
    from evlgen.recipes import Chain, Recipe


def train(
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="A recipe's name (evlgen recipes ls) or a YAML file; --resume can do without.",
            autocompletion=completion.recipe,
        ),
    ] = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of log and checkpoints; runs/NAME if not given.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on from the last checkpoint in --out, with the settings that the run was begun with."
        ),
    ] = False,
    overrides: SetOption = None,
    device: DeviceOption = "auto",
    processes: Annotated[
        int | None,
        typer.Option("--processes", min=1, help="Processes on this machine; one for each GPU if not given."),
    ] = None,
    estimate: Annotated[bool, typer.Option("--estimate", help=HELP)] = False,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", help="With --estimate: does it fit this GPU, e.g. h100-80gb, which need not be here?"),
    ] = None,
    as_json: JsonOption = False,
    part: Annotated[bool, typer.Option(PART, hidden=True)] = False,
) -> None:
    """Train a captioner as a recipe says; the best checkpoint ends in OUT/best.

    A recipe that is a chain of steps is run step by step, each in OUT/STEP; --resume skips what is done, and repeats
    steps whose settings (--set STEP.key=value) have changed. What was --set before holds for --resume as well.
    --estimate says what memory, disk and time it would take, with --processes N also for N processes.

    Under torchrun, accelerate launch and srun a training run joins the processes that are there.
    """
    from evlgen.errors import UsageError
    from evlgen.recipes import Chain

    if gpu is not None and not estimate:
        raise UsageError("--gpu is for --estimate", "--device says where a run computes")
    loaded, folder, notes = _what_to_run(recipe, out_folder, resume and not part, overrides or [])
    from evlgen.training.launch import (
        join_cluster,  # seconds, which nobody waits for who has mistyped a key
        processes_to_start,
        start,
    )

    if estimate:
        show_estimate(loaded, device, processes, gpu, as_json)
        return
    if not resume and os.environ.get("RANK", "0") == "0":
        _say_what_is_missing(loaded, recipe or loaded.name)
    again = ["train", *(["--recipe", recipe] if recipe is not None else []), "--out", str(folder), "--device", device]
    again += [word for override in overrides or [] for word in ("--set", override)]
    join_cluster()
    count = processes_to_start(processes, device)
    if isinstance(loaded, Chain):
        if processes is not None:
            again += ["--processes", str(processes)]
        run_chain_recipe(loaded, folder, resume, device, count, as_json, again)
        return
    if count > 1:
        options = (["--resume"] if resume else []) + (["--json"] if as_json else [])
        code = start([sys.executable, "-m", "evlgen_cli", *again, *options], count)
        raise typer.Exit(code)
    if os.environ.get("RANK", "0") == "0":
        for note in notes:
            err.print(note)
    _run(loaded, folder, resume, device, as_json, again, part)


def _say_what_is_missing(recipe: "Recipe | Chain", called: str) -> None:
    """Before anything is loaded: what is there, what is not, where it comes from, and the commands in their order."""
    from evlgen.workflow.needs import check_needs, guide

    for line in guide(recipe, called):
        err.print(line)
    check_needs(recipe, called)


def _what_to_run(
    recipe: str | None, out_folder: Path | None, resume: bool, overrides: list[str]
) -> "tuple[Recipe | Chain, Path, list[str]]":
    """What the options name, the folder, and what is to be said of the settings of a run that goes on."""
    from evlgen.errors import UsageError
    from evlgen.recipes import Chain, TableRecipe, load_any, load_chain

    if recipe is None and (not resume or out_folder is None):
        raise UsageError("--recipe is missing", "evlgen recipes ls lists them; --resume --out FOLDER needs none")
    loaded = None if recipe is None else load_any(recipe, overrides)
    if isinstance(loaded, TableRecipe):
        raise UsageError(f"{loaded.name} is a table of models and trains nothing", f"evlgen eval --recipe {recipe}")
    folder = out_folder or Path("runs") / getattr(loaded, "name", "")
    if loaded is not None and not resume:
        return loaded, folder, []
    from evlgen.training.run_folder import RECIPE_FILE, resumed_recipe
    from evlgen.workflow import kept_overrides

    if isinstance(loaded, Chain):
        assert recipe is not None
        return load_chain(recipe, [*kept_overrides(folder), *overrides]), folder, []
    if loaded is not None and not (folder / RECIPE_FILE).is_file():
        return loaded, folder, []  # the run will say that there is nothing to resume
    begun, notes = resumed_recipe(folder, overrides, loaded)
    return begun, folder, notes


def _run(loaded: Any, folder: Path, resume: bool, device: str, as_json: bool, again: list[str], part: bool) -> None:
    """One process of a run, or all of it."""
    from evlgen.training.launch import leave_error

    stop = Event()
    main = os.environ.get("RANK", "0") == "0"
    try:
        with stop_on_signals(stop, SAVING if main else ""), download_progress() as progress:
            report = train_and_tell(loaded, folder=folder, resume=resume, device=device, stop=stop, progress=progress)
    except Exception as error:
        leave_error(error)
        raise
    if stop.is_set():
        if main and not part:
            err.print(f"stopped and saved; go on with: {shlex.join(['evlgen', *again, '--resume'])}")
        raise typer.Exit(Exit.INTERRUPTED)
    if part:
        return
    if main:
        say_end(loaded, folder, report, as_json)

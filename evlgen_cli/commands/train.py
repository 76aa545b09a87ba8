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
from evlgen_cli.commands.train_end import say_end
from evlgen_cli.console import download_progress, err
from evlgen_cli.exits import Exit
from evlgen_cli.options import DeviceOption, JsonOption, SetOption
from evlgen_cli.signals import stop_on_signals
from evlgen_cli.texts import human_bytes, human_seconds

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
    from evlgen.training.launch import join_cluster
    from evlgen.training.starting import processes_to_start, start

    if gpu is not None and not estimate:
        raise UsageError("--gpu is for --estimate", "--device says where a run computes")
    loaded, folder, notes = _what_to_run(recipe, out_folder, resume and not part, overrides or [])
    if estimate:
        show_estimate(loaded, folder, device, processes, gpu, as_json)
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
    from evlgen.recipes import Chain, load_any
    from evlgen.training.folder import RECIPE_FILE, resumed_recipe
    from evlgen.workflow import kept_overrides

    if recipe is None:
        if not resume or out_folder is None:
            raise UsageError("--recipe is missing", "evlgen recipes ls lists them; --resume --out FOLDER needs none")
        begun, notes = resumed_recipe(out_folder, overrides, None)
        return begun, out_folder, notes
    loaded = load_any(recipe)
    folder = out_folder or Path("runs") / loaded.name
    if resume and isinstance(loaded, Chain):
        overrides = [*kept_overrides(folder), *overrides]
    loaded = load_any(recipe, overrides)
    if resume and not isinstance(loaded, Chain) and (folder / RECIPE_FILE).is_file():
        begun, notes = resumed_recipe(folder, overrides, loaded)
        return begun, folder, notes
    return loaded, folder, []


def _run(loaded: Any, folder: Path, resume: bool, device: str, as_json: bool, again: list[str], part: bool) -> None:
    """One process of a run, or all of it."""
    from evlgen.training import train as run_recipe
    from evlgen.training.starting import leave_error

    stop = Event()
    main = os.environ.get("RANK", "0") == "0"
    try:
        with stop_on_signals(stop, _say_stopping if main else lambda: None), download_progress() as progress:
            report = run_recipe(
                loaded,
                folder=folder,
                resume=resume,
                device=device,
                progress=progress,
                report=lambda record: err.print(record_line(record)),
                say=err.print,
                stop=stop.is_set,
                interrupt=stop.is_set,
                on_stop=stop.set,
            )
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


def _say_stopping() -> None:
    """Runs inside a signal handler: nothing but a write."""
    os.write(2, b"\nsaving; once more to stop at once\n")


_NAMES = {
    "loss": "loss", "vocabulary_loss": "vocabulary", "precision_at_5": "p@5", "reward": "reward",
    "greedy_reward": "greedy", "advantage_size": "advantage", "zero_advantages": "zero", "distinct_share": "distinct",
    "sample_tokens": "tokens", "kl": "kl", "gradient_norm": "gradient",
}  # fmt: skip
_SCORES = {"cider": "cider", "bleu-4": "bleu-4", "rouge-l": "rouge-l"}


def record_line(record: dict[str, Any]) -> str:
    """One log record as one line."""
    start = f"step {record['step']}/{record['of']} {human_seconds(record['seconds'])}"
    if "warning" in record:
        return f"{start} warning: {record['warning']}"
    if "validation" in record:
        parts = []
        for name, figures in record["validation"].items():
            scores = "".join(f" {short} {figures[key]:.1f}" for key, short in _SCORES.items() if key in figures)
            if "cider" in figures:
                scores += f" words {figures['mean_words']:.1f} distinct {figures['distinct_captions']}"
                scores += f" bad endings {figures['bad_endings']:.0%}"
            parts.append(f"{name}: loss {figures['loss']:.3f} gap {figures['gap']:.3f}{scores}")
        return f"{start} validation {'; '.join(parts)}"
    figures = " ".join(f"{short} {record[key]:.3f}" for key, short in _NAMES.items() if key in record)
    rate = f"{record['items_per_second']:.3g} items/s"
    if "captions_per_second" in record:
        rate += f" {record['captions_per_second']:.3g} captions/s"
    memory = [human_bytes(record[key]) for key in ("memory_bytes", "gpu_memory_bytes") if key in record]
    left = human_seconds(record["seconds_left"])
    return f"{start} {figures} lr {record['lr']:.2e}, {rate}, {' + GPU '.join(memory)}, {left} left"

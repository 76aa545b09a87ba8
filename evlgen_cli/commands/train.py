"""`evlgen train`: run a recipe, log it, save on Ctrl-C or SIGTERM, go on with --resume."""

import os
import shlex
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer

from evlgen_cli.console import download_progress, err, out, print_json
from evlgen_cli.exits import Exit
from evlgen_cli.options import DeviceOption, JsonOption, SetOption
from evlgen_cli.signals import stop_on_signals
from evlgen_cli.texts import human_seconds


def train(
    recipe: Annotated[str, typer.Option("--recipe", help="A recipe's name (evlgen recipes ls) or a YAML file.")],
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder of log and checkpoints; runs/NAME if not given.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    overrides: SetOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Train a captioner as a recipe says; the best checkpoint ends in OUT/best."""
    from evlgen.recipes import load_recipe
    from evlgen.training import train as run_recipe

    loaded = load_recipe(recipe, overrides or [])
    folder = out_folder or Path("runs") / loaded.name
    stop = Event()
    with stop_on_signals(stop, _say_stopping), download_progress() as progress:
        report = run_recipe(
            loaded,
            folder=folder,
            resume=resume,
            device=device,
            progress=progress,
            report=lambda record: err.print(_line(record)),
            stop=stop.is_set,
        )
    if stop.is_set():
        again = ["evlgen", "train", "--recipe", recipe, "--out", str(folder), "--device", device, "--resume"]
        again += [word for override in overrides or [] for word in ("--set", override)]
        err.print(f"stopped and saved; go on with: {shlex.join(again)}")
        raise typer.Exit(Exit.INTERRUPTED)
    if as_json:
        print_json({"folder": str(folder), "validation": report})
    else:
        out.print(f"best checkpoint: {folder / 'best'}")


def _say_stopping() -> None:
    """Runs inside a signal handler: nothing but a write."""
    os.write(2, b"\nsaving after this step; once more to stop at once\n")


def _line(record: dict[str, Any]) -> str:
    """One log record as one line."""
    start = f"step {record['step']}/{record['of']} {human_seconds(record['seconds'])}"
    if "validation" in record:
        parts = []
        for name, figures in record["validation"].items():
            cider = f" cider {figures['cider']:.1f}" if "cider" in figures else ""
            parts.append(f"{name}: loss {figures['loss']:.3f} gap {figures['gap']:.3f}{cider}")
        return f"{start} validation {'; '.join(parts)}"
    names = {"loss": "loss", "vocabulary_loss": "vocabulary", "precision_at_5": "p@5", "gradient_norm": "gradient"}
    figures = " ".join(f"{short} {record[key]:.3f}" for key, short in names.items() if key in record)
    done = record["step"] / max(record["seconds"], 1e-9)
    left = (record["of"] - record["step"]) / max(done, 1e-9)
    return f"{start} {figures} lr {record['lr']:.2e}, {human_seconds(left)} left"

"""A chain recipe under `evlgen train`: its steps as lines on standard error, its results as a table or JSON."""

import shlex
import sys
from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import typer

from evlgen.system.names import printable
from evlgen.system.progress import ProgressCallback
from evlgen_cli.commands.caption_report import CaptionView
from evlgen_cli.commands.predict import AnswerView
from evlgen_cli.commands.train_report import train_and_tell
from evlgen_cli.console import download_progress, err, print_json, table
from evlgen_cli.exits import Exit
from evlgen_cli.human_numbers import human_seconds
from evlgen_cli.signals import SAVING, stop_on_signals

if TYPE_CHECKING:
    from evlgen.recipes import Chain, Recipe
    from evlgen.system.progress import ProgressCallback
    from evlgen.workflow import ChainResult, StepEvent

PART = "--part-of-a-chain"
"""Hidden option of `evlgen train`: its messages are left to the chain that started it."""


def run_chain_recipe(
    chain: "Chain", folder: Path, resume: bool, device: str, processes: int, as_json: bool, again: list[str]
) -> None:
    """Run a chain and say what came of it.

    Args:
        chain: a valid one.
        folder: of the chain.
        resume: go on in it.
        device: of everything.
        processes: of every training run.
        as_json: results as JSON.
        again: the command's arguments, without --resume.
    """
    from evlgen.workflow import ChainTools, run_chain

    stop = Event()
    if resume and chain.overrides:
        err.print(f"with what was set: {', '.join(chain.overrides)}")

    def train_step(recipe: "Recipe", file: Path, place: Path, resume_step: bool) -> bool:
        if processes > 1:
            return _train_in_processes(file, place, resume_step, device, processes, stop)
        train_and_tell(recipe, folder=place, resume=resume_step, device=device, stop=stop, progress=talk.report)
        return not stop.is_set()

    with stop_on_signals(stop, SAVING), closing(_Talk()) as talk:
        tools = ChainTools(
            train_step, device, stop, talk.report, partial(talk.view, CaptionView), partial(talk.view, AnswerView)
        )
        result = run_chain(chain, folder=folder, tools=tools, resume=resume, tell=talk.tell)
    if result.interrupted:
        err.print(f"stopped and saved; go on with: {shlex.join(['evlgen', *again, '--resume'])}")
        raise typer.Exit(Exit.INTERRUPTED)
    _show(result, as_json)
    if not result.complete:
        raise typer.Exit(Exit.SOME_FAILED)


def _train_in_processes(file: Path, folder: Path, resume: bool, device: str, processes: int, stop: Event) -> bool:
    from evlgen.errors import EvlgenError
    from evlgen.training.launch import start

    command = [sys.executable, "-m", "evlgen_cli", "train", "--recipe", str(file), "--out", str(folder)]
    command += ["--device", device, PART, *(["--resume"] if resume else [])]
    code = start(command, processes)
    if code == Exit.INTERRUPTED:
        stop.set()
        return False
    if code:
        raise EvlgenError(f"training ended with exit code {code}", "its own message is above")
    return True


class _Talk:
    """What people see of the steps: a line for every event, and bars that end with their step."""

    def __init__(self) -> None:
        self._bars: ExitStack | None = None
        self._report: ProgressCallback | None = None

    def bars(self) -> ExitStack:
        """Closes bars when their step ends."""
        if self._bars is None:
            self._bars = ExitStack()
        return self._bars

    def report(self, name: str, done: int, total: int | None, unit: str = "bytes") -> None:
        """The progress of downloads and of items."""
        if self._report is None:
            self._report = self.bars().enter_context(download_progress())
        self._report(name, done, total, unit)

    def tell(self, event: "StepEvent") -> None:
        """One event as one line."""
        self.close()
        start = f"[{event.position}/{event.count}] {event.step.name} ({event.step.kind})"
        if event.what == "skipped":
            text = f"done before: {event.text}"
        elif event.what == "done":
            text = f"done in {human_seconds(event.seconds)}: {event.text}"
        else:
            text = event.what + (f": {event.text}" if event.text and event.text != "new" else "")
        err.print(printable(f"{start}: {text}"))

    def view(self, kind: type[CaptionView]) -> CaptionView:
        """What is shown of the captions or answers of a step; signals are the chain's."""
        return kind(self.bars(), None, quiet=False, rows_to_stdout=False)

    def close(self) -> None:
        """End all bars."""
        if self._bars is not None:
            self._bars.close()
        self._bars = self._report = None


def _show(result: "ChainResult", as_json: bool) -> None:
    if as_json:
        steps: dict[str, Any] = {
            one.name: {"kind": one.kind, "skipped": one.skipped, "fingerprint": one.record.fingerprint}
            | {k: v for k, v in asdict(one.record).items() if k not in ("settings", "dependencies", "error")}
            for one in result.steps
        }
        print_json({"folder": str(result.folder), "steps": steps})
        return
    rows = [
        [one.name, one.kind, "before" if one.skipped else human_seconds(one.record.seconds), printable(one.record.text)]
        for one in result.steps
    ]
    table(["step", "kind", "time", "result"], rows)

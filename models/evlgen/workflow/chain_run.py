"""Running a chain: decide for every step whether it is done, do it if not, write down what came of it.

A step is done when its result is there, made with the same settings from the same things. A step that was interrupted
goes on where it stopped; one whose settings changed is done again, and what it had made is kept beside the new result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from evlgen.errors import EvlgenError, UsageError
from evlgen.modeling.hardware import release_memory
from evlgen.recipes import Chain, Recipe, expand_variables
from evlgen.recipes.chain_schema import AnyStep, CaptionStep, CompareStep, EvalStep, TrainStep
from evlgen.system.files import write_text
from evlgen.training.launch import joined
from evlgen.training.run_folder import RECIPE_FILE, alone_in, may_go_on
from evlgen.workflow.chain_steps import BEST, PREDICTIONS, ChainTools, Place, StepOutcome, run_step
from evlgen.workflow.fingerprints import changes, dependencies_of, file_hash, settings_of
from evlgen.workflow.needs import check_chain_inputs
from evlgen.workflow.state import ChainState, StepRecord

What = Literal["started", "resumed", "skipped", "done", "failed", "interrupted"]


@dataclass(frozen=True)
class StepEvent:
    """Something that happened to a step.

    Attributes:
        step: which.
        position: its place in the chain, from 1.
        count: how many steps there are.
        what: happened.
        text: why it is done or the result, in one line; may be empty.
        seconds: spent on it so far.
    """

    step: AnyStep
    position: int
    count: int
    what: What
    text: str
    seconds: float


@dataclass(frozen=True)
class StepReport:
    """A step at the end of a run; `skipped`: it was done before."""

    name: str
    kind: str
    skipped: bool
    record: StepRecord


@dataclass(frozen=True)
class ChainResult:
    """What a run of a chain came to.

    Attributes:
        folder: of the chain.
        steps: those that are done, and the one that was interrupted.
        interrupted: whether the run was stopped.
    """

    folder: Path
    steps: tuple[StepReport, ...]
    interrupted: bool

    @property
    def complete(self) -> bool:
        """Whether every step is done, and none left anything out."""
        return not self.interrupted and all(one.record.complete for one in self.steps)


def run_chain(
    chain: Chain,
    *,
    folder: Path,
    tools: ChainTools,
    resume: bool = False,
    tell: Callable[[StepEvent], None] = lambda _: None,
) -> ChainResult:
    """Run or resume a chain.

    Args:
        chain: a valid one.
        folder: every step has its own below it; the state file is in it.
        tools: what to work with.
        resume: go on in a folder that holds a run of this chain.
        tell: told what happens.

    Raises:
        UsageError: the folder holds a run and `resume` is not set, or holds none and it is; something that a later
            step needs is missing; or as a step raises it, with the step's name in front.
        EvlgenError: a step failed; what came before is kept, and `resume` goes on with it.
    """
    if joined():
        raise UsageError(
            "a chain under torchrun, accelerate launch or srun", "start it once, it starts its own processes"
        )
    with alone_in(folder):
        state = _open(chain, folder, resume)
        state.overrides = list(chain.overrides)
        check_chain_inputs(chain)
        state.write()
        run = _Run(chain, folder, tools, state, tell)
        threads = torch.get_num_threads()
        reports: list[StepReport] = []
        for position, step in enumerate(chain.steps, start=1):
            if tools.stop.is_set():
                return ChainResult(folder, tuple(reports), True)
            reports.append(run.step(step, position))
            if not reports[-1].skipped and isinstance(step, TrainStep | EvalStep | CaptionStep):
                torch.set_num_threads(threads)  # captioning takes fewer, the next training run must not
                release_memory()
            if reports[-1].record.status == "interrupted":
                return ChainResult(folder, tuple(reports), True)
        return ChainResult(folder, tuple(reports), False)


def _recipe_of(step: AnyStep, chain: Chain, folder: Path) -> Recipe | None:
    """The recipe of a step, with where it starts."""
    recipe = chain.recipes.get(step.name)
    if recipe is None or not isinstance(step, TrainStep) or step.start_from is None:
        return recipe
    best = str((folder / step.start_from / BEST).absolute())
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"start_from": best})})


def _open(chain: Chain, folder: Path, resume: bool) -> ChainState:
    state = ChainState.read(folder)
    if state is None:
        if (folder / RECIPE_FILE).exists():
            raise UsageError(f"{folder} holds a training run, not a chain", "choose another --out")
        if resume:
            raise UsageError(f"{folder} holds no run to resume", "start without --resume")
        return ChainState(folder, chain.name)
    if not resume:
        raise UsageError(f"{folder} already holds a run", "add --resume to go on with it, or choose another --out")
    if state.name != chain.name:
        raise UsageError(f"{folder} holds a run of the chain {state.name}, not of {chain.name}", "choose another --out")
    return state


@dataclass
class _Run:
    chain: Chain
    folder: Path
    tools: ChainTools
    state: ChainState
    tell: Callable[[StepEvent], None]

    def __post_init__(self) -> None:
        self.names = {step.name for step in self.chain.steps}

    def step(self, step: AnyStep, position: int) -> StepReport:
        """Do a step, unless it is done."""

        def event(what: What, text: str, record: StepRecord) -> StepReport:
            self.tell(StepEvent(step, position, len(self.chain.steps), what, text, record.seconds))
            return StepReport(step.name, step.kind, what == "skipped", record)

        recipe = _recipe_of(step, self.chain, self.folder)
        settings = settings_of(step, self.chain.recipes.get(step.name))
        dependencies = dependencies_of(step, self.state.steps, self.names)
        before = self.state.steps.get(step.name)
        why, resumes = self._decide(step, recipe, settings, dependencies, before)
        if not why:
            assert before is not None
            return event("skipped", before.text, before)
        if not resumes and (kept := self._set_aside(step.name)) is not None:
            why += f"; what was there is in {kept}"
        record = StepRecord("running", settings, dependencies, datetime.now(UTC).isoformat(timespec="seconds"))
        if resumes and before is not None:
            record.started, record.seconds = before.started, before.seconds
        self._write(step.name, record)
        event("resumed" if resumes else "started", why, record)
        began, spent = time.monotonic(), record.seconds
        try:
            outcome = run_step(step, self._place(step, recipe, resumes), self.tools)
        except BaseException as error:
            record.seconds = round(spent + time.monotonic() - began, 1)
            record.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            record.error = str(error) or type(error).__name__
            self._write(step.name, record)
            event("interrupted" if record.status == "interrupted" else "failed", "", record)
            if isinstance(error, EvlgenError):
                raise _of_step(step, error) from error
            raise
        record.seconds = round(spent + time.monotonic() - began, 1)
        if outcome is None:
            record.status = "interrupted"
            self._write(step.name, record)
            return event("interrupted", "", record)
        self._finish(record, outcome)
        self._write(step.name, record)
        return event("done", outcome.text, record)

    def _write(self, name: str, record: StepRecord) -> None:
        self.state.steps[name] = record
        self.state.write()

    def _finish(self, record: StepRecord, outcome: StepOutcome) -> None:
        record.status, record.figures, record.text = "done", outcome.figures, outcome.text
        record.complete = outcome.complete
        record.files = {self._relative(path): file_hash(path) for path in outcome.files}

    def _relative(self, path: Path) -> str:
        path, folder = path.absolute(), self.folder.absolute()
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)

    def _decide(
        self,
        step: AnyStep,
        recipe: Recipe | None,
        settings: dict[str, Any],
        dependencies: dict[str, str],
        before: StepRecord | None,
    ) -> tuple[str, bool]:
        """Why a step is to be done, in words (empty: it is not), and whether it goes on from what is there."""
        if before is None:
            return "new", False
        changed = changes(before.settings, settings)
        changed += [f"{key} has changed" for key in dependencies if dependencies[key] != before.dependencies.get(key)]
        place = self.folder / step.name
        if before.status != "done":
            alike = before.dependencies == dependencies and before.settings.get("data") == settings.get("data")
            if not changed or (alike and recipe is not None and may_go_on(recipe, place)):
                return "not finished before", place.exists()
        if changed:
            return f"changed: {'; '.join(changed)}", False
        if any(not self._is_whole(path, digest) for path, digest in before.files.items()):
            return "its files are gone or have changed", False
        return "", False

    def _is_whole(self, path: str, digest: str) -> bool:
        file = self.folder / path
        return file.is_file() and file_hash(file) == digest

    def _set_aside(self, name: str) -> Path | None:
        """Keep what a step made before under another name."""
        place = self.folder / name
        if not place.exists() or not any(place.iterdir()):
            return None
        number = 1
        while (kept := self.folder / f"{name}.{number}").exists():
            number += 1
        place.rename(kept)
        return kept

    def _place(self, step: AnyStep, recipe: Recipe | None, resumes: bool) -> Place:
        folder = self.folder / step.name
        file = self.folder / f"{step.name}.yaml"
        if recipe is not None:
            values = recipe.model_dump(mode="json")
            write_text(file, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        model, sides = "", None
        if isinstance(step, EvalStep | CaptionStep):
            model = str(self.folder / step.model / BEST) if step.model in self.names else expand_variables(step.model)
        if isinstance(step, CompareStep):
            of = next(s for s in self.chain.steps if isinstance(s, EvalStep) and s.name == step.a)
            sides = (self.folder / step.a / PREDICTIONS, self.folder / step.b / PREDICTIONS, of)
        if isinstance(step, TrainStep):
            resumes = resumes and (folder / RECIPE_FILE).is_file()
        return Place(folder, recipe, file, resumes, model, sides)


def _of_step(step: AnyStep, error: EvlgenError) -> EvlgenError:
    """The same error with the step's name, and with the way on."""
    usage = isinstance(error, UsageError)
    hint = "--resume goes on with this step" if not error.hint else f"{error.hint}; then --resume"
    hint = error.hint if "--resume" in error.hint else hint
    return (UsageError if usage else EvlgenError)(f"step {step.name} ({step.kind}): {error.what}", hint)

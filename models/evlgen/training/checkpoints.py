"""Resumable checkpoints: the model's folder plus the optimizer's tensors, written aside and renamed into place.

A run killed at any moment finds its last whole checkpoint. Only safetensors is written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, NonNegativeInt, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from evlgen.errors import EvlgenError
from evlgen.modeling.pretrained import write_tensors
from evlgen.modeling.tensor_checksums import check_sum
from evlgen.system.files import os_errors, sync
from evlgen.system.jsons import JsonError, parse_json
from evlgen.training.guards import CaptionGuardState, LossGuardState, SampleWatchState, SavedState
from evlgen.training.processes import like, whole_on_cpu

STATE_FILE = "training.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def replace_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Fill a new folder and put it in the place of `target`; at every moment the old or the new one is whole.

    Raises:
        EvlgenError: the disk is full or not writable; `target` is as it was.
    """
    aside, old = target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")
    try:
        with os_errors(aside):
            shutil.rmtree(aside, ignore_errors=True)  # also what a killed run left
            aside.mkdir(parents=True)
            fill(aside)
            for path in [*aside.iterdir(), aside]:  # a rename must not reach the disk before what it names
                sync(path)
            if target.exists():
                shutil.rmtree(old, ignore_errors=True)
                target.rename(old)
            aside.rename(target)
            shutil.rmtree(old, ignore_errors=True)
    except EvlgenError as error:
        shutil.rmtree(aside, ignore_errors=True)
        what = error.what.partition(" cannot be written: ")[2] or error.what
        raise EvlgenError(f"checkpoint {target} cannot be written: {what}", "free some disk, then --resume") from None


def finish_rename(target: Path) -> None:
    """Put back a folder that a kill between two renames left under its old name."""
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        old.rename(target)


def state_tensors(
    named: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, average: dict[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Value, moments and moving average of every trained parameter, whole and on the CPU, by explicit names.

    With sharded parameters every process must call it. Frozen parameters are not among them.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in named.items():
        tensors[f"value.{name}"] = parameter
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}.{name}"] = torch.as_tensor(value)
    for name, value in (average or {}).items():
        tensors[f"average.{name}"] = value
    return whole_on_cpu(tensors)


def save_state(folder: Path, tensors: dict[str, Tensor], facts: Any) -> None:
    """Write what `state_tensors` gave, and small facts (step, best score)."""
    write_tensors(tensors, folder / STATE_FILE, {"facts": json.dumps(facts)})


def _instead(folder: Path) -> str:
    """What is left to do without the checkpoint to resume from."""
    best = folder.with_name("best")
    return "start a new run" + (f" with train.start_from={best}: that one is whole" if best.is_dir() else "")


def load_state(
    folder: Path,
    named: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor] | None = None,
) -> CheckpointFacts:
    """Put back what `save_state` wrote, whatever the number of processes then and now; returns the facts.

    Args:
        folder: of the checkpoint.
        named: the trained parameters by name; get their values back.
        optimizer: gets its state back.
        average: the moving average by name; gets its values back; None: the run has none.

    Raises:
        EvlgenError: the checkpoint is damaged or of another model; nothing has changed then.
    """
    path = folder / STATE_FILE
    try:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise EvlgenError(f"checkpoint {path} is damaged: {error}", _instead(folder)) from None
    facts = _facts(path, metadata)
    check_sum(tensors, metadata, path, _instead(folder))
    wanted = {f"value.{name}": parameter.numel() for name, parameter in named.items()}
    wanted |= {f"average.{name}": value.numel() for name, value in (average or {}).items()}
    wanted |= {f"{m}.{n}": p.numel() for n, p in named.items() for m in _MOMENTS[1:] if f"{m}.{n}" in tensors}
    for name, size in wanted.items():
        if name not in tensors or tensors[name].numel() != size:
            short = name.partition(".")[2]
            raise EvlgenError(f"{folder} is a checkpoint of another model: {short} does not fit", "start a new run")
    for name, parameter in named.items():
        with torch.no_grad():
            parameter.copy_(like(tensors[f"value.{name}"], parameter))
        moments = {m: tensors[f"{m}.{name}"] for m in _MOMENTS if f"{m}.{name}" in tensors}
        if moments:  # the step count stays on the CPU, as AdamW keeps it
            optimizer.state[parameter] = {m: v if m == "step" else like(v, parameter) for m, v in moments.items()}
    for name, value in (average or {}).items():
        value.copy_(like(tensors[f"average.{name}"], value))
    return facts


class CheckpointFacts(SavedState):
    """What a resumable checkpoint says beside its tensors.

    Attributes:
        step: optimizer steps that are done.
        best: score of the best checkpoint so far.
        seconds: of training, over all its runs.
        validation_due: a validation was given up at this step, or none was made yet.
        guard, caption_guard, watch: states of what watches the run.
        ended: why self-critical training ended early; empty if it did not.
        best_report: the validation that was best.
        scaler: of float16 gradients.
    """

    step: NonNegativeInt
    best: float
    seconds: float = Field(ge=0)
    validation_due: bool = False
    guard: LossGuardState | None = None
    caption_guard: CaptionGuardState | None = None
    watch: SampleWatchState | None = None
    ended: str = ""
    best_report: dict[str, Any] = Field(default_factory=dict)
    scaler: dict[str, Any] = Field(default_factory=dict)


def _facts(path: Path, metadata: dict[str, str]) -> CheckpointFacts:
    if "facts" not in metadata:
        raise EvlgenError(f"checkpoint {path} is damaged: it does not say at which step it is", _instead(path.parent))
    try:
        return CheckpointFacts.model_validate(parse_json(metadata["facts"], f"what {path} says"))
    except JsonError as error:
        raise EvlgenError(f"checkpoint {path} is damaged: {error.what}", _instead(path.parent)) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "all of it"
        raise EvlgenError(
            f"checkpoint {path} is damaged: {where}: {first['msg'].lower()}", _instead(path.parent)
        ) from None

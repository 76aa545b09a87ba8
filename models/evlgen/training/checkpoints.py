"""Resumable checkpoints: the model's folder plus the optimizer's tensors, written aside and renamed into place.

A run killed at any moment finds its last whole checkpoint. Only safetensors is written.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from evlgen.errors import EvlgenError

STATE_FILE = "training.safetensors"


def replace_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Fill a new folder and put it in the place of `target`.

    Raises:
        EvlgenError: the disk is full or not writable; `target` is as it was.
    """
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    old = target.with_name(f".{target.name}.old")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        fill(aside)
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        aside.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise EvlgenError(f"checkpoint {target} cannot be written: {error}", "free some disk, then --resume") from None


def find_last(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run; also the one a kill left between two renames."""
    for name in ("last", ".last.old"):
        if (folder / name / STATE_FILE).is_file():
            return folder / name
    return None


def save_state(folder: Path, named: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, facts: Any) -> None:
    """Write the moments of every parameter, the values of all, and small facts (step, best score)."""
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in named.items():
        tensors[f"value.{name}"] = parameter.detach().cpu().contiguous().clone()
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}.{name}"] = torch.as_tensor(value).detach().cpu().contiguous().clone()
    save_file(tensors, folder / STATE_FILE, metadata={"facts": json.dumps(facts)})


def load_state(folder: Path, named: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> Any:
    """Put back what `save_state` wrote; returns the facts.

    Raises:
        EvlgenError: the checkpoint is of another model.
    """
    tensors = load_file(folder / STATE_FILE)
    with safe_open(folder / STATE_FILE, framework="pt") as file:
        facts = json.loads(file.metadata()["facts"])
    for name, parameter in named.items():
        value = tensors.get(f"value.{name}")
        if value is None or value.shape != parameter.shape:
            raise EvlgenError(f"{folder} is a checkpoint of another model: {name} does not fit", "start a new run")
        with torch.no_grad():
            parameter.copy_(value)
        keys = [k for k in tensors if k.endswith(f".{name}") and k.removesuffix(f".{name}") in _MOMENTS]
        if keys:
            optimizer.state[parameter] = {k.removesuffix(f".{name}"): tensors[k] for k in keys}
    return facts


_MOMENTS = ("step", "exp_avg", "exp_avg_sq")

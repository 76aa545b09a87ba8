"""The mean of the weights of several models that differ in their training alone.

Checkpoints of one recipe, or of runs that went on from one model, mean to a model that often captions better than each
of them (model soups, arXiv 2203.05482, section 3), at no cost when it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from evlgen.configuration import EVLGenConfig
from evlgen.errors import UsageError
from evlgen.modeling.pretrained import read_tensors, write_model
from evlgen.sections import differences
from evlgen.system.files import os_errors
from evlgen.weights.named_models import WEIGHTS_FILE, find_checkpoint


def average(models: Sequence[str | Path], out: Path) -> int:
    """Write a model whose trained weights are the mean of those of others; returns how many tensors it has.

    Means are computed in float32 and kept in the precision of the first model. Of models that merge by another r the
    mean merges as the first does: merging has no weights (arXiv 2310.03291, section 3.2). A calibrated confidence is
    left behind: it is that of other captions.

    Args:
        models: two or more packaged models, folders of checkpoints (`best` or `last`), or repositories of the hub.
        out: the folder; it is missing or empty.

    Raises:
        UsageError: one model alone, models with other settings or other tensors, no such model, or `out` holds
            something.
        WeightsError: a file is missing or damaged.
        EvlgenError: the folder cannot be written.
    """
    if len(models) < 2:
        raise UsageError("one model is its own average", "give two or more")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there and is not an empty folder", "choose another folder")
    folders = [find_checkpoint(str(model)) for model in models]
    first, *others = (EVLGenConfig.from_pretrained(one).model_copy(update={"confidence": None}) for one in folders)
    for name, other in zip(models[1:], others, strict=True):
        for key, here, there in differences(first, other):
            if key == "connector.r":
                continue
            raise UsageError(f"{name}: {key} is {there}, and {here} in {models[0]}", "average models of one recipe")
    total, precision = _summands(folders[0])
    for name, folder in zip(models[1:], folders[1:], strict=True):
        summand, _ = _summands(folder)
        odd = sorted(total.keys() ^ summand.keys()) or [n for n in total if total[n].shape != summand[n].shape]
        if odd:
            raise UsageError(f"{name} has other tensors than {models[0]}: {odd[0]}", "average models of one recipe")
        for key, tensor in summand.items():
            total[key] += tensor
    with os_errors(out):
        write_model(first, {n: (t / len(folders)).to(precision[n]) for n, t in total.items()}, out)
    return len(total)


def _summands(folder: Path) -> tuple[dict[str, Tensor], dict[str, torch.dtype]]:
    """Tensors in float32, and what precision they are kept in."""
    tensors = read_tensors(folder / WEIGHTS_FILE)
    return {n: t.float() for n, t in tensors.items()}, {n: t.dtype for n, t in tensors.items()}

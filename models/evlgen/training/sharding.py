"""One model over several processes: a copy in each (DDP) or all parameters sharded (FSDP2).

DDP comes from Accelerate. For FSDP2 we call what Accelerate's plugin calls, torch's `fully_shard`: the plugin knows
GPUs only, and the same code has to be tested where there is none. Each layer of the language model, block of the ViT
and connector layer is a unit that is gathered when it runs; what remains (embeddings, head, projections, prompts) is
the root's and is there during the whole forward pass, since losses read the head's and the embeddings' weights.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from evlgen.errors import UsageError
from evlgen.training.processes import Processes
from evlgen.training.task import CaptionTask


def choose_sharding(wanted: str, count: int, precision: torch.dtype) -> str:
    """ "none", "ddp" or "fsdp" for what a recipe wants on `count` processes.

    Raises:
        UsageError: none on several processes, or float16 with fsdp, whose gradient scaler does not know shards.
    """
    if wanted == "none" and count > 1:
        raise UsageError(f"train.sharding none on {count} processes", "choose ddp or fsdp, or --processes 1")
    chosen = "none" if count == 1 else "ddp" if wanted == "auto" else wanted
    if chosen == "fsdp" and precision == torch.float16:
        raise UsageError("train.sharding fsdp does not train in float16", "set train.precision to bfloat16 or float32")
    return chosen


def spread(task: CaptionTask, processes: Processes, sharding: str, *, cached: bool, some_unused: bool) -> nn.Module:
    """The module to call in training.

    Args:
        task: on its device; FSDP2 changes it in place.
        processes: who takes part.
        sharding: "none", "ddp" or "fsdp".
        cached: nothing is trained inside the tower, and features may come from a cache, so that a head of it runs at
            most: it is left alone.
        some_unused: there are steps that do not touch every trained parameter.
    """
    if sharding == "ddp":
        processes.accelerator.ddp_handler = DistributedDataParallelKwargs(
            find_unused_parameters=some_unused,
            broadcast_buffers=False,  # they never change
            gradient_as_bucket_view=True,
        )
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # a new name for broadcast_buffers
            wrapped: nn.Module = processes.accelerator.prepare_model(task)
        return wrapped
    if sharding == "fsdp":
        _shard(task, processes, cached)
    return task


def _shard(task: CaptionTask, processes: Processes, cached: bool) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    settings: dict[str, Any] = {
        "mesh": init_device_mesh(processes.device.type, (processes.count,)),
        "ignored_params": set(task.model.vision.trunk.parameters()) if cached else set(),
        "reshard_after_forward": True,
    }
    if not cached:
        for parameter in task.model.vision.trunk.parameters():  # frozen convolutions have their channels last
            parameter.data = parameter.data.contiguous()
    for unit in sharded_units(task, cached):
        fully_shard(unit, **settings)
    fully_shard(task, **settings)


def sharded_units(task: CaptionTask, cached: bool) -> list[nn.Module]:
    """What fsdp gathers one after the other; the rest is the root's, but for a tower that is left alone."""
    model = task.model
    units: list[nn.Module] = [*model.language.layers, *model.connector.layers]
    return units if cached else units + list(getattr(model.vision.trunk, "blocks", []))


@contextlib.contextmanager
def only_accumulating(module: nn.Module, active: bool) -> Iterator[None]:
    """While `active`, backward passes add up gradients and processes do not exchange them."""
    if not active:
        yield
    elif hasattr(module, "set_requires_gradient_sync"):
        module.set_requires_gradient_sync(False)  # type: ignore[operator]
        try:
            yield
        finally:
            module.set_requires_gradient_sync(True)  # type: ignore[operator]
    else:
        with getattr(module, "no_sync", contextlib.nullcontext)():
            yield


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all its shards, detached; every process must ask for it."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU of whole tensors; every process must ask for them."""
    return {name: whole(tensor).cpu().contiguous().clone() for name, tensor in tensors.items()}


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor cut and placed as `parameter` is, without any exchange."""
    value = value.reshape(parameter.shape).to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return value

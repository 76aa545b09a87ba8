"""The processes of a run, what they agree on, and how one model is spread over them: a copy in each (DDP) or shards.

Who is there is read from the environment that torchrun, `accelerate launch` and our own launcher set. Only the main
process writes. What it fails at, the others hear of, so that nobody waits for a message that never comes.

Processes and DDP come from Hugging Face Accelerate. For FSDP2 we call what its plugin calls, torch's `fully_shard`: the
plugin knows GPUs only, and the same code has to be tested where there is none. Each layer of the language model, block
of the ViT and connector layer is a unit that is gathered when it runs; what remains (embeddings, head, projections,
prompts) is the root's and is there during the whole forward pass, since losses read the head's and the embeddings'
weights.
"""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from evlgen.errors import EvlgenError, UsageError
from evlgen.modeling.hardware import pick_device
from evlgen.training.task import CaptionTask

WAIT = timedelta(hours=12)
"""The others wait while one computes the features of a whole data set. A process that died is noticed at once by its
closed connection or by whoever launched it, not by this."""


class Processes:
    """The processes of a run, as seen from one of them.

    Args:
        device: "auto" or a torch device; with several processes each takes its own GPU.

    Attributes:
        rank: number of this process, from 0.
        count: how many there are.
        main: whether this one writes logs and checkpoints.
        device: where it computes.
    """

    def __init__(self, device: str = "auto") -> None:
        place = torch.device(pick_device(device))
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            AcceleratorState._reset_state(reset_partial_state=True)  # an earlier run in this process had other settings
        self.accelerator = Accelerator(
            cpu=place.type == "cpu",
            kwargs_handlers=[InitProcessGroupKwargs(timeout=WAIT)],
        )
        self.rank: int = self.accelerator.process_index
        self.count: int = self.accelerator.num_processes
        self.main: bool = self.accelerator.is_main_process
        self.device: torch.device = self.accelerator.device if self.count > 1 else place

    def sums(self, values: dict[str, float]) -> dict[str, float]:
        """Sums over all processes; every one must give the same names."""
        if self.count == 1:
            return values
        row = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(row)
        return dict(zip(values, row.tolist(), strict=True))

    def gather(self, items: list[Any]) -> list[Any]:
        """Lists of all processes, one after the other, in every process."""
        return items if self.count == 1 else list(gather_object(items))

    def on_main(self, work: Callable[[], Any]) -> Any:
        """Do something in the main process only; all get its result, or its error.

        Raises:
            EvlgenError: as the work raised it in the main process.
        """
        if self.count == 1:
            return work()
        told: list[Any] = [None, None]
        if self.main:
            try:
                told[0] = work()
            except EvlgenError as error:
                told[1] = error
        broadcast_object_list(told)
        if told[1] is not None:
            raise told[1]
        return told[0]

    def first_here(self) -> Any:
        """A context that one process of each machine passes first: what it caches, the others find."""
        return self.accelerator.local_main_process_first()

    def lost(self, error: BaseException) -> bool:
        """Whether an error says that another process is gone; gloo and NCCL have no one class for it."""
        words = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
        return self.count > 1 and isinstance(error, RuntimeError) and any(word in str(error) for word in words)

    def close(self) -> None:
        """Leave the group; everything that exchanges through it must have been let go."""
        self.accelerator.free_memory()
        if self.count > 1:
            gc.collect()  # DDP lies in a cycle, and its end waits forever for a group that has ended before it
        self.accelerator.end_training()


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

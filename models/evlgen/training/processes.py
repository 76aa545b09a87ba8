"""The processes of a run and what they agree on, on Hugging Face Accelerate.

Who is there is read from the environment that torchrun, `accelerate launch` and our own launcher set. Only the main
process writes. What it fails at, the others hear of, so that nobody waits for a message that never comes.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, gather_object

from evlgen.errors import EvlgenError
from evlgen.modeling.hardware import pick_device

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

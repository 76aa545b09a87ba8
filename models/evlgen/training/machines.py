"""Whether a run fits: the memory that a machine, or a GPU by its name, has for one process."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from evlgen.errors import UsageError
from evlgen.training.memory import ProcessMemory

GPUS = {
    "t4-16gb": 16, "v100-16gb": 16, "v100-32gb": 32, "rtx3090-24gb": 24, "rtx4090-24gb": 24, "rtx5090-32gb": 32,
    "a10-24gb": 24, "l4-24gb": 24, "a6000-48gb": 48, "l40s-48gb": 48, "a100-40gb": 40, "a100-80gb": 80,
    "h100-80gb": 80, "h200-141gb": 141, "b200-180gb": 180,
}  # fmt: skip
"""Memory in 10^9 bytes."""

MARGIN = 1.9
"""So many times the counted memory a run on a CPU was seen to hold at its end; the counted memory is a lower bound."""


@dataclass(frozen=True)
class Fit:
    """Whether one way of running fits.

    Attributes:
        place: what has the memory.
        room: its bytes.
        needed: bytes, at least.
        verdict: yes; perhaps, where what is not counted may not fit; or no.
    """

    place: str
    room: int
    needed: int
    verdict: Literal["yes", "perhaps", "no"]


def room_of(gpu: str | None, place: torch.device) -> tuple[str, int] | None:
    """What has the memory, and its bytes; None where that is not known.

    Args:
        gpu: a name of `GPUS`; None: this machine.
        place: the device of the run.

    Raises:
        UsageError: no GPU of that name is known.
    """
    if gpu is not None:
        if gpu not in GPUS:
            near = difflib.get_close_matches(gpu, GPUS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(GPUS)}"
            raise UsageError(f"--gpu {gpu!r} is not known", hint)
        return gpu, GPUS[gpu] * 10**9
    if place.type == "cuda":
        properties = torch.cuda.get_device_properties(place)
        return properties.name, properties.total_memory
    if place.type == "cpu" and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return "this machine", os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def fits(memory: Sequence[ProcessMemory], room: tuple[str, int] | None, beside: int, *, shared: bool) -> list[Fit]:
    """A verdict for every way of running.

    Args:
        memory: of one process, each way.
        room: of `room_of`.
        beside: bytes of each process that are not in `memory`.
        shared: whether all processes share the room, as on a CPU.
    """
    if room is None:
        return []
    found = []
    for one in memory:
        needed = (one.total + beside) * (one.processes if shared else 1)
        verdict: Literal["yes", "perhaps", "no"] = (
            "no" if needed > room[1] else "perhaps" if needed * MARGIN > room[1] else "yes"
        )
        found.append(Fit(*room, needed, verdict))
    return found

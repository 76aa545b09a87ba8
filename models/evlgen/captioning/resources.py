"""How many CPUs a run may use: what the machine grants to this process, not what is built in."""

import math
import os
from pathlib import Path

_MOST_WORKERS = 16  # more have nothing to do beside one model
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus(quota_file: Path = _QUOTA) -> int:
    """CPUs that this process may keep busy: its affinity, within the quota of its container on Linux."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text().split()
        return max(1, min(cpus, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or the quota is "max"
        return cpus


def default_workers() -> int:
    """Decoding processes: half of the CPUs, since the model and its tokenizer want some too; two at least."""
    return min(_MOST_WORKERS, max(2, usable_cpus() // 2))


def cap_threads() -> None:
    """Keep torch from starting more threads than there are usable CPUs; fewer, its own choice, stay as they are."""
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), usable_cpus()))

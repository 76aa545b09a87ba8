"""How many CPUs a process may use: what the machine grants to it, not what is built in."""

import math
import os
from collections.abc import Iterator
from pathlib import Path


def usable_cpus(system: Path = Path("/")) -> int:
    """CPUs that this process may keep busy: its affinity, within the quota of its container on Linux.

    Args:
        system: where the system's own folders sys/ and proc/ are.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cpus, *(math.ceil(quota) for quota in _quotas(system))]))


def threads_wait_asleep() -> None:
    """Have threads of arithmetic sleep soon when they wait for one another: decoding takes the CPUs that they leave.

    It has an effect before torch is imported, where torch uses GNU's OpenMP, and none where the variable is set.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def _quotas(system: Path) -> Iterator[float]:
    """CPUs' worth of time of every control group that this process is in, where one is limited."""
    groups = system / "sys/fs/cgroup"
    own = [groups]
    try:
        for line in (system / "proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::/"):  # in a container the path may be the host's: then only the root is found
                place = groups / line.removeprefix("0::/")
                own += [place, *(above for above in place.parents if above.is_relative_to(groups))]
    except (OSError, ValueError):
        pass
    for group in dict.fromkeys(own):
        try:
            quota, period = (group / "cpu.max").read_text().split()
            yield int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):  # no such file, or the quota is "max"
            continue
    try:  # version 1 of control groups
        quota = (groups / "cpu/cpu.cfs_quota_us").read_text()
        period = (groups / "cpu/cpu.cfs_period_us").read_text()
        if int(quota) > 0:
            yield int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        pass

"""The machine: Python, accelerators, cores, memory, and the arithmetic that its CPU is quick in."""

import os
import platform
from contextlib import suppress
from pathlib import Path

from evlgen.system.cpus import usable_cpus
from evlgen_cli.diagnosis.check import Check
from evlgen_cli.texts import human_bytes


def python() -> Check:
    """The interpreter and the system."""
    return Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def devices() -> Check:
    """Where a model can run."""
    try:
        import torch
    except Exception:
        return Check("devices", "broken", "unknown without torch")
    found = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    found += ["mps"] if torch.backends.mps.is_available() else []
    return Check("devices", "ok", ", ".join([*found, "cpu"]))


def arithmetic() -> Check:
    """What `--dtype auto` means on this CPU, and why; decided now where no run has decided it before."""
    try:
        from evlgen.modeling.hardware import cpu_arithmetic
    except Exception:
        return Check("cpu arithmetic", "broken", "unknown without torch")
    one = cpu_arithmetic()
    times = ", ".join(f"{dtype} {milliseconds:g} ms" for dtype, milliseconds in one.milliseconds.items())
    found = "; ".join(part for part in (f"{one.dtype}: {one.reason}", times, one.cpu, f"torch {one.torch}") if part)
    return Check("cpu arithmetic", "ok", found, "evlgen doctor --measure decides again")


def cores() -> Check:
    """The cores that this process may use."""
    return Check("cores", "ok", str(usable_cpus()))


def memory(cgroup_limit: Path = Path("/sys/fs/cgroup/memory.max")) -> Check:
    """The machine's memory, or the container's share of it."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return Check("memory", "ok", "unknown on this system")
    with suppress(OSError, ValueError):  # no such limit
        total = min(total, int(cgroup_limit.read_text()))
    small = total < 3e9
    return Check(
        "memory", "note" if small else "ok", human_bytes(total), "evlgen-mini needs about 2 GB" if small else ""
    )

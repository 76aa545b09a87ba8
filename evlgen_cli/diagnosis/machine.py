"""The machine: Python, accelerators, cores, memory, and whether its CPU is quick in bfloat16."""

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


def fast_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> Check:
    """Whether the CPU has instructions for bfloat16; a run measures whether they are the faster way, and takes that."""
    try:
        words = set(cpuinfo.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return Check("cpu bfloat16", "ok", "unknown on this system")
    has = [name for name in ("amx_bf16", "avx512_bf16", "bf16", "svebf16") if name in words]
    if not has:
        return Check("cpu bfloat16", "ok", "not in hardware: float32 is used")
    return Check("cpu bfloat16", "ok", f"in hardware ({', '.join(has)}), used where faster")


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

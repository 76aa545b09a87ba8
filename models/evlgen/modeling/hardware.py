"""Choosing device and precision for the machine at hand, telling what it is, and its time and memory."""

from __future__ import annotations

import ctypes
import gc
import platform
import sys
import time
from functools import cache
from typing import Any

import torch

from evlgen.arithmetic import DTYPES, Arithmetic, decided_once
from evlgen.errors import UsageError
from evlgen.system.cpus import usable_cpus
from evlgen.system.memory import peak_resident_bytes


def pick_device(wanted: str = "auto") -> str:
    """A torch device name.

    Args:
        wanted: "auto" (cuda, then mps, then cpu) or a torch device.

    Raises:
        UsageError: it is not on this machine.
    """
    have = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if have[name])
    if not have.get(wanted.partition(":")[0], False):
        names = ", ".join(n for n, there in have.items() if there)
        raise UsageError(f"--device {wanted} is not on this machine", f"there is: auto, {names}")
    return wanted


@cache
def cpu_arithmetic() -> Arithmetic:
    """Which arithmetic this CPU is fast in: as this machine decided before, or as it measures now, in a second.

    The instructions (AVX512_BF16, AMX) do not tell: with the former and without the latter, AMD's recent cores are
    three times as fast in bfloat16 and Intel's half as fast. Not tried where torch knows of neither.
    """
    return decided_once(_measure)


def cpu_has_fast_bfloat16() -> bool:
    """Whether matrix products of this CPU are faster in bfloat16 than in float32, by a margin."""
    return cpu_arithmetic().dtype == "bfloat16"


def _measure(cpu: str, version: str) -> Arithmetic:
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    if not any(bool(getattr(torch.cpu, name, lambda: False)()) for name in asked):
        return Arithmetic("float32", "this CPU has no instructions for bfloat16 that torch uses", cpu, version)
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for _ in range(_ROUNDS):  # in turn, and the best of each: other work on the machine disturbs both alike
        best = {dtype: min(seconds, _product_seconds(dtype)) for dtype, seconds in best.items()}
    faster = best[torch.float32] / best[torch.bfloat16]
    fast = faster > _MARGIN
    why = f"a matrix product in bfloat16 is {faster:.1f} times as fast as in float32"
    why += "" if fast else f", expected more than {_MARGIN:g} times"
    milliseconds = {str(dtype).removeprefix("torch."): round(1e3 * seconds, 3) for dtype, seconds in best.items()}
    return Arithmetic("bfloat16" if fast else "float32", why, cpu, version, milliseconds)


def _product_seconds(dtype: torch.dtype) -> float:
    a, b = torch.ones(512, 576, dtype=dtype), torch.ones(576, 1536, dtype=dtype)
    started = time.perf_counter()
    a @ b
    return time.perf_counter() - started


def pick_dtype(wanted: str, device: torch.device | str) -> torch.dtype:
    """A torch dtype.

    Args:
        wanted: "auto", "float32", "bfloat16" or "float16"; auto is bfloat16 where it is fast.
        device: where it will run.

    Raises:
        UsageError: unknown name, or float16 on a CPU (ten times slower there).
    """
    kind = torch.device(device).type
    if wanted == "auto":
        if kind == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
            return torch.bfloat16 if native else torch.float16
        return torch.bfloat16 if kind == "cpu" and cpu_has_fast_bfloat16() else torch.float32
    if wanted not in DTYPES:
        raise UsageError(f"--dtype {wanted!r} is unknown", f"there is: auto, {', '.join(DTYPES)}")
    if wanted == "float16" and kind == "cpu":
        raise UsageError("--dtype float16 is ten times slower on a CPU", "use auto, bfloat16 or float32")
    chosen: torch.dtype = getattr(torch, wanted)
    return chosen


def keep_large_allocations() -> None:
    """Let glibc reuse large blocks instead of returning each to the kernel: no page faults for every activation.

    Measured on two CPU cores: 11% of a training step. Does nothing where there is no glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def machine_facts(device: torch.device) -> dict[str, Any]:
    """What a figure of speed or memory depends on, by name; `gpu` and `gpu_bytes` on a GPU alone."""
    facts: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": usable_cpus(),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"gpu": properties.name, "gpu_bytes": properties.total_memory}
    return facts


def release_memory() -> None:
    """Give the memory of models that are gone back, and cached blocks of an accelerator."""
    gc.collect()  # models lie in cycles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # does nothing where this process has not used the GPU


def memory_bytes(device: torch.device) -> dict[str, int]:
    """Largest resident memory of this process so far, and on a GPU the largest allocation."""
    used: dict[str, int] = {}
    if (peak := peak_resident_bytes()) is not None:
        used["memory_bytes"] = peak
    elif sys.platform != "win32":
        import resource

        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        used["memory_bytes"] = largest if sys.platform == "darwin" else largest * 1024
    if device.type == "cuda":
        used["gpu_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    return used


def device_seconds(device: torch.device) -> float:
    """A clock in seconds, read when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


_MARGIN = 1.2
_ROUNDS = 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from malloc.h

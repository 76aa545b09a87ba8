"""Which device, arithmetic and how many threads a machine should use."""

import os
from pathlib import Path

from evlgen.errors import UsageError

_MOST_WORKERS = 16  # more have nothing to do beside one model

DTYPES = ("float32", "bfloat16", "float16")


def resolve_device(device: str) -> str:
    """`auto` takes CUDA, then MPS, then the CPU; anything else must exist here.

    Raises:
        UsageError: the device is unknown or absent.
    """
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"--device {device!r} is no device", "auto, cpu, cuda, cuda:1, mps") from error
    absent = (wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count()) or (
        wanted.type == "mps" and not torch.backends.mps.is_available()
    )
    if absent:
        raise UsageError(f"--device {device}: this machine has no such device", "auto takes what is there")
    return device


def resolve_dtype(dtype: str, device: str) -> str:
    """`auto` is bfloat16 where the hardware multiplies it natively, else float32.

    Raises:
        UsageError: not one of `DTYPES` or auto.
    """
    if dtype in DTYPES:
        return dtype
    if dtype != "auto":
        raise UsageError(f"--dtype {dtype!r} is unknown", f"auto, {', '.join(DTYPES)}")
    if device.startswith("cuda"):
        import torch

        return "bfloat16" if torch.cuda.get_device_capability(device)[0] >= 8 else "float32"
    return "bfloat16" if device == "cpu" and cpu_multiplies_bfloat16() else "float32"


def cpu_multiplies_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether Linux reports native bfloat16 instructions (x86 avx512_bf16 or amx_bf16, Arm bf16); False elsewhere."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def usable_cpus() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers() -> int:
    """Decoding processes: half of the CPUs, since the model and its tokenizer want some too; two at least."""
    return min(_MOST_WORKERS, max(2, usable_cpus() // 2))


def use_cpus() -> None:
    """Let torch use the CPUs of this process, unless OMP_NUM_THREADS already says how many."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(usable_cpus())

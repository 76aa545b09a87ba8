"""Which arithmetic `auto` means on the CPU of this machine: decided once, and kept in the cache with its reason.

A measurement in every process would let noise decide, and what was captioned in one arithmetic would be captioned again
in the other. Measuring is `evlgen.modeling.hardware.cpu_arithmetic`; there is no torch here.
"""

import hashlib
import json
import platform
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

from evlgen.errors import EvlgenError
from evlgen.system.jsons import read_json
from evlgen.weights import cache_root, derived

DTYPES = ("float32", "bfloat16", "float16")
_FILE = "arithmetic.json"
_CPU_LINES = ("model name", "vendor_id", "cpu family", "model", "stepping", "CPU implementer", "CPU part")
_BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16", "svebf16")


@dataclass(frozen=True)
class Arithmetic:
    """A decision.

    Attributes:
        dtype: float32 or bfloat16.
        reason: why, in one line.
        cpu: the CPU that it holds for.
        torch: the version of torch that it holds for.
        milliseconds: what a matrix product took, by dtype; empty where nothing was measured.
    """

    dtype: str
    reason: str
    cpu: str
    torch: str
    milliseconds: dict[str, float] = field(default_factory=dict)


def decided_once(decide: Callable[[str, str], Arithmetic]) -> Arithmetic:
    """The decision that is kept for this CPU and this torch; `decide` (given both) makes it where there is none.

    Processes that start together make one decision between them. Where the cache cannot be written the decision is made
    by each process.
    """
    cpu, torch = cpu_name(), metadata.version("torch")

    def build(folder: Path) -> None:
        (folder / _FILE).write_text(json.dumps(asdict(decide(cpu, torch)), indent=2) + "\n", encoding="utf-8")

    for _ in range(2):
        try:
            folder = derived(_key(cpu, torch), build)
        except EvlgenError:
            break
        with suppress(EvlgenError, TypeError):
            kept = Arithmetic(**read_json(folder / _FILE))
            if kept.dtype in DTYPES:
                return kept
        forget()  # damaged from outside
    return decide(cpu, torch)


def place() -> Path:
    """The folder that keeps the decision, whether it is there or not."""
    return cache_root() / "derived" / _key(cpu_name(), metadata.version("torch"))


def forget() -> None:
    """Drop the decision, so that the next process that asks makes it again."""
    shutil.rmtree(place(), ignore_errors=True)


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU as far as its arithmetic goes: a virtual machine may call two generations by one model name."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set((values.get("flags") or values.get("Features") or "").split())
    named = [values[key] if key == "model name" else f"{key} {values[key]}" for key in _CPU_LINES if key in values]
    return ", ".join([*named, *(flag for flag in _BFLOAT16_FLAGS if flag in flags)])


def _key(cpu: str, torch: str) -> str:
    """A cache may be shared by machines of several makes: one entry each."""
    return "arithmetic-" + hashlib.sha256(f"{cpu}; {torch}".encode()).hexdigest()[:12]

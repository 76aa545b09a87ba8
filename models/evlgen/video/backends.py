"""Names of decoders. A backend is a function `decode(path, sampler, size, strict, threads) -> ClipFrames`.

It is found by a "module:function" text so that only the child process imports it; a test or an extension may name its
own function in the same way.
"""

import importlib
from collections.abc import Callable
from importlib.util import find_spec

from evlgen.errors import UsageError
from evlgen.video.clip import ClipFrames

Backend = Callable[..., ClipFrames]

BACKENDS = {"pyav": "evlgen.video.pyav_backend:decode", "decord": "evlgen.video.decord_backend:decode"}


def resolve(name: str) -> str:
    """The "module:function" of a backend.

    Raises:
        UsageError: for an unknown name, or decord where it is not installed.
    """
    if name not in BACKENDS and ":" not in name:
        raise UsageError(f"backend {name!r} is not one of {', '.join(BACKENDS)}")
    if name == "decord" and find_spec("decord") is None:
        raise UsageError(
            "backend decord is not installed",
            "use backend pyav; decord has wheels for Linux and Windows on x86-64 only",
        )
    return BACKENDS.get(name, name)


def load(spec: str) -> Backend:
    """Import a backend; in the child process only."""
    module, _, function = spec.partition(":")
    backend: Backend = getattr(importlib.import_module(module), function)
    return backend

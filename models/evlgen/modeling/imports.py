"""What is seen to before anything else of this room is imported: the interpreter, and timm without what it rarely uses.

transformers builds its models' signatures out of their docstrings, which `python -OO` throws away.

The compiler (torch._dynamo, with sympy) is a third of the time from a command to its first caption. timm and
torchvision import it to mark a function that it must leave alone, and for a question that a detection layer asks when
it is called. The hub's client, with the network beneath it, is a tenth; timm takes it to fetch weights, which evlgen
does in its own way. While timm is imported stand-ins have their places, which fetch the real ones when such a function
is called, or at once where they are asked for anything else.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from evlgen.errors import UsageError

if sys.flags.optimize > 1:
    raise UsageError(
        "Python runs without docstrings (PYTHONOPTIMIZE=2, or python -OO), and transformers' models need theirs",
        "unset PYTHONOPTIMIZE, or set it to 1",
    )

_COMPILER, _QUESTIONS = "torch._dynamo", "torch._dynamo.utils"
_HUB, _HUB_ERRORS = "huggingface_hub", "huggingface_hub.utils"
_CLIENT, _ERRORS = ("HfApi", "hf_hub_download", "model_info"), ("EntryNotFoundError", "RepositoryNotFoundError")
"""What timm takes of the hub while it is imported."""


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


def _real(name: str) -> ModuleType:
    _take_away()
    return importlib.import_module(name)


def _take_away() -> None:
    for name in (_COMPILER, _QUESTIONS, _HUB, _HUB_ERRORS):
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]


def _disable(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:
    @functools.wraps(function)
    def later(*own_args: Any, **own_kwargs: Any) -> Any:
        return _real(_COMPILER).disable(function, *args, **kwargs)(*own_args, **own_kwargs)

    return later


def _is_compile_supported(*args: Any) -> Any:
    return _real(_QUESTIONS).is_compile_supported(*args)


def _client(name: str) -> Callable[..., Any]:
    """What stands for something of the hub's client: called, it puts the real errors where timm looks for them."""

    def later(*args: Any, **kwargs: Any) -> Any:
        errors = _real(_HUB_ERRORS)
        vars(sys.modules["timm.models._hub"]).update({error: getattr(errors, error) for error in _ERRORS})
        return getattr(_real(_HUB), name)(*args, **kwargs)

    return later


def _hub() -> dict[str, ModuleType]:
    """Stand-ins for the hub, by name; none where it is imported already, or not installed."""
    if _HUB in sys.modules or importlib.util.find_spec(_HUB) is None:
        return {}
    client, errors = _StandIn(_HUB), _StandIn(_HUB_ERRORS)
    client.__dict__.update({name: _client(name) for name in _CLIENT}, __path__=[], utils=errors)
    errors.__dict__.update({name: type(name, (Exception,), {}) for name in _ERRORS})
    return {_HUB: client, _HUB_ERRORS: errors}


def _import_timm() -> None:
    if "timm" in sys.modules or _COMPILER in sys.modules:
        return
    import torch

    compiler, questions = _StandIn(_COMPILER), _StandIn(_QUESTIONS)
    compiler.__dict__.update(__path__=[], disable=_disable, utils=questions)
    questions.__dict__.update(is_compile_supported=_is_compile_supported)
    sys.modules.update({_COMPILER: compiler, _QUESTIONS: questions, **_hub()})
    try:
        importlib.import_module("timm")
    finally:
        _take_away()
        if isinstance(torch.__dict__.get("_dynamo"), _StandIn):
            del torch.__dict__["_dynamo"]


_import_timm()

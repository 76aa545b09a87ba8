"""What is seen to before anything else of this room is imported: the interpreter, and timm without torch's compiler.

transformers builds its models' signatures out of their docstrings, which `python -OO` throws away.

The compiler (torch._dynamo, with sympy) is a third of the time from a command to its first caption. timm and
torchvision import it to mark a function that it must leave alone, and for a question that a detection layer asks when
it is called. While timm is imported a stand-in has the compiler's place, which fetches the real one when such a
function is called, or at once where it is asked for anything else.
"""

from __future__ import annotations

import functools
import importlib
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


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


def _real(name: str) -> ModuleType:
    _take_away()
    return importlib.import_module(name)


def _take_away() -> None:
    for name in (_COMPILER, _QUESTIONS):
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]


def _disable(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:
    @functools.wraps(function)
    def later(*own_args: Any, **own_kwargs: Any) -> Any:
        return _real(_COMPILER).disable(function, *args, **kwargs)(*own_args, **own_kwargs)

    return later


def _is_compile_supported(*args: Any) -> Any:
    return _real(_QUESTIONS).is_compile_supported(*args)


def _import_timm() -> None:
    if "timm" in sys.modules or _COMPILER in sys.modules:
        return
    import torch

    compiler, questions = _StandIn(_COMPILER), _StandIn(_QUESTIONS)
    compiler.__dict__.update(__path__=[], disable=_disable, utils=questions)
    questions.__dict__.update(is_compile_supported=_is_compile_supported)
    sys.modules.update({_COMPILER: compiler, _QUESTIONS: questions})
    try:
        importlib.import_module("timm")
    finally:
        _take_away()
        if isinstance(torch.__dict__.get("_dynamo"), _StandIn):
            del torch.__dict__["_dynamo"]


_import_timm()

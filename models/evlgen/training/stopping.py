"""Stopping in the middle of a step or of a validation, so that a run ends within seconds of being asked to.

A step changes no parameter before its gradients are complete: given up anywhere before, it has not been. On a CPU it
may take half a minute, so a run of one process is asked at every layer. Several processes would wait for each other:
they stop between steps, and between the batches of a validation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

Asked = Callable[[], bool]


class StoppedError(Exception):
    """A step, or a validation, was given up because the run is to end."""


@contextmanager
def asked_at_every_layer(model: nn.Module, stop: Asked) -> Iterator[None]:
    """While this is open, a forward pass through a layer of `model` asks `stop`, and raises StoppedError on True.

    Layers are what stands in a list or a sequence of modules.
    """

    def ask(*_: Any) -> None:
        if stop():
            raise StoppedError

    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList | nn.Sequential)]
    hooks = [layer.register_forward_pre_hook(ask) for one in lists for layer in one]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def asked_while(stop: Asked, progress: Callable[..., None] | None) -> Callable[..., None]:
    """`progress` (or nothing), which raises StoppedError when it is told of more and `stop` says True."""

    def told(*arguments: Any, **options: Any) -> None:
        if stop():
            raise StoppedError
        if progress is not None:
            progress(*arguments, **options)

    return told

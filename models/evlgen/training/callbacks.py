"""Who is told of a run, who is asked whether it goes on, and how it is left in the middle of a step or of a validation.

A step changes no parameter before its gradients are complete: given up anywhere before, it has not been. On a CPU it
may take half a minute, so a run of one process is asked at every layer. Several processes would wait for each other:
they stop between steps, and between the batches of a validation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Callbacks:
    """What a run calls; all but `stop`, `interrupt` and `on_stop` in its main process only.

    Attributes:
        progress: told of downloads (bytes), feature caching, counting of frames, and validation (items).
        report: told every log record.
        say: told in a line what begins.
        stop: asked after every step; True in any process saves and ends the run.
        interrupt: asked inside a step and a validation as well; True gives it up, saves and ends the run.
        on_stop: called in every process when the run has been ended so.
    """

    progress: Callable[..., None] | None = None
    report: Callable[[dict[str, Any]], None] = lambda _: None
    say: Callable[[str], None] = lambda _: None
    stop: Callable[[], bool] = lambda: False
    interrupt: Callable[[], bool] = lambda: False
    on_stop: Callable[[], None] = lambda: None


class StoppedError(Exception):
    """A step, or a validation, was given up because the run is to end."""


@contextmanager
def interruptible_layers(model: nn.Module, stop: Callable[[], bool]) -> Iterator[None]:
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


def interruptible_progress(stop: Callable[[], bool], progress: Callable[..., None] | None) -> Callable[..., None]:
    """`progress` (or nothing), which raises StoppedError when it is told of more and `stop` says True."""

    def told(*arguments: Any, **options: Any) -> None:
        if stop():
            raise StoppedError
        if progress is not None:
            progress(*arguments, **options)

    return told

"""Who is told of a run, and who is asked whether it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Watch:
    """Callbacks of a run; all but `stop`, `interrupt` and `on_stop` in its main process only.

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

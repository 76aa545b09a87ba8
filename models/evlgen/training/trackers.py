"""TensorBoard, wandb and trackio through Accelerate's trackers; each is an extra (`pip install evlgen[wandb]`)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from evlgen.errors import UsageError
from evlgen.recipes.schema import Recipe


def check_trackers(recipe: Recipe) -> None:
    """Look for the packages before anything is loaded.

    Raises:
        UsageError: one is missing.
    """
    for name in recipe.train.trackers:
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"train.trackers: the package {name} is not installed", f"pip install 'evlgen[{name}]'")


class Trackers:
    """The trackers of a run; for the main process.

    Args:
        recipe: which ones; its name is the project's.
        folder: of the run; TensorBoard's files go to tensorboard/ in it.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.started: list[GeneralTracker] = []
        for name in recipe.train.trackers:
            kind = LOGGER_TYPE_TO_CLASS[name]
            place = [str(folder)] if kind.requires_logging_directory else []
            tracker = kind("tensorboard" if place else recipe.name, *place)
            tracker.start()
            self.started.append(tracker)

    def log(self, record: dict[str, Any]) -> None:
        """Hand on the numbers of a log record; those of validation as validation/SOURCE/NAME."""
        figures = {k: v for k, v in record.items() if isinstance(v, int | float) and k not in ("step", "of")}
        for source, values in record.get("validation", {}).items():
            figures |= {f"validation/{source}/{k}": v for k, v in values.items() if isinstance(v, int | float)}
        for tracker in self.started:
            tracker.log(figures, step=record["step"])

    def close(self) -> None:
        """Write out what is left."""
        for tracker in self.started:
            tracker.finish()

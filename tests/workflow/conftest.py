"""Tiny chains on the coloured pictures of the training tests."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evlgen.recipes import Recipe, load_chain
from evlgen.training import train
from evlgen.training.run_folder import RECIPE_FILE
from evlgen.workflow import ChainResult, ChainTools, StepEvent, run_chain
from tests.training.conftest import _own_cache, make_recipe, pictures  # noqa: F401 - fixtures

SHORT = {
    "vocabulary": {"steps": 1, "weight": 0.5},
    "validation": {"every_steps": 2, "loss_items": 4, "caption_items": 0, "metric": "loss"},
    "train": {"steps": 4, "precision": "float32", "log_every": 1},
}

STEPS: list[dict[str, Any]] = [
    {"name": "data", "kind": "check", "recipe": "tiny.yaml"},
    {"name": "first", "kind": "train", "recipe": "tiny.yaml"},
    {"name": "second", "kind": "train", "recipe": "tiny.yaml", "start_from": "first", "set": {"train.seed": 1}},
    {"name": "score-first", "kind": "eval", "model": "first", "dataset": "{}", "num_beams": 1, "html": True},
    {"name": "score-second", "kind": "eval", "model": "second", "dataset": "{}", "num_beams": 1},
    {"name": "gain", "kind": "compare", "a": "score-first", "b": "score-second", "bootstrap": 50},
    {"name": "captions", "kind": "caption", "model": "second", "videos": ["{}/media/*.png"]},
]


def write_chain(folder: Path, *names: str, **sections: dict[str, Any]) -> Path:
    """A chain of some of STEPS (all if none are named), in `folder`, with its recipe beside it."""
    recipe = make_recipe(folder, **{**SHORT, **sections})
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    text = yaml.safe_dump([step for step in STEPS if not names or step["name"] in names])
    content = {"name": "tiny-chain", "summary": "a test", "chain": yaml.safe_load(text.replace("{}", str(folder)))}
    (folder / "chain.yaml").write_text(yaml.safe_dump(content))
    return folder / "chain.yaml"


class Run:
    """Runs a chain in this process; keeps what it was told.

    Attributes:
        events: step and what happened to it.
        stop_train: asked after every optimizer step.
        trained: folders of the training runs, and whether they were resumed.
    """

    def __init__(self, chain: Path, out: Path, *overrides: str, resume: bool = False) -> None:
        self.events: list[StepEvent] = []
        self.trained: list[tuple[str, bool]] = []
        self.chain, self.out, self.resume = load_chain(str(chain), overrides), out, resume
        self.stop_train: Callable[[], bool] = lambda: False
        self.tools = ChainTools(self.train, "cpu")

    def train(self, recipe: Recipe, file: Path, folder: Path, resume: bool) -> bool:
        self.trained.append((folder.name, resume))

        def stop() -> bool:
            if (folder / RECIPE_FILE).exists() and self.stop_train():
                self.tools.stop.set()
            return self.tools.stop.is_set()

        train(recipe, folder=folder, resume=resume, device="cpu", stop=stop)
        return not self.tools.stop.is_set()

    def __call__(self) -> ChainResult:
        return run_chain(self.chain, folder=self.out, tools=self.tools, resume=self.resume, tell=self.events.append)

    @property
    def said(self) -> dict[str, str]:
        """The last thing said of every step."""
        return {event.step.name: event.what for event in self.events}

    def text(self, step: str, what: str) -> str:
        return next(e.text for e in self.events if (e.step.name, e.what) == (step, what))


@pytest.fixture(autouse=True)
def _nobody_has_started_us(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n in ("RANK", "WORLD_SIZE") or n.startswith("SLURM_")]:
        monkeypatch.delenv(name)

"""A tiny captioned data set of coloured pictures and a recipe that trains a tiny model on it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from evlgen.recipes import Recipe
from evlgen.training import train
from tests.modeling.conftest import TINY_CNN, tiny_config

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (250, 250, 250)}


CAPTIONS = {name: [f"{name} box", f"A {name} box ."] for name in COLOURS}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Folder with captions.jsonl and media/."""
    draw_pictures(tmp_path, CAPTIONS)
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A recipe, and the folder of a run of it that is done, to be copied before anything is changed."""
    home = tmp_path_factory.mktemp("finished")
    draw_pictures(home, CAPTIONS)
    recipe = make_recipe(home, vocabulary={"weight": 0.5}, validation={"every_steps": 3})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVLGEN_CACHE", str(home / "cache"))
        torch.manual_seed(0)  # the frozen parts of a test model are random: the same in every run
        train(recipe, folder=home / "run", device="cpu")
    return recipe, home / "run"


def draw_pictures(folder: Path, captions: dict[str, list[str]]) -> None:
    """captions.jsonl and media/ of pictures of one colour each."""
    (folder / "media").mkdir()
    rows = []
    for name, texts in captions.items():
        Image.new("RGB", (40, 30), COLOURS[name]).save(folder / "media" / f"{name}.png")
        rows.append({"image": f"{name}.png", "split": "train", "captions": texts})
    (folder / "captions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def make_recipe(pictures: Path, **sections: dict[str, Any]) -> Recipe:
    """A recipe on `pictures`; keyword arguments update its sections."""
    source = {"captions": str(pictures / "captions.jsonl"), "media": str(pictures / "media"), "views": 2}
    model = tiny_config(TINY_CNN, dropout=0.1).model_dump()
    content: dict[str, Any] = {
        "name": "tiny",
        "summary": "a test",
        "model": model,
        "data": {
            "train": [source],
            "validation": [{**source, "views": 1}],
            "captions_per_item": 1,
            "items_per_step": 4,
            "lower_case": True,
        },
        "optimizer": {"learning_rate": 3e-3, "warmup_steps": 2, "weight_decay": 0.0, "warmup_start_lr": 1e-5},
        "vocabulary": {"steps": 4, "items_per_step": 4, "min_count": 1},
        "validation": {"every_steps": 100, "loss_items": 4, "caption_items": 4, "max_new_tokens": 6},
        "train": {"steps": 8, "precision": "float32", "log_every": 1},
    }
    for section, values in sections.items():
        content[section] = {**content.get(section, {}), **values}
    return Recipe.model_validate(content)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVLGEN_CACHE", str(tmp_path / "cache"))

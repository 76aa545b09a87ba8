"""The examples in docstrings are run: beside a clip, its caption and a recipe; a tiny model has the real one's name."""

import doctest
import importlib
from pathlib import Path

import pytest
import yaml

from evlgen.modeling import EVLGenForConditionalGeneration
from tests.docs.collecting import ROOT, SOURCES
from tests.modeling.conftest import tiny_model
from tests.training.conftest import CAPTIONS, draw_pictures, make_recipe
from tests.video.video_clips import write_clip

ROOMS = (
    "bench captioners captioning data evaluating exports hub metrics modeling recipes serving training video visualize"
)
ENTRIES = {"evlgen", *(f"evlgen.{room}" for room in ROOMS.split())}
"""Rooms that people enter from Python."""


def modules() -> set[str]:
    """Every module that has examples."""
    paths = [path.relative_to(ROOT / "models") for path in SOURCES if ">>> " in path.read_text(encoding="utf-8")]
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths}


def test_every_entry_has_an_example() -> None:
    assert modules() >= ENTRIES


@pytest.mark.parametrize("name", sorted(modules()))
def test_examples_of_a_module(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    write_clip(tmp_path / "clips" / "a.mp4")
    (tmp_path / "captions.csv").write_text("file,caption\na.mp4,A red square moves.\n")
    (tmp_path / "pictures").mkdir()
    draw_pictures(tmp_path / "pictures", CAPTIONS)
    recipe = make_recipe(tmp_path / "pictures")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    monkeypatch.setenv("EVLGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(EVLGenForConditionalGeneration, "from_pretrained", lambda *_, **__: tiny_model())
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0

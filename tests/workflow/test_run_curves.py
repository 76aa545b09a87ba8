"""Curves of runs: read from logs written by hand, over steps and over what they cost, and drawn."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from evlgen.configuration import EVLGenConfig
from evlgen.modeling.skeleton import build_skeleton
from evlgen.recipes.schema import Recipe
from evlgen.training.run_folder import keep_recipe
from evlgen.workflow.run_curves import curves, item_flops
from evlgen_cli.exits import Exit
from evlgen_cli.main import app
from tests.bench.closed_formulas import LanguageSizes, connector_flops, language_step_flops
from tests.modeling.conftest import tiny_config

runner = CliRunner()


def recipe_of(seed: int = 0, **model: Any) -> Recipe:
    """10 items a step, 2 steps of vocabulary with 4 items before them."""
    config = EVLGenConfig(**{**dict(tiny_config()), **model})
    data = {"train": [{"captions": "c", "media": "m"}], "validation": [{"captions": "c", "media": "m"}]}
    return Recipe.model_validate({
        "name": "tiny", "summary": "a test", "model": config.model_dump(), "data": {**data, "items_per_step": 10},
        "optimizer": {"warmup_steps": 0}, "vocabulary": {"steps": 2, "items_per_step": 4},
        "train": {"steps": 3, "seed": seed},
    })  # fmt: skip


def write_run(folder: Path, rows: list[dict[str, Any]], seed: int = 0) -> Path:
    folder.mkdir()
    keep_recipe(recipe_of(seed), folder)
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


ROWS = [
    {"step": 1, "vocabulary_loss": 9.0, "seconds": 5.0},
    {"step": 2, "loss": 3.0, "tokens": 70, "seconds": 8.0},
    {"step": 3, "validation": {"a": {"cider": 10.0}}, "seconds": 30.0},
    {"step": 4, "loss": 2.0, "tokens": 90, "seconds": 34.0},
]


def test_places_are_what_a_run_has_cost_by_then(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ROWS)
    assert curves(run)["loss"] == ([3, 5], [3.0, 2.0])
    assert curves(run, "seconds")["loss"] == ([8.0, 34.0], [3.0, 2.0])
    assert curves(run, "seconds")["validation cider"] == ([30.0], [10.0])
    assert curves(run, "items")["vocabulary_loss"] == ([8], [9.0])
    assert curves(run, "items")["loss"] == ([2 * 4 + 10, 2 * 4 + 30], [3.0, 2.0])
    before, after = item_flops(recipe_of(), 8)  # 8 caption tokens an item
    assert curves(run, "flops")["loss"][0] == [8 * before + 10 * after, 8 * before + 30 * after]


def test_flops_of_an_item_are_those_of_the_closed_formulas() -> None:
    config = recipe_of().model
    skeleton = build_skeleton(config)
    prefix = config.soft_prompt_tokens() + len(skeleton.prompt_before) + len(skeleton.prompt_after)
    connector = connector_flops(config, training=True)
    language = language_step_flops(LanguageSizes.of(skeleton.language), prefix, 8)
    assert item_flops(recipe_of(), 8) == pytest.approx((connector, connector + language), rel=0.01)


def test_seeds_are_one_line_in_a_band(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    runs = [write_run(tmp_path / str(seed), [{**row, "loss": 3.0 + seed} for row in ROWS], seed) for seed in (0, 1)]
    drawn = runner.invoke(app, ["plot", *map(str, runs), "--x", "seconds", "--out", str(tmp_path / "c.svg")])
    assert drawn.exit_code == Exit.OK, drawn.stderr
    picture = (tmp_path / "c.svg").read_text()
    assert picture.count("FillBetweenPolyCollection") >= 1
    refused = runner.invoke(app, ["plot", str(runs[0]), "--x", "miles"])
    assert refused.exit_code == Exit.USAGE


def test_curves_are_drawn_from_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"step": n, "loss": 3.0 - n, "lr": 0.1} for n in range(2)]
    rows += [{"step": 2, "validation": {"a": {"loss": 2.0, "gap": 0.5}, "b": {"loss": 4.0, "gap": 0.7}}, "score": 1.0}]  # type: ignore[dict-item]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert curves(tmp_path)["loss"] == ([1, 2], [3.0, 2.0])
    assert curves(tmp_path)["validation loss"] == ([2], [3.0]), "the mean over sources"
    with monkeypatch.context() as without:
        without.setitem(__import__("sys").modules, "matplotlib.figure", None)
        refused = runner.invoke(app, ["plot", str(tmp_path)])
    assert refused.exit_code == Exit.FAILED
    line = "error: drawing needs matplotlib, which is not installed (pip install 'evlgen[plot]')\n"
    assert refused.stderr == line
    pytest.importorskip("matplotlib")
    drawn = runner.invoke(app, ["plot", str(tmp_path), "--out", str(tmp_path / "c.png")])
    assert drawn.exit_code == Exit.OK, drawn.stderr
    assert Image.open(tmp_path / "c.png").width > 500
    assert runner.invoke(app, ["plot", str(tmp_path), "--out", "x.docx"]).exit_code == Exit.USAGE
    assert runner.invoke(app, ["plot", str(tmp_path / "none")]).exit_code == Exit.USAGE

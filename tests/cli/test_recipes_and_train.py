"""`evlgen recipes` and `evlgen train` as a user types them, with a tiny recipe in a file."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from evlgen.recipes import find_recipe, load_recipe
from evlgen_cli.exits import Exit
from evlgen_cli.main import app
from tests.training.conftest import make_recipe, pictures  # noqa: F401 - a fixture

runner = CliRunner()


@pytest.fixture
def recipe_file(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811 - the fixture imported above
    monkeypatch.setenv("EVLGEN_CACHE", str(pictures / "cache"))
    path = pictures / "tiny.yaml"
    recipe = make_recipe(pictures, train={"steps": 4}, vocabulary={"steps": 1})
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return path


def test_ls_show_and_copy(tmp_path: Path) -> None:
    listed = runner.invoke(app, ["recipes", "ls", "--json"])
    assert {"name", "summary", "chain"} == json.loads(listed.stdout)[0].keys()
    assert "mini-pretrain" in runner.invoke(app, ["recipes", "ls"]).stdout
    shown = runner.invoke(app, ["recipes", "show", "mini-pretrain"])
    assert shown.stdout == find_recipe("mini-pretrain").read_text()
    copied = runner.invoke(app, ["recipes", "copy", "mini-pretrain", str(tmp_path / "mine.yaml")])
    assert copied.exit_code == Exit.OK
    assert (tmp_path / "mine.yaml").read_text() == shown.stdout
    again = runner.invoke(app, ["recipes", "copy", "mini-pretrain", str(tmp_path / "mine.yaml")])
    assert again.exit_code == Exit.USAGE
    assert again.stderr == f"error: {tmp_path / 'mine.yaml'} exists already (name another file)\n"


def test_show_resolved_is_a_whole_recipe_again(tmp_path: Path) -> None:
    shown = runner.invoke(app, ["recipes", "show", "mini-pretrain", "--set", "train.steps=77"])
    (tmp_path / "again.yaml").write_text(shown.stdout)
    assert load_recipe(str(tmp_path / "again.yaml")) == load_recipe("mini-pretrain", ["train.steps=77"])


def test_check() -> None:
    fine = runner.invoke(app, ["recipes", "check", "mini-pretrain", "--set", "model.connector.r=11"])
    assert fine.stdout == "mini-pretrain: fine; tokens per layer 81 -> 70 -> 59 -> 48 -> 37 -> 26 -> 15\n"
    much = runner.invoke(app, ["recipes", "check", "mini-pretrain", "--set", "model.connector.r=12"])
    assert much.exit_code == Exit.USAGE
    assert "model.connector.r merges 12 tokens in layer 6, but of 21 tokens 10 can be merged at most" in much.stderr
    bad = runner.invoke(app, ["recipes", "check", "mini-pretrain", "--set", "train.sed=3"])
    assert bad.exit_code == Exit.USAGE
    assert bad.stderr == "error: mini-pretrain.yaml: unknown key train.sed (did you mean 'seed'?)\n"


def test_train_then_again_then_resume(recipe_file: Path) -> None:
    folder = recipe_file.parent / "run"
    command = ["train", "--recipe", str(recipe_file), "--out", str(folder)]
    first = runner.invoke(app, [*command, "--json"])
    assert first.exit_code == Exit.OK, first.stderr
    assert json.loads(first.stdout)["folder"] == str(folder)
    assert "step 5/5" in first.stderr
    again = runner.invoke(app, command)
    assert again.exit_code == Exit.USAGE
    assert "already holds a run (add --resume to go on with it, or choose another --out)" in again.stderr
    resumed = runner.invoke(app, [*command, "--resume"])
    assert resumed.exit_code == Exit.OK
    assert resumed.stdout == f"best checkpoint: {folder / 'best'}\n"


def test_missing_data_is_one_line(recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVLGEN_DATA", raising=False)
    unset = runner.invoke(app, ["train", "--recipe", "mini-pretrain", "--out", str(recipe_file.parent / "x")])
    assert unset.exit_code == Exit.USAGE
    assert unset.stderr.splitlines()[1] == ("  missing  the variable EVLGEN_DATA, the folder that holds your data sets")
    assert unset.stderr.splitlines()[-1].startswith("error: mini-pretrain cannot start yet: the variable EVLGEN_DATA")
    missing = runner.invoke(
        app, ["train", "--recipe", str(recipe_file), "--set", "data.train.0.captions=none.jsonl", "--out", "x"]
    )
    assert missing.exit_code == Exit.USAGE
    assert missing.stderr == ("error: captions file none.jsonl does not exist (check data.*.captions in the recipe)\n")


def test_resume_needs_no_set_and_no_recipe(recipe_file: Path) -> None:
    folder = recipe_file.parent / "run"
    begun = ["train", "--recipe", str(recipe_file), "--out", str(folder), "--set", "train.steps=3"]
    assert runner.invoke(app, begun).exit_code == Exit.OK
    by_name = runner.invoke(app, ["train", "--recipe", str(recipe_file), "--out", str(folder), "--resume"])
    assert by_name.exit_code == Exit.OK, by_name.stderr
    assert "kept as the run was started: train.steps is 3, the recipe has 4 " in by_name.stderr
    by_folder = runner.invoke(app, ["train", "--out", str(folder), "--resume", "--set", "train.log_every=7"])
    assert by_folder.exit_code == Exit.OK, by_folder.stderr
    assert "changed for the rest of this run: train.log_every is 7, was 1" in by_folder.stderr
    assert json.loads((folder / "recipe.json").read_text())["train"]["steps"] == 3
    neither = runner.invoke(app, ["train", "--out", str(folder)])
    assert neither.exit_code == Exit.USAGE
    assert neither.stderr.startswith("error: --recipe is missing (evlgen recipes ls lists them; --resume --out FOLDER")


def test_the_end_says_what_was_best_and_what_to_type_next(recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recipe_file.parent)
    folder = recipe_file.parent / "run"
    ran = runner.invoke(app, ["train", "--recipe", str(recipe_file), "--out", str(folder)])
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    scores = {row["step"]: row["score"] for row in rows if "validation" in row}
    best = max(scores, key=lambda step: scores[step])
    said = ran.stderr.splitlines()
    assert f"best at step {best} of 5: cider+bleu-4 {scores[best]:.1f}, {scores[0]:.1f} at the start" in said
    assert f"next: evlgen caption VIDEOS --model {folder}/best --out captions.jsonl" in said
    (score,) = [line.split() for line in said if line.startswith("      evlgen eval")]
    assert f"      evlgen plot {folder}" in said
    tried = runner.invoke(app, [*score[1:], "--json"])
    assert tried.exit_code == Exit.OK, f"the next command works as it is printed: {tried.stderr}"


def test_a_run_is_not_silent_at_its_start(recipe_file: Path) -> None:
    command = ["train", "--recipe", str(recipe_file), "--out", str(recipe_file.parent / "quiet")]
    ran = runner.invoke(app, [*command, "--set", "train.log_every=100"])
    said = ran.stderr
    order = ["loading the model", "features of", "learning from 4 items", "validation at step 0", "step 1 of 5 begins"]
    places = [said.index(text) for text in order]
    assert places == sorted(places), said

"""What a recipe needs is said at once: what is there, what is missing, where it comes from, and what to type."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evlgen.recipes import load_any, load_recipe
from evlgen.recipes.chain_schema import EvalStep
from evlgen.workflow.chain_steps import prediction_of
from evlgen.workflow.fingerprints import settings_of
from evlgen.workflow.needs import check_needs, guide
from evlgen_cli.exits import Exit
from evlgen_cli.main import app
from tests.training.conftest import make_recipe, pictures  # noqa: F401 - a fixture

runner = CliRunner()


def test_the_first_try_says_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVLGEN_DATA", raising=False)
    ran = runner.invoke(app, ["train", "--recipe", "msrvtt-scst"])
    assert ran.exit_code == Exit.USAGE
    lines = ran.stderr.splitlines()
    assert lines[0] == "msrvtt-scst needs:"
    assert lines[1] == "  missing  the variable EVLGEN_DATA, the folder that holds your data sets"
    after = lines[lines.index("in this order:") + 1 : -1]
    assert [line.strip() for line in after] == [
        "export EVLGEN_DATA=FOLDER",
        'evlgen data check msrvtt --root "${EVLGEN_DATA}/msrvtt"',
        "evlgen train --recipe msrvtt-video",
        "evlgen train --recipe msrvtt-scst",
    ]
    assert lines[-1].startswith("error: msrvtt-scst cannot start yet: the variable EVLGEN_DATA")
    assert not (tmp_path / "runs").exists()


def test_what_is_there_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVLGEN_DATA", str(tmp_path))
    monkeypatch.delenv("EVLGEN_START", raising=False)
    said = guide(load_recipe("msrvtt-video"), "msrvtt-video")
    assert f"  there    the variable EVLGEN_DATA, the folder that holds your data sets: {tmp_path}" in said
    assert sum("MSR-VTT" in line and "missing" in line for line in said) == 2, "both splits"
    assert any("EVLGEN_START, the folder of the model" in line and "missing" in line for line in said)
    assert "  export EVLGEN_START=FOLDER" in said


def test_a_chain_says_everything_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("EVLGEN_DATA", "EVLGEN_START"):
        monkeypatch.delenv(name, raising=False)
    ran = runner.invoke(app, ["train", "--recipe", "msrvtt"])
    assert ran.exit_code == Exit.USAGE
    assert ran.stderr.splitlines()[:-1] == [
        "msrvtt needs:",
        "  missing  the variable EVLGEN_DATA, the folder that holds your data sets",
        "  missing  the variable EVLGEN_START, the folder of the model to start from",
        "  missing  MSR-VTT, split train, in ${EVLGEN_DATA}/msrvtt",
        "  missing  MSR-VTT, split val, in ${EVLGEN_DATA}/msrvtt",
        "  missing  the model to start from, ${EVLGEN_START}",
        "  missing  ${EVLGEN_DATA}/msrvtt, split test, to score on",
        "  missing  videos to caption, samples",
        "in this order:",
        "  export EVLGEN_DATA=FOLDER",
        "  export EVLGEN_START=FOLDER",
        '  evlgen data check msrvtt --root "${EVLGEN_DATA}/msrvtt"',
        "  evlgen models convert FILE --to FOLDER   # or evlgen train --recipe pretrain-opt2.7b",
        "  evlgen data samples --out samples",
        "  evlgen train --recipe msrvtt",
    ]
    assert ran.stderr.splitlines()[-1] == (
        "error: msrvtt cannot start yet: the variable EVLGEN_DATA, the folder that holds your data sets: not set; the "
        "variable EVLGEN_START, the folder of the model to start from: not set; videos to caption, samples: no such "
        "file, folder or match: samples (evlgen recipes show msrvtt is its manual)"
    )
    assert not (tmp_path / "runs").exists()


def test_a_file_is_named_as_it_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVLGEN_DATA", raising=False)
    own = tmp_path / "my own.yaml"
    own.write_text("extends: mini-pretrain\nname: own\nsummary: own\n")
    ran = runner.invoke(app, ["train", "--recipe", str(own)])
    assert f"  evlgen train --recipe '{own}'" in ran.stderr.splitlines()
    assert ran.stderr.endswith(f"(evlgen recipes show '{own}' is its manual)\n")


def test_nothing_is_said_where_all_is_there(pictures: Path) -> None:  # noqa: F811 - the fixture imported above
    recipe = make_recipe(pictures)
    assert guide(recipe, "here.yaml") == []
    assert all(not need.problem for need in check_needs(recipe, "here.yaml"))


def test_self_critical_training_finds_the_model_before_it() -> None:
    chain = load_any("msrvtt")
    by_name = {step.name: step for step in chain.steps}  # type: ignore[union-attr]
    assert by_name["scst"].references() == {"start_from": ("video", "train")}
    assert load_recipe("msrvtt-scst").train.start_from == "runs/msrvtt-video/best"
    assert json.dumps([step.kind for step in chain.steps]).count("train") == 3  # type: ignore[union-attr]


def test_how_many_requests_go_out_at_a_time_is_no_part_of_the_result(tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text('{"video": "a.gif", "captions": ["a"]}\n')
    (tmp_path / "media").mkdir()
    step = {"name": "s", "kind": "eval", "model": "openai:m@http://h/v1", "dataset": str(tmp_path)}
    one, many = EvalStep.model_validate(step), EvalStep.model_validate({**step, "concurrency": 8})
    assert [prediction_of(each).concurrency for each in (one, many)] == [None, 8]
    assert settings_of(one, None) == settings_of(many, None)

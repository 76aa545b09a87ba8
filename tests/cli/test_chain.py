"""`evlgen train --recipe CHAIN` and `evlgen recipes` on chains, as a user types them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from evlgen_cli.exits import Exit
from evlgen_cli.main import app
from tests.training.conftest import pictures  # noqa: F401 - a fixture
from tests.workflow.conftest import write_chain

runner = CliRunner()
FEW = ("data", "first", "score-first")


@pytest.fixture
def folder(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811 - the fixture imported above
    monkeypatch.setenv("EVLGEN_CACHE", str(pictures / "cache"))
    return pictures


def command(folder: Path, *more: str) -> list[str]:
    out = ["--out", str(folder / "out"), "--device", "cpu"]
    return ["train", "--recipe", str(folder / "chain.yaml"), *out, *more]


def begin(folder: Path, *more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "evlgen_cli", *command(folder, *more)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_line_for_every_step_and_a_table(folder: Path) -> None:
    write_chain(folder, *FEW)
    ran = runner.invoke(app, command(folder))
    assert ran.exit_code == Exit.OK, ran.stderr
    lines = [line for line in ran.stderr.splitlines() if line.startswith("[")]
    assert [line.split(": ")[0] for line in lines] == [
        f"[{k}/3] {name} ({kind})"
        for k, (name, kind) in enumerate([("data", "check"), ("first", "train"), ("score-first", "eval")], start=1)
        for _ in range(2)
    ]
    assert lines[1].endswith(": 8 items, 16 captions, 0 broken, findings in 1 sources")
    assert f": best checkpoint {folder / 'out' / 'first' / 'best'} (step " in lines[3]
    assert "CIDEr" in lines[5]
    assert "step 5/5" in ran.stderr, "training says what it always says"
    table = [line.split()[:3] for line in ran.stdout.splitlines()]
    assert [row[:2] for row in table] == [
        ["step", "kind"],
        ["data", "check"],
        ["first", "train"],
        ["score-first", "eval"],
    ]
    refused = runner.invoke(app, command(folder))
    assert (refused.exit_code, refused.stderr) == (
        Exit.USAGE,
        f"error: {folder / 'out'} already holds a run (add --resume to go on with it, or choose another --out)\n",
    )
    again = runner.invoke(app, command(folder, "--resume", "--json", "--set", "score-first.bootstrap=0"))
    assert again.exit_code == Exit.OK, again.stderr
    steps = json.loads(again.stdout)["steps"]
    assert {name: one["skipped"] for name, one in steps.items()} == {"data": True, "first": True, "score-first": False}
    assert steps["first"]["files"].keys() == {"first/best/model.safetensors", "first/best/config.json"}
    said = [line for line in again.stderr.splitlines() if line.startswith("[3/3]")]
    kept = folder / "out" / "score-first.1"
    assert said[0] == (
        f"[3/3] score-first (eval): started: changed: bootstrap is 0, was 1000; what was there is in {kept}"
    )


def test_a_failed_step_is_one_line(folder: Path) -> None:
    write_chain(folder, "first")
    ran = runner.invoke(app, command(folder, "--set", "first.vocabulary.min_count=99"))
    assert ran.exit_code == Exit.USAGE
    assert ran.stderr.splitlines()[-1] == (
        "error: step first (train): no word of the training captions is in 99 items or more "
        "(lower vocabulary.min_count; then --resume)"
    )
    on = runner.invoke(app, command(folder, "--resume", "--set", "first.vocabulary.min_count=1"))
    assert on.exit_code == Exit.OK, on.stderr


@pytest.mark.slow
def test_what_was_left_out_gives_exit_code_3(folder: Path) -> None:
    write_chain(folder, "first", "captions")
    content = yaml.safe_load((folder / "chain.yaml").read_text())
    content["chain"][1]["model"] = "first"
    (folder / "chain.yaml").write_text(yaml.safe_dump(content))
    (folder / "media" / "torn.png").write_bytes(b"no picture")
    ran = runner.invoke(app, command(folder))
    assert ran.exit_code == Exit.SOME_FAILED, ran.stderr
    assert "torn.png: decode-error: " in ran.stderr
    assert "4 captions in " in ran.stdout
    assert "1 videos failed" in ran.stdout


def test_recipes_know_chains(tmp_path: Path) -> None:
    listed = json.loads(runner.invoke(app, ["recipes", "ls", "--json"]).stdout)
    assert [one["name"] for one in listed if one["chain"] and one["name"].startswith("mini-")] == [
        "mini-ablation", "mini-msrvtt", "mini-msrvtt-ladder", "mini-race", "mini-race-rates",
    ]  # fmt: skip
    checked = runner.invoke(app, ["recipes", "check", "mini-msrvtt"])
    assert checked.stdout == (
        "mini-msrvtt: fine; 5 steps\n"
        "step      kind     uses\n"
        "data      check    mini-pretrain\n"
        "pretrain  train    mini-pretrain\n"
        "video     train    pretrain, mini-msrvtt-video\n"
        "scores    eval     video\n"
        "captions  caption  video\n"
    )
    bad = runner.invoke(app, ["recipes", "check", "mini-msrvtt", "--set", "video.train.sed=3"])
    assert (bad.exit_code, bad.stderr) == (
        Exit.USAGE,
        "error: mini-msrvtt.yaml: video: mini-msrvtt-video.yaml: unknown key train.sed (did you mean 'seed'?)\n",
    )
    shown = runner.invoke(app, ["recipes", "show", "mini-msrvtt", "--set", "video.train.steps=77"])
    (tmp_path / "again.yaml").write_text(shown.stdout)
    again = runner.invoke(app, ["recipes", "show", "--resolved", str(tmp_path / "again.yaml")])
    assert again.stdout == shown.stdout
    assert yaml.safe_load(shown.stdout)["chain"][2]["set"] == {"train.steps": 77}
    assert runner.invoke(app, ["recipes", "copy", "mini-msrvtt", str(tmp_path / "mine.yaml")]).exit_code == Exit.OK
    refused = runner.invoke(app, ["data", "check", "--recipe", "mini-msrvtt"])
    assert refused.stderr.startswith("error: mini-msrvtt.yaml is a chain of steps, not one training run (evlgen train ")


def wait_for(path: Path, words: str, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if path.is_file() and words in path.read_text():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError(f"no {words} in {path}")


def stop(folder: Path, number: int, *more: str) -> None:
    write_chain(folder, *FEW, train={"steps": 3000, "precision": "float32", "log_every": 1})
    run = begin(folder, *more)
    wait_for(folder / "out" / "first" / "log.jsonl", '"step": 3', run)
    run.send_signal(number)
    _, talk = run.communicate(timeout=60)
    assert run.returncode == Exit.INTERRUPTED, talk
    assert talk.count("go on with: evlgen train --recipe") == 1
    assert talk.splitlines()[-2] == "[2/3] first (train): interrupted"
    assert talk.splitlines()[-1].endswith(f"--device cpu {' '.join([*more, ''])}--resume")
    steps = json.loads((folder / "out" / "chain.json").read_text())["steps"]
    assert {name: one["status"] for name, one in steps.items()} == {"data": "done", "first": "interrupted"}


def stop_and_go_on(folder: Path, number: int, *more: str) -> None:
    stop(folder, number, *more)
    logged = (folder / "out" / "first" / "log.jsonl").read_text()
    last = json.loads(logged.splitlines()[-1])["step"]
    run = begin(folder, *more, "--resume")
    wait_for(folder / "out" / "first" / "log.jsonl", f'"step": {last + 3}', run)
    run.send_signal(number)
    run.communicate(timeout=60)
    assert run.returncode == Exit.INTERRUPTED
    resumed = (folder / "out" / "first" / "log.jsonl").read_text()
    assert resumed.startswith(logged), "what was done stays, and the run goes on behind it"


@pytest.mark.slow
def test_ctrl_c_saves(folder: Path) -> None:
    stop(folder, signal.SIGINT)


@pytest.mark.slow
def test_a_stopped_chain_goes_on(folder: Path) -> None:
    stop_and_go_on(folder, signal.SIGTERM)


@pytest.mark.slow
def test_training_steps_start_their_processes(folder: Path) -> None:
    """Two processes for the training step, one for the rest; a signal stops them all, the chain goes on."""
    stop_and_go_on(folder, signal.SIGTERM, "--processes", "2")
    facts = json.loads((folder / "out" / "first" / "log.jsonl").read_text().splitlines()[0])["start"]
    assert facts["processes"] == 2
    (folder / "out").rename(folder / "before")
    write_chain(folder, *FEW)
    run = begin(folder, "--processes", "2", "--json")
    out, talk = run.communicate(timeout=100)
    assert run.returncode == 0, talk
    assert list(json.loads(out)["steps"]) == list(FEW)
    assert talk.count("best checkpoint") == 1, "the chain says it, not the run"


@pytest.mark.slow
def test_a_training_step_that_fails_in_its_processes(folder: Path) -> None:
    write_chain(folder, "first")
    run = begin(folder, "--processes", "2", "--set", "first.vocabulary.min_count=99")
    _, talk = run.communicate(timeout=100)
    assert run.returncode == Exit.FAILED, talk
    assert talk.splitlines()[-3].startswith("error: no word of the training captions")
    assert talk.splitlines()[-2:] == [
        "[1/1] first (train): failed",
        "error: step first (train): training ended with exit code 2 (its own message is above; then --resume)",
    ]


@pytest.mark.slow
def test_what_was_set_holds_for_resume(folder: Path) -> None:
    write_chain(folder, "first", "second")
    stopped = runner.invoke(app, command(folder, "--set", "first.train.steps=3", "--set", "second.train.seed=-1"))
    assert stopped.exit_code == Exit.USAGE, "refused before the first step"
    ran = runner.invoke(app, command(folder, "--set", "first.train.steps=3"))
    assert ran.exit_code == Exit.OK, ran.stderr
    again = runner.invoke(app, command(folder, "--resume"))
    assert "with what was set: first.train.steps=3" in again.stderr
    assert "[1/2] first (train): done before" in again.stderr
    other = runner.invoke(app, command(folder, "--resume", "--set", "first.train.steps=4"))
    assert "[1/2] first (train): started: changed: train.steps is 4, was 3" in other.stderr

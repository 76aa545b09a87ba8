"""`evlgen data check` and `evlgen data prepare` as a user types them, with a tiny recipe in a file."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from evlgen.modeling.vision import VisionTower
from evlgen_cli.exits import Exit
from evlgen_cli.main import app
from tests.modeling.conftest import TINY_CNN
from tests.training.conftest import make_recipe, pictures  # noqa: F401 - a fixture

runner = CliRunner()


@pytest.fixture
def recipe_file(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811 - the fixture imported above
    """A recipe whose tower is in a file: the same in every process."""
    monkeypatch.setenv("EVLGEN_CACHE", str(pictures / "cache"))
    torch.manual_seed(0)
    save_file(VisionTower(TINY_CNN).trunk.state_dict(), pictures / "tower.safetensors")
    content = make_recipe(pictures).model_dump(mode="json")
    content["model"]["vision"]["source"] = str(pictures / "tower.safetensors")
    path = pictures / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_check_says_what_is_there(recipe_file: Path) -> None:
    done = runner.invoke(app, ["data", "check", "--recipe", str(recipe_file), "--set", "data.validation.0.split=val"])
    assert done.exit_code == Exit.SOME_FAILED
    name = recipe_file.parent.name
    table = [line.split() for line in done.stdout.splitlines()]
    assert table[1] == [f"{name}/captions", "train", "4", "8", "-", "0", "fine"]
    assert table[2][-3:] == ["0", "stops", "a", "run"][-3:]
    assert done.stderr == (
        f"{name}/val: {recipe_file.parent / 'captions.jsonl'} has no split 'val' (its splits are train (4))\n"
    )


def test_names_in_findings_do_not_steer_the_terminal(recipe_file: Path) -> None:
    with (recipe_file.parent / "captions.jsonl").open("a") as file:
        file.write(json.dumps({"file": "a\x1b[2J\u202eb.png", "caption": "x", "split": "train"}) + "\n")
    done = runner.invoke(app, ["data", "check", "--recipe", str(recipe_file)])
    assert ": a\ufffd[2J\ufffdb.png: " in done.stderr
    assert "\x1b" not in done.stderr + done.stdout


def test_check_lists_broken_files(recipe_file: Path) -> None:
    (recipe_file.parent / "media" / "red.png").write_bytes(b"not a picture")
    (recipe_file.parent / "media" / "blue.png").unlink()
    command = ["data", "check", "--recipe", str(recipe_file), "--json", "--set", "data.max_broken_share=0.25"]
    fast = runner.invoke(app, command)
    assert fast.exit_code == Exit.SOME_FAILED
    train = json.loads(fast.stdout)[0]
    assert (train["counts"], train["stops_a_run"]) == ({"missing": 1}, False)
    slow = runner.invoke(app, [*command, "--decode"])
    train = json.loads(slow.stdout)[0]
    assert {b["name"]: b["kind"] for b in train["broken"]} == {"red.png": "decode-error", "blue.png": "missing"}
    assert (train["frames"], train["stops_a_run"]) == (2, True)
    assert "of 4 items, " in slow.stderr, "progress counts items, not bytes"
    trained = runner.invoke(app, ["train", "--recipe", str(recipe_file), "--out", str(recipe_file.parent / "run")])
    assert trained.exit_code == Exit.FAILED
    assert (
        ": 1 of 4 items (25.0%) cannot be used, data.max_broken_share allows 1.0%: blue.png: "
        in trained.stderr.splitlines()[-1]
    )


def test_prepare_then_train_encodes_nothing(recipe_file: Path) -> None:
    command = ["data", "prepare", "--recipe", str(recipe_file)]
    estimate = runner.invoke(app, [*command, "--estimate", "--json"])
    assert estimate.exit_code == Exit.OK, estimate.stderr
    assert [(e["todo"], e["bytes_at_most"]) for e in json.loads(estimate.stdout)] == [(4, 9_216), (4, 4_608)]
    assert not (recipe_file.parent / "cache" / "features").exists()
    words = runner.invoke(app, [*command, "--estimate"])
    assert words.stdout.splitlines()[-1].startswith("in all at most 13.8 kB and about ")
    first = runner.invoke(app, [*command, "--json"])
    assert first.exit_code == Exit.OK, first.stderr
    rows = json.loads(first.stdout)
    assert [(r["items"], r["captions"], r["frames"], r["bytes"]) for r in rows] == [
        (4, 8, 4, 9_216),
        (4, 8, 4, 4_608),
    ]
    name = f"features of {recipe_file.parent.name}/captions"
    assert f"{name}: 4 of 4 items, " in first.stderr
    again = runner.invoke(app, command)
    assert name not in again.stderr
    trained = runner.invoke(app, ["train", "--recipe", str(recipe_file), "--out", str(recipe_file.parent / "run")])
    assert trained.exit_code == Exit.OK, trained.stderr
    assert name not in trained.stderr, "training uses what was prepared"


@pytest.mark.slow
def test_prepare_stops_on_ctrl_c_and_goes_on(recipe_file: Path) -> None:
    rows = [json.dumps({"image": f"{n}.png", "captions": ["x"]}) for n in range(1000)]
    for n in range(1000):
        Image.new("RGB", (40, 30), (n % 256, n // 256, 0)).save(recipe_file.parent / "media" / f"{n}.png")
    (recipe_file.parent / "captions.jsonl").write_text("\n".join(rows))
    command = [sys.executable, "-m", "evlgen_cli", "data", "prepare", "--recipe", str(recipe_file), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    features = recipe_file.parent / "cache" / "features"
    while not list(features.glob("*/rows.f16")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, talk = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED, talk
    assert json.loads(out) == []
    assert "stopped; the same command goes on from here" in talk
    kept = len(next(features.glob("*/journal.jsonl")).read_text().splitlines())
    assert 0 < kept < 1000
    again = runner.invoke(app, ["data", "prepare", "--recipe", str(recipe_file)])
    assert f"captions: {1000 - kept} of {1000 - kept} items" in again.stderr


def test_features_of_another_tower_are_one_line(recipe_file: Path) -> None:
    place = recipe_file.parent / "mine"
    command = ["data", "prepare", "--recipe", str(recipe_file), "--set", f"data.train.0.features={place}"]
    assert runner.invoke(app, command).exit_code == Exit.OK
    other = runner.invoke(app, [*command, "--set", "model.vision.mean=[0.1, 0.1, 0.1]"])
    assert other.exit_code == Exit.USAGE
    assert other.stderr == (
        f"error: the features in {place} are of another make: vision.mean is [0.5, 0.5, 0.5] there and [0.1, 0.1, 0.1] "
        "here (name another folder in features, or go back to what made them; nothing was changed there)\n"
    )


def test_a_recipe_on_pixels_has_nothing_to_prepare(recipe_file: Path) -> None:
    for more in ([], ["--estimate"]):
        done = runner.invoke(
            app, ["data", "prepare", "--recipe", str(recipe_file), "--set", "data.visual=pixels", *more]
        )
        assert done.exit_code == Exit.USAGE
        assert done.stderr == (
            "error: recipe tiny trains on the frames themselves (data.visual pixels): it has no features to prepare "
            "(start training; it counts frames first, and keeps the counts)\n"
        )

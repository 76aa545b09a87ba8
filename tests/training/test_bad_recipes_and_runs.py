"""What a user gets wrong, and a disk that is full: `evlgen train` says one line, and nothing is lost.

The whole of standard error is compared, figures and progress aside. A full disk is the real failure of the real writer:
the process may write 4 KiB a file, a checkpoint is larger.
"""

import errno
import json
import os
import resource
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save
from typer.testing import CliRunner

from evlgen.modeling import pretrained
from evlgen.modeling.vision import VisionTower
from evlgen.system import files
from evlgen.training import checkpoints
from evlgen_cli.exits import Exit
from evlgen_cli.main import app
from tests.modeling.conftest import TINY_CNN, TINY_VIT
from tests.training.conftest import make_recipe
from tests.training.test_processes import log

runner = CliRunner()


@pytest.fixture
def recipe_file(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe whose tower is in a file, so that every run has the same one."""
    monkeypatch.chdir(pictures)
    monkeypatch.delenv("EVLGEN_DEBUG", raising=False)
    _write_tower(pictures, seed=0)
    return _write_recipe(pictures, train={"steps": 3}, vocabulary={"steps": 1})


@pytest.fixture
def saving_recipe(recipe_file: Path) -> Path:
    """The same, with a checkpoint after every step."""
    saving = {"steps": 6, "precision": "float32", "checkpoint_seconds": 1e-9}
    return _write_recipe(recipe_file.parent, validation={"every_steps": 3}, train=saving)


def _write_recipe(folder: Path, **sections: dict[str, Any]) -> Path:
    content = make_recipe(folder, **sections).model_dump(mode="json")
    content["model"]["vision"]["source"] = str(folder / "tower.safetensors")
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@cache
def _tower(seed: int) -> bytes:
    torch.manual_seed(seed)
    return save(VisionTower(TINY_CNN).trunk.state_dict())


def _write_tower(folder: Path, seed: int) -> None:
    (folder / "tower.safetensors").write_bytes(_tower(seed))


def train(*more: str, out: str = "run") -> tuple[int, str]:
    """Exit code, and what standard error has beside talk of what goes on."""
    done = runner.invoke(app, ["train", "--recipe", "tiny.yaml", "--out", out, "--device", "cpu", *more])
    said = [line for line in done.stderr.splitlines(keepends=True) if line.startswith(("error: ", "bug: ", "warning"))]
    return done.exit_code, "".join(said).replace(f"{Path.cwd()}/", "")


WRONG: dict[str, tuple[list[str], str]] = {
    "captions": (
        ["data.train.0.captions=none.jsonl"],
        "captions file none.jsonl does not exist (check data.*.captions in the recipe)",
    ),
    "media": (
        ["data.train.0.media=none.tar"],
        "media none.tar is neither a folder nor a tar or zip (check data.*.media in the recipe)",
    ),
    "not an archive": (
        ["data.train.0.media=captions.jsonl"],
        "captions.jsonl is not a whole tar file or zip: its content is neither",
    ),
    "start": (
        ["train.start_from=none"],
        "no model 'none' (packaged: evlgen-mini; or give a folder)",
    ),
    "three mistakes": (
        ["train.stps=3", "optimizer.learning_rate=-1", "data.train.0.views=many"],
        "tiny.yaml: data.train.0.views: Input should be a valid integer, unable to parse string as an integer; "
        "optimizer.learning_rate: Input should be greater than 0; unknown key train.stps (did you mean 'steps'?)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_recipe_is_one_line_and_leaves_no_run(recipe_file: Path, what: str) -> None:
    overrides, line = WRONG[what]
    assert train(*(word for o in overrides for word in ("--set", o))) == (Exit.USAGE, f"error: {line}\n")
    assert not (recipe_file.parent / "run").exists()


def test_features_of_a_tower_with_modules_inside_are_refused_before_anything_is_loaded(recipe_file: Path) -> None:
    """They would be cached, and what is to be trained inside would never run."""
    content = yaml.safe_load(recipe_file.read_text())
    content["model"]["vision"] = TINY_VIT.model_dump(mode="json") | {"source": "none.safetensors"}
    content["model"]["temporal"]["fusion"] = "temporal"
    recipe_file.write_text(yaml.safe_dump(content))
    assert train("--set", "data.visual=features") == (
        Exit.USAGE,
        "error: data.visual features: vision vit_tiny_patch16_224 with fusion temporal has modules to train inside the "
        "tower, whose features cannot be cached (set data.visual to auto or pixels, or choose a CNN tower or another "
        "fusion)\n",
    )
    assert "none.safetensors" in train()[1], "on pixels it goes on to load the weights"
    content["model"]["temporal"]["fusion"] = "mean"
    recipe_file.write_text(yaml.safe_dump(content))
    assert "none.safetensors" in train("--set", "data.visual=features")[1], "so it does without such modules"


def test_a_missing_video_and_one_without_captions_are_named(recipe_file: Path) -> None:
    rows = [json.loads(line) for line in (recipe_file.parent / "captions.jsonl").read_text().splitlines()]
    rows[1]["captions"] = [" "]
    (recipe_file.parent / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (recipe_file.parent / "media" / "red.png").unlink()
    code, line = train()
    assert code == Exit.FAILED
    assert line.startswith(
        f"error: {recipe_file.parent.name}/captions: 2 of 4 items (50.0%) cannot be used, data.max_broken_share allows "
        "1.0%: green.png: line 2 has no captions; red.png: media holds no such file (all are "
        "listed in "
    )
    assert line.count("\n") == 1
    assert not (recipe_file.parent / "run").exists()
    assert train("--set", "data.max_broken_share=0.5") == (Exit.OK, ""), "what is left is trained on"


def test_features_of_another_tower_are_refused_and_kept(recipe_file: Path) -> None:
    mine = ["--set", "data.train.0.features=mine"]
    assert train(*mine) == (Exit.OK, "")
    files = {path: path.read_bytes() for path in (recipe_file.parent / "mine").iterdir()}
    _write_tower(recipe_file.parent, seed=1)
    code, line = train(*mine, out="other")
    assert code == Exit.USAGE
    assert line.startswith("error: the features in mine are of another make: weights is ")
    assert line.endswith("(name another folder in features, or go back to what made them; nothing was changed there)\n")
    assert not (recipe_file.parent / "other").exists()
    assert {path: path.read_bytes() for path in (recipe_file.parent / "mine").iterdir()} == files


def test_a_folder_that_is_a_file_is_noticed_before_anything_is_computed(recipe_file: Path) -> None:
    line = "error: tiny.yaml is a file, expected the folder of a run (choose another --out)\n"
    assert train(out="tiny.yaml") == (Exit.USAGE, line)
    assert not (recipe_file.parent / "cache").exists()


def _fill_the_disk_at(patch: pytest.MonkeyPatch, module: Any, number: int) -> None:
    """From the `number`-th file of a checkpoint on there is room for 4 KiB."""
    real: Callable[..., None] = module.write_tensors
    calls = iter(range(1, 1000))

    def full(*arguments: Any, **options: Any) -> None:
        limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        if next(calls) >= number:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            real(*arguments, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)

    patch.setattr(module, "write_tensors", full)


MOMENTS = [
    pytest.param(checkpoints, 1, "last", marks=pytest.mark.slow),
    (checkpoints, 7, "last"),  # when `best` has just been written
    (pretrained, 8, "best"),
    pytest.param(pretrained, 11, "last", marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.parametrize(("module", "number", "name"), MOMENTS)
def test_a_full_disk_while_saving_loses_nothing(
    saving_recipe: Path, monkeypatch: pytest.MonkeyPatch, module: Any, number: int, name: str
) -> None:
    assert train(out="whole") == (Exit.OK, "")
    with monkeypatch.context() as patch:
        _fill_the_disk_at(patch, module, number)
        code, line = train()
    assert code == Exit.FAILED
    assert line.startswith(f"error: checkpoint run/{name} cannot be written: ")
    assert line.endswith(" (free some disk, then --resume)\n")
    assert line.count("\n") == 1
    run, whole = saving_recipe.parent / "run", saving_recipe.parent / "whole"
    kept = {p.name for p in run.iterdir()}
    assert {p for p in kept if p.startswith(".")} == {".lock"}, "nothing half-written stays"
    assert ("last" in kept) == (number > 1)
    for file in run.glob("*/*.safetensors"):
        load_file(file)
    assert train("--resume") == (Exit.OK, "")
    for file in ("last/training.safetensors", "last/model.safetensors", "best/model.safetensors"):
        part, full = load_file(run / file), load_file(whole / file)
        assert all(torch.equal(part[k], full[k]) for k in full), file
    assert log(run) == log(whole)


@pytest.mark.slow
def test_a_full_disk_at_the_start_of_a_resumed_run_loses_nothing(
    saving_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train() == (Exit.OK, "")
    run = saving_recipe.parent / "run"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}

    def full(path: Path, what: str) -> None:
        if path.is_file() and what in path.read_text():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for what in ('"summary"', '"start"'):  # in recipe.json, and in log.jsonl
        with monkeypatch.context() as patch:
            patch.setattr(files, "sync", lambda path, what=what: full(path, what))
            code, line = train("--resume")
        assert (code, line.count("\n")) == (Exit.FAILED, 1)
        assert "cannot be written: No space left on device (free some disk" in line
        assert {path: path.read_bytes() for path in before} == before
    assert train("--resume") == (Exit.OK, "")


def test_a_damaged_run_says_what_is_left(recipe_file: Path) -> None:
    assert train() == (Exit.OK, "")
    run = recipe_file.parent / "run"
    with (run / "log.jsonl").open("ab") as file:
        file.write(b"\0\0\0\n[1]\nhalf a li")
    assert train("--resume") == (Exit.OK, ""), "a log with a torn end is mended"
    assert log(run)[-1]["step"] == 4
    state = run / "last" / "training.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    code, line = train("--resume")
    assert code == Exit.FAILED
    assert line.startswith("error: checkpoint run/last/training.safetensors is damaged: ")
    assert line.endswith(" (start a new run with train.start_from=run/best: that one is whole)\n")
    (run / "recipe.json").write_text("{")
    code, line = train("--resume")
    assert code == Exit.FAILED
    assert line.startswith("error: run/recipe.json is damaged: ")
    assert line.endswith(" (start a new run in another --out)\n")
    assert line.count("\n") == 1

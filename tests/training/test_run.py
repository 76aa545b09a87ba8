"""Whole runs on a tiny model: learning, resuming, stopping, failing."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evlgen.errors import EvlgenError, UsageError
from evlgen.training import train
from evlgen.training.checkpoints import find_last, replace_folder
from tests.modeling.conftest import TINY_CNN, TINY_LLAMA, tiny_config
from tests.training.conftest import make_recipe


def run(recipe: object, folder: Path, **options: object) -> dict[str, object]:
    torch.manual_seed(0)  # the frozen parts of a test model are random: the same in every run
    return train(recipe, folder=folder, device="cpu", **options)


def test_it_learns_to_see(pictures: Path) -> None:
    """Two-letter captions of four colours, behind a frozen random language model that is loud enough to be steered."""
    captions = {"red": "rd", "green": "gn", "blue": "be", "white": "wt"}
    rows = [json.dumps({"image": f"{name}.png", "captions": [text]}) for name, text in captions.items()]
    (pictures / "captions.jsonl").write_text("\n".join(rows))
    model = tiny_config(TINY_CNN, llm={**TINY_LLAMA, "initializer_range": 0.3}, dropout=0.0, r=1)
    recipe = make_recipe(
        pictures,
        model=model.model_dump(),
        train={"steps": 200, "precision": "float32", "log_every": 50},
        vocabulary={"steps": 0, "weight": 0.0},
    )
    report = run(recipe, pictures / "run")
    figures = next(iter(report.values()))
    assert figures["captions"] == ["rd", "gn", "be"]
    assert figures["gap"] > 1, "fluent but blind"
    assert (pictures / "run" / "best" / "model.safetensors").is_file()


def test_a_stopped_and_resumed_run_is_bit_for_bit_the_unbroken_one(pictures: Path) -> None:
    recipe = make_recipe(pictures, vocabulary={"weight": 0.5})
    run(recipe, pictures / "whole")
    for limit in (3, 4, 7):  # inside the vocabulary phase, at its end, and in the caption phase
        calls = iter(range(1, 100))
        run(recipe, pictures / f"part{limit}", stop=lambda calls=calls, limit=limit: next(calls) == limit)
        run(recipe, pictures / f"part{limit}", resume=True)
        whole = load_file(pictures / "whole" / "last" / "training.safetensors")
        part = load_file(pictures / f"part{limit}" / "last" / "training.safetensors")
        assert whole.keys() == part.keys()
        assert all(torch.equal(whole[k], part[k]) for k in whole)


def test_an_old_run_is_never_overwritten_by_accident(pictures: Path) -> None:
    recipe = make_recipe(pictures)
    run(recipe, pictures / "run")
    with pytest.raises(UsageError, match=r"already holds a run .*--resume"):
        run(recipe, pictures / "run")
    with pytest.raises(EvlgenError, match="no checkpoint to resume from"):
        run(recipe, pictures / "elsewhere", resume=True)


def test_an_exploding_run_stops_with_one_line(pictures: Path) -> None:
    recipe = make_recipe(pictures, optimizer={"learning_rate": 1e30, "floor": 1e30, "warmup_steps": 0, "start": 1e30})
    with pytest.raises(EvlgenError, match=r"loss is (nan|inf) at step \d+.*lower optimizer.learning_rate"):
        run(recipe, pictures / "run")


def test_the_log_has_what_a_curve_needs(pictures: Path) -> None:
    run(make_recipe(pictures), pictures / "run")
    rows = [json.loads(line) for line in (pictures / "run" / "log.jsonl").read_text().splitlines()]
    assert {"step", "lr", "loss", "gradient_norm", "seconds", "of"} <= rows[-2].keys()
    assert {"loss", "gap", "cider", "captions"} <= next(iter(rows[-1]["validation"].values())).keys()


def test_a_kill_between_two_renames_loses_nothing(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "training.safetensors").write_text("x")

    replace_folder(tmp_path / "last", fill)
    assert find_last(tmp_path) == tmp_path / "last"
    (tmp_path / "last").rename(tmp_path / ".last.old")
    assert find_last(tmp_path) == tmp_path / ".last.old"


def test_a_full_disk_while_saving_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    replace_folder(tmp_path / "last", lambda f: (f / "training.safetensors").write_text("good"))

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(EvlgenError, match=r"No space left on device.*--resume"):
        replace_folder(tmp_path / "last", full)
    assert (tmp_path / "last" / "training.safetensors").read_text() == "good"

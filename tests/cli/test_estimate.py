"""`evlgen train --estimate` as a user types it: the whole table, JSON, chains, and what it leaves alone."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from evlgen_cli.commands.estimate import HELP
from evlgen_cli.exits import Exit
from evlgen_cli.main import app
from tests.cli.test_recipes_and_train import recipe_file
from tests.training.conftest import pictures

__all__ = ["pictures", "recipe_file"]  # fixtures

runner = CliRunner()


def estimate(file: Path, *more: str) -> list[str]:
    return ["train", "--recipe", str(file), "--out", str(file.parent / "run"), "--estimate", "--device", "cpu", *more]


def test_the_table_is_that_of_the_json(recipe_file: Path) -> None:
    shown = runner.invoke(app, estimate(recipe_file))
    assert shown.exit_code == Exit.OK, shown.stderr
    assert not (recipe_file.parent / "run").exists(), "nothing is started"
    made = json.loads(runner.invoke(app, estimate(recipe_file, "--json")).stdout)
    lines = shown.stdout.splitlines()
    assert lines[0] == (
        f"tiny on cpu in float32: {made['frozen_parameters'] / 1e6:.1f} M parameters frozen, "
        f"{made['trained_parameters']} trained"
    )
    assert [one["sharding"] for one in made["memory"]] == ["none", "ddp", "fsdp"]
    assert lines[1].split("  ") == [
        "memory of each process", "one process", "ddp, 2 processes", "fsdp, 2 processes",
    ]  # fmt: skip
    cells = {line[:22].strip(): [c.strip() for c in line[24:].split("  ") if c.strip()] for line in lines[2:]}
    assert cells["items at once"] == ["4", "2", "2"]
    assert len(cells["activations"]) == 3
    for one in made["memory"]:
        parts = [v for k, v in one.items() if k not in ("sharding", "processes", "items", "total")]
        assert sum(parts) == one["total"]
    assert lines[-4].startswith("one step, measured here with random weights: ")
    assert lines[-3] == "captions: those of items spread over the training data"
    assert lines[-2] == f"features on disk: at most {made['feature_bytes'] / 1000:.1f} kB"
    assert lines[-1].endswith("validation left out (one step with random weights, vocabulary steps left out)")


def test_processes_decide_what_is_shown(recipe_file: Path) -> None:
    made = json.loads(runner.invoke(app, estimate(recipe_file, "--json", "--processes", "4")).stdout)
    assert [(one["sharding"], one["processes"], one["items"]) for one in made["memory"]] == [
        ("none", 1, 4), ("ddp", 4, 1), ("fsdp", 4, 1),
    ]  # fmt: skip
    refused = runner.invoke(app, estimate(recipe_file, "--processes", "5"))
    assert refused.exit_code == Exit.USAGE
    assert refused.stderr.startswith("error: data.items_per_step 4 cannot be cut into 5 micro-batches (5 processes x")
    assert refused.stderr.count("\n") == 1


def test_without_the_data_captions_are_as_long_as_they_may_be(recipe_file: Path) -> None:
    shown = runner.invoke(app, estimate(recipe_file, "--set", "data.train.0.captions=none.jsonl"))
    assert shown.exit_code == Exit.OK, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[-3] == (
        "captions: as long as language.max_text_tokens: captions file none.jsonl does not exist (check "
        "data.*.captions in the recipe)"
    )
    assert lines[-2] == "features on disk: not known without the captions"


@pytest.mark.slow
def test_a_chain_is_estimated_step_by_step(recipe_file: Path) -> None:
    two = {"data.items_per_step": 2}
    steps = [
        {"name": "data", "kind": "check", "recipe": "tiny.yaml"},
        {"name": "first", "kind": "train", "recipe": "tiny.yaml"},
        {"name": "more", "kind": "train", "recipe": "tiny.yaml", "start_from": "first", "set": two},
    ]  # fmt: skip
    chain = recipe_file.parent / "chain.yaml"
    chain.write_text(yaml.safe_dump({"name": "both", "summary": "a test", "chain": steps}))
    made = json.loads(runner.invoke(app, estimate(chain, "--json")).stdout)
    assert made["chain"] == "both"
    assert {name: one["memory"][0]["items"] for name, one in made["steps"].items()} == {"first": 4, "more": 2}
    assert made["steps"]["more"]["measured"] == "one step with random weights, vocabulary steps left out"
    chain.write_text(yaml.safe_dump({"name": "none", "summary": "a test", "chain": steps[:1]}))
    refused = runner.invoke(app, estimate(chain))
    assert refused.exit_code == Exit.USAGE
    assert refused.stderr == "error: the chain none has no train step (there is nothing to estimate)\n"


def test_the_help_says_what_is_left_out() -> None:
    shown = " ".join(runner.invoke(app, ["train", "--help"]).stdout.replace("│", " ").split())
    assert "left out are temporaries" in HELP
    assert "CUDA context" in shown


@pytest.mark.slow
def test_it_says_whether_it_fits(recipe_file: Path) -> None:
    here = runner.invoke(app, estimate(recipe_file))
    assert "fits, one process: yes (" in here.stdout, here.stdout
    made = json.loads(runner.invoke(app, estimate(recipe_file, "--gpu", "t4-16gb", "--json")).stdout)
    assert made["device"] == "t4-16gb"
    assert made["fits"][0] == {
        "place": "t4-16gb", "room": 16_000_000_000, "needed": made["memory"][0]["total"], "verdict": "yes",
    }  # fmt: skip
    unknown = runner.invoke(app, estimate(recipe_file, "--gpu", "h100"))
    assert unknown.exit_code == Exit.USAGE
    assert unknown.stderr.startswith("error: --gpu 'h100' is not known (did you mean 'h100-80gb'?)")
    misplaced = runner.invoke(app, ["train", "--recipe", str(recipe_file), "--gpu", "h100-80gb"])
    assert misplaced.exit_code == Exit.USAGE


def test_what_is_too_large_does_not_fit() -> None:
    from evlgen.training.memory_formulas import ProcessMemory, fits

    one = ProcessMemory("none", 1, 8, 10, 0, 0, 0, 0, 0, 0)
    verdicts = [fits([one], ("here", room), 0, shared=False)[0].verdict for room in (9, 10, 18, 19)]
    assert verdicts == ["no", "perhaps", "perhaps", "yes"]
    two = ProcessMemory("ddp", 2, 8, 10, 0, 0, 0, 0, 0, 0)
    assert fits([two], ("here", 40), 1, shared=True)[0].needed == 22, "processes on a CPU share its memory"

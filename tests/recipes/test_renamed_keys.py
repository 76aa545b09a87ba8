"""Keys that had another name: in files, in --set, in what a file extends, in chains and in folders of runs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import Result

from evlgen.errors import RenamedWarning
from evlgen.recipes import load_any, load_recipe
from evlgen.recipes.renamed_keys import RENAMED
from evlgen.training.run_folder import kept_recipe
from evlgen.workflow.fingerprints import changes
from tests.cli.conftest import cli  # noqa: F401 - a fixture

OLD = {
    "optimizer.floor": 2e-6, "optimizer.start": 3e-7,
    "train.checkpoint_language": True, "train.checkpoint_vision": False, "validation.beams": 4,
}  # fmt: skip


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    """A file as it was written before."""
    keys: dict[str, dict[str, object]] = {}
    for key, value in OLD.items():
        section, _, name = key.partition(".")
        keys.setdefault(section, {})[name] = value
    file = tmp_path / "old.yaml"
    file.write_text(yaml.safe_dump({"extends": "mini-pretrain", "name": "old", **keys}))
    return file


def values_of(recipe: object) -> dict[str, object]:
    found: dict[str, object] = {}
    for old, new in RENAMED.items():
        node = recipe
        for part in new.split("."):
            node = getattr(node, part)
        found[old] = node
    return found


def test_a_file_overrides_and_steps_of_a_chain(old_file: Path, tmp_path: Path) -> None:
    with pytest.warns(RenamedWarning, match="the recipe key optimizer.floor is called optimizer.min_lr now"):
        assert values_of(load_recipe(str(old_file))) == OLD
    overrides = [f"{key}={json.dumps(value)}" for key, value in OLD.items()]
    with pytest.warns(RenamedWarning, match=r"called train.gradient_checkpointing.language now"):
        assert values_of(load_recipe("mini-pretrain", overrides)) == OLD
    step = {"name": "a", "kind": "train", "recipe": "mini-pretrain"}
    sections = {"optimizer": {"floor": 2e-6, "start": 3e-7}, "train": {"checkpoint_language": True}}
    for settings in (OLD, {**sections, "validation": {"beams": 4}}):
        chain = tmp_path / "chain.yaml"
        chain.write_text(yaml.safe_dump({"name": "c", "summary": "s", "chain": [{**step, "set": settings}]}))
        with pytest.warns(RenamedWarning):
            assert values_of(load_any(str(chain)).recipes["a"]) == OLD


def test_what_is_laid_over_wins_under_either_name(old_file: Path, tmp_path: Path) -> None:
    over = tmp_path / "new.yaml"
    over.write_text(yaml.safe_dump({"extends": "old.yaml", "name": "new", "optimizer": {"min_lr": 1e-7}}))
    with pytest.warns(RenamedWarning):
        assert load_recipe(str(over)).optimizer.min_lr == 1e-7
    with pytest.warns(RenamedWarning):
        assert load_recipe(str(over), ["optimizer.floor=4e-7"]).optimizer.min_lr == 4e-7


def test_true_is_both_kinds_of_gradient_checkpointing() -> None:
    train = load_recipe("mini-pretrain", ["train.gradient_checkpointing=true"]).train
    assert (train.gradient_checkpointing.language, train.gradient_checkpointing.vision) == (True, True)


def test_a_line_names_the_new_key(cli: Callable[..., Result]) -> None:  # noqa: F811
    shown = cli("recipes", "check", "mini-pretrain", "--set", "optimizer.floor=0")
    assert shown.exit_code == 0
    assert shown.stderr == "note: the recipe key optimizer.floor is called optimizer.min_lr now\n"


def test_runs_and_chains_that_are_there_go_on_without_a_word(tmp_path: Path) -> None:
    """recipe.json of a run, and settings in chain.json, as they were written under the old names."""
    recipe = load_recipe("mini-pretrain")
    content = recipe.model_dump(mode="json")
    content["optimizer"]["floor"] = content["optimizer"].pop("min_lr")
    content["optimizer"]["start"] = content["optimizer"].pop("warmup_start_lr")
    content["validation"]["beams"] = content["validation"].pop("num_beams")
    content["train"].pop("gradient_checkpointing")
    content["train"] |= {"checkpoint_language": False, "checkpoint_vision": False}
    (tmp_path / "recipe.json").write_text(json.dumps(content))
    assert kept_recipe(tmp_path) == recipe
    now = recipe.model_dump(mode="json", exclude={"train": {"gradient_checkpointing"}})
    before = {**content, "train": {k: v for k, v in content["train"].items() if not k.startswith("checkpoint_")}}
    now["train"].pop("checkpoint_seconds")
    assert changes({"recipe": before}, {"recipe": now}) == []

"""Several processes against one: parameters, optimizer state, log, stopping and resuming."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evlgen.errors import EvlgenError, UsageError
from evlgen.recipes import Recipe
from evlgen.training import train
from tests.training.conftest import make_recipe
from tests.training.workers import train_together

BY_LOSS = {"every_steps": 5, "loss_items": 4, "caption_items": 0, "metric": "loss"}
STEPS = {"steps": 6, "precision": "float32", "log_every": 1}


def recipe_of(pictures: Path, dropout: float = 0.1, **train: Any) -> Recipe:
    recipe = make_recipe(
        pictures,
        validation=BY_LOSS,
        train={**STEPS, **train},
        data={"captions_per_item": 2},
        vocabulary={"steps": 2, "weight": 0.3},
    )
    connector = recipe.model.connector.model_copy(update={"dropout": dropout})
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"connector": connector})})


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "last" / "training.safetensors")


def log(folder: Path) -> list[Any]:
    measured = {"seconds", "seconds_left", "items_per_second", "captions_per_second", "memory_bytes", "start"}
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in measured} for row in rows]


def same(one: Path, other: Path) -> None:
    a, b = state(one), state(other)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def close(one: Path, other: Path) -> None:
    """To float32 rounding, as it grows through a few optimizer steps."""
    a, b = state(one), state(other)
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-3, atol=2e-5, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.slow
def test_two_processes_are_bit_for_bit_one_with_twice_the_accumulation(pictures: Path) -> None:
    train(recipe_of(pictures, accumulation_steps=2), folder=pictures / "one", device="cpu")
    reports = train_together(2, recipe_of(pictures), pictures / "two")
    same(pictures / "two", pictures / "one")
    assert reports[0][0] == reports[1][0], "both know the figures"
    assert reports[0][1] > 0
    assert reports[1][1] == 0, "only the main process reports"
    for ours, theirs in zip(log(pictures / "two"), log(pictures / "one"), strict=True):
        assert ours.keys() == theirs.keys()
        for key in ours.keys() & {"loss", "vocabulary_loss", "precision_at_5", "gradient_norm", "score", "lr"}:
            assert ours[key] == pytest.approx(theirs[key], rel=1e-5)


def test_accumulation_changes_nothing_but_rounding(pictures: Path) -> None:
    train(recipe_of(pictures, dropout=0.0), folder=pictures / "one", device="cpu")
    train(recipe_of(pictures, dropout=0.0, accumulation_steps=4), folder=pictures / "four", device="cpu")
    close(pictures / "four", pictures / "one")


@pytest.mark.slow
def test_a_stop_in_any_process_stops_all_and_another_number_of_processes_goes_on(pictures: Path) -> None:
    train(recipe_of(pictures, accumulation_steps=2), folder=pictures / "one", device="cpu")
    train_together(2, recipe_of(pictures), pictures / "two", stop_after=4)
    assert log(pictures / "two")[-1]["step"] == 3, "the same step in all"
    train(recipe_of(pictures, accumulation_steps=2), folder=pictures / "two", device="cpu", resume=True)
    same(pictures / "two", pictures / "one")


@pytest.mark.slow
def test_an_exploding_run_stops_every_process(pictures: Path) -> None:
    recipe = recipe_of(pictures)
    rates = {"learning_rate": 1e30, "min_lr": 1e30, "warmup_steps": 0, "warmup_start_lr": 1e30}
    recipe = recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update=rates)})
    errors = train_together(2, recipe, pictures / "run")
    assert [type(e) for e in errors] == [EvlgenError, EvlgenError]
    assert str(errors[0]) == str(errors[1])


def test_a_step_too_small_for_the_processes_is_refused(pictures: Path) -> None:
    with pytest.raises(UsageError, match=r"data.items_per_step 4 cannot be cut into 5 micro-batches \(1 processes x"):
        train(recipe_of(pictures, accumulation_steps=5), folder=pictures / "run", device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("learned_prompt", [False, True])
def test_sharded_parameters_train_and_resume_like_one_process(pictures: Path, learned_prompt: bool) -> None:
    """FSDP2 sums gradients in another order than one process: equal to float32 rounding."""
    sharded = {"sharding": "fsdp", "ema_decay": 0.9, "gradient_checkpointing": {"language": learned_prompt}}
    recipe = with_prompt(recipe_of(pictures, **sharded), learned_prompt)
    alone = with_prompt(recipe_of(pictures, accumulation_steps=4, ema_decay=0.9), learned_prompt)
    train(alone, folder=pictures / "one", device="cpu")
    two = recipe.model_copy(update={"train": recipe.train.model_copy(update={"accumulation_steps": 2})})
    train_together(2, two, pictures / "two", stop_after=5)
    train_together(2, two, pictures / "two", resume=True)
    close(pictures / "two", pictures / "one")
    names = ("model.safetensors", "training.safetensors")
    assert all((pictures / "two" / "last" / name).is_file() for name in names)
    for ours, theirs in zip(log(pictures / "two"), log(pictures / "one"), strict=True):
        for key in ours.keys() & {"loss", "vocabulary_loss", "gradient_norm", "score"}:
            assert ours[key] == pytest.approx(theirs[key], rel=1e-3)
    best, other = (load_file(pictures / run / "best" / "model.safetensors") for run in ("two", "one"))
    assert best.keys() == other.keys()
    for key in best:
        torch.testing.assert_close(best[key], other[key], rtol=1e-3, atol=2e-5)


def with_prompt(recipe: Recipe, learned: bool) -> Recipe:
    language = recipe.model.language.model_copy(update={"learned_prompt": learned})
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"language": language})})

"""Runs that train adapters of the language model: what changes, resuming, several processes, the estimate."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evlgen.data.batches import CaptionSource
from evlgen.data.caption_sources import CaptionedItem
from evlgen.errors import UsageError
from evlgen.recipes import Recipe
from evlgen.recipes.schema import ScstConfig
from evlgen.training import train
from evlgen.training.optimizer import choose_trained
from evlgen.training.run_estimate import estimate_run, ways_to_run
from evlgen.training.self_critical import SelfCritical
from evlgen.training.task import CaptionTask, MicroBatch
from tests.modeling.conftest import TINY_CNN, tiny_config, tiny_model, with_lora
from tests.training.conftest import make_recipe
from tests.training.test_processes import BY_LOSS, close, same, state
from tests.training.workers import train_together

pytest.importorskip("peft")


def lora_recipe(pictures: Path, **train_keys: Any) -> Recipe:
    model = with_lora(tiny_config(TINY_CNN, dropout=0.1), rank=2, dropout=0.1, targets=["q_proj", "up_proj"])
    return make_recipe(
        pictures,
        model=model.model_dump(),
        validation=BY_LOSS,
        vocabulary={"steps": 2, "weight": 0.3},
        optimizer={"learning_rate": 3e-3, "warmup_steps": 1, "warmup_start_lr": 1e-5, "lora_multiplier": 2.0},
        train={"steps": 4, "precision": "float32", "log_every": 1, **train_keys},
    )


def test_adapters_learn_resume_and_are_kept(pictures: Path) -> None:
    recipe = lora_recipe(pictures, ema_decay=0.5)
    train(recipe, folder=pictures / "whole", device="cpu")
    calls = iter(range(1, 100))
    train(recipe, folder=pictures / "part", device="cpu", stop=lambda: next(calls) == 4)
    train(recipe, folder=pictures / "part", device="cpu", resume=True)
    same(pictures / "part", pictures / "whole")
    best = load_file(pictures / "whole" / "best" / "model.safetensors")
    changed = [name for name, value in best.items() if "lora_B" in name and value.abs().max() > 0]
    assert len(changed) == 2 * 2
    assert not any(".language." in f".{name}" and ".lora_" not in name for name in (*best, *state(pictures / "whole")))
    assert json.loads((pictures / "whole" / "best" / "config.json").read_text())["language"]["lora"]["rank"] == 2


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_accumulation(pictures: Path) -> None:
    """Steps of the vocabulary phase do not touch the adapters, which DDP has to know."""
    train(lora_recipe(pictures, accumulation_steps=2), folder=pictures / "one", device="cpu")
    train_together(2, lora_recipe(pictures), pictures / "two")
    same(pictures / "two", pictures / "one")


@pytest.mark.slow
def test_sharded_adapters_are_those_of_one_process(pictures: Path) -> None:
    train(lora_recipe(pictures, accumulation_steps=2), folder=pictures / "one", device="cpu")
    train_together(2, lora_recipe(pictures, sharding="fsdp"), pictures / "two")
    close(pictures / "two", pictures / "one")


def test_the_estimate_counts_adapters_and_quantized_weights(pictures: Path) -> None:
    plain = make_recipe(pictures, train={"precision": "bfloat16"}, vocabulary={"steps": 0, "weight": 0.0})
    lora = with_lora(plain.model, rank=2, targets=["q_proj", "up_proj"])
    quantized = lora.language.model_copy(update={"quantization": "nf4"})
    both = plain.model_copy(update={"model": lora.model_copy(update={"language": quantized})})
    before, after = (estimate_run(one, device="cpu", processes=1) for one in (plain, both))
    added = 2 * 2 * ((32 + 32) + (32 + 48))
    assert after.trained_parameters - before.trained_parameters == added
    own, theirs = after.memory[0], before.memory[0]
    assert (own.trained - theirs.trained, own.optimizer - theirs.optimizer) == (4 * added, 8 * added)
    matrices = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 48)  # bfloat16: two bytes each, then half of one and scales
    assert theirs.frozen - own.frozen == matrices * 2 - matrices // 2 - matrices // 64 * 4
    shown = [ways_to_run(one, torch.bfloat16, torch.device("cpu"), 2) for one in (plain, both)]
    assert shown == [[("none", 1), ("ddp", 2), ("fsdp", 2)], [("none", 1), ("ddp", 2)]]


def test_samples_that_teach_nothing_give_every_adapter_a_gradient_of_zero() -> None:
    """So cold that each sample is the greedy caption: DDP waits for gradients of all parameters all the same."""
    model = tiny_model(with_lora(tiny_config(TINY_CNN), rank=2))
    source = CaptionSource("s", [CaptionedItem("a", ("a", "b"))], None, [])  # type: ignore[arg-type]
    config = ScstConfig(samples=2, max_new_tokens=3, temperature=1e-4)
    task = CaptionTask(model, None, torch.float32, SelfCritical(config, [source]))
    choose_trained(task, learned_prompt=False)
    task.learn()
    sums = task(MicroBatch(torch.randn(1, 2, 9, 64), None, None, 0, [(0, 0)], [5]))
    sums["scst"].backward()
    gradients = [p.grad for p in task.parameters() if p.requires_grad and p.grad is not None]
    assert len(gradients) == sum(p.requires_grad for p in task.parameters())
    assert not any(g.any() for g in gradients)


def test_quantized_weights_are_not_sharded(pictures: Path) -> None:
    model = tiny_config(TINY_CNN).model_dump()
    model["language"] |= {"quantization": "int8", "source": "x", "architecture": None}
    with pytest.raises(ValueError, match=r"train\.sharding fsdp cannot shard quantized weights: set it to auto or ddp"):
        make_recipe(pictures, model=model, train={"sharding": "fsdp"})


def test_without_bitsandbytes_a_run_is_one_line(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else found(name))
    model = tiny_config(TINY_CNN).model_dump()
    model["language"] |= {"quantization": "int8", "source": str(pictures), "architecture": None}
    with pytest.raises(UsageError, match=r"needs the package bitsandbytes \(pip install 'evlgen\[quantize\]'\)"):
        train(make_recipe(pictures, model=model), folder=pictures / "run", device="cpu")

"""Estimates against real runs: tensors, feature files, shards, resident memory; the meter against sums by hand."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from evlgen.configuration import LanguageConfig
from evlgen.data.store import ROWS
from evlgen.errors import UsageError
from evlgen.modeling.model import EVLGenForConditionalGeneration
from evlgen.recipes import Recipe
from evlgen.training import train
from evlgen.training.estimate import estimate_run, measured_seconds
from evlgen.training.loop import Trainer
from evlgen.training.memory import PhaseMemory
from evlgen.training.metering import AllocationMeter
from evlgen.training.records import machine_facts
from evlgen.training.validation import Validator
from tests.modeling.conftest import TINY_CNN, TINY_LLAMA, TINY_VIT, tiny_config
from tests.training import workers
from tests.training.conftest import make_recipe

TOWERS = {
    "cnn": tiny_config(TINY_CNN, "mean", dropout=0.1),
    "cnn-temporal": tiny_config(TINY_CNN, "temporal", dropout=0.1),
    "vit-temporal": tiny_config(TINY_VIT, "temporal", dropout=0.1),
}


def recipe_of(pictures: Path, tower: str, **sections: dict[str, Any]) -> Recipe:
    recipe = make_recipe(pictures, **{"vocabulary": {"weight": 0.3}, **sections})
    return recipe.model_copy(update={"model": TOWERS[tower]})


def test_the_meter_on_two_parameters_by_hand() -> None:
    """1000 floats are 4000 bytes, a loss and its gradient 4 each; mul keeps its inputs, sum keeps nothing."""
    u, w = (torch.ones(1000, requires_grad=True) for _ in range(2))
    with AllocationMeter([u, w]) as meter:
        loss = (u * w).sum()
        assert (meter.now, meter.peak) == (4, 4004)
        loss.backward()
        assert (meter.now, meter.peak) == (8004, 8008), "two gradients, the loss; and the loss's gradient for a while"
        loss = (u * w).exp().sum()
        assert meter.now == 12_004, "exp keeps its result"
        u.grad = None
        assert meter.now == 8004


class Held:
    """Bytes that a real run holds: parts counted tensor by tensor, and the peak of a step beyond them, metered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.peaks: dict[str, list[int]] = {}
        monkeypatch.setattr(Trainer, "_step", self.step_of(Trainer._step))

    def step_of(self, real: Any) -> Any:
        def step(trainer: Trainer, plan: Any, batches: list[Any]) -> Any:
            state = [t for s in trainer.update.optimizer.state.values() for t in s.values()]
            average = [] if trainer.update.average is None else list(trainer.update.average.values.values())
            there = [t for b in batches for t in (b.visual, b.words) if t is not None]  # another thread made them
            known = [*trainer.task.parameters(), *trainer.task.buffers(), *state, *average, *there]
            with AllocationMeter(known) as meter:
                record = real(trainer, plan, batches)
            kind = "caption step" if trainer.steps.captioning(plan.step) else "vocabulary step"
            first = plan.step in (0, trainer.recipe.vocabulary.steps)  # in which the optimizer makes its state
            if not first:
                self.peaks.setdefault(kind, []).append(meter.peak + count(there))
            parameters = list(trainer.task.parameters())
            frozen = [p for p in parameters if not p.requires_grad]
            trained = [p for p in parameters if p.requires_grad]
            moments = [s[k] for s in trainer.update.optimizer.state.values() for k in ("exp_avg", "exp_avg_sq")]
            self.parts = {
                "frozen": count([*frozen, *trainer.task.buffers()]),
                "trained": count(trained),
                "optimizer": count(moments),
                "average": count(average),
                "gradients": count(p.grad for p in trained if p.grad is not None),
            }
            return record

        return step


def count(tensors: Any) -> int:
    return sum({id(t): t.numel() * t.element_size() for t in tensors}.values())


@pytest.mark.parametrize(
    ("tower", "visual", "recomputed"),
    [
        pytest.param("cnn", "auto", False, marks=pytest.mark.slow),
        pytest.param("cnn-temporal", "auto", False, marks=pytest.mark.slow),
        ("vit-temporal", "auto", False),
        pytest.param("cnn-temporal", "pixels", False, marks=pytest.mark.slow),
        pytest.param("vit-temporal", "auto", True, marks=pytest.mark.slow),
    ],
)
def test_parts_and_peak_are_those_of_a_real_run(
    pictures: Path, tower: str, visual: str, recomputed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(
        pictures,
        tower,
        train={"ema_decay": 0.0, "gradient_checkpointing": {"vision": recomputed}},
        data={"visual": visual},
    )
    estimate = estimate_run(recipe, folder=pictures / "none", device="cpu")
    estimated = estimate.memory[0]
    held = Held(monkeypatch)
    train(recipe, folder=pictures / "run", device="cpu")
    parts = vars(estimated.phases["caption step"])
    assert {name: parts[name] for name in held.parts} == held.parts
    for name, peaks in held.peaks.items():
        ours = max(beyond(estimated.phases[name]), beyond(estimated.phases["update"]))
        assert ours == max(peaks), name
    on_pixels = visual == "pixels" or tower == "vit-temporal"
    assert ("features" in estimated.phases) == ((estimate.feature_bytes or 0) > 0) == (not on_pixels)
    if on_pixels:
        pixels = 4 * 4 * 3 * recipe.model.vision.image_size**2
        assert parts["batches"] == 2 * pixels, "bytes of the two steps that are made ahead, 4 items of 4 frames each"


def beyond(phase: PhaseMemory) -> int:
    return phase.gradients + phase.activations


@pytest.mark.slow
def test_a_moving_average_and_accumulation(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(pictures, "cnn", train={"ema_decay": 0.9, "accumulation_steps": 2}, vocabulary={"steps": 0})
    recipe = recipe.model_copy(update={"vocabulary": recipe.vocabulary.model_copy(update={"weight": 0.0})})
    estimated = estimate_run(recipe, folder=pictures / "none", device="cpu").memory[0]
    held = Held(monkeypatch)
    train(recipe, folder=pictures / "run", device="cpu")
    parts = vars(estimated.phases["caption step"])
    assert {name: parts[name] for name in held.parts} == held.parts
    assert estimated.items == 2
    step = estimated.phases["caption step"]
    ours, real = beyond(step) + visual(recipe, 2), max(held.peaks["caption step"])
    assert real <= ours <= 1.01 * real, "as if the largest micro-batch were the last of its step"
    assert step.batches == 3 * visual(recipe, 2), "the other half of this step, and the next step"


def visual(recipe: Recipe, items: int) -> int:
    features = EVLGenForConditionalGeneration.from_config(recipe.model).vision.feature_width
    return items * recipe.data.max_frames * recipe.model.vision.tokens * features * 2


@pytest.mark.slow
def test_features_on_disk_are_those_of_a_real_run(pictures: Path) -> None:
    recipe = recipe_of(pictures, "cnn-temporal")
    estimated = estimate_run(recipe, folder=pictures / "none", device="cpu")
    train(recipe, folder=pictures / "run", device="cpu")
    sizes = [file.stat().st_size for file in (pictures / "cache").rglob(ROWS)]
    assert len(sizes) == 2
    assert estimated.feature_bytes == sum(sizes)


def shards_of(recipe: Recipe, folder: Path) -> dict[str, int]:
    """What a process of a real run holds of the parameters once they are sharded."""
    os.environ["EVLGEN_CACHE"] = str(folder.parent / "cache")

    def run(trainer: Trainer) -> Any:
        local = [(p.requires_grad, p.to_local() if hasattr(p, "to_local") else p) for p in trainer.task.parameters()]
        buffers = list(trainer.task.buffers())
        frozen = count([t for trained, t in local if not trained] + buffers)
        return {"frozen": frozen, "trained": count(t for trained, t in local if trained)}

    Trainer.run = run  # type: ignore[method-assign]
    return train(recipe, folder=folder, device="cpu")


@pytest.mark.slow
def test_shards_are_those_of_two_real_processes(pictures: Path) -> None:
    """A tower whose features are cached stays whole in each; rows of odd count are not halved, so sums are compared."""
    recipe = recipe_of(pictures, "cnn-temporal", train={"sharding": "fsdp"})
    estimated = estimate_run(recipe, folder=pictures / "none", device="cpu", processes=2).memory[2]
    assert (estimated.sharding, estimated.processes) == ("fsdp", 2)
    real = workers.together(2, shards_of, recipe, pictures / "run")
    for part in ("frozen", "trained"):
        both = sum(one[part] for one in real)
        assert 2 * getattr(estimated.phases["caption step"], part) == pytest.approx(both, abs=2), part


def resident_growth(recipe: Recipe, small: Recipe, folder: Path) -> int:
    """Bytes by which the resident memory of a process grows, at its largest, in a real run; steps alone."""
    os.environ["EVLGEN_CACHE"] = str(folder.parent / "cache")
    train(small, folder=folder.parent / "small", device="cpu")  # libraries and what they keep from their first use
    before = resident("VmRSS")
    Validator.run = lambda *_: {}  # type: ignore[method-assign]
    Validator.score = lambda *_: 0.0  # type: ignore[method-assign]
    train(recipe, folder=folder, device="cpu")
    return resident("VmHWM") - before


def resident(what: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def middle_sized(pictures: Path, **train: Any) -> Recipe:
    """14 M parameters of a language model, 4 items with 6 captions of 60 tokens each."""
    words = "abcdefghijklmnopqrstuvwxyz " * 3
    rows = [json.loads(line) for line in (pictures / "captions.jsonl").read_text().splitlines()]
    for row in rows:
        row["captions"] = [words[k:] for k in range(6)]
    (pictures / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = make_recipe(
        pictures,
        data={"captions_per_item": 6},
        vocabulary={"steps": 0, "weight": 0.0},
        train={"steps": 2, **train},
        optimizer={"warmup_steps": 1},
    )
    llm = {**TINY_LLAMA, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8}
    llm |= {"num_attention_heads": 8, "num_key_value_heads": 8, "max_position_embeddings": 512}
    config = tiny_config(TINY_CNN, "mean", layers=4, width=384, heads=8, intermediate=1024, r=1)
    language = LanguageConfig(architecture=llm, width=384, prompt_before="<", prompt_after=">", max_text_tokens=60)
    return recipe.model_copy(update={"model": config.model_copy(update={"language": language})})


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_total_is_the_growth_of_resident_memory(pictures: Path) -> None:
    """What is left out (workspaces and the allocator's losses) is less than a quarter; libraries are warm."""
    recipe = middle_sized(pictures)
    estimated = estimate_run(recipe, folder=pictures / "none", device="cpu").memory[0]
    (grown,) = workers.together(1, resident_growth, recipe, recipe_of(pictures, "cnn"), pictures / "run")
    step = estimated.phases["caption step"]
    assert estimated.peak == "caption step"
    assert 0.95 * step.total < grown < 1.25 * step.total


def test_processes_that_a_step_is_too_small_for(pictures: Path) -> None:
    recipe = recipe_of(pictures, "cnn", data={"items_per_step": 1}, vocabulary={"steps": 0, "weight": 0.1})
    shown = estimate_run(recipe, folder=pictures / "none", device="cpu").memory
    assert [one.sharding for one in shown] == ["none"]
    with pytest.raises(UsageError, match=r"data.items_per_step 1 cannot be cut into 3 micro-batches \(3 processes x"):
        estimate_run(recipe, folder=pictures / "none", device="cpu", processes=3)


def test_time_is_that_of_the_log(pictures: Path) -> None:
    """4 vocabulary steps of 4 items at 2 items/s and 8 caption steps of 4 at a median of 8/s: 8 s and 4 s."""
    recipe, folder = recipe_of(pictures, "cnn"), pictures / "run"
    folder.mkdir()
    (folder / "recipe.json").write_text(recipe.model_dump_json())
    start = {**machine_facts(torch.device("cpu")), "processes": 1}
    rates = [2, 2, 8, 1, 9]
    rows = [{"step": 0, "start": start}, *({"step": 2 * n, "items_per_second": r} for n, r in enumerate(rates))]
    write_log(folder, rows)
    expected = pytest.approx(12.0), f"5 lines of {folder / 'log.jsonl'}, processes: 1"
    assert measured_seconds(recipe, folder, torch.device("cpu")) == expected
    write_log(folder, rows[:3])
    assert said(recipe, folder) == f"no caption step is logged in {folder}"
    write_log(folder, [{"step": 0, "start": {**start, "cores": 999}}, *rows[1:]])
    assert said(recipe, folder) == f"the log in {folder} is of another machine or device"
    longer = recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": 9})})
    assert said(longer, folder) == f"no steps of this recipe are logged in {folder}"
    assert said(recipe, pictures / "none") == f"no steps of this recipe are logged in {pictures / 'none'}"


def write_log(folder: Path, rows: list[Any]) -> None:
    torn = '{"step": 1'
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + torn)


def said(recipe: Recipe, folder: Path) -> str:
    seconds, why = measured_seconds(recipe, folder, torch.device("cpu"))
    assert seconds is None
    return why

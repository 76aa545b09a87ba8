"""Estimates against real runs: tensors, what autograd keeps, feature files, shards, resident memory, one step."""

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
from evlgen.training import run_estimate as estimating
from evlgen.training import train
from evlgen.training.loop import Trainer
from evlgen.training.memory_formulas import activation_bytes
from evlgen.training.optimizer import Update, choose_trained
from evlgen.training.run_estimate import RunEstimate, estimate_run, measure_step
from evlgen.training.task import CaptionTask, MicroBatch
from evlgen.training.validation import Validator
from tests.modeling.conftest import TINY_CNN, TINY_LLAMA, TINY_OPT, TINY_VIT, tiny_config, with_connector
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


def counted(recipe: Recipe, **options: Any) -> RunEstimate:
    """An estimate without a measured step, on the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimating, "_not_tried", lambda *_: "a test counts only")
        return estimate_run(recipe, device="cpu", **options)


def held_by(trainer: Trainer) -> dict[str, int]:
    """Bytes that a real run holds after a step, tensor by tensor."""
    parameters = list(trainer.task.parameters())
    trained = [p for p in parameters if p.requires_grad]
    states = trainer.update.optimizer.state.values()
    average = trainer.update.average
    return {
        "frozen": count([*(p for p in parameters if not p.requires_grad), *trainer.task.buffers()]),
        "trained": count(trained),
        "optimizer": count(state[name] for state in states for name in ("exp_avg", "exp_avg_sq")),
        "average": 0 if average is None else count(average.values.values()),
        "gradients": count(p.grad for p in trained if p.grad is not None),
    }


def count(tensors: Any) -> int:
    return sum({id(t): t.numel() * t.element_size() for t in tensors}.values())


@pytest.mark.parametrize(
    ("tower", "visual"),
    [
        pytest.param("cnn", "auto", marks=pytest.mark.slow),
        ("vit-temporal", "auto"),
        pytest.param("cnn-temporal", "pixels", marks=pytest.mark.slow),
    ],
)
def test_parts_are_those_of_a_real_run(
    pictures: Path, tower: str, visual: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(
        pictures, tower, train={"ema_decay": 0.9}, data={"visual": visual}, vocabulary={"steps": 0, "weight": 0.0}
    )
    estimate = counted(recipe)
    held: dict[str, int] = {}
    step = Trainer._step

    def watched(trainer: Trainer, *arguments: Any) -> Any:
        record = step(trainer, *arguments)
        held.update(held_by(trainer))
        return record

    monkeypatch.setattr(Trainer, "_step", watched)
    train(recipe, folder=pictures / "run", device="cpu")
    assert {name: estimate.memory[0].parts[name] for name in held} == held
    assert ((estimate.feature_bytes or 0) > 0) == (visual != "pixels" and tower != "vit-temporal")


def test_micro_batches_of_accumulation_are_smaller(pictures: Path) -> None:
    whole, halves = (counted(recipe_of(pictures, "cnn", train={"accumulation_steps": n})).memory[0] for n in (1, 2))
    assert (whole.items, halves.items) == (4, 2)
    assert halves.activations < whole.activations


def kept_bytes(task: CaptionTask, batch: MicroBatch) -> int:
    """What autograd keeps of a forward pass, each storage once, by torch's own hooks."""
    known = {p.untyped_storage().data_ptr() for p in [*task.parameters(), *task.buffers()]}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        sums = task(batch)
    assert sums["captions"].requires_grad
    return sum(kept.values())


OPT = {**TINY_OPT, "hidden_size": 128, "ffn_dim": 512, "num_hidden_layers": 6, "word_embed_proj_dim": 128}
LLAMA = {**TINY_LLAMA, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 6}


@pytest.mark.parametrize("recomputed", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize(("tower", "llm"), [("cnn", OPT), ("cnn", LLAMA), ("vit", LLAMA)], ids=["opt", "llama", "vit"])
def test_activations_are_what_autograd_keeps(pictures: Path, tower: str, llm: dict[str, Any], recomputed: bool) -> None:
    """With gradient checkpointing autograd keeps inputs alone at first; the formula adds the layer that is remade."""
    vision, fusion = (TINY_VIT, "temporal") if tower == "vit" else (TINY_CNN, "mean")
    config = tiny_config(vision, fusion, dropout=0.1, layers=3, width=96, heads=4, intermediate=384, r=1)
    language = LanguageConfig(architecture=llm, width=128, prompt_before="<", prompt_after=">", max_text_tokens=40)
    recipe = make_recipe(
        pictures,
        model=config.model_copy(update={"language": language}).model_dump(),
        train={"gradient_checkpointing": {"language": recomputed, "vision": recomputed}},
        vocabulary={"steps": 0, "weight": 0.0},
    )
    model = EVLGenForConditionalGeneration.from_config(recipe.model)
    task = CaptionTask(model, None, torch.float32)
    task.prepare(recipe.train)
    choose_trained(task, learned_prompt=False)
    captions = [[list(range(40))] * 3] * 6
    if tower == "vit":
        visual = torch.zeros(6, 4, 3, recipe.model.vision.image_size, recipe.model.vision.image_size)
    else:
        visual = torch.randn(6, 4, recipe.model.vision.tokens, model.vision.feature_width)
    kept = kept_bytes(task.train(), MicroBatch(visual, captions, None, seed=0))
    cached = tower != "vit"
    reckoned = activation_bytes(recipe, task, captions, cached=cached, gpu=False)
    if recomputed:
        plain = recipe.model_copy(update={"train": make_recipe(pictures).train})
        assert kept < reckoned < activation_bytes(plain, task, captions, cached=cached, gpu=False)
    else:
        assert reckoned == pytest.approx(kept, rel=0.25)


@pytest.mark.parametrize("kind", ["qformer", "perceiver", "linear", "mlp"])
def test_activations_of_other_connectors_are_what_autograd_keeps(pictures: Path, kind: str) -> None:
    """With little else in the model: a language model of one layer, few captions."""
    sizes = {"layers": 3, "width": 96, "heads": 4, "intermediate": 384, "queries": 8, "dropout": 0.1}
    section = {"linear": {"pool_to": 5}, "mlp": {"pool_to": 5, "width": 96}}.get(kind, sizes)
    config = with_connector(tiny_config(TINY_CNN), kind=kind, **section)
    recipe = make_recipe(pictures, model=config.model_dump(), vocabulary={"steps": 0, "weight": 0.0})
    task = CaptionTask(EVLGenForConditionalGeneration.from_config(recipe.model), None, torch.float32)
    task.prepare(recipe.train)
    choose_trained(task, learned_prompt=False)
    captions = [[list(range(4))]] * 40
    visual = torch.randn(40, 4, 9, task.model.vision.feature_width)
    kept = kept_bytes(task.train(), MicroBatch(visual, captions, None, seed=0))
    assert activation_bytes(recipe, task, captions, cached=True, gpu=False) == pytest.approx(kept, rel=0.25)


@pytest.mark.slow
def test_features_on_disk_are_those_of_a_real_run(pictures: Path) -> None:
    recipe = recipe_of(pictures, "cnn-temporal")
    estimated = counted(recipe)
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
    off = {"steps": 0, "weight": 0.0}  # a few words' embeddings, which are not counted
    recipe = recipe_of(pictures, "cnn-temporal", train={"sharding": "fsdp"}, vocabulary=off)
    estimated = counted(recipe, processes=2).memory[2]
    assert (estimated.sharding, estimated.processes) == ("fsdp", 2)
    real = workers.together(2, shards_of, recipe, pictures / "run")
    for part in ("frozen", "trained"):
        both = sum(one[part] for one in real)
        assert 2 * estimated.parts[part] == pytest.approx(both, abs=2), part


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
    """What is left out (temporaries and the allocator's losses) is less than a half; libraries are warm."""
    recipe = middle_sized(pictures)
    estimated = counted(recipe).memory[0]
    (grown,) = workers.together(1, resident_growth, recipe, recipe_of(pictures, "cnn"), pictures / "run")
    assert 0.95 * estimated.total < grown < 1.5 * estimated.total


def test_processes_that_a_step_is_too_small_for(pictures: Path) -> None:
    recipe = recipe_of(pictures, "cnn", data={"items_per_step": 1}, vocabulary={"steps": 0, "weight": 0.1})
    shown = counted(recipe).memory
    assert [one.sharding for one in shown] == ["none"]
    with pytest.raises(UsageError, match=r"data.items_per_step 1 cannot be cut into 3 micro-batches \(3 processes x"):
        estimate_run(recipe, device="cpu", processes=3)


def test_a_step_is_measured_with_random_weights(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen parts may be files that nobody has: nothing is loaded. Micro-batches are as in training."""
    recipe = recipe_of(pictures, "cnn", train={"accumulation_steps": 2})
    missing = recipe.model.vision.model_copy(update={"source": "/nowhere/tower.safetensors"})
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"vision": missing})})
    losses: list[float] = []
    backward = Update.backward

    def watched(update: Update, loss: torch.Tensor) -> None:
        losses.append(loss.item())
        backward(update, loss)

    monkeypatch.setattr(Update, "backward", watched)
    estimate = estimate_run(recipe, device="cpu")
    assert len(losses) == 2 * 2, "two steps of two micro-batches"
    assert losses[0] + losses[1] == pytest.approx(torch.tensor(256.0).log().item(), rel=0.2), "nats a token"
    assert estimate.step is not None
    assert estimate.seconds == estimate.step.seconds * recipe.train.steps
    assert estimate.measured == "one step with random weights, vocabulary steps left out"
    assert estimate.step.memory_bytes > estimate.memory[0].total


def test_pixels_go_through_the_tower_of_a_measured_step(pictures: Path) -> None:
    recipe = recipe_of(pictures, "vit-temporal")
    step = measure_step(recipe, [[[5, 6]]] * 2, torch.device("cpu"), torch.float32, cached=False)
    assert step.seconds > 0


def test_what_is_not_tried_says_why(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(pictures, "cnn")
    monkeypatch.setattr(estimating, "MOST_PARAMETERS_ON_A_CPU", 1000)
    large = estimate_run(recipe, device="cpu")
    assert (large.step, large.seconds) == (None, None)
    assert large.measured.endswith("a step of 0.0 billion parameters is not tried on a CPU")
    monkeypatch.setattr(estimating, "room_of", lambda *_: ("this machine", 10))
    small = estimate_run(recipe, device="cpu")
    assert small.measured.endswith("a step is not tried where it does not fit")
    named = estimate_run(recipe, gpu="t4-16gb")
    assert (named.step, named.measured) == (None, "nothing is measured on t4-16gb")

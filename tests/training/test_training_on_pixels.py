"""Training on pixels: a frozen tower as on features, a ViT that is trained inside, resuming, processes, bad files."""

import json
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from evlgen.errors import EvlgenError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.vision import VisionTower
from evlgen.recipes import Recipe
from evlgen.training import train
from evlgen.training.steps import PREFETCHED_STEPS, PrefetchedSteps
from evlgen.training.training_run import Trainer
from tests.data.media_files import clip, decode_frames
from tests.modeling.conftest import TINY_CNN, TINY_VIT, tiny_config, tiny_model
from tests.training.conftest import make_recipe
from tests.training.test_killed_training import die_inside, equal_runs
from tests.training.test_processes import close, log, same
from tests.training.workers import alone, train_together

LEVELS = {"a.mp4": [20, 120, 220, 90], "b.mp4": [200, 30, 60], "c.mp4": [90, 90, 250, 10], "d.mp4": [40, 80]}
GATES = [f"vision.trunk.blocks.{n}.temporal.alpha" for n in range(2)]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Folder with four clips in media/ and captions.jsonl."""
    (tmp_path / "media").mkdir()
    rows = []
    for name, levels in LEVELS.items():
        (tmp_path / "media" / name).write_bytes(clip(levels))
        rows.append({"video": name, "captions": [f"{name[0]} goes up", f"The {name[0]}."]})
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def recipe_of(folder: Path, vision: Any = TINY_VIT, fusion: str = "temporal", **sections: Any) -> Recipe:
    """Four clips of up to three frames a step, on a tower whose weights are in a file: the same in every run."""
    torch.manual_seed(0)
    weights = folder / f"{vision.name}.safetensors"
    save_file(VisionTower(vision).trunk.state_dict(), weights)
    vision = vision.model_copy(update={"source": str(weights)})
    wanted: dict[str, Any] = {
        "model": tiny_config(vision, fusion, dropout=0.1).model_dump(),
        "vocabulary": {"steps": 0, "weight": 0.0},
        "validation": {"every_steps": 3, "loss_items": 4, "caption_items": 0, "metric": "loss"},
        "optimizer": {"warmup_steps": 1, "gate_multiplier": 30.0},
        "train": {"steps": 4, "precision": "float32", "log_every": 1},
        "data": {"max_frames": 3, "captions_per_item": 2},
    }
    for name, values in sections.items():
        wanted[name] = {**wanted.get(name, {}), **values}
    return make_recipe(folder, **wanted)


def run(recipe: Recipe, folder: Path, **options: Any) -> list[Any]:
    torch.manual_seed(0)
    train(recipe, folder=folder, device="cpu", **options)
    return log(folder)


@pytest.mark.slow
def test_a_frozen_tower_learns_from_pixels_what_it_learns_from_features(clips: Path) -> None:
    """Losses, gradients and captions; features are rounded to float16."""
    scores = {"caption_items": 4, "metric": "cider"}
    made = {}
    for visual in ("features", "pixels"):
        recipe = recipe_of(
            clips, TINY_CNN, data={"visual": visual}, vocabulary={"steps": 2, "weight": 0.3}, validation=scores
        )
        made[visual] = run(recipe, clips / visual)
    assert len(made["pixels"]) == len(made["features"]) > 8
    for ours, theirs in zip(made["pixels"], made["features"], strict=True):
        assert ours.keys() == theirs.keys()
        for key in ours.keys() & {"loss", "vocabulary_loss", "gradient_norm", "precision_at_5", "gates"}:
            assert ours[key] == pytest.approx(theirs[key], rel=2e-3, abs=1e-6), key
        if "validation" in ours:
            (ours,), (theirs,) = ours["validation"].values(), theirs["validation"].values()
            assert ours["captions"] == theirs["captions"]
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
    assert {path.name for path in (clips / "cache").iterdir()} == {"features", "index"}


def slow_loss(recipe: Recipe, model: EVLGenForConditionalGeneration) -> tuple[float, float]:
    """Mean nats per token of all captions of all clips in their three frames, one clip at a time, by the model alone;
    and the gradient norm of what is trained."""
    total, tokens = torch.zeros(()), 0
    for name in LEVELS:
        frames = decode_frames(name, (Path(recipe.data.train[0].media) / name).read_bytes(), 3)
        shown = np.stack([frames[min(f, len(frames) - 1)] for f in range(3)])
        texts = [model.language.encode_caption(text) for text in (f"{name[0]} goes up", f"the {name[0]}")]
        out = model([texts], pixel_values=model.processor([shown]))
        total, tokens = total + out.loss * out.tokens, tokens + out.tokens
    (total / tokens).backward()
    trained = dict(model.named_parameters())
    norms = [trained[n].grad.norm() for n in model.trainable_names() if trained[n].grad is not None]
    return (total / tokens).item(), torch.stack(norms).norm().item()


@pytest.mark.slow
def test_modules_inside_a_vit_are_trained(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step is what the model computes without the engine; every gate has a gradient, and moves."""
    data = {"min_frames": 3, "train": [{"captions": str(clips / "captions.jsonl"), "media": str(clips / "media")}]}
    model = tiny_config(recipe_of(clips).model.vision, "temporal", dropout=0.0).model_dump()
    for name, levels in LEVELS.items():  # three frames each: which are chosen is no question
        (clips / "media" / name).write_bytes(clip((levels * 2)[:3]))
    started: dict[str, torch.Tensor] = {}

    def remember(trainer: Trainer) -> Any:
        with torch.no_grad():
            for block in trainer.model.vision.blocks:
                block.temporal.alpha.fill_(0.5)
        started.update({k: v.clone() for k, v in trainer.model.state_dict().items()})
        return real(trainer)

    real = Trainer.run
    monkeypatch.setattr(Trainer, "run", remember)
    recipe = recipe_of(clips, data=data, model=model)
    first = next(row for row in run(recipe, clips / "run") if row.get("step") == 0 and "loss" in row)
    alone = tiny_model(recipe.model)
    alone.load_state_dict(started)
    loss, norm = slow_loss(recipe, alone)
    assert first["loss"] == pytest.approx(loss, rel=1e-5)
    assert first["gradient_norm"] == pytest.approx(norm, rel=1e-4)
    assert all(p.grad.abs() > 0 for n, p in alone.named_parameters() if n in GATES)
    trained = load_file(clips / "run" / "last" / "model.safetensors")
    assert all((trained[name] - 0.5).abs() > 1e-4 for name in GATES)
    queries = [name.replace("alpha", "query.weight") for name in GATES]
    assert not any(torch.equal(trained[name], started[name]) for name in queries)


@pytest.mark.slow
def test_a_stopped_and_resumed_run_is_bit_for_bit_the_unbroken_one(clips: Path) -> None:
    run(recipe_of(clips), clips / "whole")
    calls = iter(range(1, 100))
    run(recipe_of(clips), clips / "part", stop=lambda: next(calls) == 2)
    run(recipe_of(clips), clips / "part", resume=True)
    equal_runs(clips / "part", clips / "whole")


@pytest.mark.slow
def test_a_killed_and_resumed_run_is_bit_for_bit_the_unbroken_one(clips: Path) -> None:
    """kill -9 in a step, with frames of the next ones under way."""
    recipe = recipe_of(clips, train={"checkpoint_seconds": 1e-9})
    run(recipe, clips / "whole")
    assert alone(die_inside, recipe, clips / "part", "step", 2) == -signal.SIGKILL
    run(recipe, clips / "part", resume=True)
    equal_runs(clips / "part", clips / "whole")


def test_recomputed_blocks_keep_less_and_give_the_same_gradients() -> None:
    gradients, kept = [], []
    for recomputing in (False, True):
        vision = tiny_model(tiny_config(fusion="temporal")).vision
        for block in vision.blocks:
            block.temporal.alpha.data.fill_(0.5)
        if recomputing:
            vision.recompute_blocks()
        sizes: list[int] = []
        pixels = torch.randn(2, 3, 3, 48, 48, generator=torch.Generator().manual_seed(0))
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            out = vision.encode(pixels)
        out[..., ::3].sum().backward()
        gradients.append([p.grad for block in vision.blocks for p in block.temporal.parameters()])
        kept.append(sum(sizes))
    assert all(torch.equal(a, b) and a.abs().sum() > 0 for a, b in zip(*gradients, strict=True))
    assert kept[1] < kept[0] / 4


@pytest.mark.slow
def test_a_run_with_recomputed_blocks_is_the_same(clips: Path) -> None:
    plain = run(recipe_of(clips), clips / "plain")
    again = run(recipe_of(clips, train={"gradient_checkpointing": {"vision": True}}), clips / "again")
    assert again == plain
    same(clips / "again", clips / "plain")


@pytest.mark.slow
def test_two_processes_are_bit_for_bit_one_with_twice_the_accumulation(clips: Path) -> None:
    run(recipe_of(clips, train={"accumulation_steps": 2}), clips / "one")
    train_together(2, recipe_of(clips), clips / "two")
    same(clips / "two", clips / "one")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_sharded_blocks_train_and_resume_like_one_process(clips: Path, precision: str) -> None:
    """The tower's convolution has its channels last, and its blocks mix frozen and trained parameters."""
    settings = {"precision": precision, "gradient_checkpointing": {"vision": True}}
    run(recipe_of(clips, train={"accumulation_steps": 2, **settings}), clips / "one")
    sharded = recipe_of(clips, train={"sharding": "fsdp", **settings})
    train_together(2, sharded, clips / "two", stop_after=3)
    train_together(2, sharded, clips / "two", resume=True)
    if precision == "float32":
        close(clips / "two", clips / "one")
    losses = [[row["loss"] for row in log(clips / name) if "loss" in row] for name in ("two", "one")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4 if precision == "float32" else 2e-2)


@pytest.mark.slow
def test_a_broken_file_is_left_out_and_one_that_breaks_later_is_replaced(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (clips / "media" / "a.mp4").write_bytes(b"no video")
    (clips / "media" / "d.mp4").unlink()
    recipe = recipe_of(clips, data={"max_broken_share": 0.25})
    with pytest.raises(
        EvlgenError, match=r"^\S+/captions: 2 of 4 items \(50.0%\) cannot be used, .* a.mp4: .*; d.mp4: "
    ):
        run(recipe, clips / "run")
    recipe = recipe_of(clips, data={"max_broken_share": 0.75, "items_per_step": 2})
    rows: list[Any] = []

    def spoil(trainer: Trainer, total: int) -> None:
        (clips / "media" / "b.mp4").write_bytes(b"no video")

    monkeypatch.setattr(Trainer, "_say_what_comes", spoil)  # behind the validation at the start
    with pytest.raises(EvlgenError, match=r"^b.mp4 cannot be used: .* \(mend it or leave it out"):
        run(recipe, clips / "run", report=rows.append)  # it is validated on as well
    (warning,) = [row["warning"] for row in rows if "warning" in row]
    assert warning.startswith(
        f"broken items, from now on replaced by others of their source: 1 ({clips.name}/captions: b.mp4: "
    )
    assert sum("loss" in row for row in rows) == 3, "up to the next validation"


@pytest.mark.parametrize(("fusion", "passes"), [("temporal", 2), pytest.param("mean", 1, marks=pytest.mark.slow)])
def test_a_self_critical_step_runs_the_tower_once(
    clips: Path, monkeypatch: pytest.MonkeyPatch, fusion: str, passes: int
) -> None:
    """Greedy, samples and gradient share it; only the starting model's own modules inside need a pass of their own."""
    EVLGenForConditionalGeneration.from_config(recipe_of(clips, fusion=fusion).model).save_pretrained(clips / "start")
    scst = {"samples": 2, "baseline": "greedy", "max_new_tokens": 6, "kl_weight": 0.1}
    settings = {"start_from": str(clips / "start"), "steps": 3}
    data = {"visual": "pixels"}
    calls: list[bool] = []
    encode = VisionTower.encode

    def counting(tower: VisionTower, pixels: torch.Tensor) -> torch.Tensor:
        calls.append(torch.is_grad_enabled())
        return encode(tower, pixels)

    monkeypatch.setattr(VisionTower, "encode", counting)
    validation = {"every_steps": 9, "caption_items": 4, "metric": "cider"}
    rows = run(
        recipe_of(clips, fusion=fusion, scst=scst, train=settings, data=data, validation=validation), clips / "run"
    )
    assert [row["step"] for row in rows if "reward" in row] == [0, 1, 2]
    assert sum(row.get("validation") is not None for row in rows) == 2
    assert len(calls) == 2 + 3 * passes
    assert sum(calls) == 3


def test_no_more_is_decoded_ahead_than_two_steps(clips: Path) -> None:
    """Whatever time the step itself takes: pixels of a run must not fill the memory."""
    asked: list[int] = []

    class Noted:
        total = 6

        def plan(self, step: int) -> Any:
            return SimpleNamespace(step=step)

        def prepare(self, plan: Any) -> list[Any]:
            asked.append(plan.step)
            return [lambda: plan.step]

    with PrefetchedSteps(Noted(), 1) as ahead:  # type: ignore[arg-type]
        for step in range(1, 6):
            time.sleep(0.05)
            assert ahead.take(step)[1] == [step]
            time.sleep(0.05)
            assert max(asked) == min(step + PREFETCHED_STEPS, 5)
    assert asked == [1, 2, 3, 4, 5]

"""Self-critical runs on a tiny model: the reward rises, steps do not depend on how they are cut, resuming, guards.

The loss of a micro-batch is held to a straightforward computation: one sequence a caption, rewards in line.
"""

import copy
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evlgen.configuration import CrossAttentionConfig
from evlgen.data.batches import CaptionSource
from evlgen.data.caption_sources import CaptionedItem
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.sampling import sample_captions
from evlgen.recipes import Recipe
from evlgen.recipes.schema import ScstConfig
from evlgen.training import train
from evlgen.training.self_critical import CaptionReward, SelfCritical
from evlgen.training.task import CaptionTask, MicroBatch
from tests.modeling.conftest import TINY_CNN, TINY_LLAMA, tiny_config, tiny_model, with_language, with_lora
from tests.training.conftest import draw_pictures, make_recipe
from tests.training.test_processes import close, log, same
from tests.training.workers import train_together


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with captions of one letter, and in start/last a model that has begun to learn them."""
    folder = tmp_path_factory.mktemp("begun")
    draw_pictures(folder, {"red": ["r"], "green": ["g"], "blue": ["b"], "white": ["w"]})
    recipe = scst_recipe(folder, scst={"samples": 0}, train={"steps": 60, "start_from": None})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVLGEN_CACHE", str(folder / "cache"))
        train(recipe, folder=folder / "start", device="cpu")
    return folder


def scst_recipe(pictures: Path, **sections: dict[str, Any]) -> Recipe:
    model = tiny_config(TINY_CNN, llm={**TINY_LLAMA, "initializer_range": 0.4}, dropout=0.1, r=1)
    source = {"captions": str(pictures / "captions.jsonl"), "media": str(pictures / "media")}
    base: dict[str, dict[str, Any]] = {
        "data": {"train": [source]},
        "scst": {"samples": 4, "max_new_tokens": 4},
        "vocabulary": {"steps": 0, "weight": 0.0},
        "validation": {"every_steps": 100, "loss_items": 4, "caption_items": 4, "max_new_tokens": 4},
        "train": {"steps": 6, "precision": "float32", "log_every": 1, "start_from": str(pictures / "start" / "last")},
    }
    merged = {name: {**base.get(name, {}), **sections.get(name, {})} for name in {*base, *sections}}
    return make_recipe(pictures, model=model.model_dump(), **merged)


def rewards(folder: Path) -> list[float]:
    return [row["reward"] for row in log(folder) if "reward" in row]


def figures(folder: Path, step: int) -> dict[str, Any]:
    (row,) = [r for r in log(folder) if "validation" in r and r["step"] == step]
    return dict(next(iter(row["validation"].values())))


@pytest.mark.parametrize(
    ("scst", "rate"),
    [
        ({"samples": 48, "baseline": "mean"}, 2e-3),
        ({"samples": 16, "baseline": "beam-mean", "sampler": "beam", "length_normalised": True}, 5e-4),
    ],
    ids=["samples", "beams"],
)
@pytest.mark.slow
def test_the_reward_rises(begun: Path, tmp_path: Path, scst: dict[str, Any], rate: float) -> None:
    steps = 50
    recipe = scst_recipe(
        begun, scst=scst, train={"steps": steps}, optimizer={"learning_rate": rate, "min_lr": rate / 10}
    )
    train(recipe, folder=tmp_path, device="cpu")
    before, after = (fmean(part) for part in (rewards(tmp_path)[:5], rewards(tmp_path)[-5:]))
    assert after > 1.5 * before
    assert figures(tmp_path, steps)["cider"] >= figures(tmp_path, 0)["cider"]


EVERYTHING = {"kl_weight": 0.1, "caption_weight": 0.3, "rewards": {"cider": 1.0, "bleu4": 0.5}, "temperature": 0.9}


@pytest.mark.slow
def test_a_stopped_and_resumed_run_is_bit_for_bit_the_unbroken_one(begun: Path, tmp_path: Path) -> None:
    recipe = scst_recipe(
        begun, scst=EVERYTHING, validation={"every_steps": 2}, train={"ema_decay": 0.9}, data={"captions_per_item": 2}
    )
    train(recipe, folder=tmp_path / "whole", device="cpu")
    for limit in (1, 4):
        calls = iter(range(1, 100))
        part = tmp_path / f"part{limit}"
        train(recipe, folder=part, device="cpu", stop=lambda calls=calls, limit=limit: next(calls) == limit)
        train(recipe, folder=part, device="cpu", resume=True)
        same(part, tmp_path / "whole")
        assert log(part) == log(tmp_path / "whole")
    row = next(r for r in log(tmp_path / "whole") if "reward" in r)
    for name in (
        "loss", "scst_loss", "reward", "reward_cider", "reward_bleu4", "greedy_reward", "reward_spread",
        "advantage_size", "zero_advantages", "distinct_share", "sample_tokens", "kl",
    ):  # fmt: skip
        assert name in row
    assert row["kl"] == pytest.approx(0, abs=1e-5), "the first samples are the starting model's"


@pytest.mark.slow
def test_two_processes_are_bit_for_bit_one_with_twice_the_accumulation(begun: Path, tmp_path: Path) -> None:
    scst = {**EVERYTHING, "kl_weight": 0.0}
    train(scst_recipe(begun, scst=scst, train={"accumulation_steps": 2}), folder=tmp_path / "one", device="cpu")
    train_together(2, scst_recipe(begun, scst=scst), tmp_path / "two")
    same(tmp_path / "two", tmp_path / "one")
    for ours, theirs in zip(log(tmp_path / "two"), log(tmp_path / "one"), strict=True):
        assert ours.keys() == theirs.keys()
        for key in ours.keys() & {"reward", "greedy_reward", "advantage_size", "zero_advantages", "scst_loss", "loss"}:
            assert ours[key] == pytest.approx(theirs[key], rel=1e-5, abs=1e-7)


@pytest.mark.slow
def test_however_a_step_is_cut_the_samples_are_the_same(begun: Path, tmp_path: Path) -> None:
    train(scst_recipe(begun), folder=tmp_path / "one", device="cpu")
    train(scst_recipe(begun, train={"accumulation_steps": 4}), folder=tmp_path / "four", device="cpu")
    assert rewards(tmp_path / "four") == pytest.approx(rewards(tmp_path / "one"))
    close(tmp_path / "four", tmp_path / "one")


def test_samples_that_teach_nothing_change_nothing_and_are_named(begun: Path, tmp_path: Path) -> None:
    """So cold that every sample is the greedy caption."""
    train(scst_recipe(begun, scst={"temperature": 1e-4}), folder=tmp_path / "run", device="cpu")
    before, after = (load_file(run / "last" / "model.safetensors") for run in (begun / "start", tmp_path / "run"))
    assert all(torch.equal(before[k], after[k]) for k in before)
    told = [row["warning"] for row in log(tmp_path / "run") if "warning" in row]
    assert [text.split(";")[0] for text in told] == [
        "100% of sampled captions have advantage 0 and teach nothing",
        "only 1.0 of 4 samples of an item differ: the model says one thing only",
    ]


@pytest.mark.slow
def test_processes_exchange_gradients_of_nothing(begun: Path, tmp_path: Path) -> None:
    """DDP waits for the gradient of every parameter, also of samples that all have advantage 0."""
    train_together(2, scst_recipe(begun, scst={"temperature": 1e-4}), tmp_path / "two")
    before, after = (load_file(run / "last" / "model.safetensors") for run in (begun / "start", tmp_path / "two"))
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_a_run_that_gets_worse_ends_at_its_best_checkpoint(begun: Path, tmp_path: Path) -> None:
    recipe = scst_recipe(
        begun,
        optimizer={"learning_rate": 1.0, "warmup_start_lr": 1.0, "min_lr": 1.0, "warmup_steps": 0, "clip_norm": 1e3},
        scst={"cider_drop": 20.0, "patience": 2},
        validation={"every_steps": 3},
        train={"steps": 30},
    )
    report = train(recipe, folder=tmp_path / "run", device="cpu")
    rows = log(tmp_path / "run")
    low = [r["step"] for r in rows if "validation" in r]
    assert low == [0, 3, 6]
    assert figures(tmp_path / "run", 6)["cider"] < figures(tmp_path / "run", 0)["cider"] - 20
    assert rows[-1]["step"] == 6
    assert "has fallen from" in rows[-1]["warning"]
    assert rows[-1]["warning"].endswith(": the run ends here and returns to its best checkpoint")
    assert next(iter(report.values())) == figures(tmp_path / "run", 0), "the report of the best"
    at_start = load_file(begun / "start" / "last" / "model.safetensors")
    for name in ("best", "last"):
        ended = load_file(tmp_path / "run" / name / "model.safetensors")
        assert all(torch.equal(at_start[k], ended[k]) for k in at_start), name
    assert train(recipe, folder=tmp_path / "run", device="cpu", resume=True) == report, "it stays ended"
    assert log(tmp_path / "run") == rows


@pytest.mark.parametrize(
    ("scst", "parts"),
    [
        ({"baseline": "greedy"}, ""),
        ({"baseline": "mean", "min_new_tokens": 2, "temperature": 0.8, "rewards": {"cider": 1.0, "bleu4": 2.0}}, ""),
        ({"baseline": "none", "top_p": 0.9, "length_normalised": True}, ""),
        ({"baseline": "mean", "kl_weight": 0.5, "normalise_advantages": True}, ""),
        ({"baseline": "mean", "kl_weight": 0.5}, "lora"),
        ({"baseline": "mean", "kl_weight": 0.5}, "lora looking"),
        ({"baseline": "mean", "kl_weight": 0.5}, "lora looking bfloat16"),
    ],
    ids=["greedy", "mean", "none", "kl", "kl-lora", "kl-lora-looking", "kl-lora-looking-bfloat16"],
)
def test_loss_and_gradient_are_those_of_a_straightforward_loop(scst: dict[str, Any], parts: str) -> None:
    """With adapters, divergence is that from the language model as it was at the start."""
    config = ScstConfig(samples=3, max_new_tokens=5, **scst)
    precision = torch.bfloat16 if "bfloat16" in parts else torch.float32
    sizes = tiny_config(TINY_CNN, llm={**TINY_LLAMA, "initializer_range": 0.1}, dropout=0.5)
    if "looking" in parts:
        sizes = with_language(sizes, cross_attention=CrossAttentionConfig(every=1, heads=4, dropout=0.5))
    model = tiny_model(with_lora(sizes, rank=2, dropout=0.5) if "lora" in parts else sizes)
    with torch.no_grad():
        model.language.head_weight.mul_(10)  # far from uniform: some samples say what references say
        for look in model.language.cross_attention.looks if "looking" in parts else ():
            look.output.weight.normal_(std=0.3)
    features = torch.randn(3, 2, 9, 64)
    said, _ = sample_captions(
        model.language, model.prefix(model.soft_prompts(features)).detach(), samples=12, max_new_tokens=5, seed=0
    )
    references = [tuple(model.processor.batch_decode(rows)) for rows in said.sequences]
    source = CaptionSource("s", [CaptionedItem(str(k), c) for k, c in enumerate(references)], None, [])  # type: ignore
    task = CaptionTask(model, None, precision, SelfCritical(config, [source, source]))
    for name in model.trainable_names():
        model.get_parameter(name).requires_grad_(True)
    task.learn()
    task.self_critical.remember(task)
    prefix_before = model.prefix(model.soft_prompts(features)).detach()
    with torch.no_grad():
        model.lm_proj.weight.add_(torch.randn_like(model.lm_proj.weight), alpha=0.02)
        before = copy.deepcopy(model)
        for adapter in model.language.adapters():
            adapter.add_(torch.randn_like(adapter), alpha=0.03 if "looking" in parts else 0.3)
    items, seeds = [(1, 0), (0, 1), (1, 2)], [5, 6, 7]
    sums = task(MicroBatch(features, None, None, 0, items, seeds))
    trained = [model.lm_proj.weight, *model.language.adapters()]
    if "looking" in parts:
        trained += model.language.cross_attention.parameters()
    ours = torch.autograd.grad(sums["scst"], trained)

    with task.autocast():
        prefix = model.prefix(model.soft_prompts(features).float())
    setting = {"temperature": config.temperature, "top_p": config.top_p, "min_new_tokens": config.min_new_tokens}
    with task.autocast():
        captions, best = sample_captions(
            model.language, prefix.detach(), samples=3, greedy=True, max_new_tokens=5, seed=seeds, **setting
        )
    direct = CaptionReward([*references, *references], config.rewards.model_dump())
    loss, total = 0.0, 0.0
    for b, (s, i) in enumerate(items):
        log_p = torch.stack([log_probability(model, prefix[b], ids, **setting) for ids in captions.token_ids()[b]])
        texts = model.processor.batch_decode(captions.sequences[b])
        reward = torch.from_numpy(direct.score([3 * s + i] * 3, texts, captions.ended[b].tolist()).total)
        total += reward.sum().item()
        if config.kl_weight:
            ids_of = captions.token_ids()[b]
            started = torch.stack([log_probability(before, prefix_before[b], ids, **setting) for ids in ids_of])
            reward = reward - config.kl_weight * (log_p - started).detach()
        if config.baseline == "greedy":
            words = model.processor.batch_decode(best.sequences[b])
            base = torch.from_numpy(direct.score([3 * s + i], words, best.ended[b].tolist()).total)
        else:
            others = (reward.sum() - reward) / 2
            base = others if config.baseline == "mean" else torch.zeros(3)
        spread = reward.std().clamp(min=1e-4) if config.normalise_advantages else 1.0
        length = captions.token_counts[b] if config.length_normalised else 1
        loss = loss - ((reward - base) / spread * log_p / length).sum()
    theirs = torch.autograd.grad(loss, trained)
    assert total > 0.1, "rewards to speak of"
    near = 1e-4 if precision == torch.float32 else 5e-2
    torch.testing.assert_close(sums["scst"].double(), loss.double(), rtol=near, atol=near)
    for a, b in zip(ours, theirs, strict=True):
        assert b.norm() > 0
        assert (a - b).norm() <= 2 * near * b.norm()
        if precision == torch.float32:
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * b.abs().max().item())
    figures = task.self_critical.figures({name: value.item() for name, value in sums.items()})
    assert figures["reward"] == pytest.approx(total / 9)
    assert figures["scst_loss"] == pytest.approx(loss.item() / 9, rel=10 * near, abs=near)


def log_probability(
    model: EVLGenForConditionalGeneration, prefix_PW: torch.Tensor, ids: list[int], *,
    temperature: float, top_p: float, min_new_tokens: int,
) -> torch.Tensor:  # fmt: skip
    """One caption, one plain call of the language model, transformers' way of temperature, nucleus and length."""
    from transformers.generation.logits_process import TemperatureLogitsWarper, TopPLogitsWarper

    read_1PW, seen = model.language.split(prefix_PW[None])
    inputs = torch.cat([read_1PW[0], model.language.embed(torch.tensor(ids[:-1], dtype=torch.int64))])[None]
    with model.language.looking_at(seen):
        logits = model.language.model(inputs_embeds=inputs).logits[0, read_1PW.shape[1] - 1 :]
    ends = torch.zeros_like(logits, dtype=torch.bool)
    ends[:min_new_tokens, model.language.end_token_id] = True
    logits = TemperatureLogitsWarper(temperature)(None, logits.masked_fill(ends, -torch.inf))
    if top_p < 1:
        logits = TopPLogitsWarper(top_p)(None, logits)
    return logits.log_softmax(-1)[range(len(ids)), ids].sum()

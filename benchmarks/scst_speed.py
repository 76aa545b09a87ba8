"""Sampled captions scored and learned from per second, against the loop that one writes first.

Both sides take self-critical steps of the recipe `mini-msrvtt-scst` on the same model in the same precision, with the
same videos, number of samples, temperature and baseline, from cached features; the learning rate is so small that the
model stays what it is. The straightforward loop: `generate` of transformers for every sample, and for the greedy
caption if that is the baseline (prefixes run each time), the Cider of pycocoevalcap in line, and for every sample a
forward pass of connector and language model with logits at all positions, and its own backward pass. `--together 24`
lets the loop generate the k-th samples of all videos in one call, which is a better loop. Steps alternate, so that a
noisy machine hits both alike. Before that, both compute the gradient of the same samples with the same rewards, which
must agree.

What the engine saves depends on what is sampled: at a low temperature captions are short and often equal, and it learns
from equal ones once. `--temperature 1 --baseline greedy` is the other end.

    EVLGEN_DATA=... python benchmarks/scst_speed.py [--runs 5] [--videos 24] [--samples 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pycocoevalcap.cider.cider import Cider
from torch import Tensor
from torch.nn import functional as F
from transformers_generate import transformers_captions

from evlgen.metrics.tokenizer import tokenize_captions
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.hardware import keep_large_allocations, pick_dtype
from evlgen.recipes import load_recipe
from evlgen.training import self_critical
from evlgen.training.loop import Trainer
from evlgen.training.processes import Processes
from evlgen.training.training_sources import Loader
from evlgen.weights.named_models import WEIGHTS_FILE, find_checkpoint

Seconds = defaultdict[str, float]
LEAST_COSINE = 0.99
"""Of the two gradients; in float32 they agree to 1e-4 or so, bfloat16 rounds in every layer."""


@contextmanager
def timed(seconds: Seconds, name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] += time.perf_counter() - started


def timing(seconds: Seconds, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose time is noted."""

    def measured(*args: Any, **kwargs: Any) -> Any:
        with timed(seconds, name):
            return function(*args, **kwargs)

    return measured


class Straightforward:
    """The loop that one writes first, on the trainer's model and data."""

    def __init__(self, trainer: Trainer, together: int) -> None:
        self.trainer, self.model, self.config = trainer, trainer.model, trainer.recipe.scst
        self.together = together  # videos of a call of `generate`
        self.references = [
            tokenize_captions(list(captions)) for source in trainer.train for captions in source.references
        ]
        self.first = [0]
        for source in trainer.train:
            self.first.append(self.first[-1] + len(source.items))

    def step(self, number: int, seconds: Seconds) -> None:
        """One optimizer step."""
        plan = self.trainer.steps.plan(number)
        self.trainer.update.start(plan.rate)
        for batch in [wait() for wait in self.trainer.steps.prepare(plan)]:
            items = [self.first[s] + i for s, i in batch.items]
            with timed(seconds, "sampling"):
                samples, texts = self.sample(batch.visual)
            with timed(seconds, "reward"):
                rewards = [self.reward(items, column) for column in texts]
            for k, column in enumerate(samples):
                for b, ids in enumerate(column):
                    with timed(seconds, "forward"):
                        log_p = self.log_probability(batch.visual[b : b + 1], ids)
                    with timed(seconds, "backward"):
                        (-self.advantage([row[b] for row in rewards], k) * log_p / plan.samples).backward()
        with timed(seconds, "update"):
            self.trainer.update.clip()
            self.trainer.update.finish(plan.step)

    def advantage(self, rewards: list[float], k: int) -> float:
        """Of sample k: over the greedy caption, whose reward is the last, or over the mean of the other samples."""
        if self.config.baseline == "greedy":
            return rewards[k] - rewards[-1]
        return rewards[k] - statistics.fmean(rewards[:k] + rewards[k + 1 :])

    @torch.no_grad()
    def sample(self, visual: Tensor) -> tuple[list[list[list[int]]], list[list[str]]]:
        """Token ids [sample][video], and texts of the samples and then of the greedy captions, if they are wanted."""
        made: list[list[list[int]]] = []
        texts: list[list[str]] = []
        for k in range(self.config.samples + (self.config.baseline == "greedy")):
            is_sample = k < self.config.samples
            parts = [self.generate(some, is_sample) for some in visual.split(self.together)]
            texts.append([text for _, part in parts for text in part])
            if is_sample:
                made.append([ids for part, _ in parts for ids in part])
        return made, texts

    def generate(self, visual: Tensor, is_sample: bool) -> tuple[list[list[int]], list[str]]:
        """Token ids and text of a caption of each of some videos."""
        soft, options = self.trainer.task.look(visual)[0], {}
        if is_sample:
            options = {"do_sample": True, "temperature": self.config.temperature}
        ids = transformers_captions(self.model, soft, max_new_tokens=self.config.max_new_tokens, **options)
        return ids, [self.model.processor.batch_decode(torch.tensor([one]))[0] for one in ids]

    def reward(self, items: list[int], texts: list[str]) -> list[float]:
        """CIDEr of one caption a video, as pycocoevalcap has it: document frequencies of what it is given."""
        words = tokenize_captions(texts)
        truth = {k: self.references[i] for k, i in enumerate(items)}
        _, each = Cider().compute_score(truth, {k: [w] for k, w in enumerate(words)})
        return [float(v) for v in each]

    def log_probability(self, visual: Tensor, ids: list[int]) -> Tensor:
        """Of one caption under the distribution that was sampled; logits at all positions."""
        prefix = self.model.prefix(self.trainer.task.look(visual)[0])
        text = torch.tensor([ids])
        embedded = torch.cat([prefix, self.model.language.embed(text)], dim=1)
        out = self.model.language.model(
            inputs_embeds=embedded.to(self.model.language.embedding_weight.dtype), use_cache=False
        )
        logits = out.logits[0].float()[prefix.shape[1] - 1 : -1] / self.config.temperature
        return -F.cross_entropy(logits, text[0], reduction="sum")


def make_trainer(args: argparse.Namespace, folder: Path) -> Trainer:
    """As `evlgen train` makes it, with a learning rate that changes nothing."""
    settings = [
        f"data.items_per_step={args.videos}", f"scst.samples={args.samples}",
        "optimizer.learning_rate=1e-12", "optimizer.min_lr=0", "optimizer.warmup_start_lr=0",
        "data.validation.0.limit=1",
        f"train.precision={args.precision}", f"train.start_from={args.start_from}",
    ]  # fmt: skip
    settings += [f"data.train.0.limit={args.limit}"] if args.limit else []
    settings += [f"scst.temperature={args.temperature}"] if args.temperature else []
    settings += [f"scst.baseline={args.baseline}"] if args.baseline else []
    recipe = load_recipe(args.recipe, settings)
    keep_large_allocations()  # for both sides: it belongs to the process
    device = torch.device("cpu")
    dtype = pick_dtype(recipe.train.precision, device)
    torch.manual_seed(recipe.train.seed)
    model = EVLGenForConditionalGeneration.from_config(recipe.model, dtype=dtype)
    assert recipe.train.start_from is not None
    model.load_trained(find_checkpoint(recipe.train.start_from) / WEIGHTS_FILE, start=True)
    sources = Loader(recipe, None, lambda: False).sources(model)
    assert sources is not None
    trainer = Trainer(recipe, model, *sources, folder, dtype, Processes("cpu"))
    trainer.task.learn()
    return trainer


def same_gradient(trainer: Trainer, loop: Straightforward) -> float:
    """Cosine between the engine's gradient of a few samples and that of the loop, given the engine's rewards."""
    scst, parameter = trainer.scst, trainer.model.lm_proj.weight
    assert scst is not None
    batch = trainer.steps.prepare(trainer.steps.plan(0))[0]()
    few = slice(0, 2)
    batch.visual, batch.items = batch.visual[few], batch.items[few]
    assert batch.sampling_seeds is not None
    batch.sampling_seeds = batch.sampling_seeds[few]
    (ours,) = torch.autograd.grad(trainer.task(batch)["scst"], parameter)
    with torch.no_grad():
        prefix = trainer.model.prefix(trainer.task.look(batch.visual)[0])
    captions, best = scst.sample(trainer.model, prefix, batch.sampling_seeds)
    total = torch.zeros(())
    for b, (s, i) in enumerate(batch.items):
        both = [captions] if best is None else [captions, best]
        texts = trainer.model.processor.batch_decode(torch.cat([one.sequences[b] for one in both]))
        ended = [value for one in both for value in one.ended[b].tolist()]
        values = scst.reward.score([loop.first[s] + i] * len(texts), texts, ended).total.tolist()
        for k, ids in enumerate(captions.token_ids()[b]):
            total = total - loop.advantage(values, k) * loop.log_probability(batch.visual[b : b + 1], ids)
    (theirs,) = torch.autograd.grad(total, parameter)
    return float(torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0))


def profile(trainer: Trainer, seconds: Seconds) -> None:
    """Note from now on where the engine's time goes; what is left of a step is the connector's forward pass."""
    scst, update = trainer.scst, trainer.update
    assert scst is not None
    self_critical.sample_captions = timing(seconds, "sampling", self_critical.sample_captions)
    self_critical.sampled_log_probabilities = timing(seconds, "forward", self_critical.sampled_log_probabilities)
    update.backward = timing(seconds, "backward", update.backward)  # type: ignore[method-assign]
    update.clip = timing(seconds, "update", update.clip)  # type: ignore[method-assign]
    update.finish = timing(seconds, "update", update.finish)  # type: ignore[method-assign]
    scst.reward.score = timing(seconds, "reward, in the worker", scst.reward.score)  # type: ignore[method-assign]
    submit = scst.reward.submit

    def waited_for(*args: Any) -> Any:
        future = submit(*args)
        future.result = timing(seconds, "waiting for rewards", future.result)  # type: ignore[method-assign]
        return future

    scst.reward.submit = waited_for  # type: ignore[method-assign]


def main() -> None:
    """Alternate the two sides and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="mini-msrvtt-scst")
    parser.add_argument("--start-from", default="runs/mini-pretrain/best")
    parser.add_argument("--videos", type=int, default=24, help="videos in an optimizer step")
    parser.add_argument("--samples", type=int, default=5, help="captions sampled for each of them")
    parser.add_argument("--together", type=int, default=1, help="videos of a call of the loop's generate")
    parser.add_argument("--runs", type=int, default=5, help="timed steps of each side, after one that is not")
    parser.add_argument("--temperature", type=float, help="of the samples; the recipe's if not given")
    parser.add_argument("--baseline", choices=["greedy", "mean"], help="of the rewards; the recipe's if not given")
    parser.add_argument("--limit", type=int, help="only the first so many training videos")
    parser.add_argument("--precision", default="auto", help="of the frozen parts, on both sides")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(args, Path(folder))
        loop = Straightforward(trainer, args.together)
        cosine = same_gradient(trainer, loop)
        config = trainer.recipe.scst
        print(f"temperature {config.temperature:g}, baseline {config.baseline}, ", end="")
        print(f"the loop generates for {args.together} videos at once; ", end="")
        print(
            f"{args.videos} videos x {args.samples} samples, {str(trainer.precision).removeprefix('torch.')}, ", end=""
        )
        print(f"{args.threads} threads of {os.cpu_count()} cores, torch {torch.__version__}, {platform.machine()}")
        print(f"cosine between the gradients of both sides, given samples and rewards: {cosine:.5f}")
        if cosine < LEAST_COSINE:
            sys.exit("the two sides do not compute the same")
        where: dict[str, Seconds] = {"straightforward": defaultdict(float), "evlgen": defaultdict(float)}
        sides = {
            "straightforward": lambda n: loop.step(n, where["straightforward"]),
            "evlgen": lambda n: trainer._step(
                plan := trainer.steps.plan(n), [wait() for wait in trainer.steps.prepare(plan)]
            ),
        }
        for side in sides.values():  # a warm-up
            side(0)
        where["straightforward"].clear()
        profile(trainer, where["evlgen"])
        spent: dict[str, list[float]] = {name: [] for name in sides}
        for run in range(args.runs):
            for name in sides if run % 2 == 0 else reversed(sides):
                started = time.perf_counter()
                sides[name](run + 1)
                spent[name].append(time.perf_counter() - started)
    noted = sum(value for part, value in where["evlgen"].items() if part != "reward, in the worker")
    where["evlgen"]["connector and the rest"] = sum(spent["evlgen"]) - noted
    count = args.videos * args.samples
    ratios = [a / b for a, b in zip(spent["straightforward"], spent["evlgen"], strict=True)]
    print("\n| | seconds a step, median (range) | sampled captions a second |\n|---|---|---|")
    for name, each in spent.items():
        middle = statistics.median(each)
        print(f"| {name} | {middle:.2f} ({min(each):.2f} to {max(each):.2f}) | {count / middle:.2f} |")
    print(f"| ratio | | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")
    print("\n| seconds a step, mean | " + " | ".join(where) + " |\n|---|---|---|")
    parts = list(dict.fromkeys(part for seconds in where.values() for part in seconds))
    for part in parts:
        cells = (f"{seconds[part] / args.runs:.3f}" if part in seconds else "" for seconds in where.values())
        print(f"| {part} | " + " | ".join(cells) + " |")
    if args.json:
        parts_a_step = {n: {p: s / args.runs for p, s in each.items()} for n, each in where.items()}
        figures = {
            "captions_a_step": count,
            "seconds": spent,
            "parts": parts_a_step,
            "ratios": ratios,
            "cosine": cosine,
        }
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

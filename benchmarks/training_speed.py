"""Captions a second of the engine's training step, against the step that one writes first (straightforward.py).

Model, start and data are those of the recipe `mini-msrvtt-video` with all 20 captions of a video, without dropout and
the vocabulary loss, so that losses can be compared. First both sides take the same steps in float32: the loss of every
step must agree, and the trained parameters after them. Then a ladder from the straightforward step to the engine turns
on one part at a time. Every run takes one step of each rung, in alternating order, so that a noisy machine hits all.

    EVLGEN_DATA=... python benchmarks/training_speed.py [--runs 5] [--videos 4] [--threads 2] [--json FILE]
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from straightforward import PairStep, make_trainer, trained_of

from evlgen.modeling.hardware import cpu_has_fast_bfloat16, pick_dtype
from evlgen.recipes import Recipe, load_recipe
from evlgen.training.loop import Trainer
from evlgen.training.steps import StepPlan
from evlgen.training.task import MicroBatch

TOLERANCE = 1e-4
"""Relative difference of losses in float32; features are kept in float16, which rounds to 5e-4 of a feature."""

Step = Callable[[StepPlan, Sequence[MicroBatch]], dict[str, Any]]


@dataclass
class Rung:
    """One step of the ladder.

    Attributes:
        name: in the table.
        trainer: whose model and data it uses,
        step: and what it does with them.
        attention: transformers' name.
    """

    name: str
    trainer: Trainer
    step: Step
    attention: str
    rates: list[float] = field(default_factory=list)

    def take(self, number: int) -> dict[str, Any]:
        """Step `number` with its data made; notes captions a second."""
        self.trainer.model.language.use_attention(self.attention)
        started = time.perf_counter()
        plan = self.trainer.steps.plan(number)
        record = self.step(plan, [wait() for wait in self.trainer.steps.prepare(plan)])
        self.rates.append(plan.captions / (time.perf_counter() - started))
        return record


def recipe_of(args: argparse.Namespace, precision: str, features: Path) -> Recipe:
    """The recipe that both sides run; features of the few videos go to a folder of their own."""
    return load_recipe(
        args.recipe,
        [
            "vocabulary.weight=0", "model.connector.dropout=0.0", f"train.precision={precision}",
            f"data.captions_per_item={args.captions}", f"data.items_per_step={args.videos}",
            f"data.train.0.limit={args.limit}", f"data.train.0.features={features / precision}",
            "data.validation.0.limit=1", f"data.validation.0.features={features / precision}-validation",
        ],
    )  # fmt: skip


def ladder(args: argparse.Namespace, folder: Path) -> list[Rung]:
    """From the straightforward step to the engine's; neighbours differ in one part."""
    exact = recipe_of(args, "float32", folder)
    pixels = make_trainer(exact, folder / "run", kind="pixels")
    cached = make_trainer(exact, folder / "run", kind="features")
    rungs = [
        Rung("straightforward", pixels, PairStep(pixels, args.sequences), "eager"),
        Rung("+ cached features", cached, PairStep(cached, args.sequences), "eager"),
        Rung("+ logits at captions only", cached, PairStep(cached, args.sequences, all_logits=False), "eager"),
        Rung("+ captions packed", cached, cached._step, "eager"),
    ]
    exact_too = pick_dtype(args.precision, "cpu") == torch.float32
    fast = (
        cached if exact_too else make_trainer(recipe_of(args, args.precision, folder), folder / "run", kind="features")
    )
    chosen = fast.model.language.model.config._attn_implementation
    if fast.precision != torch.float32:
        name = str(fast.precision).removeprefix("torch.")
        rungs.append(Rung(f"+ {name}", fast, fast._step, "eager"))
    if chosen == "eager":  # the engine's choice here; the last line says what the other one would cost
        rungs[-1].name += " = the engine"
        rungs.append(Rung("the engine with sdpa", fast, fast._step, "sdpa"))
    else:
        rungs.append(Rung(f"+ {chosen} attention = the engine", fast, fast._step, chosen))
    return rungs


def equal_steps(rungs: list[Rung], steps: int) -> dict[str, float]:
    """Both sides take the same steps from the same start.

    Returns:
        Largest relative difference of losses in float32 and of the engine as it is, and of parameters in float32 as a
        share of how far they moved.
    """
    plain, packed = rungs[0], rungs[3]
    engine = next(r for r in rungs if "= the engine" in r.name)
    start = trained_of(packed.trainer)
    assert all(torch.equal(a, b) for a, b in zip(start.values(), trained_of(plain.trainer).values(), strict=True))
    worst = {"loss": 0.0, "loss_of_the_engine": 0.0, "gradient_norm": 0.0}
    for number in range(steps):
        a, b = plain.take(number), packed.take(number)
        c = b if engine is packed else engine.take(number)
        for name, difference in (
            ("loss", abs(b["loss"] / a["loss"] - 1)),
            ("loss_of_the_engine", abs(c["loss"] / a["loss"] - 1)),
            ("gradient_norm", abs(b["gradient_norm"] / a["gradient_norm"] - 1)),
        ):
            worst[name] = max(worst[name], difference)
        print(f"step {number}: loss {a['loss']:.6f}, packed {b['loss']:.6f}, engine {c['loss']:.6f}", file=sys.stderr)
    ends = trained_of(plain.trainer), trained_of(packed.trainer)
    apart = sum(float((x - y).square().sum()) for x, y in zip(ends[0].values(), ends[1].values(), strict=True))
    moved = sum(float((x - y).square().sum()) for x, y in zip(ends[0].values(), start.values(), strict=True))
    worst["parameters"] = (apart / moved) ** 0.5
    for rung in rungs:
        rung.rates.clear()
    return worst


def table(rungs: list[Rung]) -> list[dict[str, Any]]:
    """A row a rung; ratios are medians (and ranges) over runs, each of one run."""
    rows = []
    for number, rung in enumerate(rungs):
        whole = [a / b for a, b in zip(rung.rates, rungs[0].rates, strict=True)]
        before = rungs[number - 1] if number else rung
        part = [a / b for a, b in zip(rung.rates, before.rates, strict=True)]
        row: dict[str, Any] = {"rung": rung.name}
        for name, values in (("captions_per_second", rung.rates), ("ratio", whole), ("ratio_to_the_rung_before", part)):
            row |= {name: statistics.median(values), f"{name}_range": [min(values), max(values)]}
        rows.append(row)
    return rows


def main() -> None:
    """Compare, alternate and print the ladder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="mini-msrvtt-video")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--videos", type=int, default=4, help="in an optimizer step")
    parser.add_argument("--captions", type=int, default=20, help="of each video")
    parser.add_argument("--limit", type=int, default=16, help="videos that are read")
    parser.add_argument("--equal-steps", type=int, default=2, help="steps after which both sides are compared")
    parser.add_argument("--sequences", type=int, default=20, help="pairs in a forward pass of the straightforward step")
    parser.add_argument("--precision", default="auto", help="of the engine")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parser.parse_args()
    if "EVLGEN_DATA" not in os.environ:
        sys.exit("set EVLGEN_DATA to the folder of the captioned data")
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        rungs = ladder(args, Path(name))
        differences = equal_steps(rungs, args.equal_steps)
        if differences["loss"] > TOLERANCE:
            sys.exit(f"the losses are not equal: they differ by {differences['loss']:.1e}, bound {TOLERANCE:.0e}")
        for run in range(args.runs + 1):
            for rung in rungs if run % 2 == 0 else reversed(rungs):
                rung.take(args.equal_steps + run)
            if run == 0:  # a warm-up of all
                for rung in rungs:
                    rung.rates.clear()
            print(f"run {run} of {args.runs}", file=sys.stderr)
    rows = table(rungs)
    report(args, rows, differences)


def report(args: argparse.Namespace, rows: list[dict[str, Any]], differences: dict[str, float]) -> None:
    """The table in Markdown, and as JSON if wanted."""
    print(f"{args.recipe}, {args.videos} videos x {args.captions} captions a step, ", end="")
    print(f"median (range) of {args.runs} alternating runs; {args.threads} threads, ", end="")
    print(f"bfloat16 {'fast' if cpu_has_fast_bfloat16() else 'slow'}, torch {torch.__version__}, ", end="")
    print(f"python {platform.python_version()}")
    print(f"\nsame steps from the same start: losses differ by {differences['loss']:.1e} in float32 and ", end="")
    print(f"{differences['loss_of_the_engine']:.1e} with the engine's precision; gradient norms by ", end="")
    print(f"{differences['gradient_norm']:.1e}, parameters by {differences['parameters']:.1e} of their way\n")
    print("| | captions/s | ratio to straightforward | ratio to the rung before |\n|---|---|---|---|")
    for row in rows:
        cells = [row["rung"]]
        for name in ("captions_per_second", "ratio", "ratio_to_the_rung_before"):
            low, high = row[f"{name}_range"]
            cells.append(f"{row[name]:.2f} ({low:.2f} to {high:.2f})")
        print(f"| {' | '.join(cells)} |")
    if args.json is not None:
        settings = {k: v for k, v in vars(args).items() if k != "json"}
        facts = {"torch": torch.__version__, "cores": os.cpu_count(), "fast_bfloat16": cpu_has_fast_bfloat16()}
        content = {"settings": settings, "machine": facts, "differences": differences, "ladder": rows}
        args.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

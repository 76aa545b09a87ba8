"""Seconds of training until validation CIDEr first passes a value: the engine against the straightforward step.

Both start from mini-pretrain's run, its last projection drawn anew: the captioner is blind, but what its connector has
learned makes this a matter of minutes. Without it the engine needs a quarter of an hour to get off the ground with two
cores, and the other side hours. Same start, videos in the same order, frames, seeds, optimizer and learning rates. The
engine takes several captions of each video of a step, packed, from cached features, in the machine's precision;
computing the features counts as its time. The straightforward step (straightforward.py) has decoded frames in memory
and takes `--plain-captions` of each video; 1 is its best case: each one costs it a sequence and a run of the tower.

Validation (greedy captions of the first items of val) and checkpoints are not counted. The engine goes first; the other
side is given up after `--give-up` times its seconds. Killed, the same command goes on from the last validation.

    EVLGEN_DATA=... python benchmarks/time_to_quality.py --out FOLDER [--cider 12] [--give-up 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from straightforward import PairStep, make_trainer
from torch import Tensor

from evlgen.configuration import EVLGenConfig
from evlgen.data.caption_sources import read_sources
from evlgen.data.encoder import FrozenTower
from evlgen.data.features import prepare_source
from evlgen.modeling.hardware import pick_dtype
from evlgen.recipes import Recipe, load_recipe
from evlgen.training.loop import Trainer, has_checkpoint

CURVE = "curve.json"


def recipe_of(args: argparse.Namespace, side: str) -> Recipe:
    """What both sides run; they differ in precision and in captions of a video."""
    engine = side == "engine"
    features = args.out.absolute() / "features"
    precision = args.precision if engine else "float32"
    return load_recipe(
        args.recipe,
        [
            "vocabulary.weight=0", f"train.precision={precision}", f"train.steps={args.steps}",
            f"data.captions_per_item={args.captions if engine else args.plain_captions}",
            f"data.items_per_step={args.videos}", f"data.train.0.limit={args.limit}", "data.train.0.views=1",
            f"data.train.0.features={features / precision}", f"data.validation.0.limit={args.items}",
            f"data.validation.0.features={features / precision}-validation",
            f"validation.caption_items={args.items}", "validation.loss_items=20", "validation.metric=cider",
            f"optimizer.learning_rate={args.rate}", f"optimizer.min_lr={args.rate}",
        ],
    )  # fmt: skip


def blind_start(recipe: Recipe) -> dict[str, Tensor]:
    """The projection through which soft prompts leave, drawn from the seed by torch's own initialisation."""
    config: EVLGenConfig = recipe.model
    torch.manual_seed(recipe.train.seed)
    projection = torch.nn.Linear(config.connector.width, config.language.width)
    return {"lm_proj.weight": projection.weight.detach(), "lm_proj.bias": projection.bias.detach()}


def run(args: argparse.Namespace, side: str, at_most: float) -> dict[str, Any]:
    """One side, until it passes the value, its steps end, or its seconds do.

    Returns:
        passed: seconds and steps when it did, or None; curve: points of seconds, step and CIDEr.
    """
    folder = args.out / side
    recipe = recipe_of(args, side)
    spent = features_seconds(args, recipe) if side == "engine" else 0.0
    kind: Literal["features", "pixels"] = "features" if side == "engine" else "pixels"
    trainer = make_trainer(recipe, folder, kind=kind, start=blind_start(recipe))
    step: Callable[..., Any] = trainer._step if side == "engine" else PairStep(trainer, args.sequences)
    curve = _resume(trainer, folder)
    if not curve:
        curve = [{"seconds": spent, "step": 0, "cider": _cider(trainer)}]
        _save(trainer, folder, curve)
        _say(side, curve)
    if curve[0]["cider"] >= args.cider:
        sys.exit(f"the start has CIDEr {curve[0]['cider']:.1f} already, choose a higher --cider")
    seconds = curve[-1]["seconds"]
    while curve[-1]["cider"] < args.cider and trainer.step < recipe.train.steps and seconds < at_most:
        began = time.perf_counter()
        plan = trainer.steps.plan(trainer.step)
        step(plan, [wait() for wait in trainer.steps.prepare(plan)])
        seconds += time.perf_counter() - began
        trainer.step += 1
        if trainer.step % args.every == 0 or seconds >= at_most:
            curve.append({"seconds": seconds, "step": trainer.step, "cider": _cider(trainer)})
            _save(trainer, folder, curve)
            _say(side, curve)
    passed = curve[-1] if curve[-1]["cider"] >= args.cider else None
    return {"passed": passed, "curve": curve}


def features_seconds(args: argparse.Namespace, recipe: Recipe) -> float:
    """Compute the features of the training videos, decoding included; the time is kept beside them."""
    kept = args.out / "features" / "seconds.json"
    if not kept.is_file():
        shutil.rmtree(args.out / "features", ignore_errors=True)  # of a run that was killed here
        tower = FrozenTower.from_config(recipe.model, dtype=pick_dtype(recipe.train.precision, "cpu"))
        (source,), _ = read_sources(recipe.data)
        started = time.perf_counter()
        assert prepare_source(tower, source, recipe.data) is not None
        kept.write_text(json.dumps(time.perf_counter() - started))
    return float(json.loads(kept.read_text()))


def check_settings(args: argparse.Namespace) -> None:
    """Refuse to go on with a folder of other settings."""
    free = ("out", "json", "cider", "give_up", "engine_only")
    settings = {k: v for k, v in vars(args).items() if k not in free}
    kept = args.out / "settings.json"
    if kept.is_file():
        if json.loads(kept.read_text()) != settings:
            sys.exit(f"{args.out} was begun with other settings: {kept.read_text()}")
        return
    args.out.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(settings))


def _cider(trainer: Trainer) -> float:
    report = trainer.validator.run(trainer.task, trainer.task)
    trainer.task.learn()
    return float(next(iter(report.values()))["cider"])


def _save(trainer: Trainer, folder: Path, curve: list[dict[str, Any]]) -> None:
    """The curve first: points after the checkpoint's step are dropped when going on."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{CURVE}.new"
    aside.write_text(json.dumps(curve), encoding="utf-8")
    aside.replace(folder / CURVE)
    trainer.save_last()


def _resume(trainer: Trainer, folder: Path) -> list[dict[str, Any]]:
    if not has_checkpoint(folder):
        return []
    trainer.resume()
    points: list[dict[str, Any]] = json.loads((folder / CURVE).read_text(encoding="utf-8"))
    return [p for p in points if p["step"] <= trainer.step]


def _say(side: str, curve: list[dict[str, Any]]) -> None:
    last = curve[-1]
    print(f"{side}: step {last['step']}, {last['seconds']:.1f} s, CIDEr {last['cider']:.1f}", file=sys.stderr)


def main() -> None:
    """Run both sides and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints, curves and features")
    parser.add_argument("--recipe", default="mini-msrvtt-video")
    parser.add_argument("--cider", type=float, default=12.0, help="the value to pass")
    parser.add_argument("--limit", type=int, default=320, help="training videos")
    parser.add_argument("--items", type=int, default=100, help="validation videos")
    parser.add_argument("--videos", type=int, default=16, help="in an optimizer step")
    parser.add_argument("--captions", type=int, default=5, help="of each video in a step of the engine")
    parser.add_argument("--plain-captions", type=int, default=1, help="of each video in a straightforward step")
    parser.add_argument("--sequences", type=int, default=16, help="pairs in a forward pass of the straightforward step")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of both after the recipe's warm-up")
    parser.add_argument("--steps", type=int, default=600, help="at most")
    parser.add_argument("--every", type=int, default=10, help="steps between validations")
    parser.add_argument("--give-up", type=float, default=5.0, help="times the engine's seconds")
    parser.add_argument("--precision", default="auto", help="of the engine")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--engine-only", action="store_true", help="leave the other side for later")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parser.parse_args()
    if "EVLGEN_DATA" not in os.environ:
        sys.exit("set EVLGEN_DATA to the folder of the captioned data")
    torch.set_num_threads(args.threads)
    check_settings(args)
    engine = run(args, "engine", float("inf"))
    if engine["passed"] is None:
        best = max(point["cider"] for point in engine["curve"])
        sys.exit(f"the engine did not pass CIDEr {args.cider} in {args.steps} steps; its best is {best:.1f}")
    ours = engine["passed"]["seconds"]
    print(f"the engine passes CIDEr {args.cider:g} after {ours:.0f} s, {engine['passed']['step']} steps", end="")
    print(f"; {engine['curve'][0]['seconds']:.0f} s of them for the features")
    if args.engine_only:
        return
    plain = run(args, "straightforward", args.give_up * ours)
    last = plain["curve"][-1]
    if plain["passed"] is None:
        print(f"the straightforward step has not after {last['seconds']:.0f} s, {last['step']} steps, ", end="")
        print(
            f"CIDEr {max(p['cider'] for p in plain['curve']):.1f} at best: more than {last['seconds'] / ours:.1f} times"
        )
    else:
        print(f"the straightforward step does after {last['seconds']:.0f} s, {last['step']} steps: ", end="")
        print(f"{last['seconds'] / ours:.1f} times")
    if args.json is not None:
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k != "json"}
        content = {"settings": settings, "engine": engine, "straightforward": plain}
        args.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

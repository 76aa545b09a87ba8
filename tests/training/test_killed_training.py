"""kill -9 at any moment, then --resume: parameters, optimizer state, best checkpoint and log of a run never stopped.

A child process kills itself at the n-th call of something that matters: between two optimizer steps, inside a file of a
checkpoint, before and after each rename, while the log is written.
"""

import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evlgen.recipes import Recipe
from evlgen.training import checkpoints, run_log, train
from tests.training.conftest import make_recipe
from tests.training.test_processes import log
from tests.training.test_starting import begin, write_recipe
from tests.training.workers import alone

NEVER = 10_000


def short(pictures: Path) -> Recipe:
    return make_recipe(
        pictures,
        vocabulary={"steps": 2, "weight": 0.5},
        validation={"every_steps": 3, "loss_items": 4, "caption_items": 2},
        train={"steps": 6, "precision": "float32", "log_every": 1, "checkpoint_seconds": 1e-9, "ema_decay": 0.9},
    )


def equal_runs(part: Path, whole: Path) -> None:
    for name in ("last/training.safetensors", "last/model.safetensors", "best/model.safetensors"):
        a, b = load_file(part / name), load_file(whole / name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a), name
    assert log(part) == log(whole)
    left = {p.name for p in part.iterdir() if p.suffix != ".part"}
    assert left == {"recipe.json", "log.jsonl", "last", "best", ".lock"}, "nothing half-written stays"


def die_inside(recipe: Recipe, folder: Path, what: str, number: int) -> None:
    """Train in this process and kill it at the `number`-th call of `what`."""
    calls = iter(range(1, NEVER))

    def now() -> bool:
        return next(calls) == number

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    saved, written, renamed, removed = checkpoints.write_tensors, run_log.RunLog.write, Path.rename, shutil.rmtree

    def half_a_file(tensors: Any, path: Path, *more: Any, **options: Any) -> None:
        saved(tensors, path, *more, **options)
        if now():
            os.truncate(path, path.stat().st_size // 2)
            die()

    def before_rename(self: Path, target: Path) -> Any:
        of_a_checkpoint = self.name.startswith(".") or Path(target).name.startswith(".")
        if of_a_checkpoint and now():
            die()
        return renamed(self, target)

    def half_a_line(self: run_log.RunLog, record: Any) -> None:
        if now():
            with self.path.open("a") as file:
                file.write('{"step": 4, "lo')
            die()
        written(self, record)

    def before_removal(path: Any, *args: Any, **options: Any) -> None:
        if Path(path).exists() and Path(path).name.startswith(".") and now():
            die()
        removed(path, *args, **options)

    if what == "file":
        checkpoints.write_tensors = half_a_file
    elif what == "rename":
        Path.rename = before_rename  # type: ignore[assignment]
    elif what == "log":
        run_log.RunLog.write = half_a_line  # type: ignore[method-assign]
    elif what == "removal":
        shutil.rmtree = before_removal  # type: ignore[assignment]
    stop = (lambda: bool(now() and die())) if what == "step" else (lambda: False)
    os.environ["EVLGEN_CACHE"] = str(folder.parent / "cache")
    train(recipe, folder=folder, device="cpu", resume=(folder / "recipe.json").exists(), stop=stop)


POINTS = [("step", 1), ("step", 5), ("file", 1), ("file", 4), ("rename", 1), ("rename", 6), ("rename", 9), ("log", 6)]
MORE = [(what, n) for what in ("step", "file", "rename", "log", "removal") for n in range(1, 12)]


@pytest.fixture
def whole(pictures: Path) -> Path:
    train(short(pictures), folder=pictures / "whole", device="cpu")
    return pictures / "whole"


def kill_and_resume(pictures: Path, whole: Path, points: list[tuple[str, int]]) -> None:
    for what, number in points:
        part = pictures / f"{what}{number}"
        died = alone(die_inside, short(pictures), part, what, number)
        if died == 0:
            continue  # so often it is not called
        assert died == -signal.SIGKILL, (what, number)
        train(short(pictures), folder=part, device="cpu", resume=True)
        equal_runs(part, whole)


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_been(pictures: Path, whole: Path) -> None:
    kill_and_resume(pictures, whole, POINTS)


@pytest.mark.slow
def test_wherever_it_is_killed(pictures: Path, whole: Path) -> None:
    kill_and_resume(pictures, whole, MORE)


@pytest.mark.slow
def test_killed_again_and_again(pictures: Path, whole: Path) -> None:
    """The resumed run dies too, somewhere else each time, until one gets through."""
    generator, part = random.Random(0), pictures / "part"
    assert alone(die_inside, short(pictures), part, "step", 1) == -signal.SIGKILL
    for _ in range(30):
        what, number = generator.choice(("step", "file", "rename", "log")), generator.randint(1, 6)
        if alone(die_inside, short(pictures), part, what, number) == 0:
            break
    else:
        train(short(pictures), folder=part, device="cpu", resume=True)
    equal_runs(part, whole)


@pytest.mark.slow
def test_killed_from_outside_at_random_moments(pictures: Path) -> None:
    recipe = write_recipe(pictures, steps=60, checkpoint_seconds=0.05)
    assert begin(pictures, recipe, "--out", str(pictures / "whole")).wait(timeout=100) == 0
    generator, more = random.Random(time.time_ns()), []
    for _ in range(3):
        run = begin(pictures, recipe, "--out", str(pictures / "part"), *more)
        while not (pictures / "part" / "log.jsonl").is_file() and run.poll() is None:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 1.5))
        run.kill()
        run.wait()
        more = ["--resume"]
    assert begin(pictures, recipe, "--out", str(pictures / "part"), "--resume").wait(timeout=100) == 0
    equal_runs(pictures / "part", pictures / "whole")

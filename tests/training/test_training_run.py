"""Whole runs on a tiny model: learning, resuming, stopping, failing."""

import json
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evlgen.errors import EvlgenError, UsageError
from evlgen.recipes import Recipe
from evlgen.training import train
from evlgen.training.checkpoints import finish_rename, replace_folder, save_state, state_tensors
from tests.modeling.conftest import TINY_CNN, TINY_LLAMA, tiny_config
from tests.training.conftest import make_recipe
from tests.training.test_processes import log


def run(recipe: object, folder: Path, **options: object) -> dict[str, object]:
    torch.manual_seed(0)  # the frozen parts of a test model are random: the same in every run
    return train(recipe, folder=folder, device="cpu", **options)


@pytest.mark.slow
def test_it_learns_to_see(pictures: Path) -> None:
    """One-letter captions of four colours, behind a frozen random language model that is loud enough to be steered."""
    captions = {"red": "r", "green": "g", "blue": "b", "white": "w"}
    rows = [json.dumps({"image": f"{name}.png", "captions": [text]}) for name, text in captions.items()]
    (pictures / "captions.jsonl").write_text("\n".join(rows))
    model = tiny_config(TINY_CNN, llm={**TINY_LLAMA, "initializer_range": 0.4}, dropout=0.0, r=1)
    recipe = make_recipe(
        pictures,
        model=model.model_dump(),
        train={"steps": 200, "precision": "float32", "log_every": 50},
        vocabulary={"steps": 0, "weight": 0.0},
    )
    report = run(recipe, pictures / "run")
    figures = next(iter(report.values()))
    assert figures["captions"] == ["r", "g", "b"]
    assert figures["gap"] > 2, "fluent but blind"
    assert (pictures / "run" / "best" / "model.safetensors").is_file()


def test_a_stopped_and_resumed_run_is_bit_for_bit_the_unbroken_one(
    finished: tuple[Recipe, Path], tmp_path: Path
) -> None:
    recipe, unbroken = finished
    for end in (3, 4, 7, 12):  # inside the vocabulary phase, at its end, in the caption phase, and at the end
        told: list[dict[str, object]] = []
        stop = lambda told=told, end=end: any(row["step"] == end - 1 for row in told if "lr" in row)  # noqa: E731
        run(recipe, tmp_path / "part", resume=end > 3, report=told.append, stop=stop)
        assert [row["step"] for row in log(tmp_path / "part") if "lr" in row] == list(range(end))
    whole, part = (load_file(folder / "last" / "training.safetensors") for folder in (unbroken, tmp_path / "part"))
    assert whole.keys() == part.keys()
    assert all(torch.equal(whole[k], part[k]) for k in whole)


@pytest.mark.slow
def test_a_run_killed_after_a_checkpoint_goes_on_from_there(pictures: Path) -> None:
    """kill -9 leaves log lines and a `best` that are newer than `last`: both must come out as in the unbroken run."""
    recipe = make_recipe(pictures, validation={"every_steps": 3})
    run(recipe, pictures / "whole")
    calls = iter(range(1, 100))
    run(recipe, pictures / "part", stop=lambda: next(calls) == 8)
    older = pictures / "older"
    shutil.copytree(pictures / "part" / "last", older)
    calls = iter(range(1, 100))
    run(recipe, pictures / "part", resume=True, stop=lambda: next(calls) == 2)
    shutil.rmtree(pictures / "part" / "last")
    older.rename(pictures / "part" / "last")  # as if the process had died before the newer checkpoint
    run(recipe, pictures / "part", resume=True)

    assert log(pictures / "part") == log(pictures / "whole")
    for name in ("last", "best"):
        whole, part = (load_file(pictures / r / name / "model.safetensors") for r in ("whole", "part"))
        assert all(torch.equal(whole[k], part[k]) for k in whole)


def test_an_old_run_is_never_overwritten_by_accident(finished: tuple[Recipe, Path], tmp_path: Path) -> None:
    recipe, done = finished
    folder = shutil.copytree(done, tmp_path / "run")
    with pytest.raises(UsageError, match=r"already holds a run .*--resume"):
        run(recipe, folder)
    with pytest.raises(UsageError, match="holds no run to resume"):
        run(recipe, tmp_path / "elsewhere", resume=True)
    other = recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": 9, "seed": 4})})
    with pytest.raises(UsageError, match=r"another recipe: train\.steps, train\.seed differ"):
        run(other, folder, resume=True)


def test_a_video_model_starts_from_an_image_model(pictures: Path, finished: tuple[Recipe, Path]) -> None:
    _, before = finished
    video = tiny_config(TINY_CNN, fusion="temporal", dropout=0.1)
    start = {"start_from": str(before / "best"), "steps": 3, "precision": "float32"}
    recipe = make_recipe(
        pictures, model=video.model_dump(), train=start, vocabulary={"steps": 0}, optimizer={"learning_rate": 1e-5}
    )
    run(recipe, pictures / "video")
    image = load_file(before / "best" / "model.safetensors")
    trained = load_file(pictures / "video" / "last" / "model.safetensors")
    assert set(trained) - set(image) == {f"vision.after.{n}" for n in (
        "alpha", "query.weight", "query.bias", "key.weight", "key.bias"
    )}  # fmt: skip
    assert (trained["lm_proj.weight"] - image["lm_proj.weight"]).abs().max() < 1e-3
    assert trained["vision.after.alpha"] != 0, "the gate is trained"


def test_an_exploding_run_stops_with_one_line(pictures: Path) -> None:
    recipe = make_recipe(
        pictures, optimizer={"learning_rate": 1e30, "min_lr": 1e30, "warmup_steps": 0, "warmup_start_lr": 1e30}
    )
    with pytest.raises(EvlgenError, match=r"loss is .* and gradient norm .* at step \d+.*lower optimizer"):
        run(recipe, pictures / "run")


def test_the_first_line_after_resume_reckons_with_the_steps_it_timed(pictures: Path) -> None:
    """It comes after one step of four here: taken for four, the time left would be a quarter of what it is."""
    recipe = make_recipe(pictures, vocabulary={"steps": 0, "weight": 0.0}, train={"log_every": 4})
    begun: list[str] = []
    calls = iter(range(1, 100))
    run(
        recipe,
        pictures / "run",
        say=lambda text: begun.append(text) if text.startswith("step 1 ") else None,
        stop=lambda: bool(begun) and next(calls) == 3,
    )
    run(recipe, pictures / "run", resume=True)
    rows = [json.loads(line) for line in (pictures / "run" / "log.jsonl").read_text().splitlines()]
    first = next(row for row in rows if "seconds_left" in row)
    assert first["step"] == 3
    assert first["seconds_left"] == pytest.approx(4 * 4 / first["items_per_second"], rel=0.05, abs=0.1)


def test_the_log_has_what_a_curve_needs(finished: tuple[Recipe, Path]) -> None:
    _, folder = finished
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert {"step", "lr", "loss", "gradient_norm", "seconds", "of"} <= rows[-2].keys()
    assert {"loss", "gap", "cider", "captions"} <= next(iter(rows[-1]["validation"].values())).keys()


def test_a_kill_between_two_renames_loses_nothing(tmp_path: Path) -> None:
    def fill(text: str) -> Callable[[Path], object]:
        return lambda folder: (folder / "x").write_text(text)

    replace_folder(tmp_path / "last", fill("one"))
    (tmp_path / "last").rename(tmp_path / ".last.old")
    finish_rename(tmp_path / "last")
    assert (tmp_path / "last" / "x").read_text() == "one"
    replace_folder(tmp_path / "last", fill("two"))
    finish_rename(tmp_path / "last")
    assert (tmp_path / "last" / "x").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


def test_a_full_disk_while_saving_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    """The real failure of the real writer: the process may write 4 KiB a file, the state is larger."""
    named = {"a": torch.nn.Parameter(torch.ones(10_000))}
    optimizer = torch.optim.AdamW(named.values())
    replace_folder(tmp_path / "last", lambda f: save_state(f, state_tensors(named, optimizer), {"step": 1}))
    before = (tmp_path / "last" / "training.safetensors").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(EvlgenError, match=r"last cannot be written.*--resume"):
            replace_folder(tmp_path / "last", lambda f: save_state(f, state_tensors(named, optimizer), {"step": 2}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "last" / "training.safetensors").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last"]

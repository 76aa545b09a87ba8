"""Training on shards mixed with a captions file: what is learned from, killing, resuming, processes, changed shards."""

import io
import json
import signal
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from evlgen.errors import EvlgenError, UsageError
from evlgen.recipes import Recipe
from evlgen.training import train
from evlgen.training.run_estimate import estimate_run
from evlgen.training.training_run import Trainer
from tests.data.shards.tars import picture, with_tarfile, write_shard
from tests.modeling.conftest import TINY_CNN, tiny_config, tiny_model
from tests.training.conftest import make_recipe
from tests.training.test_killed_training import die_inside
from tests.training.test_processes import log, same
from tests.training.workers import alone, train_together

WORDS = ["red box", "A green ball .", "blue sky", "white wall", "one dog", "two cats"]


@pytest.fixture
def shards(pictures: Path) -> Path:
    """Two shards of six samples beside the captions file; one has no caption, one is no picture."""
    for shard in range(2):
        samples = {
            f"{shard:05d}{k:04d}": {"jpg": picture(40 * k + shard), "txt": f"{text} {shard}".encode()}
            for k, text in enumerate(WORDS)
        }
        write_shard(pictures / "laion" / f"{shard:05d}.tar", samples)
        (pictures / "laion" / f"{shard:05d}_stats.json").write_text('{"successes": 6}')
    return pictures


def spoil(folder: Path) -> None:
    samples = {f"0{k}": {"jpg": picture(9 * k), "txt": text.encode()} for k, text in enumerate(WORDS)}
    samples["01"]["jpg"] = b"no picture"
    samples["02"]["txt"] = b""
    write_shard(folder / "laion" / "00001.tar", samples)


def recipe_of(
    folder: Path, pattern: str = "", data: dict[str, Any] | None = None, dropout: float = 0.1, **settings: Any
) -> Recipe:
    captioned = {"captions": str(folder / "captions.jsonl"), "media": str(folder / "media"), "ratio": 1.0, "views": 2}
    streamed = {"shards": pattern or f"{folder}/laion/{{00000..00001}}.tar", "ratio": 3.0, "views": 3}
    return make_recipe(
        folder,
        model=tiny_config(TINY_CNN, dropout=dropout).model_dump(),
        data={"train": [streamed, captioned], "captions_per_item": 2, "max_broken_share": 0.4, **(data or {})},
        vocabulary={"steps": 0},
        validation={"every_steps": 3, "loss_items": 4, "caption_items": 0, "metric": "loss"},
        train={"steps": 4, "precision": "float32", "log_every": 1, **settings},
    )


def run(recipe: Recipe, folder: Path, **options: Any) -> list[Any]:
    train(recipe, folder=folder, device="cpu", **options)
    return log(folder)


def equal(part: Path, whole: Path) -> None:
    for name in ("last/training.safetensors", "last/model.safetensors", "best/model.safetensors"):
        a, b = load_file(part / name), load_file(whole / name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a), name
    # which step first meets a broken sample is told once a run
    told = [[row for row in log(folder) if "warning" not in row] for folder in (part, whole)]
    assert told[0] == told[1]
    assert {p.name for p in part.iterdir()} == {*("recipe.json", "log.jsonl", "last", "best", "shards.json", ".lock")}


@pytest.mark.slow
def test_a_killed_and_resumed_run_is_bit_for_bit_the_unbroken_one(shards: Path) -> None:
    spoil(shards)
    recipe = recipe_of(shards, checkpoint_seconds=1e-9)
    rows = run(recipe, shards / "whole")
    warnings = [row["warning"] for row in rows if "warning" in row]
    assert sum(int(w.split(": ")[1].split()[0]) for w in warnings) == 2, "each broken sample is told once"
    assert "laion/{00000..00001}: 00001.tar/01: it cannot be decoded" in " ".join(warnings)
    assert "laion/{00000..00001}: 00001.tar/02: the sample has no caption" in " ".join(warnings)
    assert alone(die_inside, recipe, shards / "part", "step", 2) == -signal.SIGKILL
    assert [row["step"] for row in log(shards / "part") if "loss" in row] == [0, 1]
    run(recipe, shards / "part", resume=True)
    equal(shards / "part", shards / "whole")


def test_shards_that_are_cut_off_do_not_train_silently(shards: Path) -> None:
    cut = shards / "laion" / "00001.tar"
    cut.write_bytes(cut.read_bytes()[:4000])
    for path in (shards / "laion").glob("*_stats.json"):
        path.unlink()
    said = r"1 of 2 are cut off \(50.0%, data.max_broken_share allows 40.0%\): .*00001.tar \(fetch them again"
    with pytest.raises(EvlgenError, match=said):
        run(recipe_of(shards), shards / "refused")
    rows = run(recipe_of(shards, data={"max_broken_share": 0.5}), shards / "borne")
    warnings = " ".join(row["warning"] for row in rows if "warning" in row)
    assert "laion/{00000..00001}: 00001.tar: the shard is cut off; 2 samples are left of it" in warnings


@pytest.mark.slow
def test_two_processes_are_bit_for_bit_one_with_twice_the_accumulation(shards: Path) -> None:
    run(recipe_of(shards, accumulation_steps=2), shards / "one")
    train_together(2, recipe_of(shards), shards / "two")
    same(shards / "two", shards / "one")


def test_remote_shards_train_like_local_ones(shards: Path) -> None:
    memory = fsspec.filesystem("memory")
    for path in (shards / "laion").iterdir():
        memory.pipe(f"/bucket/{path.name}", path.read_bytes())
    run(recipe_of(shards), shards / "local")
    # a crop depends on the shard's name, not on where it lies
    run(recipe_of(shards, "memory://bucket/{00000..00001}.tar"), shards / "remote")
    same(shards / "remote", shards / "local")
    memory.rm("/bucket", recursive=True)


def test_a_step_learns_from_the_samples_of_the_tars(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step covers one pass; its loss is that of the model on what tarfile and Pillow read."""
    streamed = {"shards": f"{shards}/laion/*.tar"}
    recipe = recipe_of(shards, data={"train": [streamed], "items_per_step": 12, "max_frames": 1}, steps=3, dropout=0.0)
    started: dict[str, torch.Tensor] = {}

    def remember(trainer: Trainer) -> Any:
        started.update({k: v.clone() for k, v in trainer.model.state_dict().items()})
        return real(trainer)

    real = Trainer.run
    monkeypatch.setattr(Trainer, "run", remember)
    first = next(row for row in run(recipe, shards / "run") if "loss" in row)
    model = tiny_model(recipe.model)
    model.load_state_dict(started)
    total, tokens = 0.0, 0
    for shard in range(2):
        for parts in with_tarfile(shards / "laion" / f"{shard:05d}.tar").values():
            with Image.open(io.BytesIO(parts["jpg"])) as image:
                pixels = model.processor([np.asarray(image.convert("RGB"))[None]])
            text = parts["txt"].decode().lower().rstrip(" .")
            out = model([[model.language.encode_caption(text)]], pixel_values=pixels)
            total, tokens = total + out.loss.item() * out.tokens, tokens + out.tokens
    assert first["step"] == 0
    assert first["loss"] == pytest.approx(total / tokens, rel=1e-5)


@pytest.mark.slow
def test_other_shards_are_refused_on_resume(shards: Path) -> None:
    told: list[Any] = []
    run(recipe_of(shards), shards / "run", report=told.append, stop=lambda: any("loss" in row for row in told))
    kept = json.loads((shards / "run" / "shards.json").read_text())
    assert [(one["name"], one["shards"], one["samples"]) for one in kept] == [("laion/{00000..00001}", 2, 12)]
    (shards / "laion" / "00001_stats.json").write_text('{"successes": 5}')
    with pytest.raises(UsageError) as error:
        run(recipe_of(shards), shards / "run", resume=True)
    assert str(error.value) == (
        f"{shards}/run was started on other shards: laion/{{00000..00001}} has 11 samples in 2 shards, it had 12 in 2 "
        "(bring back the shards and the files with their numbers, or start a new run in another --out)"
    )
    (shards / "run" / "shards.json").write_text("[{}]")
    with pytest.raises(EvlgenError, match=r"shards.json is damaged: it does not say which shards there were \(start"):
        run(recipe_of(shards), shards / "run", resume=True)


def test_too_many_broken_samples_end_the_run(shards: Path) -> None:
    spoil(shards)
    with pytest.raises(EvlgenError) as error:
        run(recipe_of(shards, data={"max_broken_share": 0.1}), shards / "run")
    assert str(error.value).startswith(
        "laion/{00000..00001}: 2 of 12 items (16.7%) cannot be used, data.max_broken_share allows 10.0%: 00001.tar/0"
    )
    assert "\n" not in str(error.value)


def test_what_goes_beside_shards(shards: Path) -> None:
    with pytest.raises(UsageError, match=r"^data.visual features: pictures of shards are decoded in every step"):
        run(recipe_of(shards, data={"visual": "features"}), shards / "run")
    estimated = estimate_run(recipe_of(shards), gpu="t4-16gb")
    assert estimated.captions.endswith("max_text_tokens: captions of shards are read when they are drawn")
    consensus = run(recipe_of(shards, data={"consensus": 1.0}, steps=3), shards / "run")
    assert sum("loss" in row for row in consensus) >= 3

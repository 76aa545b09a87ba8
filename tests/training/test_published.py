"""Training on published data sets by their names, and on frames that are chosen among more than a step uses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evlgen.data.batches import BatchMaker, CaptionSource
from evlgen.data.caption_sources import CaptionedItem
from evlgen.data.datasets.locating import resolve_source
from evlgen.data.preparing import prepare_data
from evlgen.recipes import Recipe
from evlgen.training import train
from tests.data.published_sets import SETS
from tests.training.conftest import make_recipe


def recipe_of(sources: dict[str, dict[str, Any]], folder: Path, **data: Any) -> Recipe:
    return make_recipe(
        folder,
        data={"train": [sources["train"]], "validation": [sources["val"]], "items_per_step": 2, **data},
        vocabulary={"steps": 0},
        validation={"every_steps": 2, "loss_items": 2, "caption_items": 0, "metric": "loss"},
        train={"steps": 2},
        optimizer={"warmup_steps": 1},
    )


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.slow
@pytest.mark.parametrize("visual", ["features", "pixels"])
def test_a_set_by_its_name_is_its_files(tmp_path: Path, visual: str) -> None:
    SETS["coco"](tmp_path / "coco")
    named = {s: {"dataset": "coco", "root": str(tmp_path / "coco"), "split": s} for s in ("train", "val")}
    by_name = recipe_of(named, tmp_path, visual=visual)
    (train_source,), (val_source,) = by_name.data.train, by_name.data.validation
    files = {
        s: {"captions": r.captions, "media": r.media, "split": r.split}
        for s, r in (("train", resolve_source(train_source)), ("val", resolve_source(val_source)))
    }
    train(by_name, folder=tmp_path / "by-name", device="cpu")
    train(recipe_of(files, tmp_path, visual=visual), folder=tmp_path / "by-file", device="cpu")
    assert losses(tmp_path / "by-name") == losses(tmp_path / "by-file") != []


def test_features_of_a_set_by_its_name(tmp_path: Path) -> None:
    SETS["coco"](tmp_path / "coco")
    named = {s: {"dataset": "coco", "root": str(tmp_path / "coco"), "split": s} for s in ("train", "val")}
    done = prepare_data(recipe_of(named, tmp_path), device="cpu")
    assert [one.source.name for one in done] == ["coco/train", "coco/val"]


class _Frames:
    frames = (8,)
    views = 1

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def get(self, item: int, frames: list[int], view: int) -> Any:
        self.asked.append(frames)
        return np.zeros((len(frames), 1, 1), np.float16)


def test_a_step_takes_one_frame_of_each_span_at_random() -> None:
    frames = _Frames()
    source = CaptionSource("s", [CaptionedItem("a", ("x",))], frames, [[[0]]])
    maker = BatchMaker([source], min_frames=4, max_frames=4, seed=0)
    for position in range(400):
        maker.batch(position, 1, 1)
    asked = np.array(frames.asked)
    assert asked.shape == (400, 4)
    assert (asked // 2 == np.arange(4)).all(), "one of two frames in each of four spans"
    assert np.abs((asked % 2).mean(0) - 0.5).max() < 0.1

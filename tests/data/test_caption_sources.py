"""From a recipe's data section to usable items, to an estimate, and to a list of what is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from evlgen.data.caption_sources import read_sources
from evlgen.data.encoder import FrozenTower
from evlgen.data.features import prepare_source
from evlgen.data.preparing import estimate_source
from evlgen.data.recipe_check import check_data
from evlgen.errors import EvlgenError
from evlgen.recipes.data_schema import DataConfig
from tests.data.media_files import clip, lay_out, png
from tests.modeling.conftest import TINY_CNN, tiny_config

ROW_BYTES = 9 * 64 * 2


@pytest.fixture(scope="module")
def tower() -> FrozenTower:
    return FrozenTower.from_config(tiny_config(TINY_CNN))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVLGEN_CACHE", str(tmp_path / "cache"))


def data(folder: Path, **settings: object) -> DataConfig:
    """MSR-VTT in its own layout: a JSON, and a zip whose clips lie in a folder of their own."""
    films = {f"TrainValVideo/video{n}.mp4": clip([20 * n + 10] * (n + 1)) for n in range(4)}
    lay_out(folder, films, "zip")
    videos = [{"video_id": f"video{n}", "split": "validate" if n == 3 else "train"} for n in range(5)]
    sentences = [{"video_id": f"video{n}", "caption": f"Film {n} ."} for n in (0, 1, 2, 3, 3)]
    (folder / "videodatainfo.json").write_text(json.dumps({"videos": videos, "sentences": sentences}))
    source = {"captions": str(folder / "videodatainfo.json"), "media": str(folder / "media.zip")}
    return DataConfig.model_validate(
        {
            "train": [{**source, "split": "train", "views": 2}],
            "validation": [{**source, "split": "val"}],
            "max_frames": 2,
            "lower_case": True,
            "max_broken_share": 0.25,
            **settings,
        }
    )


def test_msr_vtt_is_prepared_from_its_own_layout(tmp_path: Path, tower: FrozenTower) -> None:
    config = data(tmp_path)
    (train,), (validation,) = read_sources(config)
    assert (train.name, validation.name) == (f"{tmp_path.name}/train", f"{tmp_path.name}/val")
    made = prepare_source(tower, train, config)
    assert made is not None
    assert [(i.name, i.captions) for i in made.items] == [(f"video{n}", (f"film {n}",)) for n in range(3)]
    assert [(b.name, b.kind) for b in made.broken] == [("video4", "no-captions")]
    assert made.cache.frames == [1, 2, 2]
    assert made.cache.bytes_used == 10 * ROW_BYTES
    other = prepare_source(tower, validation, config)
    assert other is not None
    assert other.items[0].captions == ("film 3", "film 3")
    strict = config.model_copy(update={"max_broken_share": 0.2})
    with pytest.raises(
        EvlgenError, match=r"1 of 4 items \(25.0%\) .* allows 20.0%: video4: video_id video4 has no cap"
    ):
        prepare_source(tower, train, strict)


def test_two_sources_of_one_file_have_two_names(tmp_path: Path) -> None:
    config = data(tmp_path)
    train, _ = read_sources(config.model_copy(update={"train": config.train * 3}))
    assert [s.name for s in train] == [f"{tmp_path.name}/train{n}" for n in ("", "#2", "#3")]


def test_the_estimate_is_what_is_then_written(tmp_path: Path, tower: FrozenTower) -> None:
    """Exact for pictures; clips shorter than max_frames make it an upper bound."""
    for n in range(40):
        (tmp_path / f"{n}.png").write_bytes(png(n))
    (tmp_path / "c.csv").write_text("file,caption\n" + "".join(f"{n}.png,grey {n}\n" for n in range(40)))
    pictures = {"captions": str(tmp_path / "c.csv"), "views": 3}
    config = data(tmp_path, train=[pictures])
    (train,), (validation,) = read_sources(config)
    before = estimate_source(tower, train, config)
    assert (before.items, before.todo, before.bytes_at_most) == (40, 40, 120 * ROW_BYTES)
    assert before.seconds is not None
    assert before.seconds > 0
    assert not before.place.exists(), "an estimate writes nothing"
    assert prepare_source(tower, train, config) is not None
    assert (before.place / "rows.f16").stat().st_size == before.bytes_at_most
    after = estimate_source(tower, train, config)
    assert (after.todo, after.bytes_at_most, after.seconds) == (0, 0, None)
    frames = tower.config.temporal.frames  # what evaluation looks at, whatever is trained on
    assert estimate_source(tower, validation, config).bytes_at_most == frames * ROW_BYTES


def test_a_check_finds_everything_that_is_wrong_in_one_go(tmp_path: Path) -> None:
    media = lay_out(tmp_path, {"a.png": png(1), "b.png": b"", "c.png": b"text", "d.mp4": clip([9] * 7)}, "folder")
    rows = [
        {"file": "a.png", "captions": ["x", "y"]}, {"file": "b.png", "caption": "z"}, {"file": "c.png", "caption": "z"},
        {"file": "d.mp4", "captions": ["v"]}, {"file": "e.mp4", "caption": "w"}, {"file": "f.png", "captions": []},
        {"file": "a.png", "captions": ["x"]},
    ]  # fmt: skip
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    (tmp_path / "v.csv").write_text("image,caption\na.png,x\n")
    config = DataConfig.model_validate(
        {
            "train": [{"captions": str(tmp_path / "t.jsonl"), "media": str(media)}, {"captions": "none.csv"}],
            "validation": [{"captions": str(tmp_path / "v.csv"), "media": str(media)}],
        }
    )
    fast, missing, shared = check_data(config)
    assert (fast.items, fast.captions, fast.frames) == (6, 7, None)
    assert fast.counts() == {"no-captions": 1, "empty-file": 1, "missing": 1}
    assert fast.repeated == ["a.png"]
    assert fast.stops_a_run
    assert missing.error.startswith("captions file none.csv does not exist")
    assert shared.shared == ["a.png"]
    assert not shared.is_fine
    assert not shared.stops_a_run
    decoded = check_data(config, decode=True)
    assert decoded[0].counts() == {"no-captions": 1, "empty-file": 1, "missing": 1, "decode-error": 1}
    assert decoded[0].frames == 1 + 4
    assert decoded[2].frames == 1


def test_ratios_are_for_all_sources_or_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train.1.ratio is missing: give every source of train a ratio, or none"):
        data(tmp_path, train=[{"captions": "a.csv", "ratio": 15}, {"captions": "b.csv"}])
    with pytest.raises(ValueError, match=r"weight and ratio exclude each other"):
        data(tmp_path, train=[{"captions": "a.csv", "ratio": 15, "weight": 2}])
    mixed = data(tmp_path, train=[{"captions": "a.csv", "ratio": 15}, {"captions": "b.csv", "ratio": 4}])
    assert np.isclose(mixed.train[0].ratio or 0, 15)

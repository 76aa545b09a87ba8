"""Sources of recipes that name a data set and its root: what they become, and what is said when it is not there."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from evlgen.data.caption_sources import read_source
from evlgen.data.datasets.locating import recognise, resolve_source
from evlgen.data.recipe_check import check_data
from evlgen.errors import UsageError
from evlgen.recipes import DataSource
from evlgen.recipes.data_schema import DataConfig
from tests.data.published_sets import MSVD_TRAIN, SETS


def test_a_set_and_its_root_become_captions_and_media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SETS["msrvtt"](tmp_path / "msrvtt")
    monkeypatch.setenv("EVLGEN_DATA", str(tmp_path))
    config = DataSource(dataset="MSR-VTT", root="${EVLGEN_DATA}/msrvtt", split="val", views=2, weight=3.0)
    assert resolve_source(config) == DataSource(
        captions=str(tmp_path / "msrvtt" / "train_val_videodatainfo.json"),
        media=str(tmp_path / "msrvtt" / "TrainValVideo"),
        split="validate",
        views=2,
        weight=3.0,
    )
    read = read_source(config, "validation", lower_case=False)
    assert (read.name, [(i.name, i.captions) for i in read.items]) == ("MSR-VTT/val", [("video2", ("d", "e"))])
    assert DataSource.model_validate(config.model_dump()) == config, "as a run keeps it in its recipe.json"
    plain = DataSource(captions="c.jsonl")
    assert resolve_source(plain) is plain


def test_media_may_be_elsewhere(tmp_path: Path) -> None:
    SETS["coco"](tmp_path / "coco")
    (tmp_path / "coco" / "val2014").rename(tmp_path / "val2014")
    config = DataSource(dataset="coco", root=str(tmp_path / "coco"), split="test", media=str(tmp_path))
    read = read_source(config, "train", lower_case=False)
    assert read.media.path == tmp_path
    assert all(read.media.resolve(item.name) for item in read.items)


def test_a_recipe_is_checked_by_its_sets(tmp_path: Path) -> None:
    SETS["msvd"](tmp_path)
    (tmp_path / "YouTubeClips" / f"{MSVD_TRAIN}.avi").unlink()

    def source(split: str, name: str = "msvd") -> DataSource:
        return DataSource(dataset=name, root=str(tmp_path), split=split)

    data = DataConfig(train=[source("train"), source("train", "vatex")], validation=[source("val"), source("trial")])
    checks = check_data(data)
    assert [(c.name, c.items, [b.name for b in c.broken]) for c in checks] == [
        ("msvd/train", 1, [MSVD_TRAIN]),
        ("vatex/train", 0, []),
        ("msvd/val", 1, []),
        ("msvd/trial", 0, []),
    ]
    assert checks[1].error == (
        f"{tmp_path}: VATEX train: no captions file: looked for vatex_training_v1.0.json, here or in annotations/; "
        f"normally from eric-xw.github.io/vatex-website/download.html (evlgen data check vatex --root {tmp_path})"
    )
    assert checks[3].error == "MSVD has no split 'trial' (its splits are train, val, test)"


def test_wrong_sources_are_one_line(tmp_path: Path) -> None:
    SETS["gqa"](tmp_path)
    for name, root, says in (
        ("msvt", tmp_path, "no data set is called 'msvt' (did you mean msrvtt or msvd?)"),
        ("gqa", tmp_path, "GQA has questions and answers (expected a data set of captions)"),
        ("msvd", tmp_path / "no", f"{tmp_path / 'no'} is not a folder (expected the folder that holds the files of "
                                  "MSVD)"),
        ("msrvtt", tmp_path,
         f"{tmp_path}: MSR-VTT train: no captions file: looked for train_val_videodatainfo.json, MSRVTT_data.json, "
         "here or in annotations/, annotation/, train_val_annotation/; normally from train_val_annotation.zip and "
         f"test_videodatainfo.zip of the MSR-VTT 2016 challenge (evlgen data check msrvtt --root {tmp_path})"),
    ):  # fmt: skip
        with pytest.raises(UsageError) as error:
            resolve_source(DataSource(dataset=name, root=str(root), split="train"))
        assert str(error.value) == says


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "captions is missing (or dataset, root and split of a published set, or shards)"),
        ({"dataset": "msvd", "root": "x"}, "dataset msvd needs split as well"),
        ({"dataset": "msvd", "split": "train"}, "dataset msvd needs root as well"),
        ({"captions": "c.jsonl", "dataset": "msvd", "root": "x", "split": "val"},
         "captions and dataset exclude each other"),
        ({"captions": "c.jsonl", "root": "x"}, "root is for dataset: name one (evlgen data ls)"),
    ],
)  # fmt: skip
def test_keys_that_do_not_go_together(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as error:
        DataSource(**keys)
    assert [one["msg"] for one in error.value.errors()] == [f"Value error, {says}"]


def test_files_of_questions_for_who_asks_them(tmp_path: Path) -> None:
    SETS["okvqa"](tmp_path / "okvqa")
    found = recognise(tmp_path / "okvqa", "val", "questions")
    assert found is not None
    assert found.captions == tmp_path / "okvqa" / "OpenEnded_mscoco_val2014_questions.json"
    assert found.answers == tmp_path / "okvqa" / "mscoco_val2014_annotations.json"
    assert found.media is not None
    assert found.media.resolve() == tmp_path / "coco" / "val2014"
    (tmp_path / "okvqa" / "mscoco_val2014_annotations.json").unlink()
    lacking = recognise(tmp_path / "okvqa", "val", "questions")
    assert lacking is not None
    with pytest.raises(UsageError, match=r"OK-VQA val: no file of answers: looked for mscoco_val2014_annotations.json"):
        lacking.check()

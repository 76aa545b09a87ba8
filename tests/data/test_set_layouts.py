"""Data sets in the other layouts in which people have them: one file or many, archives, texts and tables."""

import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from evlgen.data.datasets.set_check import check_set
from tests.data.media_files import jpg
from tests.data.published_sets import COCO_VAL, WHOLE, facts, write


def test_msrvtt_in_one_file_and_one_folder(made: Callable[[str], Path]) -> None:
    root = made("msrvtt")
    parts = [json.loads((root / f"{n}_videodatainfo.json").read_text()) for n in ("train_val", "test")]
    for name in ("train_val", "test"):
        (root / f"{name}_videodatainfo.json").unlink()
    write(root / "MSRVTT_data.json", {key: parts[0][key] + parts[1][key] for key in ("videos", "sentences")})
    (root / "videos").mkdir()
    (root / "TrainValVideo").rename(root / "videos" / "all")
    (root / "TestVideo" / "video3.mp4").rename(root / "videos" / "all" / "video3.mp4")
    (root / "TestVideo").rmdir()
    assert facts(check_set("msrvtt", root)) == {
        split: ("MSRVTT_data.json", items, texts, "videos/all", files, found)
        for split, (_, items, texts, _, files, found) in WHOLE["msrvtt"].items()
    }


def test_archives_stand_for_folders(made: Callable[[str], Path]) -> None:
    root = made("msvd")
    with tarfile.open(root / "YouTubeClips.tar", "w") as tar:
        tar.add(root / "YouTubeClips", arcname="YouTubeClips")
    for path in (root / "YouTubeClips").iterdir():
        path.unlink()
    (root / "YouTubeClips").rmdir()
    done = check_set("msvd", root)
    assert [(s.media, s.found) for s in done.splits] == [("YouTubeClips.tar", 1)] * 3
    whole = (root / "YouTubeClips.tar").read_bytes()
    (root / "YouTubeClips.tar").write_bytes(whole[:2000])
    assert not check_set("msvd", root).is_fine
    (root / "YouTubeClips.tar").write_bytes(b"no tar")
    assert "is not a whole tar file or zip" in check_set("msvd", root).splits[0].error
    root = made("coco")
    with zipfile.ZipFile(root / "val2014.zip", "w") as packed:
        for path in sorted((root / "val2014").iterdir()):
            packed.write(path, f"val2014/{path.name}")
            path.unlink()
    (root / "val2014").rmdir()
    done = check_set("coco", root, split="test")
    assert facts(done) == {"test": ("dataset_coco.json", 1, 2, "val2014.zip", 1, 1)}
    assert done.is_fine


def test_coco_and_flickr30k_in_the_files_of_blip(made: Callable[[str], Path]) -> None:
    root = made("coco")
    (root / "dataset_coco.json").unlink()
    (root / "images").mkdir()
    for name in ("train2014", "val2014"):
        (root / name).rename(root / "images" / name)
    rows = [
        {"image": f"val2014/{COCO_VAL[0]}", "caption": text, "image_id": "coco_42"} for text in ("one", "two", "three")
    ]
    write(root / "annotations" / "coco_karpathy_train.json", rows)
    write(
        root / "annotations" / "coco_karpathy_test.json",
        [{"image": f"val2014/{COCO_VAL[1]}", "caption": ["one", "two"]}],
    )
    done = check_set("coco", root)
    assert facts(done)["train"] == ("annotations/coco_karpathy_train.json", 1, 3, "images", 1, 1)
    assert facts(done)["test"] == ("annotations/coco_karpathy_test.json", 1, 2, "images", 1, 1)
    assert [s.split for s in done.splits if not s.is_fine] == ["val"]
    assert done.notes == ["images/val2014: 1 file has no captions: COCO_val2014_000000000074.jpg"]


def test_flickr30k_as_text_and_as_a_table(made: Callable[[str], Path]) -> None:
    root = made("flickr30k")
    (root / "dataset_flickr30k.json").unlink()
    names = ("36979", "65567", "81641")
    write(root / "results_20130124.token", "".join(f"{n}.jpg#{k}\t{n} {k} .\n" for n in names for k in range(2)))
    done = check_set("flickr30k", root)
    assert done.splits[0].missing[0].startswith("no list of splits: looked for test.txt, val.txt, train.txt; ")
    assert facts(done)["all"] == ("results_20130124.token", 3, 6, "flickr30k-images", 3, 3)
    for split, name in zip(("train", "val", "test"), names, strict=True):
        write(root / f"{split}.txt", f"{name}\n")
    done = check_set("flickr30k", root)
    assert [(s.split, s.items, s.texts, s.is_fine) for s in done.splits] == [
        ("train", 1, 2, True), ("val", 1, 2, True), ("test", 1, 2, True), ("all", 3, 6, True)
    ]  # fmt: skip
    (root / "results_20130124.token").unlink()
    kaggle = ["image_name| comment_number| comment"]
    kaggle += ['36979.jpg| 0| A "big" dog , barking .', "36979.jpg| 1   A dog runs ."]
    write(root / "results.csv", "\n".join(kaggle))
    assert facts(check_set("flickr30k", root, split="train")) == {
        "train": ("results.csv", 1, 2, "flickr30k-images", 1, 1)
    }


def test_splits_that_people_do_without(made: Callable[[str], Path]) -> None:
    root = made("coco")
    images = [{"id": 42, "file_name": COCO_VAL[0]}]
    write(
        root / "annotations" / "captions_val2014.json",
        {"images": images, "annotations": [{"id": 1, "image_id": 42, "caption": "x"}]},
    )
    done = check_set("coco", root)
    assert facts(done) == {
        **WHOLE["coco"],
        "val2014": ("annotations/captions_val2014.json", 1, 1, "val2014", 1, 1),
    }
    missing = check_set("coco", root, split="train2017")
    assert [s.missing[0] for s in missing.splits] == [
        "no captions file: looked for captions_train2017.json, here or in annotations/; normally from "
        "cocodataset.org/#download"
    ]
    root = made("vqav2")
    asked = {"data_subtype": "test2015", "questions": [{"question_id": 1, "image_id": 5, "question": "?"}]}
    write(root / "v2_OpenEnded_mscoco_test-dev2015_questions.json", asked)
    write(root / "test2015" / "COCO_test2015_000000000005.jpg", jpg(9))
    assert facts(check_set("vqav2", root))["test-dev"] == (
        "v2_OpenEnded_mscoco_test-dev2015_questions.json", 1, 0, "test2015", 1, 1
    )  # fmt: skip

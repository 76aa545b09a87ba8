"""Miniatures of all data sets on disk, whole and damaged, and what a check says of them."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from evlgen.data.datasets.registry import SETS as KNOWN
from evlgen.data.datasets.registry import find_set, find_split
from evlgen.data.datasets.set_check import check_set
from evlgen.errors import UsageError
from tests.data.media_files import clip, jpg, png
from tests.data.published_sets import COCO_VAL, MSVD_TEST, MSVD_TRAIN, SETS, VATEX_CLIPS, WHOLE, facts, faults, write


@pytest.mark.parametrize("name", SETS)
def test_a_whole_set_is_fine(made: Callable[[str], Path], name: str) -> None:
    done = check_set(name, made(name))
    assert facts(done) == WHOLE[name]
    assert done.is_fine
    assert done.notes == []
    for split in done.splits:
        official = find_split(KNOWN[name], split.split)
        kind = "questions" if KNOWN[name].task == "questions" else "items"
        notes = [f"{split.items} {kind}, officially {official.items}"]
        notes += [] if official.captions is None else [f"{split.texts} captions, officially {official.captions}"]
        assert split.notes == notes


@pytest.mark.parametrize("name", SETS)
def test_a_set_of_the_official_size_has_no_notes(
    made: Callable[[str], Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = made(name)
    sizes = {split: (items, texts) for split, (_, items, texts, *_) in WHOLE[name].items()}
    small = tuple(
        dataclasses.replace(s, items=sizes[s.name][0], captions=s.captions and sizes[s.name][1])
        for s in KNOWN[name].splits
        if s.name in sizes
    )
    monkeypatch.setitem(KNOWN, name, dataclasses.replace(KNOWN[name], splits=small))
    assert [split.notes for split in check_set(name, root).splits] == [[] for _ in sizes]


@pytest.mark.parametrize("name", SETS)
def test_a_missing_file_is_named(made: Callable[[str], Path], name: str) -> None:
    root = made(name)
    split = next(iter(WHOLE[name]))
    folder = root / WHOLE[name][split][3]
    gone = sorted(p for p in folder.rglob("*") if p.suffix in {".mp4", ".avi", ".jpg"})[0]
    gone.unlink()
    found = faults(check_set(name, root))
    broken = [one for listed in found.values() for one in listed]
    assert {kind for _, kind in broken} == {"missing"}
    assert {Path(file).stem for file, _ in broken} == {gone.stem}


@pytest.mark.parametrize("name", SETS)
def test_a_cut_captions_file_is_one_line(made: Callable[[str], Path], name: str) -> None:
    root = made(name)
    split, (file, *_) = list(WHOLE[name].items())[-1]
    whole = (root / file).read_text()
    (root / file).write_text(whole[: len(whole) - 20])
    check = check_set(name, root, split=split).splits[0]
    if name == "msvd":  # a text that is cut between two lines cannot be told from a shorter one
        assert not check.is_fine
        assert check.error == (
            f"{root / file} line 6: expected the name of a video or image, and a caption, found '04Gt01vat'"
        )
        return
    assert check.error.startswith(f"{root / file} is not JSON: ")
    assert check.error.endswith(" (is it a whole file?)")


@pytest.mark.parametrize("name", SETS)
def test_a_captions_file_that_is_not_there(made: Callable[[str], Path], name: str) -> None:
    root = made(name)
    split, (file, *_) = list(WHOLE[name].items())[-1]
    (root / file).unlink()
    if name in ("msvd", "coco", "flickr30k", "nocaps"):  # the only captions file
        with pytest.raises(UsageError) as error:
            check_set(name, root / "..")
        assert f"did you mean --root {root / '..'}" not in str(error.value)
        assert f"holds no files of {KNOWN[name].title}: looked for" in str(error.value)
    check = check_set(name, root, split=split).splits[0]
    what = "questions" if KNOWN[name].task == "questions" else "captions file"
    assert check.missing[0].startswith(f"no {what}: looked for {Path(file).name}, ")
    assert "; normally from " in check.missing[0]
    assert (check.items, check.texts, check.is_fine) == (0, 0, False)


def test_empty_and_cut_files_are_told_without_decoding(made: Callable[[str], Path]) -> None:
    root = made("msrvtt")
    video = root / "TrainValVideo"
    (video / "video0.mp4").write_bytes(b"")
    whole = (video / "video1.mp4").read_bytes()
    (video / "video1.mp4").write_bytes(whole[:-100])
    assert faults(check_set("msrvtt", root)) == {"train": [("video0", "empty-file"), ("video1", "cut")]}
    reasons = [b.message for b in check_set("msrvtt", root).splits[0].broken]
    assert reasons == ["the file is empty", "the file is cut: 100 bytes are missing by its own account"]
    root = made("msvd")
    avi = root / "YouTubeClips" / f"{MSVD_TRAIN}.avi"
    avi.write_bytes(avi.read_bytes()[:-7])
    assert faults(check_set("msvd", root)) == {"train": [(MSVD_TRAIN, "cut")]}
    root = made("coco")
    picture = root / "val2014" / COCO_VAL[1]
    picture.write_bytes(jpg(80, (400, 300))[:-60])
    broken = check_set("coco", root).splits[1].broken
    assert [(b.name, b.kind) for b in broken] == [(f"val2014/{COCO_VAL[1]}", "cut")]
    assert broken[0].message.startswith("the file is cut: image file is truncated")


def test_whole_files_with_odd_ends_are_fine(made: Callable[[str], Path]) -> None:
    root = made("nocaps")
    picture = root / "val" / "0013ea2087020901.jpg"
    picture.write_bytes(jpg(80) + b"\0" * 10_000)  # more than is looked at behind the end mark
    (root / "val" / "0a1b2c3d4e5f6071.jpg").write_bytes(png(80))
    assert check_set("nocaps", root).is_fine
    root = made("vatex")
    (root / "train" / f"{VATEX_CLIPS['train']}.mp4").write_bytes(clip([1, 2, 3]) + b"\0\0\0\x08free")
    assert check_set("vatex", root).is_fine
    (root / "train" / f"{VATEX_CLIPS['train']}.mp4").write_bytes(clip([1, 2, 3]) + b"\xff" * 20)
    assert check_set("vatex", root).is_fine


def test_an_index_that_was_never_written(made: Callable[[str], Path]) -> None:
    root = made("vatex")
    whole = clip([1, 2, 3])
    (root / "train" / f"{VATEX_CLIPS['train']}.mp4").write_bytes(whole[: whole.index(b"moov") - 4])
    assert [b.message for b in check_set("vatex", root).splits[0].broken] == [
        "the file is cut: its index (moov) is missing"
    ]


def test_decoding_finds_what_ends_do_not_show(made: Callable[[str], Path]) -> None:
    root = made("coco")
    picture = root / "val2014" / COCO_VAL[2]
    picture.write_bytes(b"no picture at all")
    assert check_set("coco", root).is_fine
    told: list[tuple[str, int, int | None, str]] = []

    def report(name: str, done: int, total: int | None, unit: str = "bytes") -> None:
        told.append((name, done, total, unit))

    done = check_set("coco", root, decode=True, report=report)
    assert faults(done) == {"test": [(f"val2014/{COCO_VAL[2]}", "decode-error")]}
    assert [s.frames for s in done.splits] == [2, 1, 0]
    assert told == [
        ("checking coco train", 1, 2, "items"),
        ("checking coco train", 2, 2, "items"),
        ("checking coco val", 1, 1, "items"),
        ("checking coco test", 1, 1, "items"),
    ]
    assert check_set("msvd", made("msvd"), decode=True).splits[0].frames == 2
    told.clear()
    stopped = check_set("coco", root, decode=True, report=report, stop=lambda: bool(told))
    assert [(s.split, s.checked, s.frames) for s in stopped.splits] == [("train", False, 1)]
    calls = iter([False, True, True])
    stopped = check_set("coco", root, stop=lambda: next(calls))
    assert [(s.split, s.checked) for s in stopped.splits] == [("train", False)]


def test_a_name_that_differs_is_missing_and_noted(made: Callable[[str], Path]) -> None:
    root = made("msvd")
    (root / "YouTubeClips" / f"{MSVD_TRAIN}.avi").rename(root / "YouTubeClips" / "vid1.avi")
    done = check_set("msvd", root)
    assert faults(done) == {"train": [(MSVD_TRAIN, "missing")]}
    assert done.notes == ["YouTubeClips: 1 file has no captions: vid1.avi"]
    for number in range(2, 6):
        write(root / "YouTubeClips" / f"vid{number}.avi", b"x")
    write(root / "YouTubeClips" / "notes.txt", "x")
    assert check_set("msvd", root).notes == [
        "YouTubeClips: 5 files have no captions: vid1.avi, vid2.avi, vid3.avi, ..."
    ]
    assert check_set("msvd", root, split="val").notes == [], "of the other splits nothing is known"


def test_a_split_that_the_captions_file_lacks(made: Callable[[str], Path]) -> None:
    root = made("msrvtt")
    path = root / "train_val_videodatainfo.json"
    content = json.loads(path.read_text())
    for video in content["videos"]:
        video["split"] = "train"
    path.write_text(json.dumps(content))
    done = check_set("msrvtt", root)
    assert [s.items for s in done.splits] == [3, 0, 1]
    assert done.splits[1].error == f"{path} has no split 'validate' (its splits are train (3))"


def test_msvd_needs_a_list_of_its_splits(made: Callable[[str], Path]) -> None:
    root = made("msvd")
    (root / "youtube_mapping.txt").unlink()
    done = check_set("msvd", root, split="test")
    assert done.splits[0].missing == [
        "no list of splits: looked for youtube_mapping.txt, train_list.txt; normally from "
        "vsubhashini.github.io/s2vt.html"
    ]
    for split, name in (("train", MSVD_TRAIN), ("test", MSVD_TEST), ("val", "-4wsuPCjDBc_5_15")):
        write(root / f"{split}_list.txt", f"{name}\n")
    assert facts(check_set("msvd", root)) == WHOLE["msvd"]


def test_answers_that_are_missing_or_of_another_split(made: Callable[[str], Path]) -> None:
    root = made("vqav2")
    answers = root / "v2_mscoco_val2014_annotations.json"
    answers.unlink()
    check = check_set("vqav2", root, split="val").splits[0]
    folders = "questions/, Questions/, annotations/, Annotations/"
    assert check.missing == [
        f"no file of answers: looked for v2_mscoco_val2014_annotations.json, here or in {folders}; normally from "
        "visualqa.org/download.html"
    ]
    assert (check.items, check.texts) == (2, 0)
    answers.write_text((root / "v2_mscoco_train2014_annotations.json").read_text())
    assert check_set("vqav2", root, split="val").splits[0].error == (
        f"2 of 2 questions of {root / 'v2_OpenEnded_mscoco_val2014_questions.json'} have no answers in {answers}, such "
        "as 42001 (are the two files of the same split?)"
    )


def test_pictures_or_videos_that_are_not_there(made: Callable[[str], Path]) -> None:
    root = made("flickr30k")
    (root / "flickr30k-images").rename(root / "pictures")
    check = check_set("flickr30k", root).splits[0]
    assert check.missing == [
        "no pictures: looked for flickr30k-images/, flickr30k_images/, images/, flickr30k_images/flickr30k_images/; "
        "normally from shannon.cs.illinois.edu/DenotationGraph"
    ]
    assert (check.items, check.found, check.is_fine) == (1, 0, False)


def test_captions_given_twice(made: Callable[[str], Path]) -> None:
    root = made("vatex")
    path = root / "vatex_training_v1.0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) * 2))
    check = check_set("vatex", root).splits[0]
    assert (check.repeated, check.is_fine) == ([VATEX_CLIPS["train"]], False)


def test_wrong_names_and_roots(tmp_path: Path, made: Callable[[str], Path]) -> None:
    assert find_set("MSR-VTT") is KNOWN["msrvtt"]
    assert find_split(KNOWN["msrvtt"], "validation").name == "val"
    for name, says in (
        ("msvdd", "no data set is called 'msvdd' (did you mean msvd or msrvtt?)"),
        ("imagenet", f"no data set is called 'imagenet' (there are {', '.join(KNOWN)}: evlgen data ls)"),
    ):
        with pytest.raises(UsageError) as error:
            find_set(name)
        assert str(error.value) == says
    with pytest.raises(UsageError, match=r"its splits are train, val, testdev, test"):
        find_split(KNOWN["gqa"], "tset")
    with pytest.raises(UsageError) as error:
        check_set("nocaps", tmp_path, split="train")
    assert str(error.value) == "NoCaps has no split 'train' (its splits are val)"
    with pytest.raises(UsageError) as error:
        check_set("nocaps", tmp_path / "none")
    assert str(error.value) == (
        f"{tmp_path / 'none'} is not a folder (expected the folder that holds the files of NoCaps)"
    )
    with pytest.raises(UsageError) as error:
        check_set("nocaps", tmp_path)
    assert str(error.value) == (
        f"{tmp_path} holds no files of NoCaps: looked for nocaps_val_4500_captions.json, here or in annotations/ "
        "(normally from nocaps.org/download)"
    )
    root = made("nocaps")
    with pytest.raises(UsageError) as error:
        check_set("nocaps", root.parent)
    assert str(error.value).endswith(f"here or in annotations/ (did you mean --root {root}?)")


def test_what_is_known_is_consistent() -> None:
    for known in KNOWN.values():
        names = [split.name for split in known.splits]
        assert len(set(names)) == len(names)
        assert known.sources[-1][0] == "", "every file comes from somewhere"
        for split in known.splits:
            assert split.layouts
            for layout in split.layouts:
                assert all(not os.path.isabs(name) for name in layout.captions)  # noqa: PTH117
                assert (known.task == "captions") or split.captions is None


def test_sizes_add_up() -> None:
    """Sums that the papers state: 10,000 clips, 200,000 sentences; 1,970 clips; 123,287 pictures, 616,767 captions."""
    sizes = {name: {s.name: (s.items, s.captions or 0) for s in known.splits} for name, known in KNOWN.items()}
    karpathy = [sizes["coco"][s] for s in ("train", "val", "test")]
    assert [sum(column) for column in zip(*karpathy, strict=True)] == [123_287, 616_767]
    official = [sizes["coco"][s] for s in ("train2014", "val2014")]
    assert [sum(column) for column in zip(*official, strict=True)] == [123_287, 616_767]
    newer = [sizes["coco"][s] for s in ("train2017", "val2017")]
    assert [sum(column) for column in zip(*newer, strict=True)] == [123_287, 616_767]
    assert [sum(column) for column in zip(*sizes["msrvtt"].values(), strict=True)] == [10_000, 200_000]
    assert sum(items for items, _ in sizes["msvd"].values()) == 1970
    assert sum(sizes["vatex"][s][0] for s in ("train", "val", "test")) + 6278 == 41_269

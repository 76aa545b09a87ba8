"""Captions files of single data sets as they are published: what is read from them, and what is said about bad ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from evlgen.data.caption_sources import read_captions, read_items
from evlgen.data.datasets.registry import SETS as KNOWN
from evlgen.errors import UsageError
from evlgen.recipes import DataSource
from tests.data.published_sets import COCO_VAL, MSVD_TEST, MSVD_TRAIN, MSVD_VAL, SETS, write


def items(path: Path, split: str | None = None) -> list[tuple[str, tuple[str, ...]]]:
    source = DataSource(captions=str(path), split=split)
    return [(item.name, item.captions) for item in read_items(source, lower_case=False)]


def test_msvd_text_with_the_official_numbers(tmp_path: Path) -> None:
    SETS["msvd"](tmp_path)
    path = tmp_path / "AllVideoDescriptions.txt"
    assert items(path) == [
        (MSVD_TRAIN, ("a bird sings", "it sings")),
        (MSVD_VAL, ("a man runs",)),
        (MSVD_TEST, ("a dog #1",)),
    ]
    assert items(path, "train") == [(MSVD_TRAIN, ("a bird sings", "it sings"))]
    assert items(path, "val") == items(path, "validation") == [(MSVD_VAL, ("a man runs",))]
    assert items(path, "val+test") == [(MSVD_VAL, ("a man runs",)), (MSVD_TEST, ("a dog #1",))]


@pytest.mark.parametrize(
    ("number", "split"), [(1, "train"), (1200, "train"), (1201, "val"), (1300, "val"), (1301, "test"), (1970, "test")]
)
def test_msvd_splits_go_by_number(tmp_path: Path, number: int, split: str) -> None:
    write(tmp_path / "AllVideoDescriptions.txt", f"{MSVD_TRAIN} x\n")
    write(tmp_path / "youtube_mapping.txt", f"{MSVD_TRAIN} vid{number}\n")
    assert items(tmp_path / "AllVideoDescriptions.txt", split) == [(MSVD_TRAIN, ("x",))]


@pytest.mark.parametrize("line", [f"{MSVD_TRAIN} vid0", f"{MSVD_TRAIN} vid1971", f"{MSVD_TRAIN} 5", "vid1"])
def test_a_bad_number_is_named(tmp_path: Path, line: str) -> None:
    write(tmp_path / "AllVideoDescriptions.txt", f"{MSVD_TRAIN} x\n")
    write(tmp_path / "youtube_mapping.txt", f"\n{line}\n")
    with pytest.raises(UsageError) as error:
        items(tmp_path / "AllVideoDescriptions.txt")
    assert str(error.value) == (
        f"{tmp_path / 'youtube_mapping.txt'} line 2: expected a clip and vid1 to vid1970, such as mv89psg6zh4_33_46 "
        f"vid1, found {line!r}"
    )


def test_a_clip_in_two_lists_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "AllVideoDescriptions.txt", f"{MSVD_TRAIN} x\n")
    write(tmp_path / "train_list.txt", f"{MSVD_TRAIN}\n")
    write(tmp_path / "test_list.txt", f"{MSVD_TEST}\n{MSVD_TRAIN}\n")
    with pytest.raises(UsageError) as error:
        items(tmp_path / "AllVideoDescriptions.txt")
    assert str(error.value) == f"{tmp_path / 'test_list.txt'} line 2: {MSVD_TRAIN} is in train_list.txt as well"
    write(tmp_path / "test_list.txt", "two words\n")
    with pytest.raises(UsageError, match=r"test_list.txt line 1: expected one name a line, found 'two words'"):
        items(tmp_path / "AllVideoDescriptions.txt")


def test_msvd_without_lists_has_no_splits(tmp_path: Path) -> None:
    write(tmp_path / "AllVideoDescriptions.txt", f"{MSVD_TRAIN} x\n")
    with pytest.raises(UsageError, match=r"has no split 'train' \(it names none\)"):
        items(tmp_path / "AllVideoDescriptions.txt", "train")


def test_msvd_table_in_english(tmp_path: Path) -> None:
    header = "VideoID,Start,End,WorkerID,Source,AnnotationTime,Language,Description\n"
    rows = [
        'mv89psg6zh4,33,46,1,clean,9,English,"A bird, in a sink."',
        "mv89psg6zh4,33,46,2,clean,9,German,Ein Vogel.",
        "-4wsuPCjDBc,5,15,3,unverified,9,English,A squirrel eats.",
        "mv89psg6zh4,33,46,4,clean,9,English,A bird bathes.",
        "mv89psg6zh4,33,46,4,clean,9,English,",
    ]
    path = tmp_path / "video_corpus.csv"
    write(path, header + "\n".join(rows))
    write(tmp_path / "youtube_mapping.txt", f"{MSVD_TRAIN} vid1\n{MSVD_VAL} vid1201\n")
    assert items(path) == [
        (MSVD_TRAIN, ("A bird, in a sink.", "A bird bathes.")),
        (MSVD_VAL, ("A squirrel eats.",)),
    ]
    assert items(path, "val") == [(MSVD_VAL, ("A squirrel eats.",))]
    write(path, header + rows[0] + "\n" + "a,b\n")
    with pytest.raises(UsageError, match=r"video_corpus.csv line 3: 2 columns where the header has 8"):
        items(path)


def test_vatex(tmp_path: Path) -> None:
    path = tmp_path / "vatex.json"
    rows: list[Any] = [{"videoID": "a_000001_000011", "enCap": ["x", " ", "y"], "chCap": ["z"]}]
    write(path, rows)
    assert items(path) == [("a_000001_000011", ("x", "y"))]
    for bad, says in (
        ({"videoID": "b"}, "no caption column, only 'videoID'"),
        ({"videoID": [5], "enCap": ["x"]}, "videoID is a list, expected a name or a whole number"),
        ({"videoID": "b", "enCap": 5}, "enCap is 5, expected text"),
        (3, "expected an object, found 3"),
    ):
        write(path, [*rows, bad])
        with pytest.raises(UsageError) as error:
            items(path)
        assert str(error.value).startswith(f"{path} entry 2: {says}")


def test_flickr30k_text_and_table(tmp_path: Path) -> None:
    token = tmp_path / "results_20130124.token"
    write(token, '36979.jpg#0\tA group of friends .\n36979.jpg#1\tThey "play" .\n65567.jpg#0\tA man , bearded .\n')
    want = [("36979.jpg", ("A group of friends .", 'They "play" .')), ("65567.jpg", ("A man , bearded .",))]
    assert items(token) == want
    # one row of the file on Kaggle lacks its second bar: 2199200615.jpg| 4   A dog runs across the grass .
    table = tmp_path / "results.csv"
    write(
        table,
        'image_name| comment_number| comment\n36979.jpg| 0| A group of friends .\n36979.jpg| 1| They "play" .\n'
        "65567.jpg| 4   A man , bearded .\n",
    )
    assert items(table) == want
    write(tmp_path / "test.txt", "65567\n")
    assert items(token, "test") == items(table, "test") == want[1:]
    write(token, "36979.jpg#0\tA group\n36979 A man\n")
    with pytest.raises(UsageError) as error:
        items(token)
    assert str(error.value) == (
        f"{token} line 2: expected the name of a video or image, and a caption, found '36979 A man'"
    )


def test_other_tables_and_texts(tmp_path: Path) -> None:
    write(tmp_path / "c.csv", "file,caption\na.jpg#1,x\n")
    assert items(tmp_path / "c.csv") == [("a.jpg#1", ("x",))]
    write(tmp_path / "c.txt", "a.mp4 a man walks\n")
    assert items(tmp_path / "c.txt") == [("a.mp4", ("a man walks",))]


def test_several_splits_and_their_spellings(tmp_path: Path) -> None:
    rows = [("a", "train"), ("b", "restval"), ("c", "val"), ("d", "validate"), ("e", "test"), ("f", None)]
    path = tmp_path / "c.jsonl"
    write(path, "\n".join(json.dumps({"file": n, "caption": "x", **({"split": s} if s else {})}) for n, s in rows))
    for split, want in (
        ("train+restval", "ab"), ("val", "c"), ("validate", "d"), ("val+validate", "cd"), ("dev", "cd"), ("test", "e"),
        ("test+dev", "cde"), (None, "abcdef"),
    ):  # fmt: skip
        assert "".join(name for name, _ in items(path, split)) == want, split
    with pytest.raises(
        UsageError, match=r"has no split 'a\+b' \(its splits are train \(1\), restval \(1\), val \(1\), "
    ):
        items(path, "a+b")


def test_coco_is_read_as_pycocotools_reads_it(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    path = tmp_path / "captions_val2014.json"
    images = [{"id": int(name[13:25]), "file_name": name, "height": 10, "width": 20} for name in COCO_VAL]
    annotations = [
        {"id": 100 + n, "image_id": images[n % 3]["id"], "caption": text}
        for n, text in enumerate(("A cat.", "Two dogs ", 'He says "no".', "É", "A  man,\n a plan", "x", "y"))
    ]
    write(path, {"info": {}, "licenses": [], "images": images, "annotations": annotations, "type": "captions"})
    theirs = COCO(str(path))
    want = []
    for image in theirs.loadImgs(theirs.getImgIds()):
        found = theirs.loadAnns(theirs.getAnnIds(imgIds=[image["id"]]))
        want.append((image["file_name"], tuple(" ".join(one["caption"].split()) for one in found)))
    assert items(path) == want
    assert len(want) == 3


@pytest.mark.parametrize("name", [name for name, known in KNOWN.items() if known.task == "captions"])
def test_captions_files_work_in_a_recipe_as_they_are(tmp_path: Path, name: str) -> None:
    SETS[name](tmp_path)
    for path in sorted(tmp_path.glob("*.json")) or [tmp_path / "AllVideoDescriptions.txt"]:
        found = read_captions(DataSource(captions=str(path)), lower_case=False)
        assert found.items
        assert not found.uncaptioned
        assert not found.repeated

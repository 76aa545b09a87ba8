"""Every layout, written by hand with its known content."""

import csv
import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from evlgen.annotations.questions import looks_like_answers, read_answers
from evlgen.errors import Failure, UsageError
from evlgen.metrics.predictions import read_predictions
from evlgen.metrics.references import read_references
from tests.annotations.caption_files import COCO, MSR_VTT, VQA, lines, own, write

TWO = {"a.mp4": "a man walks", "b.mp4": "two dogs, one ball"}


# Predictions


@pytest.mark.parametrize(
    ("content", "layout"),
    [
        (own("a.mp4", TWO["a.mp4"]) + own("b.mp4", TWO["b.mp4"]), "captions.jsonl of evlgen"),
        (lines({"id": "a.mp4", "text": TWO["a.mp4"]}, {"id": "b.mp4", "text": TWO["b.mp4"]}), "JSON lines"),
        (
            lines({"file": "a.mp4", "prediction": TWO["a.mp4"]}, {"Name": "b.mp4", "Caption": TWO["b.mp4"]}),
            "JSON lines",
        ),
        ([{"image_id": k, "caption": v} for k, v in TWO.items()], "COCO results"),
        ([{"question_id": k, "answer": v} for k, v in TWO.items()], "VQA results"),
        ([{"video": k, "caption": [v]} for k, v in TWO.items()], "JSON list of rows"),
        ({"results": [{"image_id": k, "caption": v} for k, v in TWO.items()], "version": "1"}, "COCO results"),
        (TWO, "JSON object {id: caption}"),
        ({k: [v] for k, v in TWO.items()}, "JSON object {id: caption}"),
        ({k: [{"caption": v}] for k, v in TWO.items()}, "JSON object {id: caption}"),
        (json.dumps(TWO, indent=2), "JSON object {id: caption}"),
        ('video_id,caption\na.mp4,a man walks\nb.mp4,"two dogs, one ball"\n', "CSV"),
        ('\ufeffcaption;file\r\na man walks;a.mp4\r\n"two dogs, one ball";b.mp4', "CSV"),
        ('file,caption\ra.mp4,a man walks\rb.mp4,"two dogs, one ball"\r', "CSV"),
        ("name\ttext\tscore\na.mp4\ta man walks\t1\nb.mp4\ttwo dogs, one ball\t2\n", "TSV"),
        ("a.mp4 a man walks\nb.mp4 two dogs, one ball\n", "text, a name and a caption a line"),
    ],
)
@pytest.mark.parametrize("pack", [False, True], ids=["plain", "gzip"])
def test_layouts_of_predictions(tmp_path: Path, content: Any, layout: str, pack: bool) -> None:
    path = write(tmp_path, content)
    if pack:
        path.write_bytes(gzip.compress(path.read_bytes()))
    read = read_predictions(path)
    assert (read.path, read.layout, read.captions, read.failed, read.notes) == (path, layout, TWO, {}, ())
    assert list(read.captions) == list(TWO)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("content", ["id,caption\na,café\n", '{"a": "café"}', '{"id": "a", "caption": "café"}\n'])
def test_byte_order_marks(tmp_path: Path, encoding: str, content: str) -> None:
    assert read_predictions(write(tmp_path, content.encode(encoding))).captions == {"a": "café"}


def test_csv_as_the_csv_module_writes_it(tmp_path: Path) -> None:
    captions = {"a": 'he says "hi", twice', "b": "two\nlines", "c": "", "d": " spaces ", "e": "x" * 200_000, "f": "'"}
    with (tmp_path / "file").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "caption"], *captions.items()])
    read = read_predictions(tmp_path / "file")
    assert read.captions == captions
    assert read.notes == ("1 caption is empty; an empty caption is scored as it is",)


def test_random_captions_survive_every_form(tmp_path: Path) -> None:
    source = random.Random(7)
    letters = "ab ,;|\t\"'\\{}[]\u2028\u00a0é😀"
    captions = {f"v{i}": "".join(source.choices(letters, k=source.randrange(12))) for i in range(300)}
    rows = [{"id": key, "caption": caption} for key, caption in captions.items()]
    forms = [captions, rows, lines(*rows), "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)]
    for number, form in enumerate(forms):
        assert read_predictions(write(tmp_path, form, f"{number}")).captions == captions
    for delimiter in ",;\t":
        with (tmp_path / "table").open("w", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows([["id", "caption"], *captions.items()])
        assert read_predictions(tmp_path / "table").captions == captions


def test_own_file_last_line_counts_and_nothing_is_hidden(tmp_path: Path) -> None:
    content = (
        own("a.mp4", "old")
        + own("b.mp4", None, "error", error=Failure("decode-error", "no frame"))
        + own("c.mp4", "kept", "partial")
        + "{half\n"
        + own("d.mp4", "was good")
        + own("a.mp4", "new", settings="s2")
        + own("d.mp4", None, "error", error=Failure("timeout", "slow"))
        + own("e.mp4", None, "error", error=Failure("timeout", "slow"))
        + own("e.mp4", "")
        + own("f.mp4", "cut")[:40]
    )
    read = read_predictions(write(tmp_path, content))
    assert read.captions == {"a.mp4": "new", "c.mp4": "kept", "e.mp4": ""}
    assert read.failed == {"b.mp4": "decode-error: no frame", "d.mp4": "timeout: slow"}
    assert read.notes == (
        "1 line is not JSON and was left out, the first is line 4",
        "the last line (10) breaks off in the middle and was left out",
        "3 ids appear more than once, the last line counts",
        "1 caption is empty; an empty caption is scored as it is",
        "1 caption comes from a video of which only a part could be decoded",
        "captions made with 2 different models or settings are mixed in this file",
    )


def test_own_file_whole_last_line_without_newline(tmp_path: Path) -> None:
    read = read_predictions(write(tmp_path, (own("a", "x") + own("b", "y"))[:-1]))
    assert (read.captions, read.notes) == ({"a": "x", "b": "y"}, ())
    assert read_predictions(write(tmp_path, own("a", "x"))).layout == "captions.jsonl of evlgen"


def test_ids_become_strings_and_the_column_is_named(tmp_path: Path) -> None:
    rows = [{"id": 7, "image_id": 391895, "caption": "x"}, {"id": 8, "image_id": 5.0, "caption": "y"}]
    read = read_predictions(write(tmp_path, rows))
    assert read.captions == {"391895": "x", "5": "y"}
    assert read.notes == ("ids are those of column image_id (not used: id)",)


def test_null_fails_and_equal_repeats_are_noted(tmp_path: Path) -> None:
    content = lines({"id": 1, "caption": None}, {"id": 2, "caption": "x"}, {"id": 2, "caption": "x"})
    read = read_predictions(write(tmp_path, content))
    assert (read.captions, read.failed) == ({"2": "x"}, {"1": "caption is null"})
    assert read.notes == ("1 id appears more than once, always with the same caption",)


def test_a_first_row_of_more_than_a_megabyte(tmp_path: Path) -> None:
    """The head by which a file is told apart once ended in that row, and the file was "not JSON"."""
    for row in ({"id": "1", "caption": "x", "note": "y" * (3 << 20)}, {"id": "1", "caption": "x " * (1 << 20)}):
        two = [row, {"id": "2", "caption": "z"}]
        for text in (lines(*two), json.dumps(two), json.dumps(two[:1])):
            read = read_predictions(write(tmp_path, text))
            assert read.captions["1"] == row["caption"]
    path = write(tmp_path, json.dumps({str(n): "word " * 1000 for n in range(1000)}) + "\n")
    assert len(read_predictions(path).captions) == 1000


def test_half_a_surrogate_pair(tmp_path: Path) -> None:
    read = read_predictions(write(tmp_path, '{"a": "x\\ud83d y", "b": "\\ud83d\\ude00"}'))
    assert read.captions == {"a": "x\ufffd y", "b": "😀"}
    assert read.notes == ("1 caption holds what is no character (half a surrogate pair, or \ufffd itself)",)


# References

KARPATHY = {
    "dataset": "coco",
    "images": [
        {"cocoid": 9, "imgid": 0, "filename": "n.jpg", "split": "test", "sentences": [{"raw": "q", "tokens": ["q"]}]},
        {"cocoid": 10, "imgid": 1, "filename": "t.jpg", "split": "restval", "sentences": [{"raw": "p"}, {"raw": "r"}]},
    ],
}
FLICKR = {"images": [{"imgid": 4, "filename": "1000.jpg", "split": "val", "sentences": [{"raw": "p"}, {"raw": "r"}]}]}
NOCAPS = {
    "images": [{"id": 0, "file_name": "f0.jpg", "domain": "in-domain"}, {"id": 1, "domain": "near-domain"}],
    "annotations": [{"image_id": 0, "caption": "p"}, {"image_id": 1, "caption": "q"}, {"image_id": 0, "caption": "r"}],
}
MSVD_TABLE = (
    "VideoID,Start,End,Language,Description\nmv89psg6zh4,33,46,English,p\nmv89psg6zh4,33,46,German,nein\n"
    "mv89psg6zh4,50,60,English,q\nmv89psg6zh4,33,46,English,r\n"
)


@pytest.mark.parametrize(
    ("content", "layout", "captions", "groups"),
    [
        (COCO, "COCO annotations", {"9": ["q"], "10": ["p", "r"]}, {}),
        ({"annotations": COCO["annotations"]}, "COCO annotations", {"10": ["p", "r"], "9": ["q"]}, {}),
        (KARPATHY, "Karpathy's splits", {"9": ["q"], "10": ["p", "r"]}, {"9": "test", "10": "restval"}),
        (FLICKR, "Karpathy's splits", {"1000.jpg": ["p", "r"]}, {}),
        (MSR_VTT, "MSR-VTT videodatainfo", {"video1": ["q"], "video0": ["p", "r"]}, {"video1": "9", "video0": "3"}),
        (NOCAPS, "NoCaps annotations", {"0": ["p", "r"], "1": ["q"]}, {"0": "in-domain", "1": "near-domain"}),
        (
            [{"videoID": "v_000001_000011", "enCap": ["p", "r"], "chCap": ["z"]}],
            "VATEX",
            {"v_000001_000011": ["p", "r"]},
            {},
        ),
        (
            "# comment\n\nmv89psg6zh4_33_46 p p\n-4wsuPCjDBc_5_15 q\nmv89psg6zh4_33_46 r\n",
            "text, a name and a caption a line",
            {"mv89psg6zh4_33_46": ["p p", "r"], "-4wsuPCjDBc_5_15": ["q"]},
            {},
        ),
        ("n.jpg#0\tp p\nn.jpg#1\tr\n", "text, a name and a caption a line", {"n.jpg": ["p p", "r"]}, {}),
        (MSVD_TABLE, "MSVD table", {"mv89psg6zh4_33_46": ["p", "r"], "mv89psg6zh4_50_60": ["q"]}, {}),
        (lines({"video": "a", "category": 5, "captions": ["p", "r"]}), "JSON lines", {"a": ["p", "r"]}, {"a": "5"}),
        (lines({"id": 1, "caption": "p"}, {"id": 1, "caption": "r"}), "JSON lines", {"1": ["p", "r"]}, {}),
        ([{"image": "a.jpg", "caption": ["p", "r"]}], "JSON list of rows", {"a.jpg": ["p", "r"]}, {}),
        ('file,caption\na,p\nb,"q, q"\na,r\n', "CSV", {"a": ["p", "r"], "b": ["q, q"]}, {}),
        ("file_name,caption_1,caption_2\na.wav,p,r\n", "CSV", {"a.wav": ["p", "r"]}, {}),
        (
            'image_name| comment_number| comment\na.jpg| 0| "p" , p\na.jpg| 1| r\n',
            "table with | between columns",
            {"a.jpg": ['"p" , p', "r"]},
            {},
        ),
        ({"a": ["p", "r"], "b": ["q"]}, "JSON object {id: captions}", {"a": ["p", "r"], "b": ["q"]}, {}),
        ({"9": [{"image_id": 9, "id": 1, "caption": "p"}]}, "JSON object {id: captions}", {"9": ["p"]}, {}),
        ({"a": [{"caption": "p"}]}, "JSON object {id: captions}", {"a": ["p"]}, {}),
    ],
)
def test_layouts_of_references(tmp_path: Path, content: Any, layout: str, captions: Any, groups: Any) -> None:
    read = read_references(write(tmp_path, content))
    assert (read.layout, read.captions, read.groups) == (layout, captions, groups)
    assert list(read.captions) == list(captions)


def test_aliases_are_the_other_names(tmp_path: Path) -> None:
    assert read_references(write(tmp_path, COCO)).aliases == {"9": "COCO_val2014_000000000009.jpg", "10": "x.jpg"}
    assert read_references(write(tmp_path, KARPATHY)).aliases == {"9": "n.jpg", "10": "t.jpg"}
    assert read_references(write(tmp_path, FLICKR)).aliases == {"1000.jpg": "4"}


def test_splits(tmp_path: Path) -> None:
    path = write(tmp_path, MSR_VTT)
    assert read_references(path, split="validate").captions == {"video0": ["p", "r"]}
    note = "the splits train (1), validate (1) are used together; choose one with --split"
    assert read_references(path).notes == (note,)
    assert read_references(path, split="val").captions == {"video0": ["p", "r"]}, "another spelling of it"
    with pytest.raises(UsageError) as error:
        read_references(path, split="test")
    assert str(error.value) == f"{path} has no split 'test' (its splits are train (1), validate (1))"
    coco = write(tmp_path, COCO, "coco")
    with pytest.raises(UsageError) as error:
        read_references(coco, split="val")
    assert str(error.value) == f"{coco} has no split 'val' (it names none)"
    rows = write(tmp_path, "file,split,caption\na,train,p\nb,test,q\na,train,r\n", "rows")
    assert read_references(rows, split="train").captions == {"a": ["p", "r"]}
    both = write(tmp_path, "file,split,caption\na,train,p\na,test,q\n", "both")
    with pytest.raises(UsageError, match="'a' is in split 'train' and in split 'test'"):
        read_references(both)


def test_splits_by_lists_beside_the_file(tmp_path: Path) -> None:
    clips = ("mv89psg6zh4_33_46", "mv89psg6zh4_50_60")
    (tmp_path / "youtube_mapping.txt").write_text(f"{clips[0]} vid1200\n{clips[1]} vid1201\n")
    text = write(tmp_path, f"{clips[0]} p\n{clips[1]} q\n-4wsuPCjDBc_5_15 z\n{clips[0]} r\n", "text")
    assert read_references(text, split="train").captions == {clips[0]: ["p", "r"]}
    assert read_references(text, split="val").captions == {clips[1]: ["q"]}
    assert read_references(text, split="train+val").captions == {clips[0]: ["p", "r"], clips[1]: ["q"]}
    table = write(tmp_path, MSVD_TABLE, "table")
    assert read_references(table, split="val").captions == {clips[1]: ["q"]}
    with pytest.raises(UsageError) as error:
        read_references(table, split="val+test")
    assert str(error.value) == f"{table} has no split 'val+test' (its splits are train (1), val (1))"
    (tmp_path / "test.txt").write_text("1.jpg\n")
    rows = "image_name| comment_number| comment\n1.jpg| 0| p\n1.jpg| 4   a dog runs .\n2.jpg| 0| q\n"
    assert read_references(write(tmp_path, rows, "flickr"), split="test").captions == {"1.jpg": ["p", "a dog runs ."]}


def test_notes_on_references(tmp_path: Path) -> None:
    assert read_references(write(tmp_path, COCO)).notes == ("1 item has no captions and left out",)
    rows = lines({"id": 1, "captions": ["p", " "]}, {"id": 2, "captions": []}, {"id": 3, "captions": [""]})
    assert read_references(write(tmp_path, rows)).notes == (
        "2 reference captions are empty and left out",
        "2 items have no captions and left out",
    )
    karpathy = {
        "images": [{**image, "split": s} for image, s in zip(KARPATHY["images"], ("train", "restval"), strict=True)]
    }
    assert read_references(write(tmp_path, karpathy), split="train").notes == (
        "split restval (1) is often trained on as well, and is not in split train",
    )
    assert read_references(write(tmp_path, MSVD_TABLE)).notes == ("1 caption in languages other than English left out",)


# Answers

GQA = {
    "201307251": {
        "semantic": [],
        "question": "Is it?",
        "answer": "yes",
        "types": {"structural": "verify", "semantic": "attr"},
    }
}


@pytest.mark.parametrize(
    ("content", "layout", "answers", "questions", "types"),
    [
        (VQA, "VQA annotations", {"458752000": ["net", "mesh"]}, {}, {"458752000": ("what is", "other")}),
        (GQA, "GQA questions", {"201307251": ["yes"]}, {"201307251": "Is it?"}, {"201307251": ("verify", "attr")}),
        (
            {"data": [{"question_id": 3, "question": "q", "answers": ["a", "b"]}]},
            "TextVQA",
            {"3": ["a", "b"]},
            {"3": "q"},
            {},
        ),
        (
            [{"question_id": 3, "question": "q", "answer": ["a", "b"]}],
            "JSON list of rows",
            {"3": ["a", "b"]},
            {"3": "q"},
            {},
        ),
        (lines({"question_id": 3, "answers": ["a"]}), "JSON lines", {"3": ["a"]}, {}, {}),
        (
            lines({"question_id": 3, "answer": "a"}, {"question_id": 4, "answer": "b"}),
            "JSON lines",
            {"3": ["a"], "4": ["b"]},
            {},
            {},
        ),
        ("question_id,answer\n3,a\n3,b\n", "CSV", {"3": ["a", "b"]}, {}, {}),
    ],
)
def test_layouts_of_answers(
    tmp_path: Path, content: Any, layout: str, answers: Any, questions: Any, types: Any
) -> None:
    path = write(tmp_path, content)
    assert looks_like_answers(path)
    read = read_answers(path)
    assert (read.layout, read.answers, read.questions, read.types) == (layout, answers, questions, types)


def test_captions_do_not_look_like_answers(tmp_path: Path) -> None:
    odd = {"a": ['he says "question": what? "answer": none']}
    for content in (COCO, KARPATHY, MSR_VTT, NOCAPS, MSVD_TABLE, odd, "id,caption\n1,what is the answer\n", "", b"\0"):
        assert not looks_like_answers(write(tmp_path, content))
    assert not looks_like_answers(tmp_path / "none")


@pytest.mark.data
@pytest.mark.skipif("EVLGEN_DATA" not in os.environ, reason="EVLGEN_DATA points at no data")
@pytest.mark.parametrize(
    ("name", "split", "count", "each"),
    [
        ("flickr8k/captions.jsonl", "test", 1000, 5),
        ("flickr8k/captions.jsonl", None, 8000, 5),
        ("msrvtt-frames/test.jsonl", "test", 700, 20),
    ],
)
def test_real_references(name: str, split: str | None, count: int, each: int) -> None:
    read = read_references(Path(os.environ["EVLGEN_DATA"]) / name, split=split)
    assert len(read.captions) == count
    assert {len(captions) for captions in read.captions.values()} == {each}

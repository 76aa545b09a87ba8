"""Captions files in every layout, and what is said about bad ones."""

import json
from pathlib import Path

import pytest

from evlgen.data.caption_sources import CaptionedItem, clean_caption, read_captions, read_items
from evlgen.errors import UsageError
from evlgen.recipes import DataSource


def source(folder: Path, text: str, name: str = "c.jsonl", split: str | None = None) -> DataSource:
    (folder / name).write_text(text, encoding="utf-8")
    return DataSource(captions=str(folder / name), split=split)


def lines(*rows: object) -> str:
    return "\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows)


def items(found: DataSource) -> list[tuple[str, tuple[str, ...]]]:
    return [(i.name, i.captions) for i in read_items(found, lower_case=False)]


def test_rows_in_every_spelling(tmp_path: Path) -> None:
    rows = lines(
        {"video": "a", "captions": ["X  y ."], "category": 3},
        {"file": "b", "caption": "Z"},
        "",
        '{"image": "c", "caption": "q\u2028r"}',
        {"path": "d/e.mp4", "caption": "one"},
        {"path": "b", "caption": "more"},
    )
    assert read_items(source(tmp_path, rows), lower_case=True) == [
        CaptionedItem("a", ("x y",)),
        CaptionedItem("b", ("z", "more")),
        CaptionedItem("c", ("q r",)),
        CaptionedItem("d/e.mp4", ("one",)),
    ]
    assert clean_caption(" A  dog . ", lower_case=False) == "A dog ."


def test_media_are_beside_the_captions_unless_named(tmp_path: Path) -> None:
    assert DataSource(captions="${DATA}/set/c.csv").media == "${DATA}/set"
    assert DataSource(captions="c.csv").media == "."
    assert DataSource(captions="set/c.csv", media="films").media == "films"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.csv", 'file,caption,split\nb.mp4,"a man, a dog",train\na.mp4,x,val\nb.mp4,"he said ""no""\nand left",train\n'),  # noqa: E501
        ("c.tsv", 'split\tcaption\tvideo\r\ntrain\ta man, a dog\tb.mp4\nval\tx\ta.mp4\ntrain\the said "no" and left\tb.mp4\n'),  # noqa: E501
        ("c.txt", '\ufefffile;caption;split\nb.mp4;a man, a dog;train\na.mp4;x;val\nb.mp4;"he said ""no"" and left";train'),  # noqa: E501
        ("c.json", '[{"file": "b.mp4", "split": "train", "captions": ["a man, a dog", "he said \\"no\\" and left"]}]'),
    ],
)  # fmt: skip
def test_tables_and_lists_give_the_same(tmp_path: Path, name: str, text: str) -> None:
    want = [("b.mp4", ("a man, a dog", 'he said "no" and left'))]
    assert items(source(tmp_path, text, name, "train")) == want


def test_msr_vtt_as_published(tmp_path: Path) -> None:
    published = {
        "info": {"year": "2016"},
        "videos": [
            {"video_id": "video0", "split": "train", "category": 9},
            {"video_id": "video6513", "split": "validate", "category": 1},
            {"video_id": "video1", "split": "train", "category": 2},
        ],
        "sentences": [
            {"sen_id": 0, "video_id": "video1", "caption": "one"},
            {"sen_id": 1, "video_id": "video0", "caption": "nought"},
            {"sen_id": 2, "video_id": "video1", "caption": "uno"},
            {"sen_id": 3, "video_id": "video6513", "caption": "later"},
        ],
    }
    text = json.dumps(published)
    assert items(source(tmp_path, text, "v.json", "train")) == [("video0", ("nought",)), ("video1", ("one", "uno"))]
    assert items(source(tmp_path, text, "v.json", "val")) == [("video6513", ("later",))]
    assert items(source(tmp_path, text, "v.json", "validate")) == [("video6513", ("later",))]
    with pytest.raises(UsageError, match=r"v.json has no split 'test' \(its splits are train \(2\), validate \(1\)\)"):
        read_items(source(tmp_path, text, "v.json", "test"), lower_case=False)


def test_coco_and_karpathy(tmp_path: Path) -> None:
    coco = {
        "images": [{"id": 7, "file_name": "COCO_7.jpg"}, {"id": 3, "file_name": "COCO_3.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 3, "caption": "three"}, {"id": 2, "image_id": 7, "caption": "seven"},
            {"id": 4, "image_id": 3, "caption": "drei"},
        ],
    }  # fmt: skip
    assert items(source(tmp_path, json.dumps(coco), "coco.json")) == [
        ("COCO_7.jpg", ("seven",)),
        ("COCO_3.jpg", ("three", "drei")),
    ]
    karpathy = {
        "dataset": "coco",
        "images": [
            {"filepath": "val2014", "filename": "a.jpg", "split": "test", "sentences": [{"raw": "x"}, {"raw": "y"}]},
            {"filename": "b.jpg", "split": "train", "sentences": [{"raw": "z"}]},
        ],
    }
    text = json.dumps(karpathy)
    assert items(source(tmp_path, text, "k.json")) == [("val2014/a.jpg", ("x", "y")), ("b.jpg", ("z",))]
    assert items(source(tmp_path, text, "k.json", "train")) == [("b.jpg", ("z",))]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"video": "a"}', r"no caption column, only 'video' \(expected one of captions, caption, "),
        ('{"captions": ["x"]}', r"no id column, only 'captions' \(expected one of video, image, file, path, "),
        ('{"vidoe": "a", "caption": "x"}', r"no id column, .* did you mean 'video' by 'vidoe'\?"),
        ('{"video": "a", "captoin": "x"}', r"no caption column, .* did you mean 'caption' by 'captoin'\?"),
        ("[1]", r"expected an object, found a list"),
        ('{"file": "a", "captions": {"b": "c"}}', r"captions is an object, expected text"),
        ('{"file": "a", "captions": ["x", 3]}', r"captions holds 3, expected text"),
        ('{"file": 1.5, "caption": "x"}', r"file is 1.5, expected a name or a whole number"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: str, says: str) -> None:
    text = lines({"file": "b", "caption": "z"}, line)
    with pytest.raises(UsageError, match=rf"c\.jsonl line 2: {says}"):
        read_items(source(tmp_path, text), lower_case=False)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "is not JSON: expecting property name enclosed in double quotes at line 1, column 2"),
        ("[" * 100_000, "holds JSON that is nested too deeply"),
        ('{"file": "a", "caption": ' + "[" * 100_000, "holds JSON that is nested too deeply"),
        ('{"file": "a", "caption": "x", "id": ' + "9" * 10_000 + "}", "holds a number of more than 300 digits"),
    ],
    ids=lambda text: text[:20],
)
def test_a_line_that_is_no_json_is_named(tmp_path: Path, line: str, says: str) -> None:
    for text, where in ((lines({"file": "b", "caption": "z"}, line), "c.jsonl line 2"), (f"[{line}", "c.jsonl")):
        with pytest.raises(UsageError) as error:
            read_items(source(tmp_path, text), lower_case=False)
        assert str(error.value).startswith(f"{tmp_path / where} {says.partition(':')[0]}")


def test_halves_of_surrogate_pairs_become_a_character(tmp_path: Path) -> None:
    """They are none, and neither a tokenizer nor a file in UTF-8 takes them."""
    text = '{"file": "a\\ud83d.jpg", "caption": "x \\udc80 y \\ud83d\\ude00"}\n'
    assert items(source(tmp_path, text)) == [("a\ufffd.jpg", ("x \ufffd y 😀",))]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("c.csv", "a.mp4,a man walks\nb.mp4,a dog\n", r"c.csv is of no known kind, and has no header"),
        ("c.csv", "vido,caption\na.mp4,x\n", r"c.csv line 2: no id column, only .* did you mean 'video' by 'vido'\?"),
        ("c.csv", "file,label\na.mp4,x\n", r"c.csv line 2: no caption column, only 'file', 'label'"),
        ("c.csv", "file,caption\na.mp4,a man, a dog\n", r"c.csv line 2: 3 columns where the header has 2 .*quotes"),
        ("c.csv", 'file,caption\na.mp4,"a man\nb.mp4,x\n', r"c.csv line 2: .*quote"),
        ("c.csv", "file,caption\n,a man\n", r"c.csv line 2: file is '', expected a name"),
        ("c.csv", "", r"c.csv is empty"),
        ("c.json", '[\n{"file": "a", "caption": "x"},\n{"file" "b"}]', r"c.json is not JSON: .* at line 3, column 9"),
        ("c.json", '{"a": 1, "b": [2]}', r"c.json is JSON of no known layout: it has 'a', 'b'"),
        ("c.json", '{"images": [{"id": 1}], "annotations": [{"image_id": 1}]}', r"annotations entry 1: no caption"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_line(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_items(source(tmp_path, text, name), lower_case=False)


def test_an_empty_split_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    found = source(tmp_path, lines({"file": "b", "caption": "z", "split": "train"}), split="test")
    with pytest.raises(UsageError, match=r"has no split 'test' \(its splits are train \(1\)\)"):
        read_items(found, lower_case=False)
    with pytest.raises(UsageError, match=r"captions file .*none does not exist"):
        read_items(DataSource(captions=str(tmp_path / "none")), lower_case=False)
    with pytest.raises(UsageError, match=r"is a folder, expected a file \(name the file in it\)"):
        read_items(DataSource(captions=str(tmp_path)), lower_case=False)
    (tmp_path / "latin").write_bytes(b"file,caption\na,caf\xe9\n")
    with pytest.raises(UsageError, match=r"latin is not text in UTF-8"):
        read_items(DataSource(captions=str(tmp_path / "latin")), lower_case=False)


def test_items_without_captions_are_told_apart_and_refused_where_all_must_have_some(tmp_path: Path) -> None:
    rows = [{"file": "a", "captions": []}, {"file": "b", "captions": ["x", " "]}, {"file": "c", "caption": None}]
    rows += [{"file": "b", "captions": ["y"]}, {"file": "d", "caption": "."}, {"file": "c", "caption": "now"}]
    found = read_captions(source(tmp_path, lines(*rows)), lower_case=True)
    assert [(i.name, i.captions) for i in found.items] == [("b", ("x", "y")), ("c", ("now",))]
    assert found.uncaptioned == {"a": "line 1", "d": "line 5"}
    assert found.repeated == ["b"]
    with pytest.raises(UsageError, match=r"c.jsonl line 1: a has no captions"):
        read_items(source(tmp_path, lines(*rows)), lower_case=False)


def test_prompts_and_questions(tmp_path: Path) -> None:
    asked = "Question: Is it  a dog? Short answer:".replace("  ", " ")
    rows = lines(
        {"image": "a", "question": "Is it  a dog?", "answer": "No ."},
        {"image": "a", "question": "How many?", "answers": ["2", "two", " "], "prompt": "Q: {} A:"},
        {"image": "a", "prompt": "a photo of", "captions": ["A cat", "cats"]},
        {"image": "a", "caption": "plain", "question": "another column"},
        {"image": "b", "caption": "no prompt", "prompt": None},
        {"image": "c", "question": "unanswered?", "answers": []},
    )
    found = read_captions(source(tmp_path, rows), lower_case=True)
    assert found.items == [
        CaptionedItem(
            "a",
            ("no", "2", "two", "a cat", "cats", "plain"),
            (asked, "Q: How many? A:", "Q: How many? A:", "a photo of", "a photo of", ""),
        ),
        CaptionedItem("b", ("no prompt",)),
    ]
    assert (found.uncaptioned, found.repeated) == ({"c": "line 6"}, [])
    assert found.items[0].references == ("no",)
    table = source(tmp_path, 'image,question,answer\na,Is it  a dog?,No .\nb,"red, or blue?",red\n', "c.csv")
    assert read_items(table, lower_case=False) == [
        CaptionedItem("a", ("No .",), (asked,)),
        CaptionedItem("b", ("red",), ("Question: red, or blue? Short answer:",)),
    ]
    prompted = source(tmp_path, "file\tprompt\tcaption\na\ta video of\ta dog\nb\t\ta cat\n", "c.tsv")
    assert read_items(prompted, lower_case=False) == [
        CaptionedItem("a", ("a dog",), ("a video of",)),
        CaptionedItem("b", ("a cat",)),
    ]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": 3, "caption": "x"}, "line 1: prompt is 3, expected a text"),
        ({"question": ["what?"], "answer": "x"}, "line 1: question is a list, expected a text"),
        ({"question": " ", "answer": "x"}, "line 1: the question is empty (expected a text)"),
        (
            {"question": "what?"},
            "line 1: no caption column, only 'image', 'question' (expected one of answers, answer, ",
        ),
        ({"question": "what?", "answer": 3}, "line 1: answer is 3, expected text"),
    ],
)
def test_bad_prompts_and_questions(tmp_path: Path, row: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_items(source(tmp_path, lines({"image": "a", **row})), lower_case=False)
    assert said in str(caught.value)

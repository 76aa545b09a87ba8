"""Every bad input with its one line."""

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from evlgen.annotations import annotation_file
from evlgen.annotations.questions import read_answers
from evlgen.errors import UsageError
from evlgen.metrics.predictions import read_predictions
from evlgen.metrics.references import read_references
from tests.annotations.caption_files import COCO, VQA, lines, own, write

KINDS = "(expected JSON, JSON lines, or CSV or TSV with a header, in UTF-8)"
COLUMNS = (
    "expected one of question_id, questionid, video, image, file, path, file_name, filename, image_name, image_id, "
    "video_id, videoid, id, name"
)
PREDICTED = "expected one of caption, prediction, predicted_caption, text, answer, sentence, captions"
KNOWN = "known are captions.jsonl of evlgen, COCO or VQA results, {id: caption}, and rows with an id and a caption"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", f"P is empty {KINDS}"),
        (b"\xef\xbb\xbf \n\n", f"P is empty {KINDS}"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", f"P is a binary file {KINDS}"),
        (b"PK\x03\x04abc", "P is a zip archive (unpack it and name the file in it)"),
        (b"\x7fELF\x02\x01\x01" + bytes(range(1, 32)) * 9, f"P is a binary file {KINDS}"),
        (b"id,caption\n1,a\x01b\xff\n", "P is not text in UTF-8 (save it as UTF-8 and try again)"),
        ("id,caption\n1,café\n".encode("latin-1"), "P is not text in UTF-8 (save it as UTF-8 and try again)"),
        (b"id,caption\n" + b"1,x\n" * 270_000 + b"\xff\n", "P is not text in UTF-8 (save it as UTF-8 and try again)"),
        (
            gzip.compress(b"id,caption\n1,x\n" * 9, mtime=0)[:-12],
            "P is not a whole gzip file: Compressed file ended before the "
            "end-of-stream marker was reached (copy or compress it again)",
        ),
        ('{"a": "x",\n "b" "y"}', "P is not JSON: expecting ':' delimiter at line 2, column 6 (is it a whole file?)"),
        (
            '[{"image_id": 1, "cap',
            "P is not JSON: unterminated string starting at line 1, column 18 (is it a whole file?)",
        ),
        (
            '{"id": 1, "caption": "x"}\n{"id": 2 "caption": "y"}\n{"id": 3, "caption": "z"}\n',
            "P line 2 is not JSON: expecting ',' delimiter at line 1, column 10 (is it a whole file?)",
        ),
        (
            '{"id": 1, "caption": "x"}\n{"id": 2, "capt',
            "P line 2 is not JSON: unterminated string starting at line 1, column 11 (is it a whole file?)",
        ),
        ("[" * 200_000, "P holds JSON that is nested too deeply"),
        ('{"a": ' * 100_000, "P holds JSON that is nested too deeply"),
        (
            '{"id": 1, "caption": "x"}\n{"id": 2, "caption": ' + "[" * 100_000,
            "P line 2 holds JSON that is nested too deeply",
        ),
        ('{"a": ' + "[" * 100_000 + '\n{"id": 2}\n', "P line 1 holds JSON that is nested too deeply"),
        (f'{{"id": {"9" * 10_000}, "caption": "x"}}', "P holds a number of more than 300 digits"),
        (
            f'{{"id": {"9" * 10_000}, "caption": "x"}}\n{{"id": 2, "caption": "x"}}\n',
            "P line 1 holds a number of more than 300 digits",
        ),
        ({"model": {"name": "x"}, "steps": 3}, f"P is JSON of no known layout: it has 'model', 'steps' ({KNOWN})"),
        ({}, f"P is JSON of no known layout: it has nothing ({KNOWN})"),
        ([], f"P has no rows ({KNOWN})"),
        ([1], "P entry 1: expected an object, found 1"),
        ("id,caption\n", f"P has no rows ({KNOWN})"),
        (COCO, "P holds references, expected predictions (are the two files swapped?)"),
        ([{"split": "x", "caption": "x"}], f"P entry 1: no id column, only 'split', 'caption' ({COLUMNS})"),
        ("id,text\n,x\n", "P line 2: id is '', expected a name or a whole number"),
        ("caption,score\nx,1\n", f"P line 2: no id column, only 'caption', 'score' ({COLUMNS})"),
        (lines({"id": 1, "score": 2}, {"id": 2}), f"P line 1: no caption column, only 'id', 'score' ({PREDICTED})"),
        (lines({"id": 1, "caption": 5}), "P line 1: caption is 5, expected text"),
        (lines({"id": 1, "caption": {"a": 1}}), "P line 1: caption is an object, expected text"),
        (lines({"id": 1.5, "caption": "x"}), "P line 1: id is 1.5, expected a name or a whole number"),
        (lines({"id": True, "caption": "x"}), "P line 1: id is true, expected a name or a whole number"),
        (
            [{"id": 1, "caption": ["x", "y"]}],
            "P entry 1: caption has 2 captions, expected one (several captions make a "
            "reference file: are the two files swapped?)",
        ),
        (
            "id,caption\n1,x\n2,y\n1,z\n2,y\n3,u\n3,\n",
            "P: 2 ids have more than one caption; '1' has 'x' (line 2) and 'z' (line 4) "
            "(predictions have one caption for each id; several make a reference file)",
        ),
        ('{"a": "x", "a": "y"}', "P: key 'a' appears twice with different values (keep one of them)"),
        (
            "id,caption\n1,a man, a dog\n",
            "P line 2: 3 columns where the header has 2 "
            '(put captions that hold the delimiter in double quotes: "a man, a dog")',
        ),
        (
            'id,caption\n1,"a man\n2,a dog\n',
            'P line 2: unexpected end of data (a quote inside a quoted caption is written twice: "")',
        ),
        (
            "once upon a time\nthere was\n",
            "P is of no known kind, and has no header: it starts with 'once upon a time\\nthere was' "
            "(expected JSON, JSON lines, or CSV or TSV with a header, in UTF-8; a header names an id column such as "
            "video, image, file and a caption column)",
        ),
        (
            "a.mp4 a man\n" + "b.mp4 a dog\n" * 1500 + "oops\n",
            "P line 1502: expected the name of a video or image, and a caption, found 'oops'",
        ),
    ],
)
def test_bad_predictions(tmp_path: Path, content: Any, text: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UsageError) as error:
        read_predictions(path)
    assert str(error.value) == text.replace("P", str(path), 1)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (own("a", "x"), "P holds captions that evlgen made, expected references (are the two files swapped?)"),
        (VQA, "P holds answers to questions, expected captions"),
        (
            {"images": [{"id": 1}], "annotations": [{"image_id": 1, "bbox": []}]},
            "P annotations entry 1: no caption, only "
            "'image_id', 'bbox' (COCO's captions are in captions_*.json, not in instances_*.json)",
        ),
        ({"images": [{"file": 1}], "annotations": [{"image_id": 1}]}, "P images entry 1: no id, only 'file'"),
        ([{"id": 1, "captions": ["x", None]}], "P entry 1: captions holds null, expected text"),
        ([{"id": 1, "captions": [None]}, {"id": 2, "caption": None}], "P has no captions"),
        (
            {"v_1": {"timestamps": []}},
            "P is JSON of no known layout: it has 'v_1' (known are COCO and NoCaps annotations, "
            "Karpathy's splits, MSR-VTT's videodatainfo, VATEX, {id: [captions]}, and rows with an id and captions)",
        ),
        ({"a": []}, "P has no captions"),
    ],
)
def test_bad_references(tmp_path: Path, content: Any, text: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UsageError) as error:
        read_references(path)
    assert str(error.value) == text.replace("P", str(path), 1)


def test_bad_answers(tmp_path: Path) -> None:
    path = write(tmp_path, [{"question_id": 1, "answer": "x"}, {"question_id": 1, "answer": "y"}])
    with pytest.raises(UsageError, match="entry 2: question 1 is there twice"):
        read_answers(path)
    path = write(tmp_path, [{"question_id": 1, "question": "x"}])
    with pytest.raises(UsageError, match="entry 1: no answers, only 'question_id', 'question'"):
        read_answers(path)


@pytest.mark.parametrize("read", [read_predictions, read_references, read_answers])
def test_what_is_no_file(tmp_path: Path, read: Any) -> None:
    with pytest.raises(UsageError) as error:
        read(tmp_path / "none")
    assert str(error.value) == f"no such file: {tmp_path / 'none'} (check the spelling)"
    with pytest.raises(UsageError) as error:
        read(tmp_path)
    assert str(error.value) == f"{tmp_path} is a folder, expected a file (name the file in it)"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe is not a plain file"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize("start", ["int main() {\n", "{\n  int x;\n", "[1, 2,, 3"])
def test_a_huge_file_of_another_kind_is_refused_at_once(tmp_path: Path, start: str) -> None:
    path = write(tmp_path, start)
    os.truncate(path, 1 << 36)  # sparse: reading on would take minutes
    with pytest.raises(UsageError) as error:
        read_predictions(path)
    assert str(error.value) == f"{path} holds more than 2 GB of text, which is what is read (split it)"


def test_more_text_than_is_read_may_be_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotation_file, "MOST_BYTES", 2_000_000)
    path = write(tmp_path, {f"{i}": "x" * 1000 for i in range(3000)})
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UsageError, match=r"holds more than 0\.002 GB of text"):
        read_predictions(path)


def test_whatever_is_broken_is_one_line(tmp_path: Path) -> None:
    source = random.Random(5)
    seeds = [json.dumps(COCO), json.dumps(VQA), own("a", "x") + own("b", "y"), 'id,caption\n1,"p, q"\n', "a.jpg#0\tp\n"]
    pieces = [b'"', b"{", b"]", b",", b"\n", b"\r", b"\0", b"\xff", b"null", b"[1]", b"\xef\xbb\xbf", b""]
    read = [read_predictions, read_references, read_answers]
    texts = []
    for _ in range(500):
        content = source.choice(seeds).encode()
        at = source.randrange(len(content))
        path = write(tmp_path, content[:at] + source.choice(pieces) + content[at + source.randrange(4) :])
        for one in read:
            try:
                one(path)
            except UsageError as error:
                texts.append(str(error))
    assert len(texts) > 500
    assert not [text for text in texts if "\n" in text]

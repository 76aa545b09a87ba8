"""docs/journal.md against what is written: every field with its type, those always there, and the kinds of errors."""

import ast
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from evlgen.captioners.protocol import Caption
from evlgen.captioning.caption_rows import FORMAT, AnswerRow, CaptionRow, EditedRow
from evlgen.errors import Failure

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "journal.md").read_text(encoding="utf-8")
CAPTIONS, ANSWERS = (PAGE.split("## Fields")[1].split("Lines of answers")[part] for part in (0, 1))
TYPES: dict[str, Any] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "object": dict,
    "null": type(None),
}
BARE: dict[str, Any] = {
    "status": "error",
    "log_probability": None,
    "token_count": None,
    "alternatives": (),
    "tags": (),
    "frame_indices": (),
    "timestamps_seconds": (),
    "duration_seconds": None,
    "model": "m",
    "model_hash": "h",
    "settings_hash": "s",
    "settings": {},
    "fingerprint": None,
    "root": None,
    "error": Failure("missing", "no such file"),
    "warnings": (),
    "seconds": 1.0,
}
FULL: dict[str, Any] = {
    **BARE,
    "status": "ok",
    "log_probability": -1.5,
    "token_count": 3,
    "alternatives": (Caption("b", -2.0, 4, agreement=0.5),),
    "agreement": 0.5,
    "confidence": 0.5,
    "tags": (("dog", 0.5),),
    "frame_indices": (0, 5),
    "timestamps_seconds": (0.0, 1.5),
    "duration_seconds": 2.0,
    "fingerprint": "1-a",
    "root": "clips",
    "error": None,
    "warnings": ("black: all of it",),
}


def fields(text: str) -> dict[str, tuple[str, str]]:
    """Type and presence of every field of a table."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| (always|sometimes) \|", text, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\| `", text, re.MULTILINE)), "a row without a type or a presence"
    assert len({name for name, *_ in rows}) == len(rows)
    return {name: (kind, there) for name, kind, there in rows}


def is_of(value: Any, kind: str) -> bool:
    """Whether a JSON value is of a type such as "list of numbers" or "string or null"."""
    if isinstance(value, bool):
        return kind == "boolean"
    if items := re.fullmatch(r"list of (\w+)s", kind):
        return isinstance(value, list) and all(is_of(one, items[1]) for one in value)
    return any(isinstance(value, TYPES[one]) for one in kind.split(" or "))


@pytest.mark.parametrize("about", ["captions", "answers"])
def test_the_tables_are_what_is_written(about: str) -> None:
    told = fields(CAPTIONS)
    if about == "captions":
        make, own_bare = CaptionRow, {"video": "a.mp4", "caption": None}
        own = {"video": "a.mp4", "caption": "a dog", "start_seconds": 1.5, "end_seconds": 2.5}
    else:
        common = {
            name: of
            for name, of in told.items()
            if name not in ("video", "caption", "start_seconds", "end_seconds", "edited")
        }
        told = common | fields(ANSWERS)
        own = {"question_id": "7", "image": "a.jpg", "question": "Is it?", "answer": "yes"}
        make, own_bare = AnswerRow, {**own, "answer": None}
    full, bare = make(**FULL, **own), make(**BARE, **own_bare)
    assert {field.name for field in dataclasses.fields(make)} <= set(told)
    written = [json.loads(row.as_line()) for row in (full, bare)]
    if about == "captions":
        written.append(json.loads(EditedRow.by_hand(written[0], "a fox").as_line()))
    assert set().union(*written) == set(told)
    assert set(written[1]) == {name for name, (_, there) in told.items() if there == "always"}
    wrong = [(name, value) for row in written for name, value in row.items() if not is_of(value, told[name][0])]
    assert wrong == []
    assert next(iter(written[0])) == next(iter(told if about == "captions" else fields(ANSWERS)))


def test_the_version_is_the_one_that_is_told() -> None:
    assert f"`format` is {FORMAT};" in PAGE


def test_the_kinds_of_errors_of_files() -> None:
    told = set(re.findall(r"`([a-z-]+)`", re.search(r"Kinds of errors: (.*?) of\s+files;", PAGE, re.DOTALL)[1]))
    made = set()
    for source in (ROOT / "models" / "evlgen" / "video").glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("VideoError", "DecodeFailure"):
                made |= {
                    one.value for one in node.args[:2] if isinstance(one, ast.Constant) and "-" not in one.value[:1]
                }
    assert told == made

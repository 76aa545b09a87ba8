"""JSON that others wrote: what is read, and the line that each kind of bad text ends in."""

from pathlib import Path

import pytest

from evlgen.errors import EvlgenError
from evlgen.system.jsons import JsonError, parse_json, read_json


def failure(text: str | bytes) -> str:
    with pytest.raises(JsonError) as caught:
        parse_json(text, "x\x1b.json")
    return str(caught.value)


def test_values_are_those_of_json() -> None:
    text = '{"a": [1, -2.5, true, null], "b": "B\\u00e4r \\ud83d\\ude00"}'
    assert parse_json(text, "x") == {"a": [1, -2.5, True, None], "b": "Bär 😀"}
    assert parse_json(b"\xef\xbb\xbf" + text.encode(), "x") == parse_json("\ufeff" + text, "x")


def test_halves_of_surrogate_pairs() -> None:
    assert parse_json('{"\\ud800": ["a\\uDC80", "\\\\ud800"]}', "x") == {"\ufffd": ["a\ufffd", "\\ud800"]}
    assert parse_json('"raw \ud800"', "x") == "raw \ufffd"
    assert parse_json('"a\\udc80"', "x", keep_halves=True) == "a\udc80"


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting(opening: str) -> None:
    assert failure(opening * 100_000) == "x\ufffd.json holds JSON that is nested too deeply"


def test_long_numbers() -> None:
    assert failure("[" + "9" * 10_000 + "]") == "x\ufffd.json holds a number of more than 300 digits"
    assert parse_json("9" * 300, "x") == int("9" * 300)


def test_what_is_no_json() -> None:
    assert (
        failure('{"a":\n nonsense}')
        == "x\ufffd.json is not JSON: expecting value at line 2, column 2 (is it a whole file?)"
    )
    assert failure("") == "x\ufffd.json is not JSON: expecting value at line 1, column 1 (is it a whole file?)"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings(encoding: str) -> None:
    name = "UTF-32" if encoding == "utf-32" else "UTF-16"
    assert failure('{"a": 1}'.encode(encoding)) == f"x\ufffd.json is {name}, expected UTF-8 (save it as UTF-8)"


def test_latin_1() -> None:
    assert failure('"Bär"'.encode("latin-1")) == "x\ufffd.json is not UTF-8: byte 2 is none (save it as UTF-8)"


def test_files(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[1]")
    assert read_json(tmp_path / "x.json") == [1]
    with pytest.raises(EvlgenError, match=r"nothing\.json cannot be read: No such file or directory$"):
        read_json(tmp_path / "nothing.json")

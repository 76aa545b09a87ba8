"""Names and captions are data: what a terminal would obey, or could not show, is replaced."""

import json
from pathlib import Path

import pytest

from evlgen.system.names import escaped, printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.mp4", "plain name.mp4"),
        ("Bär\x1b[31m\n.mp4", "Bär\ufffd[31m .mp4"),
        ("\x1b]0;title\x07", "\ufffd]0;title\ufffd"),
        ("\x9b31m", "\ufffd31m"),  # the one-byte form of an escape sequence
        ("tab\tnbsp\u00a0wide\u3000", "tab nbsp wide "),
        ("fdp.\u202e4pm", "fdp.\ufffd4pm"),  # would be shown as mp4
        ("half \ud800, byte \udcff", "half \ufffd, byte \ufffd"),
        ("👩\u200d🚀 می\u200cخواهم", "👩\u200d🚀 می\u200cخواهم"),
    ],
)
def test_names(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert printable(Path(name)) == shown
    printable(name).encode()


@pytest.mark.parametrize(
    "name", ["Bär 👩\u200d🚀 \ufffd", "\x1b[31m\x7f", "\x9b31m", "fdp.\u202e4pm", "half \ud800", "\U000e0041"]
)
def test_json_says_the_same_with_nothing_hidden(name: str) -> None:
    text = escaped(json.dumps({name: [name]}, ensure_ascii=False, indent=1))
    assert json.loads(text) == {name: [name]}
    assert [printable(line) for line in text.split("\n")] == text.split("\n")
    assert escaped(text) == text
    assert escaped('"Bär"') == '"Bär"'

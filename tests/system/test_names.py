"""Names and captions are data: what a terminal would obey, or could not show, is replaced."""

from pathlib import Path

import pytest

from evlgen.system.names import printable


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

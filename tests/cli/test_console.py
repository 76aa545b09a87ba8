"""Tables, JSON and progress where there is no terminal, and numbers as people read them."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from evlgen_cli import console
from evlgen_cli.human_numbers import human_bytes, human_seconds


def test_table_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(("video", "caption"), [("a.mp4", "x" * 200), ("longer [name].mp4", "")])
    assert capsys.readouterr().out == (
        "video              caption\n" + "a.mp4              " + "x" * 200 + "\nlonger [name].mp4\n"
    )


def test_table_on_a_narrow_terminal_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=shown, force_terminal=True, no_color=True, width=20))
    console.table(("part", "path"), [("vision", "/cache/files/0123456789/model")])
    lines = [line.rstrip() for line in shown.getvalue().splitlines()]
    assert lines[1:] == ["vision  /cache/files", "        /0123456789/", "        model"]


def test_json_keeps_letters_and_long_lines(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"caption": "ein Bär [läuft] " * 20})
    assert capsys.readouterr().out == '{\n  "caption": "' + "ein Bär [läuft] " * 20 + '"\n}\n'


def at(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[-1])
    return clock.append


def test_progress_in_a_log(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = at([0.0], monkeypatch)
    with console.progress("captioning", 40) as bar:
        now(11.0)
        bar.detail("16 frames, 3 tokens")
        for second in (12.0, 13.0, 14.0, 20.0):
            now(second)
            bar.advance(4)
        now(22.0)
        bar.advance(4)
        now(24.0)
        bar.update(40)
    assert capsys.readouterr().err == (
        "captioning: 0 of 40 videos, 16 frames, 3 tokens\n"
        "captioning: 20 of 40 videos, 0.91 videos/s, about 12 s left, 16 frames, 3 tokens\n"
        "captioning: 40 of 40 videos, 1.7 videos/s, 24 s\n"
    )


def test_progress_on_a_terminal_has_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    now = at([0.0], monkeypatch)
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, no_color=True, width=140, markup=False, highlight=False)
    monkeypatch.setattr(console, "err", terminal)
    with console.progress("captioning", 40) as bar:
        for second in (12.0, 13.0, 14.0, 20.0, 22.0):
            now(second)
            bar.advance(4)
        bar.detail("16 frames, 3 tokens")
    assert "20/40 0.91 videos/s, about 12 s left, 16 frames, 3 tokens" in shown.getvalue()


def test_downloads_in_a_log(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = at([0.0], monkeypatch)
    with console.download_progress() as report:
        now(1.0)
        report("vision 0.1.0", 0, None)
        now(3.0)
        report("vision 0.1.0", 24_000_000, 24_000_000)
        report("language 0.1.2", 10_000_000, 92_900_000)
        now(4.0)
    assert capsys.readouterr().err == (
        "vision 0.1.0: 24.0 MB of 24.0 MB, 12.0 MB/s, 2.0 s\nlanguage 0.1.2: 10.0 MB of 92.9 MB, 10.0 MB/s\n"
    )


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1234567, "1.2 MB"), (214e6, "214 MB"), (2e13, "20.0 TB")]
)
def test_bytes(count: float, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.21, "3.2 s"), (59.6, "60 s"), (75, "1 min 15 s"), (3700, "1 h 01 min")]
)
def test_seconds(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


def test_nothing_that_is_printed_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b[31m\x9b1m\u202e.mp4"
    for console_ in (console.out, console.err):
        console_.print(f"first {name}\nsecond")
    console.table(["name"], [[name]])
    console.print_json({"name": name})
    with console.progress("captioning", 1) as bar:
        bar.note(name)
        bar.detail(name)
    shown = capsys.readouterr()
    assert not set(shown.out + shown.err) & set("\x1b\x9b\u202e")
    assert shown.err.startswith("first a\ufffd[31m\ufffd1m\ufffd.mp4\nsecond\n")
    assert shown.out.endswith('{\n  "name": "a\\u001b[31m\\u009b1m\\u202e.mp4"\n}\n')

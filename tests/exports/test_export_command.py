"""The whole output of `evlgen export`, and its exit codes."""

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from tests.cli.conftest import cli  # noqa: F401 - the fixture

from .exported_captions import line, touch, write


def test_what_was_done(cli: Callable[..., Result]) -> None:  # noqa: F811 - the fixture
    touch(Path("videos"), "a.mp4", "p.jpg", "p.png")
    lines = [line(name, f"of {name}") for name in ("a.mp4", "p.jpg", "p.png", "gone\x1b.mp4")]
    write(Path("c.jsonl"), *lines, line("bad.mp4"))
    result = cli("export", "c.jsonl", "--to", "txt")
    assert result.exit_code == 3
    assert result.stdout == (
        "export\n"
        "captions              1\n"
        "files written         1\n"
        "no caption: timeout   1\n"
        "file missing          1\n"
        "one file for several  2\n"
        "output                beside the videos\n"
    )
    assert result.stderr == (
        "warning: files are not there (--media names their folder): gone\ufffd.mp4\n"
        "warning: these would share a file, and have none: p.jpg, p.png\n"
    )


def test_json_and_exit_code_0(cli: Callable[..., Result]) -> None:  # noqa: F811 - the fixture
    write(Path("c.jsonl"), line("a.mp4", "x"))
    result = cli("export", "c.jsonl", "--to", "csv", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    said = json.loads(result.stdout)
    assert (said["out"], said["captions"], said["lacking"], said["kept"]) == ("c.csv", 1, {}, [])


def test_wrong_usage(cli: Callable[..., Result]) -> None:  # noqa: F811 - the fixture
    result = cli("export", "c.jsonl", "--to", "csv")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: no such file: c.jsonl (evlgen caption writes it)\n"
    assert cli("export", "c.jsonl").exit_code == 2

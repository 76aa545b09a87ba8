"""Exports to addresses hold what exports to files hold, and replace nothing by themselves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from typer.testing import CliRunner

from evlgen_cli.main import app

from .exported_captions import line, touch, write


@pytest.fixture
def memory() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    yield files
    files.store.clear()


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    touch(tmp_path / "videos", "a.mp4", "sub/b.mp4", "p.jpg")
    return write(tmp_path / "c.jsonl", line("a.mp4", "a dog"), line("sub/b.mp4", "a cat"), line("p.jpg", "a picture"))


@pytest.mark.parametrize("to", ["csv", "coco", "txt", "srt", "musubi", "webdataset"])
def test_what_is_there_is_what_is_here(memory: Any, captions: Path, tmp_path: Path, to: str) -> None:
    def export(out: str, *more: str) -> Any:
        return CliRunner().invoke(app, ["export", str(captions), "--to", to, "--out", out, *more], prog_name="evlgen")

    export(str(tmp_path / "here" / "x"))
    result = export("memory://bucket/out/x")
    assert result.exit_code in (0, 3), result.stderr
    here = {
        path.relative_to(tmp_path / "here").as_posix(): path.read_bytes()
        for path in (tmp_path / "here").rglob("*")
        if path.is_file()
    }
    assert {path.removeprefix("/bucket/out/"): memory.cat(path) for path in memory.find("/bucket/out")} == here
    assert here
    again = export("memory://bucket/out/x")
    assert (again.exit_code, again.stdout) == (2, "")
    assert "is there already" in again.stderr
    assert export("memory://bucket/out/x", "--overwrite").exit_code == result.exit_code


def test_what_is_wrong_is_one_line(captions: Path) -> None:
    for to, out, says in (
        ("html", "memory://bucket/x.html", "error: --to html names videos as seen from the file, and cannot go to mem"),
        ("csv", "nothing://bucket/x.csv", "error: --out nothing://bucket/x.csv: Protocol not known: nothing ("),
        ("cvs", "memory://bucket/x.csv", "error: --to cvs is no format (did you mean csv?)"),
    ):
        result = CliRunner().invoke(app, ["export", str(captions), "--to", to, "--out", out], prog_name="evlgen")
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert result.stderr.startswith(says)

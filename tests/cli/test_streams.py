"""Standard streams that are closed, full or of another encoding: one line at most, and never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
REFUSED = "error: standard output cannot be written: No space left on device\n"


def evlgen(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """What a shell runs; `command` begins with arguments of evlgen and may redirect."""
    line = f"{sys.executable} -m evlgen_cli {command}"
    return subprocess.run(line, shell=True, capture_output=True, timeout=120, env={**os.environ, **environment})


@pytest.mark.slow
@FULL
@pytest.mark.parametrize("command", ["--version", "--help", "recipes ls --json"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_standard_output(command: str, unbuffered: str) -> None:
    done = evlgen(f"{command} >/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr.decode()) == (1, REFUSED)


@FULL
def test_talk_that_cannot_be_written_stops_nothing() -> None:
    done = evlgen("recipes ls 2>/dev/full")
    assert (done.returncode, done.stdout.startswith(b"recipe ")) == (0, True)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str, tmp_path: Path) -> None:
    """A file that is opened must not take the number of a closed stream, and get what is printed."""
    copied = tmp_path / "copied.yaml"
    done = evlgen(f"recipes copy mini-pretrain {copied} {closed}")
    assert (done.returncode, done.stderr) == (0, b"")
    assert copied.read_text().startswith("# mini-pretrain")


def test_a_reader_that_leaves_is_no_error() -> None:
    done = evlgen("recipes show msrvtt-scst | true")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_an_encoding_that_lacks_letters(tmp_path: Path) -> None:
    recipe = tmp_path / "bär.yaml"
    recipe.write_text("# Bär 😀\nextends: mini-pretrain\n", encoding="utf-8")
    shown = evlgen(f"recipes show {recipe}", PYTHONIOENCODING="ascii")
    assert (shown.returncode, shown.stdout) == (0, b"# B\\xe4r \\U0001f600\nextends: mini-pretrain\n")
    missing = evlgen(f"recipes show {tmp_path}/nö.yaml", PYTHONIOENCODING="latin-1")
    assert (missing.returncode, "nö.yaml".encode("latin-1") in missing.stderr) == (2, True)


def test_json_is_json_in_every_encoding(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    code = "from evlgen_cli import console, streams; streams.prepare(); console.print_json({'n': 'ä 😀 \\udcff'})"
    for encoding in ("ascii", "latin-1", "utf-8"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, timeout=60, check=True, env={**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"},
        )  # fmt: skip
        assert json.loads(done.stdout.decode(encoding)) == {"n": "ä 😀 \udcff"}

"""File names that are no text, on terminals that cannot show them, and Python without asserts and docstrings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = [b"bad\xff.mp4", "\u00fcn\u00ef\U0001f3ac.mp4".encode(), b"esc\x1b[31m.mp4", "bidi\u202e.mp4".encode()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "v").mkdir()
    for name in NAMES:
        try:
            (tmp_path / "v" / os.fsdecode(name)).write_bytes(b"not a video")
        except OSError:
            pytest.skip("this file system takes text only")
    return tmp_path


COMMANDS = {"caption v --dry-run": 0, "caption v --dry-run --json": 0, "frames v -o f": 3, "models ls": 0}
EACH = """
import os, sys
from evlgen_cli.main import main
for command in sys.argv[1:]:
    sys.argv = ["evlgen", *command.split()]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    sys.stderr.flush()
    os.write(1, b"\\0%d\\0" % code)
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8:strict"])
def test_every_command_says_what_it_has_to(folder: Path, encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "EVLGEN_CACHE": str(folder / "cache")}
    ran = subprocess.run(
        [sys.executable, "-c", EACH, *COMMANDS],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    said = ran.stdout
    *parts, rest = said.split(b"\0")
    assert ([int(code) for code in parts[1::2]], rest) == ([*COMMANDS.values()], b""), said
    assert all(parts[::2]), "each says something"
    assert b"bug:" not in said
    assert b"Traceback" not in said
    assert b"\x1b" not in said
    assert "\u202e".encode() not in said
    said.decode(encoding.partition(":")[0])


@pytest.mark.slow
def test_without_asserts_and_docstrings(folder: Path) -> None:
    environment = {**os.environ, "PYTHONOPTIMIZE": "2"}
    command = [sys.executable, "-m", "evlgen_cli", "caption", "v", "--dry-run"]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "would caption 4 of 4 videos\n")
    command = [sys.executable, "-m", "evlgen_cli", "bench", "--no-time"]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "error: Python runs without docstrings (PYTHONOPTIMIZE=2, or python -OO), and transformers' models need theirs "
        "(unset PYTHONOPTIMIZE, or set it to 1)\n"
    )

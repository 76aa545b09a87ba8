"""`make docs`: a page for every room that people enter from Python, with its public names."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.collecting import ROOT
from tests.docs.test_doctests import ENTRIES


def rooms() -> list[str]:
    """Those that the Makefile names."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ndocs:")[2].replace("\\\n", " ")
    return re.findall(r"evlgen\.\w+", text)


def test_all_entries_have_a_page() -> None:
    assert set(rooms()) | {"evlgen"} >= ENTRIES  # what evlgen itself offers is defined in the rooms


@pytest.mark.slow
def test_pages_hold_all_public_names(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pdoc", "--docformat", "google", "--output-directory", str(tmp_path), *rooms()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "does not resolve" not in done.stderr  # transformers' own annotations bring warnings of another kind
    for room in rooms():
        page = (tmp_path / f"{room.replace('.', '/')}.html").read_text(encoding="utf-8")
        for name in getattr(importlib.import_module(room), "__all__", []):
            assert f'id="{name}"' in page, (room, name)

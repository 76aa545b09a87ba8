"""The notebook is run as it stands, cell by cell in one namespace, with a tiny model in the place of evlgen-mini.

No kernel is started: the cells are plain Python, without magics, and a test holds that. The file's form is that of
nbformat 4.5, https://nbformat.readthedocs.io/en/latest/format_description.html.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.docs.collecting import ROOT
from tests.hub.conftest import write_model

NOTEBOOK = ROOT / "docs" / "tour.ipynb"
MODEL_LINE = 'MODEL = "evlgen-mini"'


def cells() -> list[dict[str, Any]]:
    content: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    found: list[dict[str, Any]] = content["cells"]
    return found


def test_its_form() -> None:
    needed = {"cell_type", "id", "metadata", "source"}
    for cell in cells():
        code = cell["cell_type"] == "code"
        assert set(cell) == needed | ({"execution_count", "outputs"} if code else set())
        assert not code or (cell["execution_count"], cell["outputs"]) == (None, [])  # outputs are stripped
    assert len({cell["id"] for cell in cells()}) == len(cells())


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    codes = ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"]
    assert codes[0].startswith(MODEL_LINE)
    codes[0] = codes[0].replace(MODEL_LINE, f"MODEL = {str(write_model(tmp_path / 'model'))!r}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVLGEN_CACHE", str(tmp_path / "cache"))
    names: dict[str, object] = {"__name__": "__main__"}
    for number, code in enumerate(codes):
        exec(compile(code, f"cell {number}", "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines[:4]) == ["moves.mp4"] * 2 + ["rests.mp4"] * 2
    assert {"CIDEr", "BLEU-4", "ROUGE-L"} <= {line.split()[0] for line in lines}
    with Image.open(tmp_path / "merging.png") as picture:
        assert min(picture.size) > 100

"""`evlgen models convert`: there and back, whole outputs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from tests.conversion import authors as mini
from tests.conversion.conftest import save


@pytest.fixture(autouse=True)
def released_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that the released numbers of heads divide: 16 in the tower, 12 in the connector, 8 in time."""
    monkeypatch.setattr(mini, "VISION_HEADS", 16)
    monkeypatch.setattr(mini, "HEADS", 12)
    monkeypatch.setattr(mini, "TEMPORAL_HEADS", 8)


def test_convert_caption_nothing_and_back(cli: Callable[..., Result], tmp_path: Path) -> None:
    given = mini.tensors(video=True, pooler=True)
    save(given, tmp_path / "video.pth")
    mini.language_folder("opt", tmp_path / "opt")
    there = cli("models", "convert", "video.pth", "--to", "model", "--r", 2, "--language", "opt", "--frames", 5)
    assert (there.exit_code, there.stdout, there.stderr) == (
        0,
        "part      tensors\n"
        f"trained   {sum('pooler' not in n for n in given) - 30}\n"
        "vision    30\n"
        "language  0\n"
        "unused    3\n",
        "model is written: fusion temporal\n",
    )
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["connector"]["r"], config["connector"]["heads"], config["temporal"]["frames"]) == (2, 12, 5)
    assert (config["language"]["source"], config["language"]["prompt_after"]) == ("opt", "</s>")
    back = cli("models", "convert", "model", "--to", "back.pth", "--to-authors", "--json")
    trained = len(given) - 30 - 2
    assert json.loads(back.stdout) == {"written": "back.pth", "tensors": {"trained": trained, "unused": 3}}
    assert back.stderr == ""
    got = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    assert len(got) == len(given) - 30
    assert all(torch.equal(tensor, given[name]) for name, tensor in got.items())
    vicuna = cli("models", "convert", "model", "--to", "v.pth", "--to-authors", "--family", "vicuna")
    assert (vicuna.exit_code, vicuna.stderr) == (0, "v.pth is written: prefix llm_\n")


def test_errors_are_one_line(cli: Callable[..., Result], tmp_path: Path) -> None:
    save(mini.tensors(tower=False), tmp_path / "bare.pth")
    result = cli("models", "convert", "bare.pth", "--to", "model")
    assert (result.exit_code, result.stdout, result.stderr) == (
        2,
        "",
        "error: bare.pth: the file holds no vision tower (name weights of EVA-CLIP ViT-g/14 with --vision)\n",
    )
    other = cli("models", "convert", "bare.pth", "--to", "model", "--vision", "eva.pth", "--language", "opt")
    assert other.exit_code == 1
    assert other.stderr.startswith("error: bare.pth: it does not fit EVLGen as its authors write it: ")
    assert "VL_proj.weight (24, 32) not (24, 1408)" in other.stderr
    missing = cli("models", "convert", "none.pth", "--to", "model")
    assert (missing.exit_code, missing.stderr.count("\n")) == (1, 1)
    assert missing.stderr.startswith("error: none.pth is not a readable weight file: ")

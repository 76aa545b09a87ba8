"""`evlgen models convert`: there and back, whole outputs."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from typer.testing import Result

from tests.conversion import authors as mini
from tests.conversion.conftest import save

HEADS = ("--heads", mini.HEADS, "--vision-heads", mini.VISION_HEADS, "--temporal-heads", mini.TEMPORAL_HEADS)


def test_convert_caption_nothing_and_back(cli: Callable[..., Result], tmp_path: Path) -> None:
    given = mini.tensors(video=True, pooler=True)
    save(given, tmp_path / "video.pth")
    mini.language_folder("opt", tmp_path / "opt")
    options = ("--to", "model", "--r", 2, "--language", "opt", "--frames", 5)
    there = cli("models", "convert", "video.pth", *options, *HEADS)
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
    assert (config["connector"]["r"], config["connector"]["heads"], config["temporal"]["frames"]) == (2, mini.HEADS, 5)
    assert (config["vision"]["arguments"]["num_heads"], config["temporal"]["heads"]) == (4, 2)
    assert (config["language"]["source"], config["language"]["prompt_after"]) == (str(tmp_path / "opt"), "</s>")
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
    other = cli(
        "models", "convert", "bare.pth", "--to", "model", "--vision", "eva.pth", "--language", "opt", "--heads", 3
    )
    assert other.exit_code == 1
    assert other.stderr.startswith("error: bare.pth: it does not fit EVLGen as its authors write it: ")
    assert "VL_proj.weight (24, 32) not (24, 1408)" in other.stderr
    save(mini.tensors(video=True), tmp_path / "video.pth")
    for given, part, width, option in (
        (HEADS[:2] + HEADS[4:], "vision part of width 32", "16 at width 1408", "--vision-heads"),
        (HEADS[2:], "connector part of width 24", "12 at width 768", "--heads"),
        (HEADS[:4], "temporal part of width 8", "8 at width 256", "--temporal-heads"),
    ):
        asked = cli("models", "convert", "video.pth", "--to", "model", "--language", "opt", *given)
        assert (asked.exit_code, asked.stderr) == (
            2,
            f"error: video.pth: how many attention heads the {part} has does not stand in the file (say it with "
            f"{option}; the released one has {width})\n",
        )
    missing = cli("models", "convert", "none.pth", "--to", "model")
    assert (missing.exit_code, missing.stderr.count("\n")) == (1, 1)
    assert missing.stderr.startswith("error: none.pth is not a readable weight file: ")

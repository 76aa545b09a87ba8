"""Captions of a made-up data set by every variant: scores are those of `evlgen eval` and `evlgen compare`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from evlgen.bench import curve
from evlgen.bench.curve import CurveData, Looks, caption_all
from evlgen.bench.variants import Variant, variants
from evlgen.metrics.file_evaluation import EvaluationRequest, compare_files, evaluate_files
from evlgen_cli.exits import Exit
from tests.cli.conftest import cli  # noqa: F401 - a fixture
from tests.modeling.conftest import tiny_config, tiny_model

SENTENCES = ("a man rides a horse", "two dogs play in the snow", "a woman cooks pasta", "a band plays on a stage")
NAMES = [f"{number}.png" for number in range(len(SENTENCES))]


@pytest.fixture
def data(tmp_path: Path) -> CurveData:
    """Four pictures of other noise; the folder is set/."""
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    generator = np.random.default_rng(0)
    rows = []
    for name, sentence in zip(NAMES, SENTENCES, strict=True):
        Image.fromarray(generator.integers(0, 256, (48, 48, 3), np.uint8)).save(folder / "images" / name)
        rows.append({"image": name, "captions": [sentence, "someone does something"], "split": "test"})
    rows.append({"image": "absent.png", "captions": ["not of this split"], "split": "train"})
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return CurveData(folder / "captions.jsonl", folder / "images", "test")


@pytest.mark.parametrize("fusion", ["concat", "temporal"])  # features on disk, and features in memory
def test_captions_are_the_models_own(
    data: CurveData, fusion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVLGEN_CACHE", str(tmp_path / "cache"))
    model = tiny_model(tiny_config(fusion=fusion))
    compared = variants(model.config, ("0", "2"), ("random", "frames"), model.vision.prefix_tokens)
    told: list[tuple[str, int, int | None]] = []
    encoded: list[int] = []
    encode = model.encode
    with Looks(model, data, lambda name, done, total, unit="bytes": told.append((name, done, total))) as looks:
        model.encode = lambda pixels: encoded.append(len(pixels)) or encode(pixels)  # type: ignore[method-assign]
        found = {name: caption_all(looks, compared[name], 1, name) for name in ("r=0", "random r=2", "r=2", "2 frames")}
        again = caption_all(looks, compared["random r=2"], 1, "again")
    assert again == found["random r=2"]
    pictures = [np.asarray(Image.open(data.media / name)) for name in NAMES]
    for name, frames, r in (("r=0", 3, "0"), ("r=2", 3, "2"), ("2 frames", 2, "0")):
        model.use_r(r)
        pixels = model.processor([np.stack([picture] * frames) for picture in pictures])
        features = encode(pixels).to(torch.float16)
        expected = model.generate(features=features, num_beams=1)
        assert found[name] == dict(zip(NAMES, expected.texts, strict=True)), name
    assert ("r=0", 4, 4) in told
    shared = 4 if fusion == "concat" else 8  # pictures once, and a look by frames of another number where these meet
    assert sum(encoded) in (shared, shared + 1)  # and the store's probe


@pytest.mark.slow
def test_the_whole_command(
    data: CurveData,
    cli: Callable[..., Result],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tiny_model().save_pretrained(tmp_path / "tiny")
    said = iter([*SENTENCES, *("a man rides", "two dogs", "a woman", "a band"), *("x",) * 4])

    def caption(looks: Looks, variant: Variant, num_beams: int, title: str) -> dict[str, str]:
        return {name: next(said) for name in NAMES}

    monkeypatch.setattr(curve, "caption_all", caption)
    arguments = ["--model", "tiny", "--r", "2", "--baselines", "stride", "--no-time", "--new-tokens", "2"]
    arguments += ["--dataset", "set", "--split", "test", "--out", "b.json", "--device", "cpu"]
    shown = cli("bench", *arguments, "--plot", "curve.svg", "--html", "page.html")
    assert shown.exit_code == Exit.OK, shown.stderr
    report = json.loads(Path("b.json").read_text())
    points: list[dict[str, Any]] = report["models"][0]["points"]
    assert [(one["name"], one["trained"], one["against"]) for one in points] == [
        ("r=0", False, "r=2"), ("r=2", True, ""), ("stride r=2", False, "r=2"),
    ]  # fmt: skip
    request = EvaluationRequest(references=data.captions, split="test")
    files = []
    for one in points:
        files.append(Path(f"{len(files)}.jsonl"))
        files[-1].write_text("".join(json.dumps({"id": k, "caption": v}) + "\n" for k, v in one["captions"].items()))
        wanted = evaluate_files(files[-1], request).result.as_dict()["scores"]
        assert one["scores"] == json.loads(json.dumps(wanted))
    compared, _ = compare_files(files[1], files[2], request)
    assert points[2]["change"]["change"] == pytest.approx(compared.scores[0].change)
    assert points[2]["change"]["interval"] == pytest.approx(list(compared.scores[0].interval or ()))
    assert "tiny: stride r=2 (6 tokens) is" in shown.stdout
    assert "<svg" in Path("curve.svg").read_text()
    assert "stride r=2" in Path("page.html").read_text()

    # captions that are kept are not made again, whatever comes first; others are
    again = cli("bench", *arguments, "--compare", "b.json")  # `said` is exhausted: it would fail
    assert again.exit_code == Exit.OK, again.stderr
    assert json.loads(Path("b.json").read_text())["models"][0]["points"] == points
    lines = [line.split("  ") for line in again.stdout.splitlines() if " CIDEr  " in f" {line}"]
    assert [line[-1].strip() for line in lines if line[-1].strip() == "same"] == ["same"] * 3
    Path("other.json").write_text("{}")
    refused = cli("bench", *arguments[:-4], "--out", "other.json")
    assert refused.exit_code == Exit.USAGE
    assert refused.stderr == "error: other.json is no report of evlgen bench (evlgen bench --out writes one)\n"


def test_a_wrong_name_of_the_picture_is_told_first(cli: Callable[..., Result]) -> None:  # noqa: F811
    refused = cli("bench", "--model", "evlgen-mini", "--plot", "curve.txt")
    assert refused.exit_code == Exit.USAGE
    assert refused.stderr.startswith("error: curve.txt is no picture that can be drawn (end its name in one of: ")
    assert refused.stdout == ""


def test_recipes_cannot_caption(data: CurveData, cli: Callable[..., Result]) -> None:  # noqa: F811
    refused = cli("bench", "--model", "msrvtt-scst", "--dataset", "set", "--split", "test")
    assert refused.exit_code == Exit.USAGE
    assert refused.stderr == ("error: --dataset and --model msrvtt-scst: a recipe has no weights to caption with\n")

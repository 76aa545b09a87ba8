"""`evlgen models average`: the mean of numpy, which loads, of models that are alike and of no others."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.pretrained import read_tensors, write_tensors
from evlgen_cli.main import app


@pytest.fixture
def models(tmp_path: Path, folder: Path) -> list[str]:
    """Three models with the frozen parts of one, and weights that are 1, 3 and 8 times its."""
    made = []
    for times in (1, 3, 8):
        other = shutil.copytree(folder, tmp_path / f"m{times}", ignore=shutil.ignore_patterns("language", "vision*"))
        config = json.loads((folder / "config.json").read_text())
        for part in ("vision", "language"):  # what stands beside the folder is named relative to it
            config[part]["source"] = str((folder / config[part]["source"]).resolve())
        (other / "config.json").write_text(json.dumps(config))
        tensors = read_tensors(folder / "model.safetensors")
        write_tensors({n: t * times for n, t in tensors.items()}, other / "model.safetensors")
        made.append(str(other))
    return made


def average(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", "average", *arguments])


def test_it_is_the_mean_and_loads(models: list[str], tmp_path: Path) -> None:
    made = average(*models, "--out", str(tmp_path / "mean"))
    assert made.exit_code == 0, made.stderr
    found, parts = (
        load_file(tmp_path / "mean" / "model.safetensors"),
        [load_file(f"{m}/model.safetensors") for m in models],
    )
    assert made.stderr == f"{tmp_path / 'mean'} is written: the mean of 3 models, {len(found)} tensors\n"
    for name, tensor in found.items():
        np.testing.assert_allclose(tensor, np.mean([p[name] for p in parts], axis=0), rtol=1e-6, atol=1e-7)
    model = EVLGenForConditionalGeneration.from_pretrained(tmp_path / "mean")
    np.testing.assert_array_equal(model.lm_proj.weight.numpy(), found["lm_proj.weight"])


def test_models_that_merge_differently_have_a_mean_that_merges_as_the_first(models: list[str], tmp_path: Path) -> None:
    path = Path(models[1]) / "config.json"
    config = json.loads(path.read_text())
    config["connector"]["r"] = [1] * config["connector"]["layers"]
    path.write_text(json.dumps(config))
    for number, order in enumerate((models, [models[1], models[0], models[2]])):
        made = average(*order, "--out", str(tmp_path / f"mean{number}"))
        assert made.exit_code == 0, made.stderr
        merges = [json.loads((Path(m) / "config.json").read_text())["connector"]["r"] for m in (order[0], order[1])]
        assert merges[0] != merges[1]
        assert json.loads((tmp_path / f"mean{number}" / "config.json").read_text())["connector"]["r"] == merges[0]
    first, second = (read_tensors(tmp_path / f"mean{n}" / "model.safetensors") for n in (0, 1))
    assert all(np.allclose(first[n], second[n], atol=1e-6) for n in first)


def test_what_is_no_average_is_one_line(models: list[str], tmp_path: Path) -> None:
    path = Path(models[1]) / "config.json"
    config = json.loads(path.read_text())
    config["connector"]["dropout"] = 0.25
    path.write_text(json.dumps(config))
    out = ["--out", str(tmp_path / "mean")]
    alike, full = "(average models of one recipe)", "is there and is not an empty folder (choose another folder)"
    for arguments, said in [
        ([models[0], *out], "one model is its own average (give two or more)"),
        ([*models[:2], *out], f"{models[1]}: connector.dropout is 0.25, and 0.0 in {models[0]} {alike}"),
        ([models[0], models[2], "--out", models[0]], f"{models[0]} {full}"),
    ]:
        refused = average(*arguments)
        assert (refused.exit_code, refused.stderr) == (2, f"error: {said}\n")
    assert not (tmp_path / "mean").exists()
    tensors = read_tensors(Path(models[2]) / "model.safetensors")
    del tensors["lm_proj.bias"]
    write_tensors(tensors, Path(models[2]) / "model.safetensors")
    refused = average(models[0], models[2], *out)
    assert refused.stderr.startswith(f"error: {models[2]} has other tensors than {models[0]}: lm_proj.bias"), (
        refused.stderr
    )

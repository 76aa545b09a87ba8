"""A tiny model whose frozen parts lie beside it, and a hub on this machine in the place of the real one."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from typer.testing import CliRunner, Result

from evlgen.captioners import hub_models
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.pretrained import write_tensors
from evlgen_cli.main import app
from tests.hub.fake_hub import TOKEN, FakeHub, running_hub
from tests.modeling.conftest import tiny_config, tiny_model


def write_model(place: Path) -> Path:
    """A model whose frozen parts lie beside it, so that every load gives the same."""
    model = tiny_model()
    model.language.model.save_pretrained(place / "language")
    model.processor.tokenizer.save_pretrained(place / "language")
    write_tensors(model.vision.trunk.state_dict(), place / "vision.safetensors")
    config = tiny_config().with_sources(
        {"vision": str(place / "vision.safetensors"), "language": str(place / "language")}
    )
    language = config.language.model_copy(update={"architecture": None})
    torch.manual_seed(0)
    whole = EVLGenForConditionalGeneration.from_config(config.model_copy(update={"language": language}))
    with torch.no_grad():
        whole.lm_proj.weight.mul_(5)
    whole.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of such a model."""
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The hub that the client of this process talks to, with an empty cache, logged in as its owner."""
    with running_hub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        clock = SimpleNamespace(sleep=lambda seconds: None, time=time.time, monotonic=time.monotonic)
        monkeypatch.setattr(huggingface_hub.utils._http, "time", clock)  # it waits before it tries again
        hub_models._fetched.cache_clear()
        yield running


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`cli("models", "push", ...)` runs it in an empty folder, with an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVLGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(argument) for argument in arguments], prog_name="evlgen")

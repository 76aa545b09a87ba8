"""What is said, in one line, of models that are not there, not allowed, too large, or want to run code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants, errors
from typer.testing import CliRunner

from evlgen.captioners import hub_loading, hub_models
from evlgen.captioners.hub_captioner import identify_model, load_captioner
from evlgen.captioners.hub_models import find_model
from evlgen.captioners.opening import EVLGEN, kind_of
from evlgen.captioners.opening import identify_model as identify_kind
from evlgen.captioners.protocol import LoadOptions
from evlgen.captioning import CaptionRequest
from evlgen.errors import EvlgenError, UsageError, WeightsError
from evlgen_cli.main import app

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    def write(**config: Any) -> Path:
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return write


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub client's cache with one repository in it, and no network."""
    snapshot = tmp_path / "models--owner--name" / "snapshots" / SHA
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps({"model_type": "git", "num_image_with_embedding": 6}))
    (snapshot / "README.md").write_text("---\nlicense: other\nlicense_name: only-for-research\n---\n")
    refs = tmp_path / "models--owner--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text(SHA)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub_models._fetched.cache_clear()
    return snapshot


def test_the_cache_of_this_machine_is_enough(cached: Path) -> None:
    identity = identify_model("hf:owner/name")
    assert (identity.id, identity.revision, identity.hash) == ("owner/name", SHA, SHA[:16])
    assert (identity.licence, identity.frames, identity.most_frames) == ("only-for-research", 6, 6)
    assert find_model(f"hf:owner/name@{SHA}").folder == cached


def test_licence_and_revision_stand_in_the_settings_of_a_row(cached: Path) -> None:
    _, settings = CaptionRequest(["clips"], model="hf:owner/name").resolve()
    said = settings.as_dict()
    assert (said["licence"], said["revision"]) == ("only-for-research", SHA)
    assert not {"system_prompt", "load_in", "trust_remote_code"} & set(said)
    trusting = CaptionRequest(["clips"], model="hf:owner/name", trust_remote_code=True).resolve()[1]
    assert trusting.as_dict()["trust_remote_code"] is True
    assert trusting.hash != settings.hash, "other code may caption"


def test_a_card_that_is_out_of_reach_makes_nothing_caption_again(cached: Path) -> None:
    _, settings = CaptionRequest(["clips"], model="hf:owner/name").resolve()
    (cached / "README.md").unlink()
    _, later = CaptionRequest(["clips"], model="hf:owner/name").resolve()
    assert later.licence is None
    assert later.hash == settings.hash


def test_more_frames_than_the_model_takes_are_refused(cached: Path) -> None:
    with pytest.raises(UsageError, match="--frames 7 is more than the 6 that owner/name takes"):
        CaptionRequest(["clips"], model="hf:owner/name", frames=7).resolve()


def test_without_a_network_what_is_not_cached_is_one_line(cached: Path) -> None:
    with pytest.raises(WeightsError, match=r"owner/other is not in the cache .* cannot be reached \(connect"):
        find_model("hf:owner/other")


@pytest.mark.parametrize(
    ("error", "kind", "line"),
    [
        (errors.GatedRepoError, WeightsError, r"a/b is gated: .*\(accept it on the page of a/b, then `hf auth login`"),
        (errors.RepositoryNotFoundError, UsageError, "the hub has no model 'a/b', or it is private"),
        (errors.RevisionNotFoundError, UsageError, "there is no such revision"),
        (errors.RemoteEntryNotFoundError, UsageError, "a/b holds no config.json"),
        (ConnectionError, WeightsError, "a/b cannot be fetched: boom"),
    ],
)
def test_what_the_hub_refuses_is_one_line(
    error: type[Exception], kind: type[EvlgenError], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        made = error.__new__(error)  # the client makes them of its own responses
        made.args = ("boom\nmore",)
        raise made

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    hub_models._fetched.cache_clear()
    with pytest.raises(kind, match=line) as caught:
        find_model("hf:a/b")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["hf:", "hf:./missing", "hf:a/b/c", "hf:two words/b"])
def test_names_that_mean_nothing_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--model"):
        find_model(name)


def test_our_own_models_keep_their_captioner(folder: Callable[..., Path]) -> None:
    assert kind_of(f"hf:{folder(vision={}, connector={}, language={})}") is EVLGEN
    assert kind_of(f"hf:{folder(model_type='blip')}") is not EVLGEN


def test_a_model_of_transformers_without_its_prefix_is_told_it(folder: Callable[..., Path], cached: Path) -> None:
    path = folder(model_type="blip")
    with pytest.raises(UsageError, match=rf"{path} is no model of EVLGen: it is a blip \(--model hf:{path}\)"):
        identify_kind(str(path))
    with pytest.raises(UsageError, match=r"owner/name is no model of EVLGen: it is a git \(--model hf:owner/name\)"):
        identify_kind("owner/name")


def test_a_change_of_any_file_changes_the_hashes(folder: Callable[..., Path]) -> None:
    path = folder(model_type="blip")
    (path / "model.safetensors").write_bytes(b"1")
    first = find_model(f"hf:{path}").hashes()
    (path / "model.safetensors").write_bytes(b"2")
    second = find_model(f"hf:{path}").hashes()
    (path / "preprocessor_config.json").write_text("{}")
    third = find_model(f"hf:{path}").hashes()
    assert first[0] != second[0]
    assert first[1] == second[1] != third[1]


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            {"model_type": "new", "auto_map": {"AutoModel": "m.M"}},
            r"brings Python code that would run .*--trust-remote",
        ),
        ({"model_type": "new"}, r"of a kind \(new\) that transformers .* does not know"),
        ({"model_type": "llama"}, r"\(llama\) does not go from pictures to text"),
        ({"a": 1}, "is of no kind"),
    ],
)
def test_what_cannot_caption_is_refused(config: dict[str, Any], line: str, folder: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match=line):
        load_captioner(f"hf:{folder(**config)}", LoadOptions("cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_smaller_weights_need_a_gpu(folder: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match="--load-in 4bit needs a GPU"):
        load_captioner(f"hf:{folder(model_type='blip')}", LoadOptions("cpu", load_in="4bit"))


def test_a_missing_bitsandbytes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--load-in 8bit needs the package bitsandbytes \(pip install 'evlgen\[quan"):
        hub_loading._quantized(torch.device("cuda"), torch.bfloat16, "8bit")


@pytest.mark.parametrize(("stored", "needed"), [("bfloat16", "8.0 GB"), ("float32", "4.0 GB")])
def test_what_is_too_large_is_told_before_it_is_loaded(
    stored: str, needed: str, folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder(model_type="blip", dtype=stored)
    with (path / "model.safetensors").open("wb") as file:
        file.truncate(4 * 10**9)  # no blocks of the disk are taken
    monkeypatch.setattr(hub_loading, "free_bytes", lambda device, every: 10**9)
    monkeypatch.setattr(hub_models, "checksum", lambda path: "")
    with pytest.raises(EvlgenError, match=f"does not fit into memory: its weights take {needed}, and 1.0 GB are free"):
        load_captioner(f"hf:{path}", LoadOptions("cpu"))


def test_free_memory_is_known_where_the_system_tells() -> None:
    free = hub_loading.free_bytes(torch.device("cpu"), every=True)
    assert free is None or 0 < free < 2**50


def test_a_folder_without_weights_is_one_line(folder: Callable[..., Path]) -> None:
    with pytest.raises(WeightsError, match="cannot be loaded: ") as caught:
        load_captioner(f"hf:{folder(model_type='blip')}", LoadOptions("cpu"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [["--system-prompt", "Be brief."], ["--load-in", "4bit"], ["--trust-remote-code"], ["--load-in", "2bit"]],
)
def test_our_own_models_refuse_what_is_not_theirs(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    result = CliRunner().invoke(app, ["caption", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert arguments[0] in result.stderr

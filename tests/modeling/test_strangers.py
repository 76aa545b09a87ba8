"""Model folders, language models and weight files from strangers: nothing runs, nothing hangs, one line each."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from evlgen.configuration import EVLGenConfig, LanguageConfig
from evlgen.errors import EvlgenError, UsageError, WeightsError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.gguf_header import check_gguf
from evlgen.modeling.language import _byte_tokenizer, load_config, load_language_model, load_tokenizer
from evlgen.modeling.pretrained import read_tensors
from evlgen.system.hashes import sha256_of
from evlgen.weights.named_models import packaged_models, packaged_sha256
from tests.modeling.conftest import TINY_LLAMA, tiny_model


def one_line(do: Callable[[], object]) -> str:
    with pytest.raises(EvlgenError) as caught:
        do()
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole model."""
    tiny_model().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


CHANGES: list[tuple[tuple[str, ...], Any, str]] = [
    (("vision", "name"), "hf-hub:owner/name", "vision.name: 'hf-hub:owner/name' is no architecture's name"),
    (("vision", "name"), "local-dir:/elsewhere", "vision.name: 'local-dir:/elsewhere' is no architecture's name"),
    (("vision", "name"), "vit_tony_patch16_224", "vision.name 'vit_tony_patch16_224': RuntimeError: Unknown model"),
    (("vision", "arguments", "checkpoint_path"), "x.pth", "vision.arguments: checkpoint_path is not an argument here"),
    (("vision", "arguments", "pretrained"), True, "vision.arguments: pretrained is not an argument here"),
    (("vision", "arguments", "depth"), 10**9, "vision.arguments: depth: 1000000000 is more than 1000"),
    (
        ("vision", "arguments", "embed_dim"),
        [[10**12]],
        "vision.arguments: embed_dim: 1000000000000 is more than 100000",
    ),
    (("vision", "arguments", "nonsense"), 1, "vision.name 'vit_tiny_patch16_224': TypeError: "),
    (("vision", "width"), 10**9, "vision.width: Input should be less than or equal to 100000"),
    (("vision", "std"), [0.5, 0, 0.5], "vision.std.1: Input should be greater than or equal to"),
    (("vision", "mean"), [float("nan"), 0, 0], "vision.mean.0: Input should be a finite number"),
    (("vision", "std"), [0.5, 0.5, float("inf")], "vision.std.2: Input should be a finite number"),
    (("connector", "layers"), 10**9, "connector.layers: Input should be less than or equal to 1000"),
    (("connector", "width"), "wide", "connector.width: Input should be a valid integer"),
    (("temporal", "frames"), 10**9, "temporal.frames: Input should be less than or equal to 10000"),
    (
        ("language", "architecture"),
        {**TINY_LLAMA, "num_hidden_layers": 10**9},
        "num_hidden_layers is 1000000000, expec",
    ),
    (("language", "architecture"), {**TINY_LLAMA, "num_hidden_layers": "2"}, "num_hidden_layers is '2', expected"),
    (("language", "architecture"), {**TINY_LLAMA, "model_type": "nonsense"}, "language.architecture: "),
    (("language", "architecture"), {**TINY_LLAMA, "hidden_act": "nonsense"}, "language.architecture: "),
    (("language", "architecture"), {"hidden_size": 32}, "language.architecture: "),
    (("language", "source"), "/nowhere", "language.source /nowhere is not a folder"),
    (("surprise",), 1, "surprise: Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("keys", "value", "said"), CHANGES, ids=[".".join(keys) for keys, _, _ in CHANGES])
def test_what_a_configuration_may_ask_for(keys: tuple[str, ...], value: Any, said: str, folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    inner = settings
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    (folder / "config.json").write_text(json.dumps(settings))
    line = one_line(lambda: EVLGenForConditionalGeneration.from_pretrained(folder))
    assert said in line
    assert len(line) < 600
    assert value in ("hf-hub:owner/name", "local-dir:/elsewhere") or not ("hf-hub" in line or "local-dir" in line)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}".encode("utf-16"), "config.json is UTF-16, expected UTF-8 (save it as UTF-8)"),
        (b"[" * 100_000, "config.json holds JSON that is nested too deeply"),
        (b"", "config.json is not JSON: expecting value at line 1, column 1"),
        (b"3", "config.json: Input should be a valid dictionary"),
        (b"{}", "config.json: vision: Field required"),
    ],
)
def test_what_is_no_configuration(content: bytes, said: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    assert said in one_line(lambda: EVLGenConfig.from_pretrained(folder))


@pytest.mark.parametrize("frozen", ["3", "[]", "nonsense", '{"vision": 3}', "[" * 100_000])
def test_a_header_that_says_nonsense_of_frozen_parts(frozen: str, folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file(load_file(path), path, metadata={"frozen": frozen})
    assert "frozen in" in one_line(lambda: EVLGenForConditionalGeneration.from_pretrained(folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(value: float, folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["lm_proj.weight"][1, 2] = value
    save_file(tensors, path)
    line = one_line(lambda: EVLGenForConditionalGeneration.from_pretrained(folder))
    assert f"{path}: lm_proj.weight holds NaN or infinite values" in line


def test_a_sum_that_overflows_is_no_reason(tmp_path: Path) -> None:
    save_file({"a": torch.full((4,), 3e38)}, tmp_path / "x.safetensors")
    assert len(read_tensors(tmp_path / "x.safetensors")["a"]) == 4


def zeroed(path: Path, share: float = 0.5) -> None:
    """Zeros from the middle on in the place of what was written, as of a disk that lost it; the size stays."""
    content = bytearray(path.read_bytes())
    begin = int(len(content) * share)
    content[begin:] = bytes(len(content) - begin)
    path.write_bytes(content)


def test_a_checkpoint_that_is_damaged_does_not_caption(folder: Path) -> None:
    EVLGenForConditionalGeneration.from_pretrained(folder)
    zeroed(folder / "model.safetensors")
    line = one_line(lambda: EVLGenForConditionalGeneration.from_pretrained(folder))
    assert "model.safetensors is damaged: its values are not those that were written" in line


def test_a_packaged_model_that_is_damaged_does_not_caption(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, packaged in packaged_models().items():
        assert packaged_sha256(packaged / "model.safetensors") == sha256_of(packaged / "model.safetensors"), name
    mini = tmp_path / "evlgen-mini"
    folder.rename(mini)  # a whole model, but not the one of this name
    monkeypatch.setattr("evlgen.weights.named_models.packaged_models", lambda: {"evlgen-mini": mini})
    line = one_line(lambda: EVLGenForConditionalGeneration.from_pretrained("evlgen-mini"))
    assert line == f"{mini / 'model.safetensors'} is not the file that evlgen came with (install evlgen again)"


@pytest.fixture
def language(tmp_path: Path) -> Path:
    """A whole language model in transformers' layout."""
    place = tmp_path / "language"
    transformers.AutoModelForCausalLM.from_config(
        load_config(LanguageConfig(architecture=TINY_LLAMA, width=32))
    ).save_pretrained(place)
    _byte_tokenizer().save_pretrained(place)
    return place


def changed(place: Path, **settings: Any) -> LanguageConfig:
    path = place / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return LanguageConfig(source=str(place), width=32)


def test_code_that_comes_with_a_language_model_never_runs(
    language: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    (language / "theirs.py").write_text(
        f"open({str(ran)!r}, 'w')\nfrom transformers import PretrainedConfig\n"
        "class Theirs(PretrainedConfig):\n    model_type = 'theirs'\n"
    )
    monkeypatch.setattr("builtins.input", lambda *prompt: "y")  # what a person in a hurry answers
    config = changed(language, model_type="theirs", auto_map={"AutoConfig": "theirs.Theirs"})
    line = (
        f"language.source {language}: it needs code of its own (auto_map), and evlgen runs no code that comes with a "
        "model (check the files that it is made of)"
    )
    for load in (load_config, load_language_model):
        assert one_line(lambda load=load: load(config)) == line
    load_tokenizer(config)  # which is transformers' own
    assert not ran.exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, expected a whole number up to 2000"),
        ({"hidden_size": 10**9}, "hidden_size is 1000000000, expected a whole number up to 200000"),
        ({"vocab_size": -1}, "vocab_size is -1, expected"),
        ({"hidden_size": 200_000, "num_hidden_layers": 2000}, "has about 1e+15 parameters"),
        ({"num_attention_heads": "many"}, "num_attention_heads is 'many', expected"),
        ({"model_type": "nonsense", "architectures": None}, "language.source"),
        ({"hidden_act": "nonsense"}, "language.source"),
        ({"rope_scaling": 3}, "language.source"),
    ],
)
def test_what_a_language_model_may_ask_for(settings: dict[str, Any], said: str, language: Path) -> None:
    config = changed(language, **settings)
    line = one_line(lambda: load_language_model(config))
    assert said in line
    assert "network" not in line


def test_files_of_a_language_model_that_are_damaged(language: Path) -> None:
    config = LanguageConfig(source=str(language), width=32)
    for name, content in (
        ("tokenizer.json", b"\0" * 1000),
        ("config.json", "{}".encode("utf-16")),
        ("config.json", b"[]"),
        ("model.safetensors", b"\0" * 1000),
    ):
        kept = (language / name).read_bytes()
        (language / name).write_bytes(content)
        line = one_line(lambda: load_language_model(config))
        assert str(language) in line
        assert "network" not in line
        (language / name).write_bytes(kept)
    load_language_model(config)


def test_a_language_model_that_lacks_weights_is_not_filled_with_random_ones(language: Path) -> None:
    path = language / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.0.self_attn.q_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    line = one_line(lambda: load_language_model(LanguageConfig(source=str(language), width=32)))
    assert "1 of its weights are missing, among them model.layers.0.self_attn.q_proj.weight" in line


def test_a_language_model_leads_nowhere_else(language: Path, tmp_path: Path) -> None:
    config = LanguageConfig(source=str(language), width=32)
    load_language_model(config)
    (language / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "some/model"}))
    assert "it is an adapter (adapter_config.json)" in one_line(lambda: load_language_model(config))
    (language / "adapter_config.json").unlink()
    changed(language, attn_implementation="some/kernels")
    assert "attn_implementation 'some/kernels' is code from elsewhere" in one_line(lambda: load_language_model(config))
    changed(language, attn_implementation=None)
    names = load_file(language / "model.safetensors")
    (language / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "../outside.safetensors")}
    (language / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "names '../outside.safetensors', which is not beside it" in one_line(lambda: load_language_model(config))


def write_gguf(path: Path, layers: int = 1) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_embedding_length(32)
    writer.add_token_list(["a", "b"])
    writer.add_tensor("token_embd.weight", np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_gguf_files(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf")
    check_gguf(path)
    whole = path.read_bytes()
    tokens = whole.index(b"tokenizer.ggml.tokens") + len("tokenizer.ggml.tokens") + 4 + 4
    for name, content, said in (
        ("tensors", whole[:8] + struct.pack("<Q", 2**60) + whole[16:], "more than it has room for"),
        ("keys", whole[:16] + struct.pack("<Q", 2**60) + whole[24:], ""),
        ("array", whole[:tokens] + struct.pack("<Q", 2**61) + whole[tokens + 8 :], "is longer than the file"),
        ("string", whole[:24] + struct.pack("<Q", 2**63) + whole[32:], "is longer than the file"),
        ("short", whole[:30], ""),
        ("empty", b"", "it does not begin with GGUF"),
        ("version", whole[:4] + struct.pack("<I", 77) + whole[8:], "version 77 is not 2 or 3"),
    ):
        bad = tmp_path / f"{name}.gguf"
        bad.write_bytes(content)
        assert said in one_line(lambda bad=bad: check_gguf(bad))
    layers = write_gguf(tmp_path / "layers.gguf", layers=10**9)
    config = LanguageConfig(source=str(layers), width=32)
    assert "block_count is 1000000000, expected a whole number up to" in one_line(lambda: load_language_model(config))


def test_weight_files_that_are_none(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Junk, and torch's own files of code: its advice to read them unsafely is not passed on."""
    os.mkfifo(tmp_path / "pipe.pth")
    assert one_line(lambda: read_tensors(tmp_path / "pipe.pth")).endswith("weight file: it is no regular file")
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "module.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, content in (
        ("empty", b""),
        ("text", b"hello"),
        ("words", b"junk\n"),
        ("zip", b"PK\3\4" + b"\0" * 100),
        ("p", b"\x80\x04]q\0."),
    ):
        (tmp_path / f"{name}.pth").write_bytes(content)
    (tmp_path / "junk.safetensors").write_bytes(b"\xff" * 64)
    for path in sorted([*tmp_path.glob("*.pth"), *tmp_path.glob("*.safetensors")]):
        line = one_line(lambda path=path: read_tensors(path))
        assert path.name in line
        assert not any(word in line for word in ("KeyError", "weights_only", "trust", "arbitrary", "safe_globals"))
    assert recwarn.list == []


def test_a_pipe_in_the_place_of_weights_is_not_waited_for(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    with pytest.raises(UsageError, match=r"model\.safetensors is no regular file"):
        EVLGenForConditionalGeneration.from_pretrained(folder)


def test_errors_are_of_weights(language: Path) -> None:
    with pytest.raises(WeightsError):
        load_language_model(changed(language, num_hidden_layers=0))

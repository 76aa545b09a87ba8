"""Quantized language models: with bitsandbytes itself where it is installed, the wiring everywhere."""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from evlgen.configuration import LanguageConfig, LoraConfig
from evlgen.errors import UsageError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.language import _byte_tokenizer, load_language_model
from evlgen.modeling.quantization import loading_options, matrix_bytes, saved_bytes
from tests.modeling.conftest import TINY_LLAMA, tiny_config

WIDE = {**TINY_LLAMA, "hidden_size": 64, "intermediate_size": 128, "initializer_range": 0.1}
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is an optional extra"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A random language model on the disk."""
    torch.manual_seed(0)
    settings = dict(WIDE)
    config = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "llm")
    _byte_tokenizer().save_pretrained(tmp_path / "llm")
    return tmp_path / "llm"


def states(language: Any, inputs: torch.Tensor) -> torch.Tensor:
    length = inputs.shape[1]
    mask = torch.ones(len(inputs), length, length, dtype=torch.bool).tril()
    return language.hidden_states(inputs, mask, torch.arange(length).expand(len(inputs), -1))


def rounded(weight: torch.Tensor, kind: str) -> torch.Tensor:
    """What bitsandbytes' own functions make of a matrix, there and back."""
    from bitsandbytes import functional as bnb

    if kind == "nf4":
        return bnb.dequantize_4bit(*bnb.quantize_4bit(weight, quant_type="nf4"))
    quantized, scales, _ = bnb.int8_vectorwise_quant(weight.half())
    return quantized * scales[:, None] / 127


@needs_bitsandbytes
@pytest.mark.parametrize(("kind", "tolerance"), [("int8", 3e-2), ("nf4", 2e-3)])
def test_states_and_gradients_are_those_of_rounded_weights(folder: Path, kind: str, tolerance: float) -> None:
    """8 bit also rounds what goes into each product, 4 bit does not."""
    language = load_language_model(LanguageConfig(source=str(folder), width=64, quantization=kind))
    reference = load_language_model(LanguageConfig(source=str(folder), width=64))
    with torch.no_grad():
        for part in reference.layers.modules():
            if isinstance(part, torch.nn.Linear):
                part.weight.copy_(rounded(part.weight, kind))
    assert type(language.layers[0].mlp.up_proj).__name__ == {"int8": "Linear8bitLt", "nf4": "Linear4bit"}[kind]
    assert torch.equal(language.head_weight, reference.head_weight)
    inputs, direction = torch.randn(2, 6, 64), torch.randn(2, 6, 64)
    found = []
    for one in (language, reference):
        x = inputs.clone().requires_grad_(True)
        y = states(one, x)
        (gradient,) = torch.autograd.grad(y, x, direction)
        found.append((y, gradient))
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).norm() / theirs.norm() < tolerance
    plain = load_language_model(LanguageConfig(source=str(folder), width=64))
    assert (states(plain, inputs) - found[0][0]).norm() > 0, "it is rounded"
    stored = sum(p.numel() * p.element_size() for n, p in language.layers.named_parameters() if p.dim() == 2)
    scales = 4 * sum(p.shape[0] if kind == "int8" else p.numel() // 64 for p in _matrices(reference))
    assert stored + scales == sum(matrix_bytes(kind, *p.shape) for p in _matrices(reference))


def _matrices(language: Any) -> list[torch.Tensor]:
    return [p for p in language.layers.parameters() if p.dim() == 2]


@needs_bitsandbytes
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_whole_model_learns_saves_and_captions(folder: Path, tmp_path: Path, kind: str) -> None:
    """Gradients reach soft prompts and adapters; what is saved is as without quantization."""
    pytest.importorskip("peft")
    language = LanguageConfig(source=str(folder), width=64, quantization=kind, lora=LoraConfig(rank=2))
    config = tiny_config().model_copy(update={"language": language})
    torch.manual_seed(1)
    model = EVLGenForConditionalGeneration.from_config(config, dtype=torch.bfloat16)
    for name in model.trainable_names():
        model.get_parameter(name).requires_grad_("prompt_" not in name)
    loss = model([[[5, 6, 10]], [[7, 10]]], features=torch.randn(2, 3, 10, 32)).loss
    loss.backward()
    assert model.lm_proj.weight.grad.abs().max() > 0
    assert all(p.grad.abs().max() > 0 for n, p in model.named_parameters() if "lora_B" in n)
    model.save_pretrained(tmp_path / "saved")
    again = EVLGenForConditionalGeneration.from_pretrained(tmp_path / "saved", dtype=torch.bfloat16)
    assert "bit" in type(again.language.layers[0].mlp.up_proj).__name__
    assert len(again.generate(torch.randn(2, 3, 3, 48, 48), max_new_tokens=3).texts) == 2


def test_sizes_by_hand() -> None:
    assert matrix_bytes("int8", 3, 128) == 3 * 128 + 3 * 4
    assert matrix_bytes("nf4", 3, 128) == 3 * 64 + 6 * 4
    layer = torch.nn.Sequential(torch.nn.Linear(128, 3), torch.nn.LayerNorm(3))
    assert saved_bytes("nf4", layer, 2) == 2 * 384 - 216
    assert saved_bytes("none", layer, 2) == 0


def test_without_bitsandbytes_it_is_one_line(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        load_language_model(LanguageConfig(source=str(folder), width=64, quantization="nf4"))
    assert str(caught.value) == (
        "model.language.quantization nf4 needs the package bitsandbytes (pip install 'evlgen[quantize]')"
    )


@pytest.fixture
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of this name that knows CUDA only."""
    fake = types.ModuleType("bitsandbytes")
    fake.supported_torch_devices = {"cuda"}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bitsandbytes", fake)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.mark.usefixtures("_fake")
def test_a_device_that_bitsandbytes_does_not_know() -> None:
    with pytest.raises(UsageError) as caught:
        loading_options("int8", torch.bfloat16, torch.device("cpu"))
    assert str(caught.value) == (
        "model.language.quantization int8: the installed bitsandbytes does not run on cpu "
        "(it runs on cuda; or set model.language.quantization to none)"
    )


@pytest.mark.usefixtures("_fake")
def test_what_transformers_is_told() -> None:
    place = torch.device("cuda", 1)
    four = loading_options("nf4", torch.bfloat16, place)
    settings = four["quantization_config"]
    assert four["device_map"] == {"": place}
    assert (settings.load_in_4bit, settings.bnb_4bit_quant_type) == (True, "nf4")
    assert settings.bnb_4bit_compute_dtype == torch.bfloat16
    assert loading_options("int8", torch.float16, place)["quantization_config"].load_in_8bit
    assert loading_options("none", torch.float16, place) == {}


def test_random_weights_are_not_quantized() -> None:
    with pytest.raises(
        ValueError, match=r"language\.quantization int8 is for weights that are read: set language.source"
    ):
        LanguageConfig(architecture=WIDE, width=64, quantization="int8")

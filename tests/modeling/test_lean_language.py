"""The Llama decoder for captioning alone, against transformers' classes with the same files."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from evlgen.configuration import CrossAttentionConfig, EVLGenConfig, LoraConfig
from evlgen.errors import UsageError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.language import load_language_model
from evlgen.modeling.lean_language import LeanLanguageModel, load_lean_language
from evlgen.modeling.llama import LlamaShape
from tests.modeling.conftest import TINY_LLAMA, TINY_OPT, tiny_config

SHAPES = pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"num_key_value_heads": 2, "tie_word_embeddings": True},
        {"num_key_value_heads": 1, "rope_theta": 5e5, "rms_norm_eps": 1e-3},
    ],
    ids=["plain", "shared-heads-tied", "one-key-head"],
)


def written(folder: Path, sizes: dict[str, Any], llm: dict[str, Any] = TINY_LLAMA) -> EVLGenConfig:
    """A language model on disk as transformers writes it, large enough in its numbers to tell tokens apart."""
    config = tiny_config(llm={**llm, **sizes, "num_hidden_layers": 3, "initializer_range": 0.3, "init_std": 0.3})
    torch.manual_seed(0)
    language = load_language_model(config.language)
    with torch.no_grad():
        for name, parameter in language.model.named_parameters():
            if "norm" in name and parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)
    language.model.save_pretrained(folder)
    language.tokenizer.save_pretrained(folder)
    from_folder = {"source": str(folder), "architecture": None}
    return EVLGenConfig(**{**dict(config), "language": config.language.model_copy(update=from_folder)})


@SHAPES
def test_hidden_states_and_cache_equal_those_of_transformers(tmp_path: Path, sizes: dict[str, Any]) -> None:
    config = written(tmp_path, sizes).language
    lean = load_lean_language(config, tmp_path, {}, torch.float32)
    assert isinstance(lean, LeanLanguageModel)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.randint(0, 250, (3, 11))
    positions = torch.arange(11).expand(3, -1)
    with torch.no_grad():
        expected = theirs(input_ids=ids)
        cache = lean.new_cache()
        pieces = [
            lean.run(lean.embed(ids[:, at]), None, positions[:, at], cache)
            for at in (slice(0, 7), *(slice(t, t + 1) for t in range(7, 11)))
        ]
        torch.testing.assert_close(lean.run(lean.embed(ids), None, positions), torch.cat(pieces, 1))
        logits = torch.cat(pieces, 1) @ lean.head_weight.T
    torch.testing.assert_close(logits, expected.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kept_layers": [0, 2]},
        {"lora": LoraConfig(rank=2, alpha=4, targets=["q_proj", "v_proj", "gate_proj", "down_proj"])},
        {
            "kept_layers": [1, 2],
            "lora": LoraConfig(rank=2, alpha=4, targets=["k_proj", "o_proj", "up_proj"]),
            "cross_attention": CrossAttentionConfig(every=2, heads=4),
        },
    ],
    ids=["plain", "pruned", "lora", "everything"],
)
def test_a_model_for_captions_only_writes_the_same_captions(tmp_path: Path, changes: dict[str, Any]) -> None:
    if "lora" in changes:
        pytest.importorskip("peft", reason="needs the package peft")
    config = written(tmp_path / "llm", {"num_key_value_heads": 2})
    config = EVLGenConfig(**{**dict(config), "language": config.language.model_copy(update=changes)})
    model = EVLGenForConditionalGeneration.from_config(config)
    with torch.no_grad():
        for name in model.trainable_names():
            parameter = model.get_parameter(name)
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "model")
    whole = EVLGenForConditionalGeneration.from_pretrained(tmp_path / "model")
    lean = EVLGenForConditionalGeneration.from_pretrained(tmp_path / "model", captions_only=True)
    assert isinstance(lean.language, LeanLanguageModel)
    features = whole.encode(torch.randn(4, 1, 3, 48, 48))  # the tiny tower's weights are random in each
    for options in ({"num_beams": 1}, {"num_beams": 3, "num_captions": 2}, {"do_sample": True, "seed": 1}):
        prompt = ["", "a photo", "b", "what is it?"]
        one, other = (m.generate(features=features, prompt=prompt, max_new_tokens=8, **options) for m in (whole, lean))
        assert one.texts == other.texts
        assert torch.equal(one.sequences, other.sequences)
        torch.testing.assert_close(one.log_probabilities, other.log_probabilities, rtol=1e-4, atol=1e-4)


def test_texts_become_the_same_tokens(tmp_path: Path) -> None:
    config = written(tmp_path, {}).language
    lean, whole = load_lean_language(config, tmp_path, {}, torch.float32), load_language_model(config)
    assert lean is not None
    for text in ("a man's dog , 1.5 times!", "naïve  café\n", "<|im_end|>日本", ""):
        assert lean.encode(text) == whole.encode(text)
        ids = whole.encode(text)
        assert lean.tokenizer.decode(ids) == whole.tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("llm", "changes"),
    [
        (TINY_OPT, {}),
        (TINY_LLAMA, {"attention_bias": True}),
        (TINY_LLAMA, {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
        (TINY_LLAMA, {"hidden_act": "gelu"}),
    ],
    ids=["opt", "bias", "scaled-positions", "another-activation"],
)
def test_what_is_no_plain_llama_runs_through_transformers(llm: dict[str, Any], changes: dict[str, Any]) -> None:
    settings = transformers.AutoConfig.for_model(**{**llm, **changes}).to_dict()
    assert LlamaShape.read(settings, None) is None


@pytest.mark.parametrize("captions_only", [False, True])
def test_positions_keep_their_angles_in_coarse_arithmetic(tmp_path: Path, captions_only: bool) -> None:
    config = written(tmp_path / "llm", {})
    EVLGenForConditionalGeneration.from_config(config).save_pretrained(tmp_path / "model")
    model = EVLGenForConditionalGeneration.from_pretrained(
        tmp_path / "model", dtype=torch.bfloat16, captions_only=captions_only
    )
    (angles,) = (buffer for name, buffer in model.named_buffers() if name.endswith(".inv_freq"))
    dim = 2 * len(angles)
    torch.testing.assert_close(angles, 1 / 10_000 ** (torch.arange(0, dim, 2) / dim), rtol=1e-6, atol=0)
    assert model.language.embedding_weight.dtype == torch.bfloat16


def test_what_is_for_captions_only_is_neither_saved_nor_trained(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="needs the package peft")
    config = written(tmp_path / "llm", {})
    lora = {"lora": LoraConfig(rank=2, alpha=4, targets=["q_proj"])}
    config = EVLGenConfig(**{**dict(config), "language": config.language.model_copy(update=lora)})
    EVLGenForConditionalGeneration.from_config(config).save_pretrained(tmp_path / "model")
    model = EVLGenForConditionalGeneration.from_pretrained(tmp_path / "model", captions_only=True)
    with pytest.raises(UsageError, match="captions only cannot be saved"):
        model.save_pretrained(tmp_path / "again")
    with pytest.raises(UsageError, match="loaded for captions only"):
        model.language.recompute_layers()

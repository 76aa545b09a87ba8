"""Sizes of the paper's language models, so that their shapes are known without a network.

They are those of the published configurations (facebook/opt-*, lmsys/vicuna-*); the tests compare their sums with the
parameter counts that the model pages state.
"""

from __future__ import annotations

from typing import Any

from evlgen.configuration import LanguageConfig


def _opt(hidden: int, layers: int, heads: int, ffn: int) -> dict[str, Any]:
    return {
        "model_type": "opt",
        "hidden_size": hidden,
        "word_embed_proj_dim": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "ffn_dim": ffn,
        "vocab_size": 50272,
        "max_position_embeddings": 2048,
    }


def _vicuna(hidden: int, layers: int, heads: int, ffn: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": ffn,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
    }


PUBLIC_SIZES: dict[str, dict[str, Any]] = {
    "opt-2.7b": _opt(2560, 32, 32, 10240),
    "opt-6.7b": _opt(4096, 32, 32, 16384),
    "vicuna-7b": _vicuna(4096, 32, 32, 11008),
    "vicuna-13b": _vicuna(5120, 40, 40, 13824),
}
"""By the beginning of the repository's name: vicuna-7b-v1.1 and its later versions have one shape."""


def with_public_size(config: LanguageConfig) -> LanguageConfig:
    """The same language model as an architecture without weights, if its hf: source is in the table.

    Its tokenizer then is one token a byte, so longer prompt texts count more tokens than they have; a start or end
    token is one.
    """
    source = config.source or ""
    name = source.removeprefix("hf:").partition("@")[0].rpartition("/")[2].lower()
    for key, sizes in PUBLIC_SIZES.items():
        if source.startswith("hf:") and (name == key or name.startswith(f"{key}-")):
            texts = {key: _one_byte(getattr(config, key)) for key in ("prompt_before", "prompt_after", "end_text")}
            return config.model_copy(update={"source": None, "architecture": sizes, **texts})
    return config


def _one_byte(text: str) -> str:
    return "\n" if text in ("<s>", "</s>") else text

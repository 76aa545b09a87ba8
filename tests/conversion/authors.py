"""Miniatures of the authors' checkpoints: random tensors under their key names (method: LAVIS naming), nothing else.

D 32, visual tokens 1 + 3 x 3, connector width 24, language width 32.
"""

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from evlgen.modeling.language import _byte_tokenizer

WIDTH, HIDDEN, BLOCKS, PATCH, TOKENS = 32, 56, 2, 4, 10
INNER, FORWARD, LAYERS, POSITIONS = 24, 40, 3, 16
LANGUAGE_WIDTH = 32
VISION_HEADS, HEADS, TEMPORAL_HEADS, TEMPORAL_WIDTH, R = 4, 3, 2, 8, 2


def _linear(name: str, out: int, inner: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, inner), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def shapes(*, family: str = "opt", video: bool = False, tower: bool = True, pooler: bool = False) -> dict[str, Any]:
    """Name and shape of every tensor of a checkpoint without language model."""
    out: dict[str, Any] = {}
    if tower:
        out |= {
            "visual_encoder.cls_token": (1, 1, WIDTH),
            "visual_encoder.pos_embed": (1, TOKENS, WIDTH),
            "visual_encoder.patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
            "visual_encoder.patch_embed.proj.bias": (WIDTH,),
        }
    for n in range(BLOCKS):
        block = f"visual_encoder.blocks.{n}"
        if tower:
            out |= _norm(f"{block}.norm1", WIDTH) | _norm(f"{block}.norm2", WIDTH)
            out |= {f"{block}.attn.q_bias": (WIDTH,), f"{block}.attn.v_bias": (WIDTH,)}
            out |= {f"{block}.attn.qkv.weight": (3 * WIDTH, WIDTH)} | _linear(f"{block}.attn.proj", WIDTH, WIDTH)
            out |= _linear(f"{block}.mlp.fc1", HIDDEN, WIDTH) | _linear(f"{block}.mlp.fc2", WIDTH, HIDDEN)
        if video:
            out |= {f"{block}.temporal_merge.alpha": ()}
            out |= _linear(f"{block}.temporal_merge.query", TEMPORAL_WIDTH, WIDTH)
            out |= _linear(f"{block}.temporal_merge.key", TEMPORAL_WIDTH, WIDTH)
    out |= _norm("ln_vision", WIDTH) | _linear("VL_proj", INNER, WIDTH)
    out |= {
        "VLconnector.embeddings.position_embeddings.weight": (POSITIONS, INNER),
        "VLconnector.embeddings.token_type_embeddings.weight": (2, INNER),
        **_norm("VLconnector.embeddings.LayerNorm", INNER),
    }
    for n in range(LAYERS):
        layer = f"VLconnector.encoder.layer.{n}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            out |= _linear(f"{layer}.{name}", INNER, INNER)
        out |= _norm(f"{layer}.attention.output.LayerNorm", INNER)
        out |= _linear(f"{layer}.intermediate.dense", FORWARD, INNER) | _linear(f"{layer}.output.dense", INNER, FORWARD)
        out |= _norm(f"{layer}.output.LayerNorm", INNER)
    if pooler:
        out |= _linear("VLconnector.pooler.dense", INNER, INNER)
    return out | _linear(f"{family}_proj", LANGUAGE_WIDTH, INNER)


def tensors(seed: int = 0, **choice: Any) -> dict[str, Tensor]:
    """Random tensors of `shapes`, large enough that every one of them matters."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (1.0 if "orm" in name and name.endswith("weight") else 0.0)
        + 0.3 * torch.randn(shape, generator=generator)
        for name, shape in shapes(**choice).items()
    }


SIZES: dict[str, dict[str, Any]] = {
    "opt": {
        "model_type": "opt", "vocab_size": 256, "hidden_size": LANGUAGE_WIDTH, "word_embed_proj_dim": LANGUAGE_WIDTH,
        "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64,
        "init_std": 0.3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1,
    },
    "llm": {
        "model_type": "llama", "vocab_size": 256, "hidden_size": LANGUAGE_WIDTH, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 64,
        "initializer_range": 0.3,
    },
}  # fmt: skip


def language_model(family: str, seed: int = 1) -> Any:
    """transformers' OPT or Llama of tiny sizes, with random weights."""
    settings = dict(SIZES[family])
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def language_folder(family: str, folder: Path) -> Path:
    """The same, saved with a tokenizer of one token a byte: what --language names."""
    language_model(family).save_pretrained(folder)
    _byte_tokenizer().save_pretrained(folder)
    return folder

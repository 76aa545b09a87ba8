"""Tiny models with random weights: every test of this room runs on them, with no file and no network."""

import pytest
import torch

from evlgen.configuration import (
    EVLGenConfig,
    LanguageConfig,
    LoraConfig,
    TemporalConfig,
    VisionConfig,
)
from evlgen.connector_config import TomeFormerConfig
from evlgen.modeling import EVLGenForConditionalGeneration

TINY_LLAMA = {
    "model_type": "llama", "vocab_size": 256, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
TINY_OPT = {
    "model_type": "opt", "vocab_size": 256, "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 48,
    "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128,
}  # fmt: skip
TINY_VIT = VisionConfig(
    name="vit_tiny_patch16_224",
    arguments={"img_size": 48, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 4},
    image_size=48,
    width=32,
    tokens=10,
)
TINY_CNN = VisionConfig(name="test_efficientnet", image_size=96, width=256, tokens=9)


def tiny_config(
    vision: VisionConfig = TINY_VIT, fusion: str = "mean", llm: dict[str, object] = TINY_LLAMA, **connector: object
) -> EVLGenConfig:
    """A config of miniature parts; keyword arguments change the connector."""
    settings: dict[str, object] = {"layers": 2, "width": 24, "heads": 4, "intermediate": 48, "r": 2, "dropout": 0.0}
    return EVLGenConfig(
        vision=vision,
        connector=TomeFormerConfig(**{**settings, **connector}),
        temporal=TemporalConfig(fusion=fusion, frames=3, width=16, heads=4),
        language=LanguageConfig(architecture=llm, width=32, prompt_before="<", prompt_after=">"),
    )


_SIZES = {"layers": 3, "width": 24, "heads": 4, "intermediate": 48, "queries": 6}
KINDS: dict[str, dict[str, object]] = {
    "qformer": {"kind": "qformer", **_SIZES, "dropout": 0.0},
    "perceiver": {"kind": "perceiver", **_SIZES},
    "linear": {"kind": "linear", "pool_to": 6},
    "mlp": {"kind": "mlp", "width": 24, "pool_to": 6},
}
"""Connectors that give as many soft prompts as that of `tiny_config`."""


def with_connector(config: EVLGenConfig, **section: object) -> EVLGenConfig:
    """The same model with another connector, of any kind."""
    return EVLGenConfig.model_validate({**config.model_dump(), "connector": section})


def with_lora(config: EVLGenConfig, **lora: object) -> EVLGenConfig:
    """The same model with adapters on its language model."""
    return with_language(config, lora=LoraConfig(**lora))


def with_language(config: EVLGenConfig, **changes: object) -> EVLGenConfig:
    """The same model with other settings of its language model."""
    return config.model_copy(update={"language": config.language.model_copy(update=changes)})


def tiny_model(config: EVLGenConfig | None = None, seed: int = 0) -> EVLGenForConditionalGeneration:
    """A model of `tiny_config` with weights large enough that captions differ."""
    torch.manual_seed(seed)
    model = EVLGenForConditionalGeneration.from_config(config or tiny_config())
    with torch.no_grad():
        model.lm_proj.weight.mul_(5)
    return model.eval()


@pytest.fixture
def model() -> EVLGenForConditionalGeneration:
    return tiny_model()

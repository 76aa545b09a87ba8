"""Small models of each kind, and frames with a pattern."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from evlgen.configuration import CrossAttentionConfig, EVLGenConfig
from evlgen.decoding_options import DecodingOptions
from evlgen.modeling import EVLGenForConditionalGeneration
from tests.modeling.conftest import TINY_CNN, TINY_LLAMA, TINY_OPT, TINY_VIT, tiny_config, tiny_model

SHORT = DecodingOptions(num_beams=2, max_new_tokens=6)

KINDS: dict[str, Callable[[], EVLGenConfig]] = {
    "vit-mean": lambda: tiny_config(r=2),
    "cnn-mean": lambda: tiny_config(TINY_CNN, protect_first=False),
    "vit-concat": lambda: tiny_config(fusion="concat"),
    "vit-mean-prompts": lambda: tiny_config(fusion="mean-prompts"),
    "vit-temporal": lambda: tiny_config(fusion="temporal"),
    "cnn-temporal": lambda: tiny_config(TINY_CNN, "temporal", llm=TINY_OPT, protect_first=False),
    "cross-attention": lambda: looking(tiny_config(TINY_VIT, llm={**TINY_LLAMA, "initializer_range": 0.2})),
}
"""Towers with and without a class token, all fusions, and both ways in which words look at soft prompts."""


def looking(config: EVLGenConfig) -> EVLGenConfig:
    """The same model with layers that look at soft prompts from inside."""
    language = config.language.model_copy(update={"cross_attention": CrossAttentionConfig(every=1, heads=4)})
    return config.model_copy(update={"language": language})


def model_of(kind: str) -> EVLGenForConditionalGeneration:
    """A tiny model whose captions depend on what it sees."""
    model = tiny_model(KINDS[kind]())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".cross_attention." in name and name.endswith("output.weight"):
                parameter.normal_(std=0.5)
            if name.endswith("alpha"):
                parameter.fill_(0.5)
    return model


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def frames() -> np.ndarray:
    """uint8 (3, 48, 64, 3): each frame of other colours, with edges."""
    x = np.random.default_rng(0).integers(0, 256, (3, 3, 4, 3), np.uint8)
    return x.repeat(16, 1).repeat(16, 2)

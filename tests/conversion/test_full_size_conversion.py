"""The released architecture at full size, name by name and shape by shape, on the meta device."""

import pytest
import torch

from evlgen.configuration import EVLGenConfig, LanguageConfig, TemporalConfig
from evlgen.connector_config import TomeFormerConfig
from evlgen.conversion import Assumed, eva_vit_g
from evlgen.conversion.authors_config import infer_config, model_shapes
from evlgen.conversion.tensor_names import sort_tensors
from evlgen.modeling.vision import VisionTower
from tests.conversion import authors as mini

FULL = {
    "WIDTH": 1408, "HIDDEN": 6144, "BLOCKS": 39, "PATCH": 14, "TOKENS": 257, "INNER": 768, "FORWARD": 3072,
    "LAYERS": 12, "POSITIONS": 512, "LANGUAGE_WIDTH": 2560, "TEMPORAL_WIDTH": 256,
}  # fmt: skip


def test_sizes_read_off_a_released_checkpoint_are_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in FULL.items():
        monkeypatch.setattr(mini, name, value)
    given = {n: torch.empty(s, device="meta") for n, s in mini.shapes(video=True).items()}
    sorted_ = sort_tensors(given)
    assert sum(t.numel() for t in sorted_.vision.values()) == 985_894_528
    config = infer_config(sorted_, "opt", Assumed())
    assert config == EVLGenConfig(
        vision=eva_vit_g(),
        connector=TomeFormerConfig(),
        temporal=TemporalConfig(fusion="temporal"),
        language=LanguageConfig(
            source="hf:facebook/opt-2.7b@905a4b602cda5c501f1b3a2650a4152680238254", width=2560, prompt_after="</s>"
        ),
    )
    assert config.soft_prompt_tokens() == 29
    vicuna = infer_config(sorted_, "llm", Assumed(language="hf:lmsys/vicuna-7b-v1.3")).language
    assert (vicuna.prompt_after, vicuna.end_text) == ("</s>", "</s>"), "start and end token of the authors' code"
    trained, vision = model_shapes(config)
    assert {n: tuple(s) for n, s in vision.items()} == {n: tuple(t.shape) for n, t in sorted_.vision.items()}
    want = {n: tuple(t.shape) for n, t in sorted_.trained.items()}
    want |= {n: (1,) for n in want if n.endswith(".temporal.alpha")}  # scalars there
    want["connector.embeddings.position_embeddings.weight"] = (257, 768)
    assert {n: tuple(s) for n, s in trained.items()} == want


def test_the_released_tower_is_a_plain_vit() -> None:
    with torch.device("meta"):
        trunk = VisionTower(eva_vit_g()).trunk
    block = trunk.blocks[38]
    assert (trunk.rope, block.gamma_1, block.gamma_2) == (None, None, None)
    assert {block.norm1.eps, block.norm2.eps} == {1e-6}
    assert isinstance(trunk.norm, torch.nn.Identity)
    assert (block.attn.num_heads, block.attn.scale) == (16, 88**-0.5)
    assert "k_bias" not in dict(block.attn.named_parameters())

"""The ViT path against transformers' BLIP-2 vision tower with the same weights."""

import pytest
import torch
import transformers

from evlgen.configuration import TemporalConfig, VisionConfig
from evlgen.errors import WeightsError
from evlgen.modeling.vision import VisionTower

TOWER = VisionConfig(
    name="eva_giant_patch14_clip_224",
    arguments={
        "depth": 3, "img_size": 28, "patch_size": 7, "embed_dim": 48, "num_heads": 4, "mlp_ratio": 4.3637,
        "use_post_transformer_norm": False, "use_fc_norm": False,
    },
    layout="blip2",
    image_size=28,
    width=48,
    tokens=17,
)  # fmt: skip


@torch.no_grad()
def blip2() -> transformers.Blip2VisionModel:
    torch.manual_seed(4)
    config = transformers.Blip2VisionConfig(
        hidden_size=48, intermediate_size=209, num_hidden_layers=3, num_attention_heads=4, image_size=28, patch_size=7
    )
    model = transformers.Blip2VisionModel(config).eval()
    for name, parameter in model.named_parameters():  # also norms and biases, that of the key included
        parameter.copy_(0.2 * torch.randn_like(parameter) + (1.0 if "norm" in name and "weight" in name else 0.0))
    return model


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["mean", "temporal"])
def test_the_tower_with_closed_gates_is_blip2s(fusion: str) -> None:
    theirs = blip2()
    temporal = TemporalConfig(fusion="temporal", width=16, heads=4) if fusion == "temporal" else None
    tower = VisionTower(TOWER, temporal)
    whole = {f"vision_model.{n}": t for n, t in theirs.state_dict().items()}
    tower.load_weights(whole | {"language_projection.bias": torch.zeros(3)})
    pixels = torch.randn(2, 3, 3, 28, 28)
    tokens = tower(pixels)
    norm = torch.nn.LayerNorm(48, eps=1e-6)  # transformers' spelling of ln_vision
    norm.load_state_dict({"weight": theirs.post_layernorm.weight, "bias": theirs.post_layernorm.bias})
    for f in range(3):
        want = theirs(pixels[:, f], output_hidden_states=True)
        torch.testing.assert_close(tokens[:, f], want.hidden_states[-1], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(norm(tokens[:, f]), want.last_hidden_state, rtol=1e-5, atol=1e-5)
    for block in tower.blocks:
        block.temporal.alpha.fill_(0.5)
    if temporal is not None:
        assert not torch.allclose(tower(pixels)[:, 0], tokens[:, 0], atol=1e-2)


def test_a_file_that_is_not_blip2s_is_named() -> None:
    with pytest.raises(WeightsError, match=r"43 of 43 tensors missing or of another shape, first 'cls_token'"):
        VisionTower(TOWER).load_weights({"x": torch.zeros(1)})

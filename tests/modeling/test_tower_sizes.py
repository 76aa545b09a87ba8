"""Width and tokens that a recipe leaves out: found as the tower itself gives them, without its weights."""

import pytest
import timm
import torch
from pydantic import ValidationError

from evlgen.configuration import VisionConfig
from evlgen.modeling.vision import VisionTower

TINY = {"img_size": 48, "embed_dim": 32, "depth": 2, "num_heads": 4}


@pytest.mark.parametrize(
    ("name", "size", "arguments"),
    [
        ("vit_tiny_patch16_224", 48, TINY),
        ("test_efficientnet", 96, {}),
        ("test_resnet", 96, {}),
        ("swin_tiny_patch4_window7_224", 56, {"img_size": 56, "embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2]}),
    ],
)
def test_they_are_those_of_a_forward_pass(name: str, size: int, arguments: dict[str, object]) -> None:
    config = VisionConfig.model_validate({"name": name, "image_size": size, "arguments": arguments})
    trunk = timm.create_model(name, pretrained=False, num_classes=0, **arguments).eval()
    with torch.no_grad():
        y = trunk.forward_features(torch.randn(1, 3, size, size))
    width = trunk.num_features if y.dim() == 4 else y.shape[-1]
    assert (config.tokens, config.width) == (y.numel() // width, width)
    tokens = VisionTower(config).forward(torch.randn(1, 2, 3, size, size))
    assert tokens.shape == (1, 2, config.tokens, config.width)


def test_a_map_with_channels_last_keeps_its_places_together() -> None:
    arguments = {"img_size": 56, "embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2]}
    config = VisionConfig(name="swin_tiny_patch4_window7_224", image_size=56, arguments=arguments)
    tower, x = VisionTower(config), torch.randn(1, 3, 56, 56)
    want = tower.trunk.forward_features(x)  # (1, 7, 7, 24)
    torch.testing.assert_close(tower.forward(x[None])[0, 0, 8], want[0, 1, 1])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"name": "vit_tiny_patch16_24", "image_size": 48},
            r"vit_tiny_patch16_24 at 48 px cannot be found out \(Unknown",
        ),
        ({"name": "vit_tiny_patch16_224", "image_size": 225}, r"Input height \(225\) doesn't match model"),
        ({"name": "test_efficientnet", "image_size": 96, "width": 192}, "width 192 is not .* 96 px, which is 256"),
        ({"name": "test_efficientnet", "image_size": 96, "tokens": 4}, "tokens 4 is not .* 96 px, which is 9"),
        ({"name": "../evil", "image_size": 96}, "is no architecture's name"),
        ({"name": "vit_tiny_patch16_224", "image_size": 48, "arguments": {"depth": 10**6}}, "is more than 1000"),
    ],
)
def test_what_cannot_be_found_out_is_said(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        VisionConfig.model_validate(given)

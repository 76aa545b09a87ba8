"""The named towers at full size, on the meta device: names, shapes, tokens and normalisation against the libraries'."""

from pathlib import Path
from typing import Any

import pydantic
import pytest
import timm
import torch
import transformers
from transformers.core_model_loading import revert_weight_conversion

from evlgen.configuration import EVLGenConfig, VisionConfig
from evlgen.errors import UsageError
from evlgen.modeling.layouts import LAYOUTS
from evlgen.modeling.vision import VisionTower
from evlgen.recipes import load_recipe
from evlgen.towers import TOWERS
from evlgen.weights.file_source import FileSource
from tests.modeling.conftest import tiny_config

DOCUMENT = Path(__file__).parents[2] / "docs" / "towers.md"

PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    # transformers' classes with the sizes that the repositories' config.json states
    "eva-vit-g14": ("Blip2Vision", {}),  # its defaults
    "clip-vit-l14": (
        "CLIPVision",
        {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
         "image_size": 224, "patch_size": 14},
    ),
    "siglip-l16": (
        "SiglipVision",
        {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
         "image_size": 256, "patch_size": 16},
    ),
    "siglip-so400m14": (
        "SiglipVision",
        {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
         "image_size": 384, "patch_size": 14},
    ),
    "dinov2-l14": (
        "Dinov2",
        {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 518, "patch_size": 14},
    ),
    "dinov2-l14-reg4": (
        "Dinov2WithRegisters",
        {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 518, "patch_size": 14},
    ),
}  # fmt: skip

LEFT_OUT = {
    # what the named towers do without
    "eva-vit-g14": (),
    "clip-vit-l14": ("blocks.23.", "norm."),
    "siglip-l16": (),
    "siglip-so400m14": (),
    "dinov2-l14": (),
    "dinov2-l14-reg4": (),
}


def shapes(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def towers() -> dict[str, VisionTower]:
    """All of them, on the meta device; building one checks image size, tokens and width."""
    with torch.device("meta"):
        return {name: VisionTower(VisionConfig.model_validate({"tower": name, "source": "x"})) for name in TOWERS}


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes_are_those_of_transformers(name: str, towers: dict[str, VisionTower]) -> None:
    kind, sizes = PUBLISHED[name]
    with torch.device("meta"):
        model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**sizes))
    given = LAYOUTS[TOWERS[name].layout](revert_weight_conversion(model, model.state_dict()))
    tower = towers[name]
    want, own = shapes(given), shapes(tower.frozen_tensors())
    rest = {n: s for n, s in want.items() if n not in own}
    assert all(n.startswith(LEFT_OUT[name]) for n in rest)
    positions = own.pop("pos_embed")
    assert own == {n: s for n, s in want.items() if n in own}
    if name.startswith("dinov2"):
        assert (want["pos_embed"][1] - positions[1], positions[1] % 2) == (37**2 - 16**2, int(name == "dinov2-l14"))
    else:
        assert positions == want["pos_embed"]


def test_eva02_by_hand(towers: dict[str, VisionTower]) -> None:
    """24 blocks of width 1024: no bias of the key, a norm inside attention and one inside the gated MLP of 2730."""
    D, inner = 1024, 1024 * 8 // 3
    attention = 4 * D * D + 3 * D + 2 * D
    mlp = 2 * (D * inner + inner) + 2 * inner + (inner * D + D)
    block = attention + mlp + 2 * 2 * D
    whole = 24 * block + D + 257 * D + (3 * 14 * 14 * D + D) + 2 * D
    own = towers["eva02-clip-l14"].frozen_tensors()
    assert sum(t.numel() for t in own.values()) == whole
    assert not any("rope" in name or name.startswith(("head", "fc_norm")) for name in own)


@pytest.mark.parametrize("name", TOWERS)
def test_normalisation_and_size_are_timms(name: str) -> None:
    cfg = timm.get_pretrained_cfg(TOWERS[name].timm)
    tower = TOWERS[name]
    assert (tower.mean, tower.std) == (tuple(cfg.mean), tuple(cfg.std))
    assert tower.built_for == cfg.input_size[1]
    assert TOWERS[name].layout in LAYOUTS
    if tower.source:
        source = FileSource.parse(tower.source)
        assert (source.kind, source.owner, len(source.version)) == ("hf", tower.repository, 40)


def test_a_name_takes_the_place_of_the_section() -> None:
    recipe = load_recipe("msrvtt-scst", ["model.vision=clip-vit-l14"])
    vision = recipe.model.vision
    assert (vision.name, vision.layout, vision.tokens) == ("vit_large_patch14_clip_quickgelu_224", "clip", 257)
    assert vision.arguments == {"depth": 23, "final_norm": False}
    assert EVLGenConfig.model_validate_json(recipe.model.model_dump_json()) == recipe.model
    changed = load_recipe("msrvtt-scst", ["model.vision=dinov2-l14-reg4", "model.vision.image_size=280"]).model.vision
    assert (changed.tokens, changed.arguments) == (20**2 + 5, {"img_size": 280})
    local = load_recipe("msrvtt-scst", ["model.vision=eva02-clip-l14", "model.vision.source=x.pth"]).model.vision
    assert (local.source, local.width, local.layout) == ("x.pth", 1024, "timm")
    more = VisionConfig.model_validate({"tower": "clip-vit-l14", "arguments": {"depth": 24}})
    assert more.arguments == {"depth": 24, "final_norm": False}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.vision=clip-vit-l", r"model.vision: no tower 'clip-vit-l'; did you mean 'clip-vit-l14'\?"),
        ("model.vision.tower=dinov2-l14", r"one of them is too many; .*\(--set model.vision=dinov2-l14\)"),
        (
            "model.vision=siglip-l16",
            r"needs a source: a weight file in siglip's layout \(google/siglip-large-patch16-256\)",
        ),
    ],
)
def test_mistakes_with_names(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe("mini-pretrain", [override])


def test_a_tower_may_be_random_only_if_that_is_said() -> None:
    assert VisionConfig.model_validate({"tower": "siglip-l16", "source": None}).source is None
    with pytest.raises(pydantic.ValidationError, match="needs a source"):
        VisionConfig.model_validate("siglip-l16")
    assert tiny_config().vision == VisionConfig.model_validate(tiny_config().vision.model_dump())


def test_the_document_lists_them() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, tower in TOWERS.items():
        pinned = "yes" if tower.source else "no"
        row = (
            f"| `{name}` | {tower.what} | `{tower.timm}` | `{tower.layout}` | {tower.repository} | {pinned} "
            f"| {tower.size} | {tower.tokens(tower.size)} | {tower.width} |"
        )
        assert row in text, row

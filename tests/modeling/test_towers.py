"""Towers in transformers' layouts: the same output as transformers' own classes, from the files that they write."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers

from evlgen.configuration import TemporalConfig, VisionConfig
from evlgen.errors import EvlgenError, WeightsError
from evlgen.modeling.pretrained import read_tensors
from evlgen.modeling.vision import VisionTower

WIDTH, HEADS, LAYERS, PATCH, SIDE = 48, 4, 2, 7, 28
SMALL = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": WIDTH, "num_heads": HEADS, "depth": LAYERS}
COMMON: dict[str, Any] = {
    "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "image_size": SIDE,
    "patch_size": PATCH,
}  # fmt: skip
TEMPORAL = TemporalConfig(fusion="temporal", width=16, heads=4)

KINDS: dict[str, tuple[Any, Any, dict[str, Any], str, str, int, dict[str, Any]]] = {
    # transformers' class, its configuration and what it needs; layout, timm's name, prefix tokens, timm's arguments
    "clip": (
        transformers.CLIPVisionModel, transformers.CLIPVisionConfig, {"intermediate_size": 4 * WIDTH},
        "clip", "vit_large_patch14_clip_quickgelu_224", 1, {"final_norm": False},
    ),
    "siglip": (
        transformers.SiglipVisionModel, transformers.SiglipVisionConfig, {"intermediate_size": 4 * WIDTH},
        "siglip", "vit_so400m_patch14_siglip_384", 0, {"act_layer": "gelu_tanh", "mlp_ratio": 4},
    ),
    "dinov2": (transformers.Dinov2Model, transformers.Dinov2Config, {}, "dinov2", "vit_large_patch14_dinov2", 1, {}),
    "dinov2-giant": (
        transformers.Dinov2Model, transformers.Dinov2Config, {"use_swiglu_ffn": True},
        "dinov2", "vit_giant_patch14_dinov2", 1, {},
    ),
    "dinov2-registers": (
        transformers.Dinov2WithRegistersModel, transformers.Dinov2WithRegistersConfig, {"num_register_tokens": 4},
        "dinov2", "vit_large_patch14_reg4_dinov2", 5, {},
    ),
}  # fmt: skip


@torch.no_grad()
def theirs(kind: str, side: int = SIDE) -> Any:
    """A random model of transformers; norms, biases and layer scales are random, too."""
    torch.manual_seed(3)
    cls, config, needs, *_ = KINDS[kind]
    model = cls(config(**{**COMMON, **needs, "image_size": side})).eval()
    for name, parameter in model.named_parameters():
        centre = 1.0 if parameter.dim() == 1 and name.endswith(("weight", "lambda1")) else 0.0
        parameter.copy_(0.2 * torch.randn_like(parameter) + centre)
    return model


def ours(kind: str, temporal: TemporalConfig | None = None) -> VisionTower:
    *_, layout, name, prefix, arguments = KINDS[kind]
    tokens = (SIDE // PATCH) ** 2 + prefix
    return VisionTower(
        VisionConfig(
            name=name, layout=layout, image_size=SIDE, width=WIDTH, tokens=tokens, arguments={**SMALL, **arguments}
        ),
        temporal,
    )


def on_disk(model: Any, folder: Path) -> dict[str, torch.Tensor]:
    """What transformers writes, which need not be the names that it computes with."""
    model.save_pretrained(folder)
    return read_tensors(folder / "model.safetensors")


@torch.no_grad()
@pytest.mark.parametrize("temporal", [None, TEMPORAL], ids=["plain", "temporal"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_tower_is_transformers_own(kind: str, temporal: TemporalConfig | None, tmp_path: Path) -> None:
    reference = theirs(kind)
    tower = ours(kind, temporal)
    tower.load_weights(on_disk(reference, tmp_path))
    tower.double()
    pixels = torch.randn(2, 3, 3, SIDE, SIDE, dtype=torch.float64)
    tokens = tower(pixels)
    want = reference.double()(pixels.flatten(0, 1)).last_hidden_state.unflatten(0, (2, 3))
    torch.testing.assert_close(
        tokens, want, rtol=1e-9, atol=1e-6
    )  # transformers resamples DINOv2's positions in float32
    assert want.std() > 0.3
    for block in tower.blocks:
        block.temporal.alpha.fill_(0.5)
    if temporal is not None:
        assert not torch.allclose(tower(pixels), tokens, atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["siglip", "dinov2", "dinov2-registers"])
def test_positions_of_another_image_size_are_resampled_as_transformers_does(kind: str, tmp_path: Path) -> None:
    reference = theirs(kind, side=42)
    tower = ours(kind)
    tower.load_weights(on_disk(reference, tmp_path))
    pixels = torch.randn(1, 1, 3, SIDE, SIDE, dtype=torch.float64)
    options = {"interpolate_pos_encoding": True} if kind == "siglip" else {}
    want = reference.double()(pixels[:, 0], **options).last_hidden_state
    tokens = tower.double()(pixels)[:, 0]
    torch.testing.assert_close(tokens, want, rtol=1e-5, atol=1e-5)  # positions are resampled in float32, once


@torch.no_grad()
def test_positions_of_timms_files_are_resampled_as_timm_does() -> None:
    small = {**SMALL, "num_classes": 0}
    given = timm.create_model("vit_large_patch14_reg4_dinov2", **{**small, "img_size": 42})
    given.pos_embed.normal_()
    reference = timm.create_model("vit_large_patch14_reg4_dinov2", **small).eval()
    reference.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(given.state_dict(), reference))
    tower = ours("dinov2-registers")
    tower = VisionTower(tower.config.model_copy(update={"layout": "timm"}))
    tower.load_weights({f"visual.trunk.{n}": t for n, t in given.state_dict().items()})
    pixels = torch.randn(1, 1, 3, SIDE, SIDE, dtype=torch.float64)
    torch.testing.assert_close(tower.double()(pixels)[:, 0], reference.double().forward_features(pixels[:, 0]))


def test_a_whole_clip_gives_its_tower(tmp_path: Path) -> None:
    sizes = {k: v for k, v in COMMON.items() if k not in ("image_size", "patch_size")}
    text = {**sizes, "intermediate_size": 8, "vocab_size": 9, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    whole = transformers.CLIPModel(
        transformers.CLIPConfig(
            vision_config={**COMMON, "intermediate_size": 4 * WIDTH}, text_config=text, projection_dim=8
        )
    )
    tower = ours("clip")
    tower.load_weights(on_disk(whole, tmp_path) | {"vision_model.embeddings.position_ids": torch.arange(17)[None]})
    assert torch.equal(
        tower.trunk.blocks[1].attn.qkv.weight[WIDTH : 2 * WIDTH],
        whole.vision_model.encoder.layers[1].self_attn.k_proj.weight,
    )


@torch.no_grad()
@pytest.mark.parametrize("kind", ["eva02", "dinov2-registers"])
def test_frames_meet_between_attention_and_mlp(kind: str) -> None:
    """Every block against timm's own, once without its MLP and once without its attention, the module in between.

    Rotary positions, layer scale of both spellings, norms inside attention and MLP, registers.
    """
    torch.manual_seed(5)
    if kind == "eva02":
        arguments = {**SMALL, "ref_feat_shape": (4, 4), "init_values": 0.5}
        config = VisionConfig(
            name="eva02_large_patch14_clip_224", image_size=SIDE, width=WIDTH, tokens=17, arguments=arguments
        )
        tower = VisionTower(config, TEMPORAL)
    else:
        tower = ours(kind, TEMPORAL)
    for name, parameter in tower.named_parameters():
        parameter.copy_(0.2 * torch.randn_like(parameter) + (1.0 if "norm" in name and "weight" in name else 0.0))
    for block in tower.blocks:
        block.temporal.alpha.fill_(0.7)
    pixels = torch.randn(1, 3, 3, SIDE, SIDE)
    trunk = tower.trunk
    x = trunk.patch_embed(pixels[0])
    positioned = trunk._pos_embed(x)
    x, options = (positioned[0], {"rope": positioned[1]}) if isinstance(positioned, tuple) else (positioned, {})
    assert (kind == "eva02") == (options.get("rope") is not None)
    for block in tower.blocks:
        attention, mlp = copy.deepcopy(block.block), copy.deepcopy(block.block)
        for silent in (attention.mlp.fc2, mlp.attn.proj):
            silent.weight.zero_()
            silent.bias.zero_()
        x = mlp(block.temporal(attention(x, **options)[None])[0], **options)
    torch.testing.assert_close(tower(pixels)[0], trunk.norm(x), rtol=1e-5, atol=1e-5)


def test_a_file_of_another_layout_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"do not fit vit_large_patch14_dinov2: \d+ of \d+ .* first 'cls_token'"):
        ours("dinov2").load_weights(on_disk(theirs("clip"), tmp_path))


def test_sizes_that_the_architecture_does_not_have_are_refused_before_it_runs() -> None:
    right = ours("dinov2").config
    with pytest.raises(
        EvlgenError, match=r"image_size is 42, but vit_large_patch14_dinov2 is built for 28 x 28 pixels"
    ):
        VisionTower(right.model_copy(update={"image_size": 42}))
    with pytest.raises(EvlgenError, match=r"gives 17 tokens of width 48, configured were 16 of 48"):
        VisionTower(right.model_copy(update={"tokens": 16}))

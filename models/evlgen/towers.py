"""Vision towers by name: sizes, token counts, normalisation, and where people have the weights.

`model.vision: clip-vit-l14` in a recipe, or `--set model.vision=clip-vit-l14`, takes the place of the whole section
(`evlgen.configuration`). The paper (arXiv 2310.03291) tries the first three. Sizes and normalisation are those of the
published configurations; tests compare names and shapes with timm's and transformers' classes. No torch here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Tower:
    """A vision tower that a name stands for.

    Attributes:
        what: one line.
        timm: architecture name.
        layout: key names of the weight file, as in `VisionConfig.layout`.
        repository: where people have the weights.
        source: the file there, pinned; empty where the user has to name one.
        size: side of the input in pixels.
        built_for: side that timm builds the architecture for.
        patch: side of a patch in pixels.
        prefix: class and register tokens in front of the patches.
        width: of a token.
        mean, std: of the input, RGB in 0..1.
        arguments: what else timm needs to be told.
    """

    what: str
    timm: str
    layout: str
    repository: str
    source: str
    size: int
    built_for: int
    patch: int
    prefix: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def tokens(self, size: int) -> int:
        """Tokens of a frame of `size` x `size` pixels; what no patch fits in is left out, as convolutions do."""
        return (size // self.patch) ** 2 + self.prefix

    def settings(self, size: int | None = None) -> dict[str, Any]:
        """The keys of `VisionConfig`, but for `source` where there is none.

        Args:
            size: side of the input in pixels, if another than `self.size`.
        """
        size = self.size if size is None else size
        other = {} if size == self.built_for else {"img_size": size}
        return {
            "name": self.timm,
            "layout": self.layout,
            **({"source": self.source} if self.source else {}),
            "arguments": {**self.arguments, **other},
            "image_size": size,
            "width": self.width,
            "tokens": self.tokens(size),
            "mean": self.mean,
            "std": self.std,
        }


TOWERS: dict[str, Tower] = {
    "eva-vit-g14": Tower(
        "EVA-CLIP ViT-g/14 without its last block and norm, as in BLIP-2: the paper's",
        "eva_giant_patch14_clip_224", "blip2", "Salesforce/blip2-opt-2.7b",
        "hf:Salesforce/blip2-opt-2.7b@59a1ef6c1e5117b3f65523d1c6066825bcf315e3/model-00001-of-00002.safetensors",
        224, 224, 14, 1, 1408, CLIP_MEAN, CLIP_STD,
        {"depth": 39, "use_post_transformer_norm": False, "use_fc_norm": False},
    ),
    "clip-vit-l14": Tower(
        "CLIP ViT-L/14 (OpenAI) without its last block and norm, as in BLIP-2; its activation is quick GELU",
        "vit_large_patch14_clip_quickgelu_224", "clip", "openai/clip-vit-large-patch14",
        "hf:openai/clip-vit-large-patch14@32bd64288804d66eefd0ccbe215aa642df71cc41/model.safetensors"
        "#sha256=a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
        224, 224, 14, 1, 1024, CLIP_MEAN, CLIP_STD, {"depth": 23, "final_norm": False},
    ),
    "eva02-clip-l14": Tower(
        "EVA02-CLIP-L/14, whole: rotary positions, SwiGLU",
        "eva02_large_patch14_clip_224", "timm", "timm/eva02_large_patch14_clip_224.merged2b_s4b_b131k", "",
        224, 224, 14, 1, 1024, CLIP_MEAN, CLIP_STD,
    ),
    "siglip-l16": Tower(
        "SigLIP ViT-L/16, 256 pixels; no class token",
        "vit_large_patch16_siglip_256", "siglip", "google/siglip-large-patch16-256", "",
        256, 256, 16, 0, 1024, HALF, HALF, {"act_layer": "gelu_tanh"},
    ),
    "siglip-so400m14": Tower(
        "SigLIP SO400M/14, 384 pixels; no class token",
        "vit_so400m_patch14_siglip_384", "siglip", "google/siglip-so400m-patch14-384",
        "hf:google/siglip-so400m-patch14-384@9fdffc58afc957d1a03a25b10dba0329ab15c2a3/model.safetensors"
        "#sha256=ea2abad2b7f8a9c1aa5e49a244d5d57ffa71c56f720c94bc5d240ef4d6e1d94a",
        384, 384, 14, 0, 1152, HALF, HALF, {"act_layer": "gelu_tanh"},
    ),
    "dinov2-l14": Tower(
        "DINOv2 ViT-L/14; its positions are resampled from 518 pixels",
        "vit_large_patch14_dinov2", "dinov2", "facebook/dinov2-large",
        "hf:facebook/dinov2-large@47b73eefe95e8d44ec3623f8890bd894b6ea2d6c/model.safetensors"
        "#sha256=399fba97a95f22c36834418bc69373364a99af3a1153da1c0fb31db567c92e23",
        224, 518, 14, 1, 1024, IMAGENET_MEAN, IMAGENET_STD,
    ),
    "dinov2-l14-reg4": Tower(
        "DINOv2 ViT-L/14 with 4 registers behind the class token; its positions are resampled from 518 pixels",
        "vit_large_patch14_reg4_dinov2", "dinov2", "facebook/dinov2-with-registers-large",
        "hf:facebook/dinov2-with-registers-large@e4c89a4e05589de9b3e188688a303d0f3c04d0f3/model.safetensors",
        224, 518, 14, 5, 1024, IMAGENET_MEAN, IMAGENET_STD,
    ),
}  # fmt: skip


def expand(section: Any) -> Any:
    """The vision section of a configuration, with the name of a tower replaced by what it stands for.

    Args:
        section: a name of `TOWERS`; or keys, among them perhaps `tower`: keys beside it come on top of the tower's.

    Raises:
        ValueError: no such tower, one that needs a source and has none, or an architecture beside it.
    """
    if isinstance(section, str):
        section = {"tower": section}
    if not isinstance(section, Mapping) or "tower" not in section:
        return section
    given = dict(section)
    name = given.pop("tower")
    if name not in TOWERS:
        near = difflib.get_close_matches(str(name), TOWERS, n=1)
        known = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(TOWERS)}"
        raise ValueError(f"no tower {name!r}; {known}")
    if "name" in given:
        raise ValueError(
            f"tower {name} beside name {given['name']}: one of them is too many; to replace a whole section give the "
            f"tower as its value (--set model.vision={name})"
        )
    tower, size = TOWERS[name], given.get("image_size")
    if not tower.source and "source" not in given:
        raise ValueError(f"tower {name} needs a source: a weight file in {tower.layout}'s layout ({tower.repository})")
    settings = tower.settings(size if isinstance(size, int) and size > 0 else None)
    arguments = given.get("arguments")
    if isinstance(arguments, Mapping):
        given["arguments"] = {**settings["arguments"], **arguments}
    return {**settings, **given}

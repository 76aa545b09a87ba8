"""What is compared: a model that merges by several schedules, and beside it simpler ways to as few tokens.

Merging is compared at equal tokens with what costs less thought (`BASELINES`):

    random  every layer drops as many tokens, drawn at random, as it would merge
    stride  every layer drops as many, evenly spaced
    pool    r = 0; the grid, with its positions, is averaged to the largest one of no more tokens in front of the layers
    small   r = 0; smaller pictures, whose patches are about as many
    frames  r = 0; fewer frames, whose visual tokens all in all are about as many as merging leaves

A class token is kept by all of them. The weights are the model's own: nothing is trained for a baseline.

Shapes: B items, N tokens, D width, M tokens that remain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from evlgen.configuration import EVLGenConfig, VisionConfig
from evlgen.connector_config import QFormerConfig, TomeFormerConfig
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.connectors import build_parts
from evlgen.modeling.layouts import resample_positions
from evlgen.modeling.processing import EVLGenProcessor
from evlgen.modeling.tomeformer import TomeFormer, TomeFormerLayer
from evlgen.modeling.vision import VisionTower

BASELINES = ("random", "stride", "pool", "small", "frames")


@dataclass(frozen=True)
class Variant:
    """One way from frames to soft prompts.

    Attributes:
        name: of a row.
        config: the model that it is.
        way: "merge", or one of `BASELINES`; the kind of a connector that merges nothing.
        r: the schedule that it merges by, or whose tokens it is to have.
        prefix: tokens in front of the grid.
        grid: rows and columns that the grid is averaged to; None: it is not.
    """

    name: str
    config: EVLGenConfig
    way: str = "merge"
    r: str = ""
    prefix: int = 0
    grid: tuple[int, int] | None = None

    @property
    def tokens_per_layer(self) -> tuple[int, ...]:
        """Tokens that leave each layer, of one pass of the connector."""
        tokens = self.config.tokens_per_layer()
        return tuple(tokens if self.grid is None else [self.prefix + math.prod(self.grid)] * len(tokens))

    @property
    def soft_prompts(self) -> int:
        """How many there are, of all frames together."""
        temporal = self.config.temporal
        return self.tokens_per_layer[-1] * (temporal.frames if temporal.fusion == "concat" else 1)


def variants(
    config: EVLGenConfig, rs: Sequence[str | int], baselines: Sequence[str] = (), prefix: int = 0
) -> dict[str, Variant]:
    """What is compared, by name: TomeFormer at every r and a Q-Former, then baselines; any other kind stands alone.

    Args:
        config: of the model.
        rs: schedules, as of `EVLGenConfig.with_r`; numbers are cut where a layer has fewer tokens to merge.
        baselines: of `BASELINES`, for every r but 0; those that the model has no room for are left out.
        prefix: of a frame's tokens, how many stand in front of the grid.

    Raises:
        UsageError: the model cannot merge by one of the schedules.
    """
    if not isinstance(config.connector, TomeFormerConfig):
        return {config.connector.kind: Variant(config.connector.kind, config, config.connector.kind)}
    found = [Variant(f"r={r}", config.with_r(str(r), cut=True), r=str(r)) for r in rs]
    found.append(Variant("q-former", with_qformer(config), "qformer"))
    for way in BASELINES:
        for merging in [one for one in found if one.way == "merge" and any(one.config.merging("").schedule())]:
            one = _baseline(way, config, merging, prefix) if way in baselines else None
            if one is not None and all(one.name != other.name for other in found):
                found.append(one)
    return {one.name: one for one in found}


def _baseline(way: str, config: EVLGenConfig, merging: Variant, prefix: int) -> Variant | None:
    whole, tokens, r = config.with_r("0"), merging.tokens_per_layer[-1], merging.r
    if way in ("random", "stride"):
        return Variant(f"{way} r={r}", merging.config, way, r)
    if way == "pool":
        grid = largest_grid(tokens - prefix)
        return None if grid is None else Variant(f"pool {grid[0]}x{grid[1]}", whole, way, r, prefix, grid)
    if way == "small":
        vision = None if config.tags is not None else smaller_pictures(config.vision, tokens, prefix)
        if vision is None:
            return None
        return Variant(f"{vision.image_size} px", whole.model_copy(update={"vision": vision}), way, r)
    frames = max(1, round(config.temporal.frames * tokens / config.vision.tokens))
    if frames == config.temporal.frames:
        return None
    temporal = config.temporal.model_copy(update={"frames": frames})
    name = f"{frames} frame" if frames == 1 else f"{frames} frames"
    return Variant(name, whole.model_copy(update={"temporal": temporal}), way, r)


def largest_grid(tokens: int) -> tuple[int, int] | None:
    """Rows and columns of the largest grid of at most so many tokens that is square, or one column wider."""
    side = math.isqrt(max(0, tokens))
    return None if not side else (side, side + 1) if side * (side + 1) <= tokens else (side, side)


def smaller_pictures(vision: VisionConfig, tokens: int, prefix: int) -> VisionConfig | None:
    """The tower with pictures of fewer patches, the nearest to `tokens` in all; None if it takes no smaller ones."""
    side = math.isqrt(vision.tokens - prefix)
    if vision.image_size % side:
        return None
    nearest = min(range(1, side), key=lambda k: abs(prefix + k * k - tokens), default=None)
    if nearest is None:
        return None
    size = nearest * vision.image_size // side
    values = vision.model_dump(exclude={"width", "tokens"}) | {"image_size": size}
    told = {**vision.arguments, "img_size": size}
    for arguments in [told] if "img_size" in vision.arguments else [vision.arguments, told]:  # a CNN wants none
        try:
            return VisionConfig.model_validate({**values, "arguments": arguments})
        except ValidationError:
            continue
    return None


Reduced = tuple[Tensor, Tensor, None]


def drop_at_random(layer: TomeFormerLayer, x_BND: Tensor, size_BN: Tensor, metric_BND: Tensor, r: int) -> Reduced:
    """In the place of `TomeFormerLayer.reduce`: r tokens of every item are gone, others in each.

    Args:
        layer: whose tokens they are.
        x_BND: the tokens.
        size_BN: how many first tokens each stands for.
        metric_BND: what tokens would be compared by; it decides nothing here.
        r: how many fewer there are to be.
    """
    chance = torch.rand(x_BND.shape[:2], device=x_BND.device)
    if layer.config.protect_first:
        chance[:, 0] = 2.0
    kept_BM = chance.topk(x_BND.shape[1] - r, dim=1).indices.sort(dim=1).values
    return _kept(x_BND, size_BN, kept_BM)


def drop_by_stride(layer: TomeFormerLayer, x_BND: Tensor, size_BN: Tensor, metric_BND: Tensor, r: int) -> Reduced:
    """In the place of `TomeFormerLayer.reduce`: r tokens are gone, the others evenly spaced from the first on.

    Arguments are those of `drop_at_random`.
    """
    batch, tokens = x_BND.shape[:2]
    remaining = tokens - r
    kept = torch.arange(remaining, device=x_BND.device) * (tokens - 1) // max(1, remaining - 1)
    return _kept(x_BND, size_BN, kept.expand(batch, -1))


def _kept(x_BND: Tensor, size_BN: Tensor, kept_BM: Tensor) -> Reduced:
    return x_BND.gather(1, kept_BM.unsqueeze(2).expand(-1, -1, x_BND.shape[2])), size_BN.gather(1, kept_BM), None


_DROPS: dict[str, Callable[..., Reduced]] = {"random": drop_at_random, "stride": drop_by_stride}


def pool_grid(x_BND: Tensor, prefix: int, grid: tuple[int, int]) -> Tensor:
    """Tokens whose square grid is averaged to another one (adaptive average pooling); those in front of it stay."""
    before, patches = x_BND[:, :prefix], x_BND[:, prefix:]
    side = math.isqrt(patches.shape[1])
    pooled = F.adaptive_avg_pool2d(patches.transpose(1, 2).reshape(len(x_BND), -1, side, side), grid)
    return torch.cat([before, pooled.flatten(2).transpose(1, 2)], dim=1)


@contextmanager
def reducing(connector: nn.Module, variant: Variant) -> Iterator[None]:
    """While this is open, a TomeFormer makes tokens fewer as the variant does; weights do not depend on it."""
    if not isinstance(connector, TomeFormer):
        yield
        return
    before, grid = connector.config, variant.grid
    connector.merge_as(variant.config.merging("merge"))
    drop = _DROPS.get(variant.way)
    if drop is not None:
        for layer in connector.encoder.layers:
            layer.reduce = partial(drop, layer)  # type: ignore[method-assign]
    hook = None
    if grid is not None:
        hook = connector.embeddings.register_forward_hook(lambda _, __, x_BND: pool_grid(x_BND, variant.prefix, grid))
    try:
        yield
    finally:
        connector.merge_as(before)
        for layer in connector.encoder.layers:
            layer.__dict__.pop("reduce", None)
        if hook is not None:
            hook.remove()


@dataclass
class Shaper:
    """Makes a loaded model into its variants, one at a time; towers for smaller pictures are made once.

    Attributes:
        model: whose connector is that of the variants.
    """

    model: EVLGenForConditionalGeneration
    _towers: dict[int, tuple[VisionTower, nn.Embedding]] = field(default_factory=dict)

    @contextmanager
    def shaped(self, variant: Variant) -> Iterator[EVLGenForConditionalGeneration]:
        """The model as a variant, while this is open."""
        model, parts = self.model, (self.model.config, self.model.processor, self.model.vision)
        table = self._positions()
        with reducing(model.connector, variant):
            try:
                model.config = variant.config
                if variant.config.vision != parts[0].vision:
                    model.vision, smaller = self._tower(variant.config)
                    model.processor = EVLGenProcessor(variant.config, parts[1].tokenizer)
                    self._embeddings().position_embeddings = smaller
                yield model
            finally:
                model.config, model.processor, model.vision = parts
                if table is not None:
                    self._embeddings().position_embeddings = table

    def _embeddings(self) -> Any:
        return self.model.connector.embeddings

    def _positions(self) -> nn.Embedding | None:
        return self._embeddings().position_embeddings if isinstance(self.model.connector, TomeFormer) else None

    def _tower(self, config: EVLGenConfig) -> tuple[VisionTower, nn.Embedding]:
        """The tower for pictures of another size, with the same weights, and the connector's positions for its grid.

        Positions that were learned at the larger size are resampled.
        """
        size = config.vision.image_size
        if size not in self._towers:
            old, table = self.model.vision, self._positions()
            assert table is not None, "only TomeFormer has variants"
            vision = config.vision.model_copy(update={"layout": "timm"})  # the names that the old one has
            tower = VisionTower(vision, config.temporal if config.temporal.fusion == "temporal" else None)
            tower.freeze(next(old.trunk.parameters()).dtype)
            tower.load_weights(old.frozen_tensors())
            trained = {k: v for k, v in old.state_dict().items() if ".temporal." in k or k.startswith("after.")}
            tower.load_state_dict(trained, strict=False)
            with torch.no_grad():
                weight = table.weight.float().unsqueeze(0)
                wanted = resample_positions(weight, config.vision.tokens, old.prefix_tokens, antialias=True)[0]
            positions = nn.Embedding(wanted.shape[0], wanted.shape[1], _weight=wanted.to(table.weight))
            self._towers[size] = tower.to(self.model.device), positions
        return self._towers[size]


def with_qformer(config: EVLGenConfig) -> EVLGenConfig:
    """The same model with BLIP-2's Q-Former (12 layers, 32 queries) of TomeFormer's width in its place."""
    own = config.merging("a Q-Former of the connector's width")
    qformer = QFormerConfig(width=own.width, heads=own.heads, intermediate=own.intermediate)
    return config.model_copy(update={"connector": qformer})


class Bridge(nn.Module):
    """What EVLGen trains on pictures: LayerNorm, projection, connector, projection; names are the model's own."""

    def __init__(self, config: EVLGenConfig) -> None:
        super().__init__()
        self.ln_vision, self.vl_proj, self.connector, self.lm_proj = build_parts(config)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Soft prompts (B, Q, W) of visual tokens (B, N, D)."""
        prompts: Tensor = self.lm_proj(self.connector(self.vl_proj(self.ln_vision(x_BND))).tokens)
        return prompts

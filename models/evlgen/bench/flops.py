"""FLOPs of the real modules, counted by torch as they run on tensors without content.

Counted: 2 FLOPs a multiply-add, of matrix products, convolutions and attention (its two products, over the whole
square, masked or not). Not counted: norms, softmax, activations, dropout, residuals, embeddings, sums of tokens that
merge (the similarities that they merge by are a product), the optimizer's update. Attention runs as its two matrix
products here, so that its backward pass counts without the recomputation that fused kernels do. One item is counted;
costs grow with the number of items. Tests hold the counter against closed formulas (tests/bench/closed_formulas.py).

Towers and language models run on the meta device, connectors on fake tensors: matching switches autocast off, and the
meta device knows none.

Shapes: N visual tokens, D vision width, P prefix tokens, T tokens of a sequence, W language width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from evlgen.bench.variants import Bridge, Variant, reducing
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.language_model import LanguageModel
from evlgen.modeling.losses import target_log_probabilities
from evlgen.modeling.prefix_cache import SharedPrefix
from evlgen.modeling.vision import VisionTower


@dataclass(frozen=True)
class Work:
    """FLOPs of a training step, or of a caption, for one item.

    Attributes:
        vision: the tower, all frames; in training also backward where temporal modules are trained inside.
        connector: LayerNorm, projection, TomeFormer (or another), projection.
        language: the frozen language model with its head.
    """

    vision: int
    connector: int
    language: int

    @property
    def total(self) -> int:
        """FLOPs of all parts."""
        return self.vision + self.connector + self.language


@dataclass(frozen=True)
class ConnectorReport:
    """What one connector costs, for one item.

    Attributes:
        name: "r=N", "q-former" beside these, a baseline, or the kind of a connector that merges nothing.
        way: of the variant, and r: likewise.
        frames: of the item.
        visual_tokens: of a frame, in front of the connector.
        parameters: of it, with LayerNorm and projections; all are trained.
        tokens_per_layer: that leave each layer of it.
        soft_prompts: in front of the language model, of all frames.
        connector: FLOPs forward.
        step: FLOPs of a training step, with one caption of the longest length.
        caption: FLOPs of a greedy caption.
    """

    name: str
    way: str
    r: str
    frames: int
    visual_tokens: int
    parameters: int
    tokens_per_layer: tuple[int, ...]
    soft_prompts: int
    connector: int
    step: Work
    caption: Work


def count_model(
    skeleton: EVLGenForConditionalGeneration,
    compared: Mapping[str, Variant],
    new_tokens: int,
    tell: Callable[[int, int], None],
) -> tuple[ConnectorReport, ...]:
    """Count FLOPs of every variant of a model.

    Args:
        skeleton: the model on the meta device.
        compared: by name, see `evlgen.bench.variants.variants`.
        new_tokens: of a caption.
        tell: progress: done, all.
    """
    around = len(skeleton.prompt_before) + len(skeleton.prompt_after)
    text = skeleton.config.language.max_text_tokens
    towers: dict[str, tuple[int, int]] = {}  # of a training step and of a caption
    found: list[ConnectorReport] = []
    for variant in compared.values():
        config, temporal = variant.config, variant.config.temporal
        passes = temporal.frames if temporal.fusion in ("concat", "mean-prompts") else 1
        looked = f"{temporal.frames} {config.vision.model_dump_json()}"
        if looked not in towers:
            tower = _tower_of(skeleton, variant)
            with_backward, alone = (
                count_tower(tower, temporal.frames, training=training) for training in (True, False)
            )
            towers[looked] = with_backward, alone
        trained_vision, vision = towers[looked]
        with FakeTensorMode():
            module = Bridge(config)
            with reducing(module.connector, variant):
                trained_connector, connector = (
                    count_connector(module, config.vision.tokens, config.vision.width, passes=passes, training=training)
                    for training in (True, False)
                )
        prefix = variant.soft_prompts + around
        found.append(
            ConnectorReport(
                name=variant.name,
                way=variant.way,
                r=variant.r,
                frames=temporal.frames,
                visual_tokens=config.vision.tokens,
                parameters=sum(p.numel() for p in module.parameters()),
                tokens_per_layer=variant.tokens_per_layer,
                soft_prompts=variant.soft_prompts,
                connector=connector,
                step=Work(trained_vision, trained_connector, count_language_step(skeleton.language, prefix, text)),
                caption=Work(vision, connector, count_language_caption(skeleton.language, prefix, new_tokens)),
            )
        )
        tell(len(found), len(compared))
    return tuple(found)


def _tower_of(skeleton: EVLGenForConditionalGeneration, variant: Variant) -> VisionTower:
    """The skeleton's own, or one for pictures of the variant's size."""
    config = variant.config
    if config.vision == skeleton.config.vision:
        return skeleton.vision
    with torch.device("meta"):
        return VisionTower(config.vision, config.temporal if config.temporal.fusion == "temporal" else None)


def count(work: Callable[[], object]) -> int:
    """FLOPs of whatever a function does."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    total: int = counter.get_total_flops()
    return total


def count_tower(tower: VisionTower, frames: int, *, training: bool) -> int:
    """Return the FLOPs of the frames of one item; backward, too, where something inside is trained."""
    side = tower.config.image_size
    pixels = torch.empty(1, frames, 3, side, side, device="meta")

    def work() -> None:
        with torch.set_grad_enabled(training):
            tokens = tower(pixels)
        if tokens.requires_grad:
            tokens.backward(torch.empty_like(tokens))

    return count(work)


def count_connector(connector: nn.Module, tokens: int, width: int, *, passes: int, training: bool) -> int:
    """Return the FLOPs of a connector; to be called with the FakeTensorMode of its parameters open.

    Args:
        connector: maps (B, N, D) to soft prompts.
        tokens: N.
        width: D.
        passes: B, how often it runs for one item.
        training: with the backward pass.
    """
    x = torch.empty(passes, tokens, width)
    connector.requires_grad_(training)  # torch's counter cannot watch a parameter under no_grad

    def work() -> None:
        prompts = connector(x)
        if training:
            prompts.backward(torch.empty_like(prompts))

    return count(work)


def count_language_step(language: LanguageModel, prefix: int, text_tokens: int) -> int:
    """Return the FLOPs of a training step with one caption behind P tokens whose gradients are wanted."""
    soft = torch.empty(1, prefix, language.config.width, device="meta", requires_grad=True)

    def work() -> None:
        _score(language, soft, text_tokens).sum().backward()  # type: ignore[no-untyped-call]

    return count(work)


def count_language_caption(language: LanguageModel, prefix: int, new_tokens: int) -> int:
    """Return the FLOPs of a greedy caption: the prefix, then a token a step with its cache; it knows log-probabilities.

    The steps between the first and the last are not counted: each costs as much more than the one before it.
    """
    soft = torch.empty(1, prefix, language.config.width, device="meta")
    ids = torch.zeros(1, new_tokens, dtype=torch.int64, device="meta")
    with torch.no_grad():
        total = count(lambda: SharedPrefix(language, soft))
        if new_tokens > 1:
            shared = SharedPrefix(language, soft)
            first = last = count(lambda: shared.step(ids[:, :1]))
            if new_tokens > 3:  # what is between them, at once
                shared.step(ids[:, 3:])
                shared.select(ids[:, :1])
            if new_tokens > 2:
                last = count(lambda: shared.step(ids[:, :1]))
            total += (new_tokens - 1) * (first + last) // 2
        head = language.head_weight
        return total + new_tokens * count(lambda: torch.empty(1, head.shape[1], device="meta") @ head.T)


def _score(language: LanguageModel, prefix_1PW: Tensor, text_tokens: int) -> Tensor:
    """Log-probabilities (T,) of one caption, whose end token is predicted and not read."""
    ids = torch.empty(1, text_tokens, dtype=torch.int64, device="meta")
    read_1PW, seen = language.split(prefix_1PW)
    inputs = torch.cat([read_1PW, language.embed(ids[:, :-1])], dim=1)
    T = inputs.shape[1]
    mask = torch.ones(1, T, T, dtype=torch.bool, device="meta").tril()
    hidden = language.hidden_states(inputs, mask, torch.arange(T, device="meta").unsqueeze(0), seen)
    return target_log_probabilities(hidden[0, -text_tokens:], language.head_weight, ids[0])

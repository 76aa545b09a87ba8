"""What a model does with one clip, written down: which tokens merged, what its words and its frames looked at.

Shapes: L layers, S sets of tokens that merge (1 where frames become one set first, else F), F frames, N visual tokens
of a frame, P prefix tokens of a ViT (class token, registers), M tokens that the connector leaves, Q soft prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evlgen.decoding_options import DecodingOptions
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.temporal_attention import gates, recorded_attention
from evlgen.modeling.tomeformer import TomeFormerOutput
from evlgen.visualize.word_attention import Word, words_of


@dataclass(frozen=True)
class FrameAttention:
    """One temporal module.

    Attributes:
        gate: what is found is multiplied with; near 0 the module has no say.
        weights: row i says how much frame i takes from each frame, averaged over positions and heads; rows sum to 1.
    """

    gate: float
    weights: list[list[float]]


@dataclass(frozen=True, eq=False)
class Trace:
    """What a model did with a clip.

    Attributes:
        model: its name.
        caption: what it says.
        log_probability: of the caption, in nats.
        fusion: how frames become one set of tokens (`TemporalConfig.fusion`).
        frames: F.
        grid: rows and columns of the patches.
        prefix_tokens: P; the patches are the tokens behind these.
        groups: (L + 1, S, N) before the first layer and behind each, the token that every visual token is part of.
        words: of the caption, with their attention over the Q soft prompts.
        temporal: temporal modules in order of depth; none for a single frame.
    """

    model: str
    caption: str
    log_probability: float
    fusion: str
    frames: int
    grid: tuple[int, int]
    prefix_tokens: int
    groups: NDArray[np.int64]
    words: Sequence[Word]
    temporal: Sequence[FrameAttention]

    @property
    def shared(self) -> bool:
        """Whether frames were one set of tokens when these merged, so that a group is the same in all of them."""
        return self.fusion in ("mean", "temporal")

    @property
    def tokens(self) -> list[int]:
        """Tokens of a set before the first layer and behind each."""
        return [int(layer.max()) + 1 for layer in self.groups]

    @property
    def soft_prompts(self) -> int:
        """Q."""
        return self.tokens[-1] * (self.frames if self.fusion == "concat" else 1)

    def merged(self, layer: int) -> NDArray[np.int64]:
        """Numbers of the tokens that visual tokens (F, N) are part of; other frames' differ, unless they are shared."""
        groups = np.broadcast_to(self.groups[layer], (self.frames, self.groups.shape[2]))
        apart = np.zeros(self.frames, np.int64) if self.shared else self.tokens[layer] * np.arange(self.frames)
        return groups + apart[:, None]

    def prompts(self) -> NDArray[np.int64]:
        """The soft prompt that each visual token (F, N) ends in."""
        return self.merged(-1) if self.fusion != "mean-prompts" else self.groups[-1]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "caption": self.caption,
            "log_probability": self.log_probability,
            "fusion": self.fusion,
            "grid": list(self.grid),
            "prefix_tokens": self.prefix_tokens,
            "soft_prompts": self.soft_prompts,
            "tokens": self.tokens,
            "shared": self.shared,
            "groups": self.groups.tolist(),
            "prompts": self.prompts().tolist(),
            "words": [{"text": w.text, "attention": [round(a, 6) for a in w.attention]} for w in self.words],
            "temporal": [
                {"gate": one.gate, "weights": [[round(w, 4) for w in row] for row in one.weights]}
                for one in self.temporal
            ],
        }


@torch.inference_mode()
def trace_clip(
    model: EVLGenForConditionalGeneration,
    frames_FHWC: NDArray[np.uint8],
    *,
    name: str = "",
    prompt: str = "",
    decoding: DecodingOptions | None = None,
) -> Trace:
    """Caption a clip, and write down how that came about; the caption is the one that the model gives anyway.

    Args:
        model: loaded whole, without `captions_only`: lean language models do not tell what they look at.
        frames_FHWC: uint8 RGB.
        name: of the model.
        prompt: text that the caption goes on from.
        decoding: of the search.

    Raises:
        UsageError: the connector merges no tokens, the prompt is too long, or the language model was loaded for
            captions only.
    """
    model.config.merging("what merged")
    decoding = decoding or DecodingOptions()
    seen: list[TomeFormerOutput] = []
    hook = model.connector.register_forward_hook(lambda module, given, out: seen.append(out))
    with hook, recorded_attention(model) as heard:
        soft_prompts, tags = model.look(model.encode(model.processor([frames_FHWC])))
    output = model.generate_from(
        soft_prompts,
        tags=tags,
        prompt=prompt,
        num_beams=decoding.num_beams,
        max_new_tokens=decoding.max_new_tokens,
    )
    read = [*model.tag_prompts(tags)[0], *model.language.encode_prompt(prompt)]
    layers = [one.cpu().numpy() for one in seen[0].groups()]
    start = np.broadcast_to(np.arange(layers[0].shape[1]), layers[0].shape)
    modules = zip(gates(model), heard, strict=True) if heard else ()
    return Trace(
        model=name,
        caption=output.texts[0],
        log_probability=float(output.log_probabilities[0]),
        fusion=model.config.temporal.fusion,
        frames=len(frames_FHWC),
        grid=model.vision.grid,
        prefix_tokens=model.vision.prefix_tokens,
        groups=np.stack([start, *layers]),
        words=words_of(model, soft_prompts, output.token_ids()[0], read),
        temporal=[FrameAttention(float(gate), weights.tolist()) for gate, weights in modules],
    )

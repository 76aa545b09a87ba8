"""The EVLGen model, for images and videos alike (arXiv 2310.03291, figure 2).

frozen vision tower -> frames fused -> LayerNorm -> linear -> TomeFormer, or another connector -> linear -> soft prompts
in front of a frozen language model -> cross entropy on caption tokens. An image is a video of one frame. With
`learned_prompt` the prompt texts around the soft prompts are trained embeddings, a departure for small data (off by
default).

Shapes: B items, F frames, N visual tokens, C channels of cached features, D vision width, Q soft prompts, P prefix
tokens, W language width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from evlgen.configuration import EVLGenConfig
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import UsageError
from evlgen.modeling import cross_attention
from evlgen.modeling.adapters import MARK
from evlgen.modeling.connectors import build_parts
from evlgen.modeling.distribution import SamplingDistribution
from evlgen.modeling.generation import CaptionOutput, generate_captions
from evlgen.modeling.language_model import LanguageModel
from evlgen.modeling.losses import target_log_probabilities
from evlgen.modeling.packing import (
    PackedCaptions,
    PromptedIds,
    in_rows,
    pack_captions,
    packed_mask,
    packed_positions,
    with_prompts,
)
from evlgen.modeling.pretrained import PretrainedMixin
from evlgen.modeling.processing import EVLGenProcessor
from evlgen.modeling.tags import Tag, Tagger
from evlgen.modeling.tomeformer import TomeFormer
from evlgen.modeling.vision import VisionTower

FROZEN_PREFIXES = ("vision.trunk.", "vision.classifier.", "language.")


@dataclass
class EVLGenOutput:
    """What a forward pass returns.

    Attributes:
        loss: mean negative log-probability of a caption token, in nats.
        log_probabilities: (captions,) log-probability of each whole caption, end token included.
        tokens: how many caption tokens the loss is a mean over.
        soft_prompts: (B, Q, W).
    """

    loss: Tensor
    log_probabilities: Tensor
    tokens: int
    soft_prompts: Tensor


class EVLGenForConditionalGeneration(PretrainedMixin, nn.Module):
    """Captions from frames.

    Args:
        config: the model's parts and sizes.
        language: the frozen language model, already loaded.
    """

    def __init__(self, config: EVLGenConfig, language: LanguageModel) -> None:
        super().__init__()
        self.config = config
        self.processor = EVLGenProcessor(config, language.tokenizer)
        temporal = config.temporal if config.temporal.fusion == "temporal" else None
        self.vision = VisionTower(config.vision, temporal, 0 if config.tags is None else config.tags.classes)
        self.ln_vision, self.vl_proj, self.connector, self.lm_proj = build_parts(config)
        self.language = language
        self.tagger = None if config.tags is None else Tagger(config.tags, self.vision, language)
        before = language.embed(torch.tensor(language.encode(config.language.prompt_before), dtype=torch.int64))
        after = language.embed(torch.tensor(language.encode(config.language.prompt_after), dtype=torch.int64))
        learned = config.language.learned_prompt
        self.prompt_before = nn.Parameter(before.detach().float().clone(), requires_grad=learned)
        self.prompt_after = nn.Parameter(after.detach().float().clone(), requires_grad=learned)

    def trainable_names(self) -> list[str]:
        """The parameters that training changes and checkpoints hold: an explicit list."""
        inside = (".temporal.", MARK, cross_attention.MARK)  # what is trained within the frozen parts
        return [
            n
            for n, _ in self.named_parameters()
            if not n.startswith(FROZEN_PREFIXES) or any(mark in n for mark in inside)
        ]

    def use_r(self, r: str) -> None:
        """Merge by another schedule from now on: a text as of `EVLGenConfig.with_r`, which says what it raises."""
        self.config = self.config.with_r(r)
        assert isinstance(self.connector, TomeFormer), "the configuration refuses others"
        self.connector.merge_as(self.config.merging(r))

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.lm_proj.weight.device

    def encode(self, pixel_values: Tensor) -> Tensor:
        """Frame features (B, F, N, C) of normalised frames (B, F, 3, S, S); cacheable for most towers."""
        return self.vision.encode(pixel_values.to(self.device, next(self.vision.trunk.parameters()).dtype))

    def soft_prompts(self, features_BFNC: Tensor) -> Tensor:
        """Soft prompts (B, Q, W) of frame features: fused, then LayerNorm, projection, connector, projection."""
        return self._connect(self._tokens(features_BFNC))

    def tags(self, features_BFNC: Tensor) -> list[list[Tag]]:
        """Tags of every item, the most probable first; none without `config.tags`."""
        return [[] for _ in features_BFNC] if self.tagger is None else self.tagger.tags(self._tokens(features_BFNC))

    def look(self, features_BFNC: Tensor) -> tuple[Tensor, list[list[Tag]]]:
        """`soft_prompts` and `tags`; the tower's head runs once for both."""
        tokens_BFND = self._tokens(features_BFNC)
        tags = [[] for _ in features_BFNC] if self.tagger is None else self.tagger.tags(tokens_BFND)
        return self._connect(tokens_BFND), tags

    def _tokens(self, features_BFNC: Tensor) -> Tensor:
        return self.vision.contextualize(features_BFNC.to(self.device, self.lm_proj.weight.dtype))

    def _connect(self, tokens_BFND: Tensor) -> Tensor:
        batch = len(tokens_BFND)
        fusion = self.config.temporal.fusion
        late = fusion in ("concat", "mean-prompts")  # frames meet behind the connector
        tokens_BND = tokens_BFND.flatten(0, 1) if late else tokens_BFND.mean(dim=1)
        merged = self.connector(self._projected(tokens_BND)).tokens
        prompts: Tensor = self.lm_proj(merged)
        if fusion == "mean-prompts":
            return prompts.reshape(batch, -1, *prompts.shape[1:]).mean(dim=1)
        return prompts.reshape(batch, -1, prompts.shape[-1])

    def _projected(self, tokens_BND: Tensor) -> Tensor:
        projected: Tensor = self.vl_proj(self.ln_vision(tokens_BND))
        return projected

    def connector_inputs(self, features_BFNC: Tensor) -> Tensor:
        """Visual tokens (B, N, C) as the connector gets them, where frames are averaged in front of it."""
        return self._projected(self._tokens(features_BFNC).mean(dim=1))

    def tag_prompts(self, tags: Sequence[Sequence[Tag]]) -> list[list[int]]:
        """Token ids of every item's tags, which go in front of all other prompts; in training some are left out."""
        if self.tagger is None:
            return [[] for _ in tags]
        return [self.tagger.prompt(self.tagger.dropped(own) if self.training else own) for own in tags]

    def prefix(self, soft_prompts_BQW: Tensor) -> Tensor:
        """What stands before a caption, or before the caller's prompt (B, P, W): prompt text, soft prompts, text."""
        batch, dtype = len(soft_prompts_BQW), soft_prompts_BQW.dtype
        before, after = (text.to(dtype).expand(batch, -1, -1) for text in (self.prompt_before, self.prompt_after))
        return torch.cat([before, soft_prompts_BQW, after], dim=1)

    def log_probabilities(
        self,
        prefix_BPW: Tensor,
        packed: PackedCaptions,
        distribution: SamplingDistribution | None = None,
        *,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """log p of every predicted token, (M,) in nats.

        Args:
            prefix_BPW: what stands in front of the captions of each item.
            packed: the captions.
            distribution: the one that they were sampled from; None: the model's own.
            label_smoothing: share of the probability, from 0 to 1, that is spread evenly over the vocabulary.
        """
        return target_log_probabilities(
            self._predicting_states(prefix_BPW, packed),
            self.language.head_weight,
            packed.target,
            distribution,
            None if distribution is None else packed.place,
            label_smoothing=label_smoothing,
        )

    def _predicting_states(self, prefix_BPW: Tensor, packed: PackedCaptions) -> Tensor:
        """(M, W): the language model's hidden states that predict the tokens."""
        prefix_BPW, seen = self.language.split(prefix_BPW)
        prefix = prefix_BPW.shape[1]
        inputs = torch.cat([prefix_BPW, self.language.embed(packed.input_ids).to(prefix_BPW.dtype)], dim=1)
        mask, positions = packed_mask(packed, prefix), packed_positions(packed, prefix)
        lengths = (packed.caption_of >= 0).sum(dim=1) + prefix
        rows = in_rows(lengths.tolist(), inputs.shape[1]).to(inputs.device)
        seen = None if seen is None else replace(seen, rows=rows)
        hidden = self.language.hidden_states(rows.lay(inputs), rows.masked(mask), rows.lay(positions), seen)
        return hidden.flatten(0, 1)[rows.place[packed.item, packed.source + prefix]]

    def forward(
        self,
        captions: Sequence[Sequence[Sequence[int]]],
        *,
        pixel_values: Tensor | None = None,
        features: Tensor | None = None,
    ) -> EVLGenOutput:
        """Teacher-forced loss; all captions of an item share one prefix.

        Args:
            captions: per item, its captions as token ids that end with the end token (`language.encode_caption`); those
                that follow a prompt have no loss on it.
            pixel_values: normalised frames (B, F, 3, S, S), or
            features: cached frame features (B, F, N, C).
        """
        if features is None:
            assert pixel_values is not None, "give pixel_values or features"
            features = self.encode(pixel_values)
        soft_prompts, tags = self.look(features)
        return self.caption_loss(soft_prompts, with_prompts(captions, self.tag_prompts(tags)))

    def caption_loss(
        self,
        soft_prompts_BQW: Tensor,
        captions: Sequence[Sequence[Sequence[int]]],
        *,
        label_smoothing: float = 0.0,
    ) -> EVLGenOutput:
        """The second half of `forward`: from soft prompts to the loss. Captions follow their tags already.

        With label smoothing (arXiv 1512.00567, section 7) log-probabilities are those of smoothed targets.
        """
        packed = pack_captions(captions).to(self.device)
        token_log_p = self.log_probabilities(self.prefix(soft_prompts_BQW), packed, label_smoothing=label_smoothing)
        per_caption = token_log_p.new_zeros(packed.captions).index_add(0, packed.sequence, token_log_p)
        return EVLGenOutput(-token_log_p.mean(), per_caption, len(packed.target), soft_prompts_BQW)

    @torch.no_grad()
    def generate(
        self,
        pixel_values: Tensor | None = None,
        *,
        features: Tensor | None = None,
        prompt: str | Sequence[str] = "",
        on_tokens: Callable[[int], None] | None = None,
        **options: Any,
    ) -> CaptionOutput:
        """Caption every item: greedy (`num_beams=1`), beam search, or sampling (`do_sample=True`).

        Args:
            pixel_values: normalised frames (B, F, 3, S, S), or
            features: cached frame features (B, F, N, C).
            prompt: text that the caption goes on from, for example "a photo of" or a question; one for all items or
                one each. It follows the soft prompts and, where the model has prompt texts of its own (a chat turn),
                these: there it is the beginning of the model's own turn. Captions hold what follows it, and their
                log-probabilities are given it.
            on_tokens: called after every step with the number of tokens that it wrote.
            options: num_beams, max_new_tokens and the others of `evlgen.decoding_options.DecodingOptions`, also by
                transformers' names for them (max_length, num_return_sequences, ...).

        Raises:
            UsageError: not one prompt an item, a prompt too long for the language model, more captions than beams, or
                options that are unknown or contradict each other.
        """
        if features is None:
            assert pixel_values is not None, "give pixel_values or features"
            features = self.encode(pixel_values)
        soft_prompts, tags = self.look(features)
        return self.generate_from(soft_prompts, tags=tags, prompt=prompt, on_tokens=on_tokens, **options)

    @torch.no_grad()
    def generate_from(
        self,
        soft_prompts_BQW: Tensor,
        *,
        tags: Sequence[Sequence[Tag]] | None = None,
        prompt: str | Sequence[str] = "",
        on_tokens: Callable[[int], None] | None = None,
        **options: Any,
    ) -> CaptionOutput:
        """The second half of `generate`: from soft prompts to captions.

        Args:
            soft_prompts_BQW: of B items.
            tags: of each item, where the model has tags.
            prompt: what captions go on from, one for all or one for each.
            on_tokens: called with a number of tokens whenever so many more are written.
            options: as of `generate`.

        Raises:
            UsageError: options that are unknown or contradict each other.
        """
        decoding = DecodingOptions.named(**options)
        prefix = self.prefix(soft_prompts_BQW)
        prompts = self._prompts(prompt, tags, soft_prompts_BQW, decoding.max_new_tokens)
        output = generate_captions(self.language, prefix, decoding, prompts=prompts, on_tokens=on_tokens)
        if decoding.do_sample:  # the search knows the model's own log-probabilities, the sampler its samples'
            ids, count = output.token_ids(), decoding.num_captions
            given = [[PromptedIds(one, prompt) for one in ids[b * count :][:count]] for b, prompt in enumerate(prompts)]
            packed = pack_captions(given).to(self.device)
            log_p = self.log_probabilities(prefix, packed)
            scores = torch.zeros(packed.captions, dtype=log_p.dtype, device=self.device)
            output.log_probabilities = scores.index_add(0, packed.sequence, log_p).cpu()
        output.tags = [list(own) for own in tags or ()]
        output.texts = self.processor.batch_decode(output.sequences)
        return output

    def _prompts(
        self,
        prompt: str | Sequence[str],
        tags: Sequence[Sequence[Tag]] | None,
        soft_prompts_BQW: Tensor,
        max_new_tokens: int,
    ) -> list[list[int]]:
        """Token ids of every item's tags and prompt, checked."""
        batch = len(soft_prompts_BQW)
        texts = [prompt] * batch if isinstance(prompt, str) else list(prompt)
        if len(texts) != batch:
            raise UsageError(f"{len(texts)} prompts for {batch} items", "give one for all, or one each")
        prompts = [self.language.encode_prompt(text) for text in texts]
        longest = max(prompts, key=len)
        of_tags: list[list[int]] = [[]] * batch if tags is None else self.tag_prompts(tags)
        before = soft_prompts_BQW.shape[1], max(map(len, of_tags))
        self._check_length(texts[prompts.index(longest)], len(longest), *before, max_new_tokens)
        return [[*own, *ids] for own, ids in zip(of_tags, prompts, strict=True)]

    def check_prompt(self, prompt: str, max_new_tokens: int) -> None:
        """See that captions behind a prompt, or behind none, fit, before anything is decoded.

        Raises:
            UsageError: they are too long for the language model.
        """
        tokens = len(self.language.encode_prompt(prompt))
        self._check_length(prompt, tokens, self.config.soft_prompt_tokens(), 0, max_new_tokens)

    def _check_length(self, prompt: str, tokens: int, soft_prompts: int, tags: int, after: int) -> None:
        most = self.language.most_positions
        before = len(self.prompt_before) + len(self.prompt_after) + tags
        if self.config.language.cross_attention is None:  # else they take no positions
            before += soft_prompts
        if most is None or before + tokens + after <= most:
            return
        if not tokens:
            raise UsageError(
                f"captions of up to {after} tokens behind {before} others do not fit the language model's {most} "
                "positions",
                f"ask for {max(0, most - before)} tokens or fewer",
            )
        raise UsageError(
            f"a prompt of {tokens} tokens is too long: with {before} tokens before it and the caption after it it "
            f"does not fit the language model's {most} positions: {prompt[:40]!r}",
            "shorten it",
        )

"""How much every word of a caption looks at every soft prompt, averaged over layers and heads.

The search does not keep attention: the finished caption goes through the language model once more, in one pass. Where
soft prompts stand in front of the text, that is the language model's own attention to their positions; the rest of it
goes to words. Where layers look at them from inside (cross_attention.py), it is the attention of these looks, of which
nothing goes elsewhere. A word is predicted by the state before it, and that is the state whose attention counts.

Shapes: H heads, T tokens of prefix and caption, M predicted tokens, Q soft prompts, W language width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.packing import PromptedIds, pack_captions


@dataclass(frozen=True)
class Word:
    """A word of a caption.

    Attributes:
        text: without blanks around it.
        attention: to each of the Q soft prompts; the sum is what was not spent on text. Means over a word's tokens.
    """

    text: str
    attention: tuple[float, ...]


def words_of(
    model: EVLGenForConditionalGeneration, soft_prompts_1QW: Tensor, ids: Sequence[int], prompt: Sequence[int] = ()
) -> list[Word]:
    """The words of a caption.

    Args:
        model: that wrote it.
        soft_prompts_1QW: of the clip.
        ids: the caption's tokens, which may end with the end token.
        prompt: tokens between soft prompts and caption: tags, and what the user wants it to go on from.

    Raises:
        UsageError: the language model was loaded for captions only.
    """
    attention_MQ = soft_prompt_attention(model, soft_prompts_1QW, ids, prompt)
    spoken = [one for one in ids if one != model.language.end_token_id]
    return [
        Word(text, tuple(attention_MQ[places].mean(0).tolist()))
        for text, places in group_tokens(model.language.tokenizer, spoken)
    ]


def soft_prompt_attention(
    model: EVLGenForConditionalGeneration, soft_prompts_1QW: Tensor, ids: Sequence[int], prompt: Sequence[int] = ()
) -> Tensor:
    """Attention (M, Q) of the states that predict the tokens of a caption; arguments and errors as of `words_of`."""
    packed = pack_captions([[PromptedIds(ids, prompt)]]).to(model.device)
    texts = len(model.prompt_before), len(model.prompt_after)
    count = soft_prompts_1QW.shape[1]
    inside = model.language.cross_attention is not None
    with recorded_looks(model) if inside else recorded_layers(model) as heard:
        model.log_probabilities(model.prefix(soft_prompts_1QW), packed)
    mean_TC = torch.stack(heard).mean(0)
    first, read = (0, sum(texts)) if inside else (texts[0], sum(texts) + count)
    return mean_TC[packed.source.cpu() + read, first : first + count]


@contextmanager
def recorded_layers(model: EVLGenForConditionalGeneration) -> Iterator[list[Tensor]]:
    """While this is open, every layer of the language model adds its attention (T, T), a mean over heads."""
    heard: list[Tensor] = []

    def note(module: Any, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        heard.append(output[1][0].float().mean(0).cpu())

    language: Any = model.language
    before = getattr(getattr(language, "model", None), "config", None)
    usual = getattr(before, "_attn_implementation", "sdpa")
    language.use_attention("eager")  # the others do not say what they looked at
    with ExitStack() as stack:
        stack.callback(language.use_attention, usual)
        for layer in language.layers:
            stack.enter_context(layer.self_attn.register_forward_hook(note))
        yield heard


@contextmanager
def recorded_looks(model: EVLGenForConditionalGeneration) -> Iterator[list[Tensor]]:
    """While this is open, every look of the language model adds its attention (T, Q), a mean over heads."""
    heard: list[Tensor] = []

    def note(module: Any, inputs: tuple[Tensor, ...]) -> None:
        heard.append(module.attention(inputs[0], inputs[1])[0].mean(0).cpu())

    looks: Any = model.language.cross_attention
    with ExitStack() as stack:
        for look in looks.looks:
            stack.enter_context(look.register_forward_pre_hook(note))
        yield heard


def group_tokens(tokenizer: Any, ids: Sequence[int]) -> list[tuple[str, list[int]]]:
    """Words with the places of their tokens: a token that brings a blank in front of its letters begins a word."""
    texts = [tokenizer.decode(list(ids[:count]), skip_special_tokens=True) for count in range(len(ids) + 1)]
    starts = [n for n in range(len(ids)) if n == 0 or texts[n + 1][len(texts[n]) :][:1].isspace()]
    words = [
        (texts[end][len(texts[start]) :].strip(), list(range(start, end)))
        for start, end in pairwise([*starts, len(ids)])
    ]
    return [word for word in words if word[0]]

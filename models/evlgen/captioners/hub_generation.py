"""Captions from `generate` of transformers, each with its log-probability.

The log-probability is that of the model itself, before penalties and temperature: what it gives every token of the
caption, its end included. It is gathered from the logits of the search, so that no second pass is needed. B clips, T
tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evlgen.decoding_options import DecodingOptions

_INNER = ("blip-2", "instructblip", "instructblipvideo")
"""Their language model searches, by its own settings."""


@dataclass(frozen=True)
class Written:
    """A caption as tokens.

    Attributes:
        tokens: generated ones, end token included where it was reached.
        log_probabilities: of each of them.
    """

    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]


def write(
    model: Any, inputs: Mapping[str, Any], options: DecodingOptions, on_tokens: Callable[[int], None]
) -> list[Written]:
    """`options.num_captions` captions of each item of a batch, best first, items in order.

    Args:
        model: of transformers.
        inputs: of its `generate`, where the model is.
        options: how to search; samples beside the search are not drawn here.
        on_tokens: told how many more tokens are written.
    """
    from transformers import StoppingCriteriaList

    items = len(inputs["pixel_values"] if "input_ids" not in inputs else inputs["input_ids"])

    def counted(input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        on_tokens(items)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    told = search_options(options)
    if max(told["num_beams"], told["num_return_sequences"]) > 1:
        inputs = compressed(model, inputs)
    output = model.generate(
        **inputs,
        **told,
        return_dict_in_generate=True,
        output_logits=True,
        stopping_criteria=StoppingCriteriaList([counted]),
    )
    return _gathered(model, inputs, output)


def compressed(model: Any, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same inputs; of VideoLLaMA 3 with the features of its videos in the place of their pixels.

    It leaves out tokens of what does not move, which transformers sees only after it has shared the features of a batch
    out among the beams by their number, so that it fails. Here they are left out before.
    """
    mask = inputs.get("video_compression_mask")
    if mask is None or bool(mask.all()):
        return inputs
    names = ("pixel_values_videos", "video_grid_thw", "video_merge_sizes")
    features = model.model.get_video_features(*(inputs[name] for name in names), return_dict=True)
    lengths = [len(one) for one in features.pooler_output]
    features.pooler_output = [one[kept] for one, kept in zip(features.pooler_output, mask.split(lengths), strict=True)]
    others = {name: value for name, value in inputs.items() if name not in (*names, "video_compression_mask")}
    return {**others, "mm_encoder_outputs": {"video": features}}


def search_options(options: DecodingOptions) -> dict[str, Any]:
    """What `generate` is told: all of it, since models bring settings of their own (samples at a temperature, say)."""
    told: dict[str, Any] = {
        "num_beams": 1 if options.do_sample else options.num_beams,
        "do_sample": options.do_sample,
        "num_return_sequences": options.num_captions,
        "max_new_tokens": options.max_new_tokens,
        "min_new_tokens": options.min_new_tokens,
        "no_repeat_ngram_size": options.no_repeat_ngram,
        "repetition_penalty": options.repetition_penalty,
    }
    if options.do_sample:
        told |= {"temperature": options.temperature, "top_p": options.top_p, "top_k": 0}
    elif options.num_beams > 1:
        told["length_penalty"] = options.length_penalty
    return told


def _gathered(model: Any, inputs: Mapping[str, Any], output: Any) -> list[Written]:
    sequences: Tensor = output.sequences
    new = sequences[:, prompt_tokens(model, inputs, sequences) :]
    searching = _searching(model).generation_config
    # a first token that the model does not choose (BART's language token, say) is no part of the caption
    first = 0 if getattr(searching, "forced_bos_token_id", None) is None else 1
    beams = getattr(output, "beam_indices", None)
    rows = torch.arange(len(new), device=new.device)
    numbers = torch.zeros(new.shape, dtype=torch.float64)
    for place in range(first, new.shape[1]):
        chosen = rows if beams is None else beams[:, place].clamp(min=0)  # below 0: behind the end
        found = output.logits[place].to(new.device)[chosen].float().log_softmax(-1)
        numbers[:, place] = found.gather(1, new[:, place, None])[:, 0].double().cpu()
    ends = end_tokens(model)
    written = []
    for tokens, values in zip(new.tolist(), numbers.tolist(), strict=True):
        length = next((place + 1 for place, token in enumerate(tokens) if token in ends), len(tokens))
        written.append(Written(tuple(tokens[first:length]), tuple(values[first:length])))
    return written


def _searching(model: Any) -> Any:
    return model.language_model if model.config.model_type in _INNER else model


def end_tokens(model: Any) -> set[int]:
    """Tokens that end a caption."""
    if model.config.model_type == "blip":
        return {model.config.text_config.sep_token_id}
    ends = _searching(model).generation_config.eos_token_id
    return set() if ends is None else {ends} if isinstance(ends, int) else set(ends)


def prompt_tokens(model: Any, inputs: Mapping[str, Any], sequences: Tensor) -> int:
    """Tokens in front of what is generated, in (rows, T) as `generate` gives them."""
    config, ids = model.config, inputs.get("input_ids")
    if getattr(_searching(model).config, "is_encoder_decoder", False):
        return 1
    if config.model_type == "blip":  # it takes the separator off the prompt
        return 1 if ids is None else ids.shape[1] - 1
    if ids is None:
        return config.num_query_tokens + 1 if config.model_type == "blip-2" else 1
    length = int(ids.shape[1])
    begins = sequences.shape[1] > length and bool((sequences[0, :length].to(ids.device) == ids[0]).all())
    return length if begins else 0

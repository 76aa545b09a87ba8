"""A model whose whole caption space can be written down, and the space itself as transformers' processors see it."""

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from evlgen.configuration import EVLGenConfig, LanguageConfig, TemporalConfig
from evlgen.connector_config import TomeFormerConfig
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.language import FrozenLanguageModel
from evlgen.modeling.sampling import SampledCaptions
from tests.modeling.conftest import TINY_LLAMA, TINY_VIT

LARGE_LLAMA: dict[str, object] = {**TINY_LLAMA, "initializer_range": 0.2}
VOCABULARY = {"a": 0, "b": 1, "c": 2, ".": 3}
END = 3


def enumerable_model(
    llm: dict[str, object] = LARGE_LLAMA, dtype: torch.dtype = torch.float64
) -> EVLGenForConditionalGeneration:
    """Four tokens, the last of which ends a caption."""
    torch.manual_seed(1)
    language = LanguageConfig(
        architecture=llm | {"vocab_size": 4}, width=32, prompt_before="a", prompt_after="b", end_text="."
    )
    config = EVLGenConfig(
        vision=TINY_VIT,
        connector=TomeFormerConfig(layers=1, width=24, heads=4, intermediate=48, r=2, dropout=0.0),
        temporal=TemporalConfig(fusion="mean", frames=1, width=16, heads=4),
        language=language,
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(VOCABULARY, unk_token="a")))
    settings = {**llm, "vocab_size": 4, "pad_token_id": 3, "bos_token_id": 3, "eos_token_id": 3}
    causal = AutoModelForCausalLM.from_config(AutoConfig.for_model(settings.pop("model_type"), **settings))
    with torch.no_grad():
        causal.get_output_embeddings().weight.mul_(1.5)  # far from uniform
    return EVLGenForConditionalGeneration(config, FrozenLanguageModel(language, causal, tokenizer)).to(dtype).eval()


@dataclass
class Space:
    """Every caption of positive probability, and log-probabilities with a graph."""

    ids: list[list[int]]
    log_p: Tensor

    def captions(self) -> SampledCaptions:
        """All of them as the samples of one item."""
        longest = max(map(len, self.ids))
        padded = torch.tensor([ids + [END] * (longest - len(ids)) for ids in self.ids])
        counts = torch.tensor([len(ids) for ids in self.ids])
        ended = torch.tensor([ids[-1] == END for ids in self.ids])
        return SampledCaptions(padded[None], counts[None], ended[None], self.log_p.detach().float()[None])


def caption_space(
    language: FrozenLanguageModel,
    prefix_PW: Tensor,
    *,
    max_new_tokens: int,
    min_new_tokens: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> Space:
    """Walk the tree of captions: no cache, no packing, one sequence a call, transformers' own processors."""
    processors = LogitsProcessorList()
    if min_new_tokens:
        processors.append(MinNewTokensLengthLogitsProcessor(0, min_new_tokens, END))
    if temperature != 1:
        processors.append(TemperatureLogitsWarper(temperature))
    if top_p < 1:
        processors.append(TopPLogitsWarper(top_p))
    ids: list[list[int]] = []
    log_p: list[Tensor] = []

    def walk(before: list[int], so_far: Tensor) -> None:
        if len(before) == max_new_tokens or END in before:
            ids.append(before)
            log_p.append(so_far)
            return
        typed = torch.tensor([before], dtype=torch.int64)
        inputs = torch.cat([prefix_PW, language.embed(typed[0])])[None]
        scores = processors(typed, language.model(inputs_embeds=inputs).logits[:, -1]).log_softmax(-1)[0]
        for token in range(len(scores)):
            if scores[token] > -torch.inf:
                walk([*before, token], so_far + scores[token])

    walk([], prefix_PW.new_zeros(()))
    return Space(ids, torch.stack(log_p))

"""A whole model without its weight files: on the meta device to count parameters, FLOPs and bytes, elsewhere random."""

from __future__ import annotations

import torch
import transformers

from evlgen.configuration import EVLGenConfig
from evlgen.modeling.language import FrozenLanguageModel, load_config, load_tokenizer
from evlgen.modeling.model import EVLGenForConditionalGeneration
from evlgen.modeling.public_sizes import with_public_size
from evlgen.system.progress import ProgressCallback


def build_skeleton(
    config: EVLGenConfig,
    dtype: torch.dtype = torch.float32,
    report: ProgressCallback | None = None,
    device: torch.device | str = "meta",
) -> EVLGenForConditionalGeneration:
    """The model of a configuration, every parameter on the meta device, or random on another.

    Args:
        config: of the model. Language models of the table of public sizes need no file; of others the configuration
            and the tokenizer are read (a GGUF file is fetched and converted once).
        dtype: of the frozen parts.
        report: progress of downloads.
        device: where its parameters are.

    Raises:
        EvlgenError: the language model's configuration cannot be had, or sizes do not fit each other.
    """
    language = with_public_size(config.language)
    tokenizer, shape = load_tokenizer(language, report=report), load_config(language, report=report)
    with torch.device(device):
        body = transformers.AutoModelForCausalLM.from_config(shape).to(dtype)
        whole = config.model_copy(update={"language": language})  # its prompt texts, in the tokens of its tokenizer
        model = EVLGenForConditionalGeneration(whole, FrozenLanguageModel(language, body, tokenizer))
        model.vision.freeze(dtype)
    return model


def counts_bytes(config: EVLGenConfig) -> bool:
    """Whether the skeleton of this model has one token a byte, since its own tokenizer is not asked for."""
    return with_public_size(config.language) is not config.language

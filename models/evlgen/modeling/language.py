"""The frozen causal language model: any OPT- or Llama-like model of transformers behind one small interface.

Its own weights are never trained: gradients pass through them to the soft prompts, and to adapters (LoRA) where there
are any. GGUF files are converted once to safetensors and kept in the cache, since reading one takes many seconds.

Shapes: B batch, T tokens, W width of an embedding, V vocabulary.
"""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

from evlgen.configuration import LanguageConfig
from evlgen.errors import UsageError
from evlgen.modeling.adapters import add_lora, set_dropout
from evlgen.modeling.language_files import language_files
from evlgen.modeling.language_model import LanguageModel
from evlgen.modeling.quantization import loading_options
from evlgen.modeling.recomputing import recomputed
from evlgen.modeling.transformers_opening import check_sizes, open_pretrained, reason_of, with_all_weights


class _ContiguousHead(nn.Module):
    """The output embeddings, applied to contiguous hidden states.

    Torch multiplies a strided (B, 1, W) slice as a batch of B products and copies the V x W matrix for each: on a CPU
    that made the first step of a beam search cost as much as all others together.
    """

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        if head.bias is not None:
            raise UsageError(
                "this language model's head has a bias, which the caption loss does not know", "use another"
            )
        self.weight: nn.Parameter = head.weight

    def forward(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden.contiguous(), self.weight)


class FrozenLanguageModel(LanguageModel):
    """A language model that transformers runs, with all that training needs: adapters, gradients, quantized layers.

    Args:
        config: which model, and the texts around soft prompts.
        model: the transformers model.
        tokenizer: its tokenizer.

    Raises:
        UsageError: `end_text` is not one token behind a caption, or `width`, `kept_layers` or adapters do not fit.
    """

    def __init__(self, config: LanguageConfig, model: Any, tokenizer: Any) -> None:
        super().__init__(config, tokenizer)
        self.model: Any = model.requires_grad_(False).eval()
        self.model.set_output_embeddings(_ContiguousHead(self.model.get_output_embeddings()))
        if config.kept_layers is not None:
            _keep_layers(self.model, config.kept_layers)
        if config.lora is not None:
            add_lora(self.model, self.layers, config.lora)
        self._look()
        # transformers renamed the argument in 5.2x; both names are public
        named = inspect.signature(self.model.base_model.forward).parameters
        self._cache_argument = "cache" if "cache" in named else "past_key_values"

    def train(self, mode: bool = True) -> FrozenLanguageModel:
        """Frozen: always in evaluation mode, but for the dropout of adapters and of cross-attention."""
        super().train(False)
        if self.cross_attention is not None:
            self.cross_attention.train(mode)
        if self.config.lora is not None:
            set_dropout(self.model, mode)
        return self

    @property
    def embedding_weight(self) -> Tensor:
        """Input embeddings (V, W)."""
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight

    @property
    def head_weight(self) -> Tensor:
        """Output embeddings (V, W)."""
        weight: Tensor = self.model.get_output_embeddings().weight
        return weight

    @property
    def most_positions(self) -> int | None:
        """The most tokens that it takes; None: nobody says."""
        most: int | None = getattr(self.model.config, "max_position_embeddings", None)
        return most

    def new_cache(self) -> Any:
        """An empty cache of keys and values for `run`: transformers' own."""
        return transformers.DynamicCache(config=self.model.config)

    def run(self, embeddings_BTW: Tensor, bias_B1TC: Tensor | None, positions_BT: Tensor, cache: Any = None) -> Tensor:
        """Last hidden states; see `LanguageModel.run`."""
        out: Tensor = self.model.base_model(
            inputs_embeds=embeddings_BTW,
            attention_mask=bias_B1TC,
            position_ids=positions_BT,
            use_cache=cache is not None,
            **{self._cache_argument: cache},
        ).last_hidden_state
        return out

    @property
    def layers(self) -> Any:
        """Its transformer layers, a ModuleList."""
        return _stack(self.model).layers

    def recompute_layers(self) -> None:
        """Keep only each layer's input for the backward pass and compute the rest again there: less memory.

        transformers' own switch works in training mode only, which a frozen model is never in.
        """
        for layer in self.layers:
            layer.forward = partial(recomputed, layer.forward)

    def adapters_uncast(self) -> AbstractContextManager[None]:
        """See `LanguageModel.adapters_uncast`."""
        if self.config.lora is None:
            return nullcontext()
        from peft.helpers import disable_input_dtype_casting

        return disable_input_dtype_casting(self.model)  # type: ignore[no-any-return]

    def use_attention(self, implementation: str) -> None:
        """Choose transformers' attention ("sdpa", "eager"); on CPUs eager is the faster one for training."""
        self.model.set_attn_implementation(implementation)

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings of token ids, in the model's precision."""
        out: Tensor = self.model.get_input_embeddings()(ids)
        return out


def _stack(model: Any) -> Any:
    """The part of a transformers model that has its layers."""
    return getattr(model.base_model, "decoder", model.base_model)


def _keep_layers(model: Any, kept: list[int]) -> None:
    """Leave the other layers out (depth pruning, arXiv 2403.03853); keys and values are cached by the new numbers.

    Raises:
        UsageError: the model has fewer layers.
    """
    stack = _stack(model)
    if kept[-1] >= len(stack.layers):
        raise UsageError(f"language.kept_layers {kept}: the model's layers are 0 to {len(stack.layers) - 1}")
    stack.layers = nn.ModuleList(stack.layers[number] for number in kept)
    for number, layer in enumerate(stack.layers):
        layer.self_attn.layer_idx = number
    model.config.num_hidden_layers = len(kept)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[number] for number in kept]


def load_language_model(
    config: LanguageConfig,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    report: Any = None,
) -> FrozenLanguageModel:
    """Build the frozen language model that the configuration names.

    Args:
        config: `source` (GGUF file, hf: repository, folder) or `architecture` (a random model, for tests).
        dtype: precision of its weights.
        device: where it will run; quantized weights are loaded there, others on the CPU.
        report: progress callback of `evlgen.weights.fetch`.

    Raises:
        WeightsError: the source cannot be had.
        UsageError: neither source nor architecture is given; what quantization needs is missing.
    """
    options = loading_options(config.quantization, dtype, torch.device(device))
    if config.source is None:
        return FrozenLanguageModel(config, _random_model(config).to(dtype), _byte_tokenizer())
    where = language_files(config, report)
    tokenizer = open_pretrained(transformers.AutoTokenizer, str(config.source), **where)
    options |= {"dtype": dtype, "output_loading_info": True}
    opened = open_pretrained(transformers.AutoModelForCausalLM, str(config.source), **where, **options)
    model = with_all_weights(opened, f"language.source {config.source}")
    _check_head(config, model.config)
    return FrozenLanguageModel(config, model, tokenizer)


def _check_head(config: LanguageConfig, theirs: Any) -> None:
    """Losses and log-probabilities multiply with the head themselves: models that do more with logits are refused.

    Raises:
        UsageError: the model scales or bends its logits.
    """
    for key in ("logit_scale", "logits_scaling", "final_logit_softcapping"):
        value = getattr(theirs, key, None)
        if value not in (None, 1, 1.0):
            raise UsageError(
                f"language.source {config.source}: {key} {value} changes its logits, which is not supported",
                "use an OPT- or Llama-like model, whose logits are its head's",
            )


def load_config(config: LanguageConfig, *, report: Any = None) -> Any:
    """transformers' configuration alone; arguments and errors as for `load_language_model`."""
    if config.source is None:
        return _random_config(config)
    return open_pretrained(transformers.AutoConfig, str(config.source), **language_files(config, report))


def load_tokenizer(config: LanguageConfig, *, report: Any = None) -> Any:
    """The tokenizer alone; arguments and errors as for `load_language_model`."""
    if config.source is None:
        return _byte_tokenizer()
    return open_pretrained(transformers.AutoTokenizer, str(config.source), **language_files(config, report))


def _random_config(config: LanguageConfig) -> Any:
    if config.architecture is None:
        raise UsageError("language.source is missing", "name a GGUF file, an hf: repository or a folder")
    settings = dict(config.architecture)
    check_sizes(settings, "architecture")
    try:
        return transformers.AutoConfig.for_model(str(settings.pop("model_type", "")), **settings)
    except Exception as error:  # keys and values are the user's
        raise UsageError(f"language.architecture: {reason_of(error)}", "give model_type and its sizes") from error


def _random_model(config: LanguageConfig) -> Any:
    """A random model: every test runs on one, with no file and no network."""
    settings = _random_config(config)
    try:
        return transformers.AutoModelForCausalLM.from_config(settings)
    except Exception as error:
        raise UsageError(f"language.architecture: {reason_of(error)}", "give model_type and its sizes") from error


def _byte_tokenizer() -> Any:
    """One token a byte, for random models."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core)

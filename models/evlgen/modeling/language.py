"""The frozen causal language model: any OPT- or Llama-like model of transformers behind one small interface.

Its own weights are never trained: gradients pass through them to the soft prompts, and to adapters (LoRA) where there
are any. GGUF files are converted once to safetensors and kept in the cache, since reading one takes many seconds.

Shapes: B batch, T tokens, W width of an embedding, V vocabulary.
"""

from __future__ import annotations

import io
from contextlib import AbstractContextManager, nullcontext, redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F

from evlgen.configuration import LanguageConfig
from evlgen.errors import UsageError, WeightsError
from evlgen.modeling.adapters import MARK, add_lora, check_peft, set_dropout
from evlgen.modeling.cross_attention import CrossAttention, Seen
from evlgen.modeling.gguf_header import check_gguf
from evlgen.modeling.opening import check_sizes, open_pretrained, quiet_transformers, reason_of, with_all_weights
from evlgen.modeling.packing import PromptedIds
from evlgen.modeling.quantization import loading_options
from evlgen.modeling.recomputing import recomputed
from evlgen.system.hashes import sha256_of
from evlgen.weights import Source, derived, fetch

CONVERSION = 1
"""Raise when converted files change meaning."""


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


class FrozenLanguageModel(nn.Module):
    """Embeddings, body and head of a causal language model, with its tokenizer.

    Args:
        config: which model, and the texts around soft prompts.
        model: the transformers model.
        tokenizer: its tokenizer.

    Raises:
        UsageError: `end_text` is not one token behind a caption, or `width`, `kept_layers` or adapters do not fit.
    """

    def __init__(self, config: LanguageConfig, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.config = config
        self.model: Any = model.requires_grad_(False).eval()
        self.model.set_output_embeddings(_ContiguousHead(self.model.get_output_embeddings()))
        self.tokenizer: Any = tokenizer
        self.end_token_id = end_token(tokenizer, config.end_text)
        width = self.embedding_weight.shape[1]
        if width != config.width:
            raise UsageError(f"language.width is {config.width}, but the model's embeddings have {width}")
        if config.kept_layers is not None:
            _keep_layers(self.model, config.kept_layers)
        if config.lora is not None:
            add_lora(self.model, self.layers, config.lora)
        self.cross_attention = (
            None if config.cross_attention is None else CrossAttention(self.layers, width, config.cross_attention)
        )
        self._texts_around = tuple(len(self.encode(text)) for text in (config.prompt_before, config.prompt_after))

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

    def adapters(self) -> list[nn.Parameter]:
        """Parameters of LoRA; none without it."""
        return [p for n, p in self.named_parameters() if MARK in n]

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

    def encode(self, text: str) -> list[int]:
        """Token ids without special tokens, except those spelled out in the text."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def encode_caption(self, caption: str, prompt: str = "") -> list[int]:
        """Token ids of a caption with its end token, at most `max_text_tokens`; with a prompt, `PromptedIds`."""
        before = self.encode_prompt(prompt)
        ids = self._encode_behind(prompt.rstrip(" "), before, caption) if before else self.encode(caption)
        ids = [*ids[: self.config.max_text_tokens - 1], self.end_token_id]
        return PromptedIds(ids, before) if before else ids

    def _encode_behind(self, prompt: str, before: list[int], text: str) -> list[int]:
        """Token ids that a text has where it goes on from a prompt: its first word brings the blank between them."""
        blank = "" if prompt[-1:].isspace() else " "
        both = self.encode(f"{prompt}{blank}{text}")
        return both[len(before) :] if both[: len(before)] == before else self.encode(text)

    def encode_prompt(self, prompt: str) -> list[int]:
        """Token ids of a text that a caption goes on from. Blanks at its end are dropped: words bring their own."""
        return self.encode(prompt.rstrip(" "))

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings of token ids, in the model's precision."""
        out: Tensor = self.model.get_input_embeddings()(ids)
        return out

    def use_attention(self, implementation: str) -> None:
        """Choose transformers' attention ("sdpa", "eager"); on CPUs eager is the faster one for training."""
        self.model.set_attn_implementation(implementation)

    def split(self, prefix_BPW: Tensor) -> tuple[Tensor, Seen | None]:
        """What of a prefix is read, and what is looked at: all and None, or with cross-attention its soft prompts."""
        if self.cross_attention is None:
            return prefix_BPW, None
        before, after = self._texts_around
        end = prefix_BPW.shape[1] - after
        read = torch.cat([prefix_BPW[:, :before], prefix_BPW[:, end:]], dim=1)
        return read, self.cross_attention.seen(prefix_BPW[:, before:end])

    def looking_at(self, seen: Seen | None) -> AbstractContextManager[None]:
        """While the language model runs: what its layers look at."""
        return nullcontext() if self.cross_attention is None else self.cross_attention.looking_at(seen)

    def hidden_states(
        self, embeddings_BTW: Tensor, mask_BTT: Tensor, positions_BT: Tensor, seen: Seen | None = None
    ) -> Tensor:
        """Last hidden states (B, T, W).

        Args:
            embeddings_BTW: inputs.
            mask_BTT: True where row may look at column.
            positions_BT: position of every token.
            seen: of the prefix that was split.
        """
        dtype = self.embedding_weight.dtype
        bias = torch.zeros(mask_BTT.shape, dtype=dtype, device=mask_BTT.device)
        bias.masked_fill_(~mask_BTT, torch.finfo(dtype).min)
        with self.looking_at(seen):
            out: Tensor = self.model.base_model(
                inputs_embeds=embeddings_BTW.to(dtype),
                attention_mask=bias.unsqueeze(1),
                position_ids=positions_BT,
                use_cache=False,
            ).last_hidden_state
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


def end_token(tokenizer: Any, end_text: str) -> int:
    """The token that ends a caption.

    SentencePiece tokenizers (Llama, Vicuna) put a blank in front of every text, so that a line break by itself is two
    tokens. Behind a caption it is one, and that is the one that captions are trained and generated with.

    Raises:
        UsageError: it is not one token there either.
    """
    alone, word, both = (tokenizer.encode(t, add_special_tokens=False) for t in (end_text, "a", f"a{end_text}"))
    if len(alone) == 1:
        return int(alone[0])
    if len(alone) > 1 and both[:-1] == word:
        return int(both[-1])
    raise UsageError(
        f"language.end_text {end_text!r} is {len(alone)} tokens, expected one",
        "name a special token of the tokenizer, or a line break",
    )


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
        UsageError: neither source nor architecture is given; what LoRA or quantization need is missing.
    """
    if config.lora is not None:
        check_peft()
    options = loading_options(config.quantization, dtype, torch.device(device))
    if config.source is None:
        return FrozenLanguageModel(config, _random_model(config).to(dtype), _byte_tokenizer())
    where = _location(config, report)
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
    return open_pretrained(transformers.AutoConfig, str(config.source), **_location(config, report))


def load_tokenizer(config: LanguageConfig, *, report: Any = None) -> Any:
    """The tokenizer alone; arguments and errors as for `load_language_model`."""
    if config.source is None:
        return _byte_tokenizer()
    return open_pretrained(transformers.AutoTokenizer, str(config.source), **_location(config, report))


def _location(config: LanguageConfig, report: Any) -> dict[str, Any]:
    """What to hand to transformers' from_pretrained."""
    source = config.source
    assert source is not None
    if ".gguf" in source:
        return {"pretrained_model_name_or_path": str(_converted(fetch(source, report=report), source))}
    if source.startswith("hf:"):
        name, _, revision = source.removeprefix("hf:").partition("@")
        return {"pretrained_model_name_or_path": name, "revision": revision or None}
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise UsageError(f"language.source {source} is not a folder", "for a hub repository write hf:owner/name")
    return {"pretrained_model_name_or_path": str(folder)}


def _converted(gguf: Path, source: str) -> Path:
    """A folder with the same model as safetensors in bfloat16; a Q4 file's values fit it to 3 digits."""

    def build(folder: Path) -> None:
        options: dict[str, Any] = {}
        if hasattr(transformers, "GgufConfig"):  # newer releases keep the weights packed unless told otherwise
            options["quantization_config"] = transformers.GgufConfig(dequantize=True)
        where: dict[str, Any] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
        where["trust_remote_code"] = False
        check_gguf(gguf)
        try:
            options |= {"dtype": torch.bfloat16, "output_loading_info": True}
            model = with_all_weights(transformers.AutoModelForCausalLM.from_pretrained(**where, **options), str(gguf))
            tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
        except WeightsError:
            raise
        except Exception as error:  # a stranger's file may bring its readers to any error at all
            raise WeightsError(f"{gguf} cannot be read as a GGUF model: {reason_of(error)}") from error
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    digest = (Source.parse(source).sha256 or sha256_of(gguf))[:16]
    with quiet_transformers(), redirect_stderr(io.StringIO()):  # the converter draws a bar of its own
        return derived(f"gguf-{CONVERSION}-{digest}", build)


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

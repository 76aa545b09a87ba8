"""A model and a processor as transformers' Auto classes and its pipeline "image-text-to-text" expect them.

They are thin: loading, searching and preparing pictures are those of `evlgen.modeling`. Files are fetched as a whole
repository, since frozen parts may lie beside the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    BatchFeature,
    GenerationConfig,
    GenerationMixin,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.generation import GenerateBeamDecoderOnlyOutput

from evlgen.configuration import EVLGenConfig
from evlgen.decoding_options import OTHER_NAMES, DecodingOptions
from evlgen.errors import UsageError
from evlgen.hub.auto_config import EVLGenAutoConfig
from evlgen.modeling.language import load_tokenizer
from evlgen.modeling.model import EVLGenForConditionalGeneration
from evlgen.modeling.processing import EVLGenProcessor
from evlgen.weights.named_models import find_checkpoint, packaged_models

_FETCHING = ("revision", "cache_dir", "token", "local_files_only", "force_download")
_OF_GENERATE = (
    "num_beams", "max_new_tokens", "min_new_tokens", "length_penalty", "repetition_penalty", "do_sample",
    "temperature", "top_p", *OTHER_NAMES,
)  # fmt: skip
_WITHOUT_MEANING = (
    "attention_mask", "use_cache", "pad_token_id", "eos_token_id", "bos_token_id", "tokenizer", "assistant_model",
    "assistant_tokenizer", "output_scores", "early_stopping", "num_logits_to_keep", "top_k",
)  # fmt: skip
"""What callers of `generate` hand to any model and ours has no use for."""


@cache
def register() -> None:
    """Make model and processor known to transformers."""
    AutoModelForImageTextToText.register(EVLGenAutoConfig, EVLGenModel, exist_ok=True)
    AutoProcessor.register(EVLGenAutoConfig, EVLGenAutoProcessor, exist_ok=True)


def _folder(name: str, options: dict[str, Any]) -> Path:
    """Where the files of a folder or repository are; fetched with transformers' own options where they must be."""
    if Path(name).is_dir() or name in packaged_models():
        return find_checkpoint(name)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, **{key: options[key] for key in _FETCHING if options.get(key) is not None}))


class EVLGenModel(PreTrainedModel, GenerationMixin):  # type: ignore[misc, unused-ignore]
    """A captioner of ours as a model of transformers.

    Args:
        config: as it was opened.
        captioner: the model itself.
    """

    config_class = EVLGenAutoConfig
    main_input_name = "pixel_values"

    def __init__(self, config: EVLGenAutoConfig, captioner: EVLGenForConditionalGeneration) -> None:
        super().__init__(config)
        self.captioner = captioner
        usual = DecodingOptions()
        self.generation_config = GenerationConfig(
            num_beams=usual.num_beams,
            max_new_tokens=usual.max_new_tokens,
            eos_token_id=captioner.language.end_token_id,
            pad_token_id=captioner.language.end_token_id,
        )

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *args: Any, config: Any = None, **options: Any
    ) -> Self:
        """Load a model; of transformers' options dtype, device_map (one device) and those of fetching have a meaning.

        Raises:
            EvlgenError: as of `EVLGenForConditionalGeneration.from_pretrained`.
        """
        folder = _folder(str(pretrained_model_name_or_path), options)
        dtype = options.get("dtype") or options.get("torch_dtype") or "auto"
        if isinstance(dtype, str):
            dtype = torch.float32 if dtype == "auto" else getattr(torch, dtype)
        captioner = EVLGenForConditionalGeneration.from_pretrained(
            folder, dtype=dtype, device=_device(options.get("device_map"))
        )
        return cls(config or EVLGenAutoConfig.from_pretrained(folder), captioner)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """Write what `from_pretrained` needs, with the stub for trust_remote_code.

        Raises:
            UsageError: push_to_hub is wanted as well.
        """
        from evlgen.hub.stub import add_stub

        if options.get("push_to_hub"):
            raise UsageError("save_pretrained writes a folder and pushes nothing", "call push_to_hub(OWNER/NAME)")
        self.captioner.save_pretrained(save_directory)
        add_stub(Path(save_directory))

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the model with a card: see `EVLGenForConditionalGeneration.push_to_hub`."""
        return self.captioner.push_to_hub(repo_id, **options)

    def forward(self, **inputs: Any) -> Any:
        """The model's own forward pass: see `EVLGenForConditionalGeneration.forward`."""
        return self.captioner(**inputs)

    @torch.no_grad()
    def generate(
        self,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        return_dict_in_generate: bool | None = None,
        **options: Any,
    ) -> Any:
        """Token ids of captions (B x num_return_sequences, T), without their prompts.

        Args:
            pixel_values: of the processor.
            input_ids: of the prompts, with zeros in
            attention_mask: where they are padded.
            generation_config: of it num_beams and its kin count.
            return_dict_in_generate: also `sequences_scores`, the log-probability of each caption in nats.
            options: see `DecodingOptions`, also by transformers' names.

        Raises:
            UsageError: see `EVLGenForConditionalGeneration.generate`.
        """
        wanted = _settings(self.generation_config) | (_settings(generation_config) if generation_config else {})
        given = {key: value for key, value in options.items() if value is not None and key not in _WITHOUT_MEANING}
        own = {OTHER_NAMES.get(key, key) for key in given}
        wanted = {key: value for key, value in wanted.items() if OTHER_NAMES.get(key, key) not in own}
        prompt = given.pop("prompt", None)
        if prompt is None:
            prompt = "" if input_ids is None else self._texts(input_ids, attention_mask)
        output = self.captioner.generate(pixel_values, prompt=prompt, **wanted, **given)
        sequences = output.sequences.to(self.device)
        if return_dict_in_generate:
            return GenerateBeamDecoderOnlyOutput(sequences=sequences, sequences_scores=output.log_probabilities)
        return sequences

    def _texts(self, input_ids: Tensor, attention_mask: Tensor | None) -> list[str]:
        seen = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rows = zip(input_ids.tolist(), seen.tolist(), strict=True)
        tokenizer = self.captioner.processor.tokenizer
        return [tokenizer.decode([i for i, counts in zip(*row, strict=True) if counts]) for row in rows]


def _settings(config: GenerationConfig) -> dict[str, Any]:
    """What a generation configuration says about a search of ours."""
    found = {key: getattr(config, key, None) for key in _OF_GENERATE}
    if not found["do_sample"]:
        found["temperature"] = found["top_p"] = None
    for length in ("max", "min"):  # transformers' own defaults stand in the other key
        if found[f"{length}_new_tokens"] is not None:
            found[f"{length}_length"] = None
    return {key: value for key, value in found.items() if value is not None}


def _device(device_map: Any) -> str | torch.device:
    """The one device of a device_map."""
    if isinstance(device_map, dict):
        (device,) = set(device_map.values()) if len(set(device_map.values())) == 1 else (None,)
    else:
        device = "cpu" if device_map is None else device_map
    if device is None or device in ("balanced", "balanced_low_0", "sequential"):
        raise UsageError(f"device_map={device_map!r} spreads a model over devices", "name one, such as cuda:0")
    if device == "auto":
        from evlgen.modeling.hardware import pick_device

        return pick_device("auto")
    return torch.device(f"cuda:{device}" if isinstance(device, int) else device)


class EVLGenAutoProcessor(EVLGenProcessor, ProcessorMixin):  # type: ignore[misc, unused-ignore]
    """A processor whose inputs are those that pipelines expect: pixels, and prompts as token ids."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:  # type: ignore[override]
        """The processor of a folder or repository; loads no model."""
        config = EVLGenConfig.from_pretrained(_folder(str(pretrained_model_name_or_path), options))
        return cls(config, load_tokenizer(config.language))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config!r})"

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoProcessor") -> None:
        """transformers calls it on classes that come with a repository; there is nothing to copy."""

    def __call__(  # type: ignore[override]
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        *,
        videos: Any = None,
        return_tensors: str = "pt",
        **unused: Any,
    ) -> BatchFeature:
        """`pixel_values`, and of a text `input_ids` with `attention_mask`; arguments as of `EVLGenProcessor`.

        Raises:
            UsageError: see `EVLGenProcessor`.
        """
        inputs = super().__call__(images=images, videos=videos, text=text or "", return_tensors=return_tensors)
        rows = [self.tokenizer.encode(one, add_special_tokens=False) for one in inputs.pop("prompt")]
        longest = max(map(len, rows))
        pad = self._end_token
        inputs["input_ids"] = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], dtype=torch.int64)
        inputs["attention_mask"] = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return inputs

    def batch_decode(self, sequences: Any, **unused: Any) -> list[str]:
        """Captions of token ids (B, T), up to the end token."""
        return super().batch_decode(torch.as_tensor(sequences))

    def decode(self, sequence: Any, **unused: Any) -> str:
        """The caption of token ids (T,)."""
        return self.batch_decode(torch.as_tensor(sequence)[None])[0]

    def post_process_image_text_to_text(self, generated_outputs: Any, **unused: Any) -> list[str]:
        """What a pipeline decodes with."""
        return self.batch_decode(generated_outputs)

    def apply_chat_template(self, conversation: Any, **unused: Any) -> BatchFeature:
        """The pictures of a chat's last message that has some; what an assistant began to say is the prompt.

        A captioner says what is in a picture, whatever it is asked: other texts do not count.

        Raises:
            UsageError: there is no picture.
        """
        chats = conversation if isinstance(conversation[0], list | tuple) else [conversation]
        media, texts = [], []
        for chat in chats:
            pictures = [
                (part["type"], part.get(part["type"]) or part.get("path") or part.get("url"))
                for message in chat
                for part in (message["content"] if isinstance(message["content"], list) else [])
                if part["type"] in ("image", "video")
            ]
            if not pictures:
                raise UsageError("a chat without a picture or video", "put {'type': 'image', ...} into a message")
            media.append(pictures)
            texts.append(_begun(chat[-1]))
        if all(len(one) == 1 and one[0][0] == "image" for one in media):
            return self(images=[one[0][1] for one in media], text=texts)
        videos = [one[0][1] if one[0][0] == "video" else [picture for _, picture in one] for one in media]
        return self(videos=videos, text=texts)


def _begun(message: dict[str, Any]) -> str:
    """What the assistant has said already, in the last message of a chat."""
    if message["role"] != "assistant":
        return ""
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return " ".join(part["text"] for part in parts if part["type"] == "text")

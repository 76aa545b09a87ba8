"""What the captioning run needs of a model, and the adapter that lets an EVLGen model give it.

Everything else in this room works against the `Captioner` protocol, without torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from evlgen.captioning.resources import cap_threads
from evlgen.errors import UsageError
from evlgen.system.hashes import sha256_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DownloadReport = Callable[[str, int, int | None], None]
"""Called with file name, bytes done, bytes in all (None where unknown)."""

GPU_BATCH_SIZE = 16
CPU_BATCH_SIZE = 4
"""A batch is written down when all of it is done: on a CPU that must happen while somebody looks."""


@dataclass(frozen=True)
class Caption:
    """One generated caption.

    Attributes:
        text: the caption.
        log_probability: natural logarithm of its probability, summed over tokens, end token included.
        token_count: tokens in that sum.
        alternatives: the other captions that were asked for, best first.
        tags: what the vision tower's classifier sees, with probabilities, where the model has tags.
    """

    text: str
    log_probability: float
    token_count: int
    alternatives: tuple[Caption, ...] = ()
    tags: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class ModelIdentity:
    """What is known about a model without loading it.

    Attributes:
        id: its name.
        hash: hash of its trained weights.
        config_hash: hash of its configuration, which names the frozen parts with their hashes.
        frames: frames it takes unless asked otherwise.
        image_size_pixels: side of its square input.
    """

    id: str
    hash: str
    config_hash: str
    frames: int
    image_size_pixels: int


@dataclass(frozen=True)
class Asked:
    """A question about a clip.

    Attributes:
        frames: RGB (F, H, W, 3); questions about one clip share one array.
        question: as people wrote it, without a prompt around it.
    """

    frames: NDArray[np.uint8]
    question: str


class Captioner(Protocol):
    """A loaded model.

    Attributes:
        batch_size: clips that go through it together unless the user says otherwise.
        on_tokens: called with a number of tokens whenever so many more are written.
    """

    batch_size: int
    on_tokens: Callable[[int], None]

    def caption(self, clips: Sequence[Any]) -> list[Caption]:
        """Caption clips (F, H, W, 3), RGB, or answer what is `Asked`; all have the same number of frames."""

    def release_memory(self) -> None:
        """Give cached memory back after an out-of-memory failure."""


@dataclass(frozen=True)
class Generation:
    """How captions are searched for.

    Attributes:
        num_beams: beams; one is greedy.
        max_length: most tokens of a caption.
        min_length: fewest tokens of a caption.
        prompt: text that captions go on from.
        length_penalty: exponent of the length that beam scores are divided by.
        no_repeat_ngram: no so many tokens in a row stand twice in a caption; 0: they may.
        repetition_penalty: what tokens that the caption holds already pay; 1 is nothing.
        num_captions: captions of every clip.
    """

    num_beams: int
    max_length: int
    min_length: int
    prompt: str = ""
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    num_captions: int = 1

    @property
    def options(self) -> dict[str, Any]:
        """As arguments of `EVLGenForConditionalGeneration.generate`; the prompt is not among them."""
        return {
            "num_beams": self.num_beams,
            "max_new_tokens": self.max_length,
            "min_new_tokens": self.min_length,
            "length_penalty": self.length_penalty,
            "no_repeat_ngram": self.no_repeat_ngram,
            "repetition_penalty": self.repetition_penalty,
            "num_captions": self.num_captions,
        }


def identify_model(model: str) -> ModelIdentity:
    """Find a model and read its configuration and hash; loads no weights.

    Raises:
        UsageError: there is no such model, or its configuration is not readable.
    """
    from evlgen.configuration import CONFIG_FILE, EVLGenConfig
    from evlgen.weights.checkpoints import WEIGHTS_FILE, find_checkpoint

    folder = find_checkpoint(model)
    try:
        config = EVLGenConfig.from_pretrained(folder)
        config_hash = hashlib.sha256((folder / CONFIG_FILE).read_bytes()).hexdigest()[:16]
        weights_hash = sha256_of(folder / WEIGHTS_FILE)[:16]
    except OSError as error:
        raise UsageError(
            f"model {model} in {folder} cannot be read: {error.strerror}", "give another --model"
        ) from error
    name = Path(model).name or folder.resolve().name
    return ModelIdentity(name, weights_hash, config_hash, config.temporal.frames, config.vision.image_size)


def resolve_dtype(dtype: str, device: str) -> str:
    """The name of the arithmetic that `dtype` means on `device`, with every `auto` decided.

    Raises:
        UsageError: an unknown name, or a device that this machine does not have.
    """
    from evlgen.modeling.hardware import pick_device, pick_dtype

    return str(pick_dtype(dtype, pick_device(device))).removeprefix("torch.")


def load_captioner(
    model: str, generation: Generation, device: str, dtype: str, report: DownloadReport | None = None
) -> Captioner:
    """Load an EVLGen model.

    Args:
        model: name, folder or hub name.
        generation: how captions are searched for.
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: auto, float32, bfloat16, float16.
        report: told about downloads.

    Raises:
        UsageError: no such model or device.
        WeightsError: a weight file is missing or damaged.
    """
    return ModelCaptioner(load_model(model, device, dtype, report), generation)


def load_model(model: str, device: str, dtype: str, report: DownloadReport | None = None) -> Any:
    """Load an EVLGen model where and as `load_captioner` does."""
    from evlgen.modeling import EVLGenForConditionalGeneration
    from evlgen.modeling.hardware import keep_large_allocations, pick_device, pick_dtype

    keep_large_allocations()
    where = pick_device(device)
    cap_threads()
    return EVLGenForConditionalGeneration.from_pretrained(
        model, device=where, dtype=pick_dtype(dtype, where), report=report
    )


class _OfModel:
    """What wraps an `EVLGenForConditionalGeneration`."""

    def __init__(self, model: Any, generation: Generation) -> None:
        self.model = model
        self.generation = generation
        self.batch_size = CPU_BATCH_SIZE if model.device.type == "cpu" else GPU_BATCH_SIZE
        self.on_tokens: Callable[[int], None] = lambda count: None

    def _options(self) -> dict[str, Any]:
        return {**self.generation.options, "on_tokens": self.on_tokens}

    def _captions(self, output: Any) -> list[Caption]:
        texts = self.model.processor.batch_decode(output.sequences)
        numbers = zip(output.log_probabilities.tolist(), output.token_counts.tolist(), strict=True)
        found = [Caption(text, p, n) for text, (p, n) in zip(texts, numbers, strict=True)]
        count = self.generation.num_captions
        groups = [found[start : start + count] for start in range(0, len(found), count)]
        tags = [tuple((tag.name, tag.probability) for tag in own) for own in output.tags or [[]] * len(groups)]
        return [
            replace(best, alternatives=tuple(others), tags=own)
            for (best, *others), own in zip(groups, tags, strict=True)
        ]

    def release_memory(self) -> None:
        """Give cached blocks of an accelerator back."""
        import gc

        import torch

        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class ModelCaptioner(_OfModel):
    """A `Captioner` around an `EVLGenForConditionalGeneration`.

    Raises:
        UsageError: prompt and captions are too long for the language model.
    """

    def __init__(self, model: Any, generation: Generation) -> None:
        super().__init__(model, generation)
        model.check_prompt(generation.prompt, generation.max_length)

    def caption(self, clips: Sequence[NDArray[np.uint8]]) -> list[Caption]:
        """Caption clips (F, H, W, 3) that all have the same number of frames."""
        import torch

        with torch.inference_mode():
            output = self.model.generate(
                self.model.processor(list(clips)), prompt=self.generation.prompt, **self._options()
            )
        return self._captions(output)


class ModelAnswerer(_OfModel):
    """The same for questions: the prompt is a pattern, in which {} stands for the question.

    A clip goes through vision tower and connector once for all questions of a batch that are about it.
    """

    def caption(self, clips: Sequence[Asked]) -> list[Caption]:
        """Answer questions about clips that all have the same number of frames."""
        import torch

        distinct = {id(one.frames): one.frames for one in clips}
        place = {key: number for number, key in enumerate(distinct)}
        with torch.inference_mode():
            pixels = self.model.processor(list(distinct.values()))
            features = self.model.encode(pixels)
            chosen = [place[id(one.frames)] for one in clips]
            tags = self.model.tags(features)
            output = self.model.generate_from(
                self.model.soft_prompts(features)[chosen],
                tags=[tags[number] for number in chosen],
                prompt=[self.generation.prompt.replace("{}", one.question) for one in clips],
                **self._options(),
            )
        return self._captions(output)

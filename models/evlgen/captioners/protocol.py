"""What a captioner gets and gives. Who captions works against the `Captioner` protocol, without torch.

evlgen_captioner.py is the one around an EVLGen model; opening.py is the table of all. Another model is captioned with
by giving the same, and a line in that table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from evlgen.decoding_options import DecodingOptions
from evlgen.errors import EvlgenError, Failure, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from evlgen.configuration import ConfidenceConfig


@dataclass(frozen=True, eq=False)
class PromptedClip:
    """What one caption, or one answer, is asked for.

    Attributes:
        frames: RGB uint8 (F, H, W, 3); questions about one clip share one array.
        timestamps_seconds: F times at which the frames come on display.
        prompt: text that the caption goes on from; of an answer the question with what stands around it.
        duration_seconds: length of the video; None where unknown.
    """

    frames: NDArray[np.uint8]
    timestamps_seconds: tuple[float, ...]
    prompt: str
    duration_seconds: float | None = None


@dataclass(frozen=True)
class Caption:
    """One generated caption, or answer.

    Attributes:
        text: what follows the prompt.
        log_probability: natural logarithm of its probability, summed over tokens, end token included; None where the
            model is elsewhere and does not tell.
        token_count: tokens in that sum; None where nobody told.
        alternatives: the other captions that were asked for, best first; samples of `num_samples` follow the others.
        tags: what the vision tower's classifier sees, with probabilities, where the model has tags.
        agreement: how much it has in common with the alternatives, from 0 to 1: its mean CIDEr against them, divided
            by 10; None where nobody asked.
    """

    text: str
    log_probability: float | None
    token_count: int | None
    alternatives: tuple[Caption, ...] = ()
    tags: tuple[tuple[str, float], ...] = ()
    agreement: float | None = None


class CaptioningStoppedError(EvlgenError):
    """No clip can be captioned any more, whichever it is; going on would only make failures.

    Args:
        cause: why.
        answers: what was there before that, for each clip of the batch; None: nothing.
    """

    def __init__(self, cause: EvlgenError, answers: Sequence[Caption | Failure | None]) -> None:
        super().__init__(cause.what, cause.hint)
        self.answers = answers


@dataclass(frozen=True)
class ModelIdentity:
    """What is known about a model without loading it.

    Attributes:
        id: its name.
        hash: hash of its trained weights, or whatever changes when they do.
        config_hash: hash of its configuration, which names the frozen parts with their hashes.
        frames: frames it takes unless asked otherwise.
        image_size_pixels: side of its square input; None: it takes frames of any size and resizes them itself.
        longest_side_pixels: where it takes any size: frames are made no larger than this; None: they stay as they are.
        most_frames: more than these it cannot take; None: as many as memory holds.
        prompt: what it is asked where the user gives no prompt.
        licence: as its repository states it, such as "apache-2.0"; None where unknown.
        revision: of its repository; None where there is none.
        confidence: how likely its captions are good; None where nobody calibrated it.
    """

    id: str
    hash: str
    config_hash: str
    frames: int
    image_size_pixels: int | None
    longest_side_pixels: int | None = None
    most_frames: int | None = None
    prompt: str = ""
    licence: str | None = None
    revision: str | None = None
    confidence: ConfidenceConfig | None = None

    @property
    def decoded_size(self) -> tuple[int, int] | int | None:
        """The size that frames are decoded in, see `evlgen.video.picture.Size`."""
        side = self.image_size_pixels
        return self.longest_side_pixels if side is None else (side, side)

    def frames_of(self, wanted: int | None) -> int:
        """How many frames of a clip it gets: as many as are wanted, or as it takes.

        Raises:
            UsageError: it cannot take so many.
        """
        frames = wanted or self.frames
        if self.most_frames is not None and frames > self.most_frames:
            raise UsageError(f"--frames {frames} is more than the {self.most_frames} that {self.id} takes")
        return frames


@dataclass(frozen=True)
class ModelFacts:
    """How large a loaded model is, how much it reads of a clip, and what it has taken; None: nobody knows.

    Attributes:
        parameters: of all its parts.
        language_parameters: of those, the language model's; None where writing is no part of its own.
        trained_parameters: of those, what the training of its own weight file changed; the others came frozen.
        visual_tokens: tokens of a clip's frames that stand in front of its caption; of a model that sees single frames,
            those of one frame. None before the first caption.
        peak_memory_bytes: the most that this process had, or where the model is on GPUs, what it had on all of them.
    """

    parameters: int | None = None
    language_parameters: int | None = None
    trained_parameters: int | None = None
    visual_tokens: int | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model that is named is to run; of the last six each kind of captioner takes some (`CaptionerKind.options`).

    Attributes:
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: auto, float32, bfloat16, float16; auto is what the output was begun in, or else what this machine is fast
            in.
        system_prompt: what a model that chats is told before everything else; empty: nothing.
        load_in: 8bit or 4bit for smaller weights of models that can; None: weights in `dtype`.
        trust_remote_code: code that comes with a model may run.
        concurrency: requests to a server at a time; None: what the kind is set to.
        request_timeout_seconds: most time for one of them; None: what the kind is set to.
        r: tokens merged per layer, a number or a schedule (`EVLGenConfig.with_r`); None: as the model was trained.
    """

    device: str = "auto"
    dtype: str = "auto"
    system_prompt: str = ""
    load_in: str | None = None
    trust_remote_code: bool = False
    concurrency: int | None = None
    request_timeout_seconds: float | None = None
    r: str | None = None

    def model_options(self) -> dict[str, Any]:
        """These options by name, for whom they are handed on to."""
        return {one.name: getattr(self, one.name) for one in fields(ModelOptions)}


@dataclass(frozen=True)
class LoadOptions(ModelOptions):
    """How a model is loaded.

    Attributes:
        device: as of `ModelOptions`.
        dtype: float32, bfloat16, float16, or what else `CaptionerKind.resolve_dtype` gives.
        prompt: what captions go on from, or what the model is asked.
        max_new_tokens: most tokens of a caption.
    """

    device: str = "auto"
    dtype: str = "float32"
    prompt: str = ""
    max_new_tokens: int = DecodingOptions.max_new_tokens


class Captioner(Protocol):
    """A loaded model.

    Attributes:
        batch_size: clips that go through it together unless the user says otherwise.
        on_tokens: called with a number of tokens whenever so many more are written.
    """

    batch_size: int
    on_tokens: Callable[[int], None]

    def caption(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> Sequence[Caption | Failure]:
        """A caption for each clip, in order, or why it has none; all clips have the same number of frames.

        Raises:
            CaptioningStoppedError: there is no use in going on.
            Exception: whatever else; the clips are then tried one by one.
        """

    def release_memory(self) -> None:
        """Give cached memory back after an out-of-memory failure."""

    def facts(self) -> ModelFacts:
        """How large the model is, and what it has taken."""

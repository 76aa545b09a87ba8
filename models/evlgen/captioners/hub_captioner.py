"""The captioner around whatever transformers' `AutoModelForImageTextToText` knows: `--model hf:ID[@REVISION]`.

hub_models.py finds it, hub_inputs.py gives it the clips in one of four ways, hub_generation.py has it write. Of a model
that sees one picture at a time, every frame is captioned, and the caption that agrees most with the others (consensus)
is the clip's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evlgen.captioners.hub_models import FIXED_FRAMES, FoundModel, find_model
from evlgen.captioners.protocol import Caption, Captioner, LoadOptions, ModelFacts, ModelIdentity, PromptedClip
from evlgen.decoding_options import DecodingOptions
from evlgen.system.progress import ProgressCallback

if TYPE_CHECKING:
    from evlgen.captioners.hub_inputs import Inputs

BATCH_SIZE = 4
CHAT_PROMPT = "Describe this video in one sentence."
_FRAMES, _PICTURES = 8, 4
_PROMPTS = {"blip": "", "blip-2": "", "git": "", "florence2": "<CAPTION>", "instructblip": "Describe the image."}
"""What models are asked that do not chat; the others are asked in words."""


def identify_model(model: str) -> ModelIdentity:
    """Find a model of the hub or of a folder; loads no weights, and no torch.

    Raises:
        UsageError: there is no such model.
        WeightsError: it cannot be fetched.
    """
    found = find_model(model)
    weights, settings = found.hashes()
    kind = found.model_type
    most = found.config.get("num_image_with_embedding") if kind == "git" else FIXED_FRAMES.get(kind)
    return ModelIdentity(
        found.source if found.revision else found.folder.resolve().name,
        weights,
        settings,
        frames=most or (_PICTURES if kind in _PROMPTS else _FRAMES),
        image_size_pixels=None,
        most_frames=most,
        prompt=_PROMPTS.get(kind, CHAT_PROMPT),
        licence=found.licence(),
        revision=found.revision,
    )


def load_captioner(model: str, options: LoadOptions, report: ProgressCallback | None = None) -> Captioner:
    """Load a model of transformers; the hub's client shows downloads itself.

    Raises:
        UsageError: no such model or device, or it cannot be loaded as asked.
        WeightsError: weights are missing, or cannot be fetched.
    """
    from evlgen.captioners.hub_inputs import ChatInputs, inputs_of
    from evlgen.captioners.hub_loading import load

    found: FoundModel = find_model(model)
    loaded, processor = load(found, options)
    inputs = inputs_of(processor, loaded.config, options.system_prompt)
    if isinstance(inputs, ChatInputs):
        inputs.check()
    return HubCaptioner(loaded, processor, inputs, options.dtype)


class HubCaptioner:
    """A `Captioner` around a model of transformers.

    Args:
        model: with `generate`, where it is to run.
        processor: its own.
        inputs: how clips are given to it.
        dtype: of what is given to it; weights of 8 or 4 bit have another.
    """

    def __init__(self, model: Any, processor: Any, inputs: Inputs, dtype: str) -> None:
        self.model, self.processor, self.inputs = model, processor, inputs
        self._dtype = dtype
        self.batch_size = BATCH_SIZE
        self.on_tokens: Callable[[int], None] = lambda count: None
        self._visual_tokens: int | None = None

    def caption(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[Caption]:
        """A caption for each clip, in order; all clips have the same number of frames."""
        if isinstance(options.seed, Sequence):  # one a clip, which then does not depend on the clips beside it
            own = zip(clips, options.seed, strict=True)
            return [self.caption([clip], replace(options, seed=seed))[0] for clip, seed in own]
        found = self._captions(clips, options)
        if options.num_samples:
            drawn = replace(options, num_beams=1, do_sample=True, num_captions=options.num_samples, num_samples=0)
            # one clip at a time, and every clip from the same seed: samples do not depend on the clips beside them
            for captions, clip in zip(found, clips, strict=True):
                captions += self._captions([clip], replace(drawn, seed=0))[0]
        return [replace(best, alternatives=tuple(others)) for best, *others in found]

    def _captions(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[list[Caption]]:
        """`num_captions` captions of each clip, best first."""
        if not self.inputs.single_frames:
            return self._batched(clips, options)
        single = [
            PromptedClip(clip.frames[place : place + 1], (time,), clip.prompt)
            for clip in clips
            for place, time in enumerate(clip.timestamps_seconds)
        ]
        found = iter(self._batched(single, options))
        return [agreed([next(found) for _ in clip.timestamps_seconds], options.num_captions) for clip in clips]

    def _batched(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[list[Caption]]:
        groups: dict[str, list[int]] = {}
        for place, clip in enumerate(clips):
            groups.setdefault("" if self.inputs.mixed_prompts else clip.prompt, []).append(place)
        found: list[list[Caption]] = [[] for _ in clips]
        for places in groups.values():
            written = self._write([clips[place] for place in places], options)
            for place, captions in zip(places, written, strict=True):
                found[place] = captions
        return found

    def _write(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[list[Caption]]:
        import torch

        from evlgen.captioners.hub_generation import write
        from evlgen.captioners.hub_sizes import visual_tokens

        inputs = {name: self._placed(value) for name, value in self.inputs(clips).items()}
        self._visual_tokens = visual_tokens(inputs, self.model.config)
        seed = options.seed if isinstance(options.seed, int) else None
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(devices):
            if seed is not None:
                torch.manual_seed(seed)
            written = write(self.model, inputs, options, self.on_tokens)
        texts = self.processor.tokenizer.batch_decode([one.tokens for one in written], skip_special_tokens=True)
        captions = [
            Caption(text.strip(), float(sum(one.log_probabilities)), len(one.tokens))
            for text, one in zip(texts, written, strict=True)
        ]
        count = options.num_captions
        return [captions[start : start + count] for start in range(0, len(captions), count)]

    def _placed(self, value: Any) -> Any:
        import torch

        if not isinstance(value, torch.Tensor):
            return value
        return value.to(self.model.device, getattr(torch, self._dtype) if value.is_floating_point() else None)

    def release_memory(self) -> None:
        """Give cached blocks of an accelerator back."""
        from evlgen.modeling.hardware import release_memory

        release_memory()

    def facts(self) -> ModelFacts:
        """How large the model is, and what it has taken."""
        from evlgen.captioners.evlgen_captioner import peak_memory_bytes
        from evlgen.captioners.hub_sizes import language_parameters, parameters_of

        memory = peak_memory_bytes(self.model.device)
        language = language_parameters(self.model)
        return ModelFacts(
            parameters_of(self.model), language, visual_tokens=self._visual_tokens, peak_memory_bytes=memory
        )


def agreed(frames: Sequence[Sequence[Caption]], count: int) -> list[Caption]:
    """The `count` captions that agree most with all captions of a clip's frames; of one frame its own.

    Args:
        frames: captions of each frame.
        count: how many to keep.
    """
    from evlgen.metrics.cider import FACTOR
    from evlgen.metrics.consensus import ALL_ALIKE, consensus

    pool = [caption for captions in frames for caption in captions]
    if len(frames) == 1:
        return pool[:count]
    (scores,) = consensus([[one.text for one in pool]], ALL_ALIKE)
    order = sorted(range(len(pool)), key=lambda place: (-scores[place], -(pool[place].log_probability or 0.0)))
    first: dict[str, int] = {}
    for place in order:
        first.setdefault(pool[place].text, place)
    distinct = list(first.values())
    rest = [place for place in order if place not in distinct]
    return [replace(pool[place], agreement=float(scores[place]) / FACTOR) for place in (distinct + rest)[:count]]

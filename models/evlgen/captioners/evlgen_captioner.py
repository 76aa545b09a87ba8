"""The captioner around an EVLGen model: how it is found, which arithmetic it runs in, how clips go through it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from evlgen.captioners.protocol import Caption, LoadOptions, ModelFacts, ModelIdentity, PromptedClip
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import UsageError
from evlgen.system.cpus import usable_cpus
from evlgen.system.hashes import sha256_of
from evlgen.system.progress import ProgressCallback

BATCH_SIZE = 32


def identify_model(model: str) -> ModelIdentity:
    """Find a model and read its configuration and hash; loads no weights.

    Raises:
        UsageError: there is no such model, or its configuration is not readable.
    """
    from evlgen.configuration import CONFIG_FILE, EVLGenConfig
    from evlgen.weights.named_models import WEIGHTS_FILE, find_checkpoint

    _refuse_others(model)
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
    return ModelIdentity(
        name,
        weights_hash,
        config_hash,
        config.temporal.frames,
        config.vision.image_size,
        confidence=config.confidence,
    )


def _refuse_others(model: str) -> None:
    """Raise a UsageError if a folder or repository is a model of transformers, before all of it is fetched."""
    from evlgen.configuration import CONFIG_FILE
    from evlgen.weights.named_models import packaged_models

    path = Path(model).expanduser()
    at_hub = not path.exists() and model.count("/") == 1 and not model.startswith((".", "/", "~")) and ":" not in model
    if model in packaged_models() or not (at_hub or (path / CONFIG_FILE).is_file()):
        return
    from evlgen.captioners.hub_models import find_model
    from evlgen.weights.hub_client import PREFIX

    found = find_model(f"{PREFIX}{model}")
    if found.model_type and not found.is_evlgen:
        raise UsageError(f"{model} is no model of EVLGen: it is a {found.model_type}", f"--model {PREFIX}{model}")


def resolve_r(model: str, r: str) -> str:
    """The schedule in the one spelling that it has in rows, if the model can merge by it; loads nothing.

    Args:
        model: whose layers and tokens it must fit.
        r: as of `EVLGenConfig.with_r`.

    Raises:
        UsageError: it cannot.
    """
    from evlgen.configuration import EVLGenConfig
    from evlgen.weights.named_models import find_checkpoint

    connector = EVLGenConfig.from_pretrained(find_checkpoint(model)).with_r(r).merging("--r")
    return json.dumps(connector.r, separators=(",", ":"))


def load_captioner(model: str, options: LoadOptions, report: ProgressCallback | None = None) -> EVLGenCaptioner:
    """Load an EVLGen model; `report` is told about downloads.

    Raises:
        UsageError: no such model or device, or prompt and captions are too long for the language model.
        WeightsError: a weight file is missing or damaged.
    """
    import torch

    from evlgen.modeling import EVLGenForConditionalGeneration
    from evlgen.modeling.hardware import keep_large_allocations, pick_device, pick_dtype
    from evlgen.modeling.pretrained import numbers_in
    from evlgen.weights.named_models import WEIGHTS_FILE, find_checkpoint

    keep_large_allocations()
    where = pick_device(options.device)
    cap_threads()
    halves = (options.dtype, where) == ("float16", "cpu")
    dtype = torch.float32 if halves else pick_dtype(options.dtype, where)
    loaded = EVLGenForConditionalGeneration.from_pretrained(
        model, device=where, dtype=dtype, captions_only=True, report=report
    )
    if options.r is not None:
        loaded.use_r(options.r)
    loaded.check_prompt(options.prompt, options.max_new_tokens)
    captioner = EVLGenCaptioner(loaded, numbers_in(find_checkpoint(model) / WEIGHTS_FILE))
    if halves:
        loaded.language.halve_matrices()
    return captioner


def cap_threads() -> None:
    """Keep torch from starting more threads than there are usable CPUs; fewer, its own choice, stay as they are."""
    import torch

    torch.set_num_threads(min(torch.get_num_threads(), usable_cpus()))


class EVLGenCaptioner:
    """A `Captioner` around an `EVLGenForConditionalGeneration`.

    Args:
        model: it.
        trained: numbers in its weight file; of LoRA they are no longer in a model that is loaded for captions.
    """

    def __init__(self, model: Any, trained: int | None = None) -> None:
        self.model, self._trained = model, trained
        self.batch_size = BATCH_SIZE
        self.on_tokens: Callable[[int], None] = lambda count: None
        self._visual_tokens: int | None = None
        counts = {name: one.numel() for name, one in model.named_parameters()}
        self._numbers = sum(counts.values())
        self._language_numbers = sum(count for name, count in counts.items() if name.startswith("language."))

    def caption(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[Caption]:
        """Caption clips that all have the same number of frames.

        A clip goes through vision tower and connector once for all prompts of a batch that are about it.
        """
        import torch

        distinct = {id(clip.frames): clip.frames for clip in clips}
        place = {key: number for number, key in enumerate(distinct)}
        chosen = [place[id(clip.frames)] for clip in clips]
        with torch.inference_mode():
            features = self.model.encode(self.model.processor(list(distinct.values())))
            soft_prompts, tags = self.model.look(features)
            self._visual_tokens = soft_prompts.shape[1]

            def decoded(how: DecodingOptions) -> list[Caption]:
                output = self.model.generate_from(
                    soft_prompts[chosen],
                    tags=[tags[number] for number in chosen],
                    prompt=[clip.prompt for clip in clips],
                    on_tokens=self.on_tokens,
                    **asdict(how),
                )
                return _captions(output, how.num_captions)

            found = decoded(options)
            if not options.num_samples:
                return found
            seeds = [0] * len(clips)  # one for each, so that samples do not depend on the clips beside them
            sampled = decoded(
                replace(options, num_beams=1, do_sample=True, num_captions=options.num_samples, seed=seeds)
            )
        return [
            replace(best, alternatives=(*best.alternatives, sample, *sample.alternatives))
            for best, sample in zip(found, sampled, strict=True)
        ]

    def release_memory(self) -> None:
        """Give cached blocks of an accelerator back."""
        from evlgen.modeling.hardware import release_memory

        release_memory()

    def facts(self) -> ModelFacts:
        """How large the model is, and what it has taken."""
        memory = peak_memory_bytes(self.model.device)
        return ModelFacts(self._numbers, self._language_numbers, self._trained, self._visual_tokens, memory)


def peak_memory_bytes(device: Any) -> int | None:
    """The most memory that this process had so far; on a GPU, what its tensors took on all GPUs."""
    import torch

    from evlgen.modeling.hardware import memory_bytes

    if device.type == "cuda":
        return sum(torch.cuda.max_memory_allocated(one) for one in range(torch.cuda.device_count()))
    return memory_bytes(device).get("memory_bytes")


def _captions(output: Any, count: int) -> list[Caption]:
    """The captions of a `CaptionOutput` that holds `count` of each clip, best first."""
    numbers = zip(output.log_probabilities.tolist(), output.token_counts.tolist(), strict=True)
    found = [Caption(text, p, n) for text, (p, n) in zip(output.texts, numbers, strict=True)]
    groups = [found[start : start + count] for start in range(0, len(found), count)]
    tags = [tuple((tag.name, tag.probability) for tag in own) for own in output.tags or [[]] * len(groups)]
    return [
        replace(best, alternatives=tuple(others), tags=own) for (best, *others), own in zip(groups, tags, strict=True)
    ]

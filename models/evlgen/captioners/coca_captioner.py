"""The captioner around CoCa of open_clip (arXiv 2205.01917), made one of video as in VideoCoCa (arXiv 2212.04979).

`open_clip:NAME/PRETRAINED`: the tokens of all frames go through the attentional pooler together, as if they were one
picture; `open_clip:NAME/PRETRAINED@mean`: every frame is pooled by itself, and the mean over frames is taken.
PRETRAINED is a tag of open_clip or a file. Searching is that of transformers (hub_generation.py): open_clip's own needs
a class that transformers 5 no longer has. B clips, F frames, N tokens of a frame, Q queries of the pooler, D width.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evlgen.captioners.protocol import Captioner, LoadOptions, ModelIdentity, PromptedClip
from evlgen.errors import UsageError, WeightsError, first_line
from evlgen.system.hashes import checksum
from evlgen.system.progress import ProgressCallback

PREFIX = "open_clip:"
_FRAMES = 8


def identify_model(model: str) -> ModelIdentity:
    """Find a CoCa model; loads no weights.

    Raises:
        UsageError: open_clip is missing or has no such model, or it writes no captions.
    """
    name, pretrained, _ = _parts(model)
    config = _config(name)
    file = Path(pretrained).expanduser()
    weights = checksum(file) if file.is_file() else f"{name}/{pretrained}"
    return ModelIdentity(
        model.removeprefix(PREFIX),
        _short_hash(weights),
        _short_hash(json.dumps(config, sort_keys=True)),
        frames=_FRAMES,
        image_size_pixels=None,
    )


def load_captioner(model: str, options: LoadOptions, report: ProgressCallback | None = None) -> Captioner:
    """Load a CoCa model.

    Raises:
        UsageError: no such weights or device, or prompt and captions are longer than the model's text.
        WeightsError: the weights cannot be fetched or read.
    """
    from evlgen.captioners.evlgen_captioner import cap_threads
    from evlgen.captioners.hub_captioner import HubCaptioner
    from evlgen.modeling.hardware import pick_device

    name, pretrained, mean = _parts(model)
    _config(name)
    device = pick_device(options.device)
    cap_threads()
    import open_clip
    import torch

    from evlgen.captioners.coca_model import CoCaTokenizer, CoCaWriter

    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained not in tags and not Path(pretrained).expanduser().is_file():
        known = f"there is {', '.join(tags)}; or give a file" if tags else "give a file"
        raise UsageError(f"--model {model}: {name} has no weights {pretrained!r}", known)
    try:
        file = Path(pretrained).expanduser()
        source = str(file) if file.is_file() else pretrained
        coca, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=source)
    except Exception as error:
        hint = "check the weights and the network"
        raise WeightsError(f"--model {model} cannot be loaded: {first_line(error)}", hint) from error
    words = CoCaTokenizer(open_clip.get_tokenizer(name))
    used = len(words.begun(options.prompt)) + options.max_new_tokens
    if used > coca.context_length:
        raise UsageError(
            f"--prompt and --max-new-tokens {options.max_new_tokens} make {used} tokens, and {name} takes "
            f"{coca.context_length}",
            "shorten one of them",
        )
    writer = CoCaWriter(coca, words, mean=mean).eval().to(device, getattr(torch, options.dtype))
    return HubCaptioner(writer, words, CoCaInputs(writer, preprocess, words), options.dtype)


class CoCaInputs:
    """Clips as (B, Q, D) features and the tokens that captions go on from."""

    single_frames = False
    mixed_prompts = False  # positions are absolute and know of no padding

    def __init__(self, writer: Any, preprocess: Any, words: Any) -> None:
        self._writer, self._preprocess, self._words = writer, preprocess, words

    def __call__(self, clips: Sequence[PromptedClip]) -> Mapping[str, Any]:
        import torch

        from evlgen.captioners.hub_inputs import picture

        pixels = torch.stack([self._preprocess(picture(frame)) for clip in clips for frame in clip.frames])
        return {
            "features": self._writer.look(pixels, len(clips[0].frames)),
            "input_ids": torch.tensor([self._words.begun(clip.prompt) for clip in clips]),
        }


def _parts(model: str) -> tuple[str, str, bool]:
    """Name, weights, and whether frames are averaged."""
    name, _, pretrained = model.removeprefix(PREFIX).partition("/")
    mean = pretrained.endswith("@mean")
    pretrained = pretrained.removesuffix("@mean")
    if not name or not pretrained:
        raise UsageError(f"--model {model} is incomplete", "open_clip:NAME/PRETRAINED, such as coca_ViT-B-32/TAG")
    return name, pretrained, mean


def _config(name: str) -> dict[str, Any]:
    if importlib.util.find_spec("open_clip") is None:
        raise UsageError("--model open_clip: needs the package open_clip_torch", "pip install 'evlgen[open-clip]'")
    import open_clip

    config = open_clip.get_model_config(name)
    if config is None or "multimodal_cfg" not in config:
        writing = [one for one in open_clip.list_models() if one.startswith("coca")]
        what = "open_clip has no model" if config is None else "open_clip's"
        writes = "" if config is None else " writes no captions"
        raise UsageError(f"{what} {name}{writes}", f"those that caption are {', '.join(writing)}")
    return dict(config)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

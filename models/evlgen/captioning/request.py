"""What a captioning run is asked to do, checked for contradictions when it is made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from evlgen.arithmetic import DTYPES
from evlgen.captioning.captioner import Generation, ModelIdentity, identify_model
from evlgen.captioning.sampling import parse_sampler
from evlgen.captioning.settings import CaptionSettings
from evlgen.errors import UsageError
from evlgen.video.pool import MOST_SECONDS, MOST_WORKERS

_BOUNDS: Mapping[str, tuple[float, float]] = {
    "num_beams": (1, 1000),
    "num_captions": (1, 1000),
    "max_length": (1, 10_000),
    "min_length": (0, 10_000),
    "length_penalty": (-100, 100),
    "no_repeat_ngram": (0, 10_000),
    "repetition_penalty": (0.01, 100),
    "frames": (1, 1000),
    "batch_size": (1, 10_000),
    "workers": (1, MOST_WORKERS),
    "limit": (1, 10**12),
}
"""What no machine does, or no caption needs, is refused here: it would end in a hang or without memory."""
_HALF = re.compile("[\ud800-\udfff]")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")


@dataclass(frozen=True)
class CaptionRequest:
    """What to caption, how, and where to.

    Attributes:
        sources: files, folders, globs and lists, see `evlgen.captioning.discover.find_videos`.
        out: output file; None hands rows to the listener only, and nothing is resumed.
        model: name, folder or hub name of the model.
        num_beams: beams of the search; one is greedy.
        max_length: most tokens of a caption.
        min_length: fewest tokens of a caption.
        prompt: text that captions go on from; a caption holds what follows it.
        length_penalty: exponent of the length that beam scores are divided by; below 0 favours short captions.
        no_repeat_ngram: no so many tokens in a row stand twice in a caption; 0: they may.
        repetition_penalty: what tokens that the caption holds already pay; 1 is nothing.
        num_captions: captions of every video, of one search; those after the best are its row's alternatives.
        frames: frames a video; None for what the model was trained with.
        sampler: rule that picks them.
        backend: decoder.
        strict: a damaged file is an error; otherwise it is captioned from what can be decoded, with status "partial".
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: auto, float32, bfloat16, float16; auto is what `out` was begun in, or else what this machine is fast in.
        batch_size: videos that go through the model together, halved when memory runs out; None: what suits the device.
        workers: decoding processes; None chooses.
        timeout_seconds: most time to decode one video.
        limit: most videos to caption in this run; None for all.
        retry_failed: caption again what failed before.
        root: folder that names in the output are relative to; None: the folder that all sources lie in.
    """

    sources: Sequence[str]
    out: Path | None = None
    model: str = "evlgen-mini"
    num_beams: int = 3
    max_length: int = 30
    min_length: int = 0
    prompt: str = ""
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0
    repetition_penalty: float = 1.0
    num_captions: int = 1
    frames: int | None = None
    sampler: str = "uniform"
    backend: str = "pyav"
    strict: bool = False
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    timeout_seconds: float = 60.0
    limit: int | None = None
    retry_failed: bool = False
    root: Path | None = None

    def __post_init__(self) -> None:
        problems = [
            f"--{name.replace('_', '-')} {value} is not {least} to {most}"
            for name, (least, most) in _BOUNDS.items()
            if (value := getattr(self, name)) is not None and not least <= value <= most
        ]
        if self.min_length > self.max_length:
            problems.append(f"--min-length {self.min_length} is more than --max-length {self.max_length}")
        if self.num_captions > max(self.num_beams, 1):
            problems.append(f"--num-captions {self.num_captions} is more than --num-beams {self.num_beams}")
        if not 0 < self.timeout_seconds <= MOST_SECONDS:
            problems.append(f"--timeout {self.timeout_seconds} is not more than 0 and at most {MOST_SECONDS} seconds")
        if _HALF.search(self.prompt):
            problems.append("--prompt is no text: it holds bytes that are not UTF-8")
        if self.dtype not in ("auto", *DTYPES):
            problems.append(f"--dtype {self.dtype} is unknown: there is auto, {', '.join(DTYPES)}")
        if not _DEVICE.fullmatch(self.device):
            problems.append(f"--device {self.device} is unknown: there is auto, cpu, cuda, cuda:1, mps")
        if self.retry_failed and self.out is None:
            problems.append("--retry-failed needs --out: the file that says what failed")
        if problems:
            raise UsageError("; ".join(problems))

    @property
    def generation(self) -> Generation:
        """How captions are searched for."""
        return Generation(**{field.name: getattr(self, field.name) for field in fields(Generation)})

    def resolve(self) -> tuple[ModelIdentity, CaptionSettings]:
        """The model and everything that changes a caption; loads no model and no torch.

        A dtype of `auto` stays one: see `evlgen.captioning.continuing`.

        Raises:
            UsageError: the model or sampler does not exist.
        """
        identity = identify_model(self.model)
        parse_sampler(self.sampler, self.frames or identity.frames)
        settings = CaptionSettings(
            model=identity.id,
            model_hash=identity.hash,
            config_hash=identity.config_hash,
            frames=self.frames or identity.frames,
            sampler=self.sampler,
            backend=self.backend,
            strict=self.strict,
            num_beams=self.num_beams,
            max_length=self.max_length,
            min_length=self.min_length,
            dtype=self.dtype,
            prompt=self.prompt,
            length_penalty=self.length_penalty,
            no_repeat_ngram=self.no_repeat_ngram,
            repetition_penalty=self.repetition_penalty,
            num_captions=self.num_captions,
        )
        return identity, settings


def given(**options: Any) -> dict[str, Any]:
    """The options that are not None; those that are shall keep their defaults."""
    return {name: value for name, value in options.items() if value is not None}

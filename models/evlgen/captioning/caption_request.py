"""What a captioning run is asked to do, and what of it changes a caption; no torch here.

What only changes the speed (batch size, workers, deadline, device) is no part of the settings, so that a run may be
resumed on another machine.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlgen.arithmetic import DTYPES
from evlgen.captioning import evlgen_captioner
from evlgen.captioning.captioner import ModelIdentity
from evlgen.decoding_options import DecodingOptions, out_of_bounds
from evlgen.errors import UsageError
from evlgen.video.pool import MOST_SECONDS, MOST_WORKERS

if TYPE_CHECKING:
    from evlgen.video import Sampler

_BOUNDS: Mapping[str, tuple[float, float]] = {
    "frames": (1, 1000),
    "batch_size": (1, 10_000),
    "workers": (1, MOST_WORKERS),
    "limit": (1, 10**12),
}
_HALF = re.compile("[\ud800-\udfff]")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")


@dataclass(frozen=True)
class CaptionRequest:
    """What to caption, how, and where to.

    Attributes:
        sources: files, folders, globs and lists, see `evlgen.captioning.discover.find_videos`.
        out: output file; None hands rows to the listener only, and nothing is resumed.
        model: name, folder or hub name of the model.
        decoding: how captions are searched for.
        prompt: text that captions go on from, and hold what follows it; for questions {} stands for the question.
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

    Raises:
        UsageError: options are out of bounds or contradict each other; all of them are named.
    """

    sources: Sequence[str]
    out: Path | None = None
    model: str = "evlgen-mini"
    decoding: DecodingOptions = DecodingOptions()  # noqa: RUF009 - frozen
    prompt: str = ""
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
        problems = [*self.decoding.problems(), *out_of_bounds(self, _BOUNDS)]
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

    def resolve(self) -> tuple[ModelIdentity, CaptionSettings]:
        """The model and everything that changes a caption; loads no model.

        A dtype of `auto` stays one: see `evlgen.captioning.caption_plan.begun_dtype`.

        Raises:
            UsageError: the model or sampler does not exist.
        """
        identity = evlgen_captioner.identify_model(self.model)
        frames = self.frames or identity.frames
        parse_sampler(self.sampler, frames)
        settings = CaptionSettings(
            model=identity.id,
            model_hash=identity.hash,
            config_hash=identity.config_hash,
            frames=frames,
            sampler=self.sampler,
            backend=self.backend,
            strict=self.strict,
            dtype=self.dtype,
            prompt=self.prompt,
            decoding=self.decoding,
        )
        return identity, settings


def parse_sampler(text: str, frames: int) -> Sampler:
    """The frame sampler that a command line names: a strategy, or `fps=N`.

    `uniform`, `head-tail` and `random-spans` take `frames` frames; `keyframes` and `fps=N` take at most so many.

    Raises:
        UsageError: no such strategy, or no such rate.
    """
    from evlgen.video import Sampler

    strategy, has_value, value = text.partition("=")
    if strategy in ("fps", "keyframes"):
        return Sampler.parse(strategy, fps=value if has_value else None, max_frames=frames)
    return Sampler.parse(text, frames=frames)


_ROW_KEYS = {"max_new_tokens": "max_length", "min_new_tokens": "min_length"}
"""What rows call two of the decoding options; the others have their own names there."""

_ALWAYS_SAID = ("num_beams", *_ROW_KEYS)
_WHERE_OFF = {
    name: value for name, value in {**asdict(DecodingOptions()), "prompt": ""}.items() if name not in _ALWAYS_SAID
}
"""Values at which options are left out of a row, so that rows from before an option still count as done."""


@dataclass(frozen=True)
class CaptionSettings:
    """What a caption depends on, besides the video; attributes as of `CaptionRequest` and `ModelIdentity`."""

    model: str
    model_hash: str
    config_hash: str
    frames: int
    sampler: str
    backend: str
    strict: bool
    dtype: str
    decoding: DecodingOptions
    prompt: str = ""

    @property
    def hash(self) -> str:
        """64 bits, hexadecimal: the same for equal settings on every machine."""
        text = json.dumps(self.as_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """The settings as they stand in a row: without options that are off, so that a new one leaves hashes alone."""
        values = {**vars(self), **asdict(self.decoding)}
        del values["decoding"]
        return {_ROW_KEYS.get(key, key): value for key, value in values.items() if _WHERE_OFF.get(key, ...) != value}


def describe_difference(old: Mapping[str, object], new: Mapping[str, object]) -> str:
    """What changed between the settings of two rows, as `name old -> new, ...`."""
    options = {row_key: option for option, row_key in _ROW_KEYS.items()}
    old, new = ({**_WHERE_OFF, **{options.get(key, key): value for key, value in one.items()}} for one in (old, new))
    changed = [f"{key} {_shown(old[key])} -> {_shown(new[key])}" for key in new if key in old and old[key] != new[key]]
    return ", ".join(changed) or "of another version of evlgen"


def _shown(value: object) -> str:
    """A text with blanks, or without anything, in quotes: where it ends must be seen."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) and value.split() != [value] else str(value)

"""What a captioning run is asked to do, and what of it changes a caption; no torch here.

What only changes the speed (batch size, workers, deadline, device) is no part of the settings, so that a run may be
resumed on another machine.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlgen.arithmetic import DTYPES
from evlgen.captioners.evlgen_captioner import resolve_r
from evlgen.captioners.opening import CaptionerKind, kind_of
from evlgen.captioners.protocol import LoadOptions, ModelIdentity, ModelOptions
from evlgen.captioning.segmenting import Segments
from evlgen.captioning.video_shards import VideoShard
from evlgen.decoding_options import DecodingOptions, out_of_bounds
from evlgen.errors import UsageError
from evlgen.video.pool import FETCH_SECONDS, MOST_FETCHED_BYTES, MOST_SECONDS, MOST_WORKERS
from evlgen.video.sampler import FIXED_COUNT

if TYPE_CHECKING:
    from evlgen.video import Sampler

_BOUNDS: Mapping[str, tuple[float, float]] = {
    "frames": (1, 1000),
    "batch_size": (1, 10_000),
    "workers": (1, MOST_WORKERS),
    "limit": (1, 10**12),
    "min_confidence": (0, 1),
    "concurrency": (1, 1000),
}
LOAD_IN = ("8bit", "4bit")
_HALF = re.compile("[\ud800-\udfff]")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")


@dataclass(frozen=True)
class CaptionRequest(ModelOptions):
    """What to caption, how, and where to; other attributes as of `ModelOptions`.

    Attributes:
        sources: files, folders, globs and lists, see `evlgen.captioning.discover.find_videos`.
        out: output file; None hands rows to the listener only, and nothing is resumed.
        model: name, folder or hub name of the model.
        decoding: how captions are searched for.
        prompt: text that captions go on from, and hold what follows it, or what a model that chats is asked; for
            questions {} stands for the question.
        frames: frames a video; None for what the model was trained with.
        sampler: rule that picks them.
        backend: decoder.
        strict: a damaged file is an error; otherwise it is captioned from what can be decoded, with status "partial".
        batch_size: videos that go through the model together, halved when memory runs out; None: what suits the device.
        workers: decoding processes; None chooses.
        timeout_seconds: most time to decode one video.
        fetch_timeout_seconds: most time for a video that is elsewhere to come.
        fetch_gigabytes: most that such a video may have, in GB.
        limit: most videos to caption in this run; None for all.
        retry_failed: caption again what failed before.
        min_confidence: captions of less confidence get a warning in their line; None: none do.
        segments: caption parts of the videos, each by itself; None: whole videos.
        shard: caption this part of the videos only, into a file of its own beside `out`; what `out` holds is done.
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
    batch_size: int | None = None
    workers: int | None = None
    timeout_seconds: float = 60.0
    fetch_timeout_seconds: float = FETCH_SECONDS
    fetch_gigabytes: float = MOST_FETCHED_BYTES / 1e9
    limit: int | None = None
    retry_failed: bool = False
    min_confidence: float | None = None
    root: Path | None = None
    shard: VideoShard | None = None
    segments: Segments | None = None

    def __post_init__(self) -> None:
        problems = [*self.decoding.problems(), *out_of_bounds(self, _BOUNDS)]
        for name, seconds in (("--timeout", self.timeout_seconds), ("--fetch-timeout", self.fetch_timeout_seconds)):
            if not 0 < seconds <= MOST_SECONDS:
                problems.append(f"{name} {seconds} is not more than 0 and at most {MOST_SECONDS} seconds")
        if not 0 < self.fetch_gigabytes <= 1e6:
            problems.append(f"--fetch-gb {self.fetch_gigabytes} is not more than 0 and at most 1000000 GB")
        most = MOST_SECONDS
        if self.request_timeout_seconds is not None and not 0 < self.request_timeout_seconds <= most:
            problems.append(
                f"--request-timeout {self.request_timeout_seconds} is not more than 0 and at most {most} seconds"
            )
        for name, text in (("--prompt", self.prompt), ("--system-prompt", self.system_prompt)):
            if _HALF.search(text):
                problems.append(f"{name} is no text: it holds bytes that are not UTF-8")
        if self.load_in not in (None, *LOAD_IN):
            problems.append(f"--load-in {self.load_in} is unknown: there is {', '.join(LOAD_IN)}")
        if self.dtype not in ("auto", *DTYPES):
            problems.append(f"--dtype {self.dtype} is unknown: there is auto, {', '.join(DTYPES)}")
        if not _DEVICE.fullmatch(self.device):
            problems.append(f"--device {self.device} is unknown: there is auto, cpu, cuda, cuda:1, mps")
        if self.shard is not None and self.out is None:
            problems.append("--shard needs --out: each part has a file beside it")
        if self.retry_failed and self.out is None:
            problems.append("--retry-failed needs --out: the file that says what failed")
        if problems:
            raise UsageError("; ".join(problems))

    @property
    def journal(self) -> Path | None:
        """The file that is written."""
        return self.out if self.out is None or self.shard is None else self.shard.path_of(self.out)

    def resolve(self) -> tuple[ModelIdentity, CaptionSettings]:
        """The model and everything that changes a caption; loads no model.

        A dtype of `auto` stays one: see `evlgen.captioning.caption_plan.begun_dtype`.

        Raises:
            UsageError: the model or sampler does not exist.
        """
        self.kind.refuse(self.load_options(self.dtype, self.prompt))
        r = None if self.r is None else resolve_r(self.model, self.r)
        identity = self.kind.identify(self.model)
        if self.min_confidence is not None and identity.confidence is None:
            raise UsageError(
                f"--min-confidence: model {self.model} has no confidence", "evlgen models calibrate finds it"
            )
        frames = identity.frames_of(self.frames)
        sampler = parse_sampler(self.sampler, frames)
        if self.segments is not None and sampler.strategy not in FIXED_COUNT:
            raise UsageError(
                f"--segments takes a sampler of a fixed number of frames, and {self.sampler} is none",
                f"--sampler {', '.join(FIXED_COUNT)}",
            )
        settings = CaptionSettings(
            model=identity.id,
            model_hash=identity.hash,
            config_hash=identity.config_hash,
            frames=frames,
            sampler=self.sampler,
            backend=self.backend,
            strict=self.strict,
            dtype=self.dtype,
            prompt=self.prompt or identity.prompt,
            decoding=self.kind.search(self.decoding),
            system_prompt=self.system_prompt,
            load_in=self.load_in,
            trust_remote_code=self.trust_remote_code,
            r=r,
            licence=identity.licence,
            revision=identity.revision,
            segments=None if self.segments is None else self.segments.rule,
        )
        return identity, settings

    @property
    def kind(self) -> CaptionerKind:
        """The kind of captioner that `model` names."""
        return kind_of(self.model)

    def load_options(self, dtype: str, prompt: str) -> LoadOptions:
        """How the model is loaded, in an arithmetic and for a prompt that are decided."""
        most = self.decoding.max_new_tokens
        return LoadOptions(**{**self.model_options(), "dtype": dtype, "prompt": prompt, "max_new_tokens": most})


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
_OFF = {
    "prompt": "",
    "system_prompt": "",
    "load_in": None,
    "trust_remote_code": False,
    "r": None,
    "licence": None,
    "revision": None,
    "segments": None,
}
_WHERE_OFF = {name: value for name, value in {**asdict(DecodingOptions()), **_OFF}.items() if name not in _ALWAYS_SAID}
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
    system_prompt: str = ""
    load_in: str | None = None
    trust_remote_code: bool = False
    r: str | None = None
    licence: str | None = None
    revision: str | None = None
    segments: str | None = None

    @property
    def hash(self) -> str:
        """64 bits, hexadecimal: the same for equal settings on every machine.

        The licence is no part of it: a card that cannot be fetched must not make everything caption again.
        """
        text = json.dumps(replace(self, licence=None).as_dict(), sort_keys=True)
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

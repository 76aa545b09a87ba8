"""A decoder and a model that cost nothing, so that everything between them can be tested in milliseconds.

A fake video is a small JSON file: {"text": caption, "frames": 4, "fail": kind, "raise": message, "sleep": seconds,
"touch": file, "partial": true}. The decoder hides the JSON in the pixels; the model reads it from there, so nothing can
get mixed up.
"""

import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from evlgen.captioners import evlgen_captioner, opening
from evlgen.captioners.protocol import Caption, ModelFacts, ModelIdentity, PromptedClip
from evlgen.captioning import Listener, caption_plan, caption_run, journal
from evlgen.decoding_options import DecodingOptions
from evlgen.system.remote_files import RemoteFile
from evlgen.video import ClipFrames, DecodeFailure, Parts, VideoInfo
from evlgen.video.content_fingerprint import content_fingerprint_or_none
from evlgen.video.remote_videos import fetch

INFO = VideoInfo("mp4", "h264", 64, 48, 0, Fraction(2), 50, Fraction(25), 1, False)


def write_video(path: Path, text: str | None = None, **fields: Any) -> Path:
    """A fake video; its caption is `text`, by default what its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"text": f"caption of {path.stem}" if text is None else text, **fields}))
    return path


class FakeDecoder:
    """Answers at once, in the order given."""

    taken = 0

    def map(self, files: Iterable[Path | Parts], idle_seconds: float) -> Iterator[ClipFrames | DecodeFailure | None]:
        for file in files:
            if isinstance(file, Parts) and file.source is not None:
                yield from self._fetched(file, file.source, idle_seconds)
                continue
            assert isinstance(file, Path)
            for result in self._decode([file], idle_seconds):
                yield result and replace(result, fingerprint=content_fingerprint_or_none(result.path))

    def _fetched(self, file: Parts, source: RemoteFile, idle_seconds: float) -> Iterator[Any]:
        """As a child does it, in this process, which alone has what is in fsspec's memory."""
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / file.path.name
            fetched = fetch(source, file.path, local, 10**6)
            if fetched.failure is not None:
                yield fetched.failure
                return
            for result in self._decode([local], idle_seconds):
                yield result and replace(result, path=file.path, fingerprint=fetched.fingerprint)

    def _decode(self, paths: Iterable[Path], idle_seconds: float) -> Iterator[ClipFrames | DecodeFailure | None]:
        for path in paths:
            self.taken += 1
            try:
                content = path.read_bytes()
                fields = json.loads(content)
            except FileNotFoundError:
                yield DecodeFailure(path, "missing", f"{path}: no such file")
                continue
            except ValueError:
                yield DecodeFailure(path, "decode-error", f"{path}: not a video")
                continue
            for _ in range(round(fields.get("decode_sleep", 0) / idle_seconds)):
                time.sleep(idle_seconds)
                yield None
            if kind := fields.get("fail"):
                yield DecodeFailure(path, kind, f"{path}: made to fail")
                continue
            frames = fields.get("frames", 4)
            pixels = np.zeros((frames, 1, 256, 3), dtype=np.uint8)
            pixels[1:] = 30 + 50 * (np.arange(1, frames) % 4)[:, None, None, None]  # neither black nor still
            pixels[0].reshape(-1)[: len(content)] = np.frombuffer(content, dtype=np.uint8)
            times = tuple(Fraction(index, 2) for index in range(frames))
            partial = fields.get("partial", False)
            warnings = ("the end is damaged",) if partial else ()
            yield ClipFrames(path, pixels, tuple(range(frames)), times, INFO, partial, warnings)


class FakeCaptioner:
    """Captions with the text in the pixels; fails when told so by a clip, or when a batch is too large."""

    batch_size = 16

    def __init__(self, memory_clips: int = 1000) -> None:
        self.on_tokens: Callable[[int], None] = lambda count: None
        self.memory_clips = memory_clips
        self.batches: list[list[str]] = []
        self.releases = 0
        self.decoder = FakeDecoder()

    def caption(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[Caption]:
        assert len({len(clip.frames) for clip in clips}) == 1, "one frame count a batch"
        fields = [json.loads(bytes(clip.frames[0].reshape(-1)).rstrip(b"\0")) for clip in clips]
        self.batches.append([one["text"] for one in fields])
        if len(clips) > self.memory_clips:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        self.on_tokens(len(clips))
        for one in fields:
            if "touch" in one:
                Path(one["touch"]).touch()
            time.sleep(one.get("sleep", 0))
            if "raise" in one:
                raise ValueError(one["raise"])
        return [Caption(one["text"], -1.5, 4) for one in fields]

    def release_memory(self) -> None:
        self.releases += 1

    def facts(self) -> ModelFacts:
        return ModelFacts(parameters=1000, language_parameters=600, visual_tokens=7, peak_memory_bytes=5_000_000)


def question_in(prompt: str) -> str:
    """The question of a prompt such as "Question: Is it a dog? Short answer:"."""
    found = re.fullmatch(r"(?:Question|Q): (.*) (?:Short answer|A):", prompt)
    assert found, prompt
    return found[1]


def identify(model: str) -> ModelIdentity:
    """Any name is a model."""
    return ModelIdentity(model, f"hash-of-{model}", "config", 4, 32)


def install(set_attribute: Callable[[Any, str, Any], None], captioner: FakeCaptioner, *, decoder: bool = True) -> None:
    """Put the fakes where the run looks for the real ones."""

    @contextmanager
    def open_fake_decoder(*args: Any) -> Iterator[FakeDecoder]:
        yield captioner.decoder

    set_attribute(evlgen_captioner, "load_captioner", lambda *args, **options: captioner)
    set_attribute(evlgen_captioner, "identify_model", identify)
    set_attribute(opening, "local_dtype", lambda dtype, *machine: "float32" if dtype == "auto" else dtype)
    if decoder:
        set_attribute(caption_run, "open_decoder", open_fake_decoder)
        set_attribute(
            caption_plan,
            "content_fingerprints",
            lambda paths, timeout: {path: content_fingerprint_or_none(path) for path in paths},
        )


def slow_writes(set_attribute: Callable[[Any, str, Any], None], chunk_bytes: int, pause_seconds: float) -> None:
    """Let every line trickle to the disk, so that a kill hits the middle of one."""

    def write(descriptor: int, data: Any) -> int:
        time.sleep(pause_seconds)
        return os.write(descriptor, bytes(data)[:chunk_bytes])

    patched = type("PatchedOs", (), {"__getattr__": lambda self, name: getattr(os, name), "write": staticmethod(write)})
    set_attribute(journal, "os", patched())


def stop_after(count: int) -> tuple[Listener, threading.Event]:
    """A listener that asks the run to stop after so many rows."""
    stop = threading.Event()

    class Stopper(Listener):
        rows = 0

        def on_row(self, row: Any) -> None:
            self.rows += 1
            if self.rows == count:
                stop.set()

    return Stopper(), stop


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Every line of an output file; all must be whole."""
    data = path.read_bytes()
    assert data == b"" or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]

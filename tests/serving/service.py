"""A server in a thread around a captioner that reads the grey of the first frame."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np
from PIL import Image

from evlgen.captioners.opening import CaptionerKind
from evlgen.captioners.protocol import Caption, ModelFacts, ModelIdentity, PromptedClip
from evlgen.decoding_options import DecodingOptions
from evlgen.serving import server
from evlgen.serving.limits import Limits


class GreyCaptioner:
    """Says the grey of each frame, what it was asked, and with which seed."""

    batch_size = 16
    loaded = None

    def __init__(self, seconds: float = 0.0) -> None:
        self.on_tokens: Callable[[int], None] = lambda count: None
        self.seconds = seconds
        self.batches: list[int] = []

    def caption(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[Caption]:
        self.batches.append(len(clips))
        time.sleep(self.seconds)
        seeds = options.seed if isinstance(options.seed, Sequence) else [None] * len(clips)
        return [self._one(clip, options, seed) for clip, seed in zip(clips, seeds, strict=True)]

    def _one(self, clip: PromptedClip, options: DecodingOptions, seed: int | None) -> Caption:
        greys = ",".join(str(round(float(frame.mean()))) for frame in clip.frames)
        if greys == "13":
            raise ValueError("thirteen")
        text = f"grey {greys}" + (f" after {clip.prompt}" if clip.prompt else "")
        if options.do_sample:
            text += f" seed {seed} at {options.temperature}"
        others = tuple(Caption(f"other {n}", -2.0, 3) for n in range(1, options.num_captions))
        return Caption(text, -1.5, min(4, options.max_new_tokens), others)

    def release_memory(self) -> None:
        pass

    def facts(self) -> ModelFacts:
        return ModelFacts()


@dataclass(frozen=True)
class _Kind(CaptionerKind):
    captioner: Any = None

    def identify(self, model: str) -> ModelIdentity:
        return ModelIdentity(model, "hash", "config", 3, 32)

    def resolve_dtype(self, dtype: str, device: str) -> str:
        return "float32"

    def load(self, *args: Any) -> Any:
        return self.captioner


@dataclass
class Running:
    """A server that can be called.

    Attributes:
        url: without a path.
        captioner: the model.
        notes: what it told.
        stop: ends it.
    """

    url: str
    captioner: GreyCaptioner
    notes: list[str]
    stop: threading.Event
    thread: threading.Thread = field(repr=False)
    client: httpx2.Client = field(repr=False)

    def post(self, path: str, body: Any, **options: Any) -> httpx2.Response:
        return self.client.post(path, json=body, **options)

    def chat(self, *content: dict[str, Any], **more: Any) -> httpx2.Response:
        body = {"model": "grey", "messages": [{"role": "user", "content": list(content)}], **more}
        return self.post("/v1/chat/completions", body)


@contextmanager
def running(
    monkeypatch: Any, captioner: GreyCaptioner | None = None, limits: Limits | None = None, **options: Any
) -> Iterator[Running]:
    """A server on a free port; ended and waited for behind the block."""
    captioner = captioner or GreyCaptioner()
    kind = _Kind("grey models", "nowhere", captioner=captioner)
    monkeypatch.setattr(server, "kind_of", lambda model: kind)
    monkeypatch.setattr(server, "EVLGEN", kind)
    stop, ready, found = threading.Event(), threading.Event(), [""]
    notes: list[str] = []

    def on_ready(name: str, url: str) -> None:
        found[0] = url
        ready.set()

    request = server.ServeRequest("grey", port=0, workers=1, limits=limits or Limits(), **options)
    thread = threading.Thread(target=server.serve, args=(request, stop, on_ready, notes.append), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        with httpx2.Client(base_url=found[0], timeout=60, verify=False) as client:  # certificates take time to read
            yield Running(found[0], captioner, notes, stop, thread, client)
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


def jpeg(grey: int, side: int = 16) -> bytes:
    """A grey picture."""
    held = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), grey, np.uint8)).save(held, "JPEG", quality=95)
    return held.getvalue()


def base64_of(content: bytes) -> str:
    """As it stands in JSON."""
    return base64.b64encode(content).decode()


def image_block(content: bytes) -> dict[str, Any]:
    """A picture in OpenAI's layout."""
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{base64_of(content)}"}}


def video_block(content: bytes, kind: str = "video/mp4") -> dict[str, Any]:
    """A video in vLLM's layout."""
    return {"type": "video_url", "video_url": {"url": f"data:{kind};base64,{base64_of(content)}"}}


def text_block(text: str) -> dict[str, Any]:
    """What a user says."""
    return {"type": "text", "text": text}

"""What a request asks for, out of OpenAI's layout or Ollama's: media, the text to go on from, and how to decode.

Media come inside the request, as data URLs or base64. Anything else (http://, file://, a path) is refused: the server
fetches nothing and opens none of its own files. Several pictures are the frames of one video.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from evlgen.decoding_options import DecodingOptions
from evlgen.serving.limits import Limits, RefusedError
from evlgen.system.names import printable

_ONLY_DATA = "only data: URLs are taken: this server fetches nothing and opens no files"
_SHOWN_LETTERS = 80


@dataclass(frozen=True)
class Question:
    """What one request asks for.

    Attributes:
        model: as the request calls it.
        media: contents of files: pictures, which are the frames of one clip, or one video.
        text: what the user says.
        beginning: what the answer is to go on from.
        decoding: how captions are searched for; of samples the seed.
        stream: the answer is wanted in pieces.
    """

    model: str
    media: tuple[bytes, ...] = field(repr=False)
    text: str
    beginning: str
    decoding: DecodingOptions
    stream: bool


class _Url(BaseModel):
    url: str


class _Part(BaseModel):
    type: str
    text: str = ""
    image_url: _Url | None = None
    video_url: _Url | None = None


class _Message(BaseModel):
    role: str
    content: str | list[_Part] | None = None


class ChatRequest(BaseModel):
    """The fields of OpenAI's chat completions that mean something here; others are ignored."""

    model: str
    messages: list[_Message]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    stream: bool | None = None


class _OllamaOptions(BaseModel):
    num_predict: int | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None


class GenerateRequest(BaseModel):
    """The fields of Ollama's generate that mean something here; others are ignored."""

    model: str
    prompt: str = ""
    images: list[str] = []
    stream: bool = True
    options: _OllamaOptions = _OllamaOptions()


def parse_chat(body: Any, limits: Limits, usual: DecodingOptions) -> Question:
    """The question in a request of OpenAI's.

    Raises:
        RefusedError: it is none, or asks for too much.
    """
    request: ChatRequest = _validated(ChatRequest, body)
    parts = [part for one in request.messages if one.role == "user" for part in _parts(one)]
    urls: list[tuple[Literal["image", "video"], str]] = []
    for part in parts:
        if part.type == "image_url" and part.image_url is not None:
            urls.append(("image", part.image_url.url))
        elif part.type == "video_url" and part.video_url is not None:
            urls.append(("video", part.video_url.url))
        elif part.type != "text":
            raise RefusedError(400, f"content of type {_short(part.type)!r}: there is text, image_url and video_url")
    videos = [url for kind, url in urls if kind == "video"]
    if videos and len(urls) > 1:
        raise RefusedError(400, f"{len(urls)} pictures and videos: expected one video, or pictures of one clip")
    media = _of_video(videos[0], limits) if videos else _of_pictures([url for _, url in urls], limits)
    last = request.messages[-1] if request.messages else _Message(role="user")
    return Question(
        request.model,
        media,
        " ".join(part.text for part in parts if part.text),
        " ".join(part.text for part in _parts(last)) if last.role == "assistant" else "",
        _decoding(
            usual,
            limits,
            request.max_completion_tokens or request.max_tokens,
            request.temperature,
            request.top_p,
            request.seed,
            request.n or 1,
        ),
        bool(request.stream),
    )


def parse_generate(body: Any, limits: Limits, usual: DecodingOptions) -> Question:
    """The question in a request of Ollama's.

    Raises:
        RefusedError: it is none, or asks for too much.
    """
    request: GenerateRequest = _validated(GenerateRequest, body)
    _check_count(len(request.images), limits)
    media = tuple(_decoded(text.removeprefix("data:image/jpeg;base64,")) for text in request.images)
    options = request.options
    tokens = options.num_predict if options.num_predict is not None and options.num_predict > 0 else None
    decoding = _decoding(usual, limits, tokens, options.temperature, options.top_p, options.seed, 1)
    return Question(request.model, media, request.prompt, "", decoding, request.stream)


def _validated(kind: Any, body: Any) -> Any:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(_short(str(one)) for one in first["loc"]) or "the request"
        raise RefusedError(400, f"{where}: {first['msg']}") from None


def _parts(message: _Message) -> list[_Part]:
    content = message.content
    return content if isinstance(content, list) else [_Part(type="text", text=content or "")]


def _decoding(
    usual: DecodingOptions,
    limits: Limits,
    tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    count: int,
) -> DecodingOptions:
    """Without a temperature, or with 0, the usual search; above it samples, whose seed is drawn if none is given."""
    wanted = usual.with_given(max_new_tokens=min(tokens or usual.max_new_tokens, limits.most_new_tokens))
    wanted = wanted.with_given(num_captions=count, num_beams=max(usual.num_beams, count))
    if temperature:
        drawn = secrets.randbits(31) if seed is None else seed & 0x7FFFFFFF
        wanted = wanted.with_given(do_sample=True, num_beams=1, temperature=temperature, top_p=top_p, seed=drawn)
    if problems := list(wanted.problems()):
        raise RefusedError(400, "; ".join(problems))
    return wanted


def _of_pictures(urls: list[str], limits: Limits) -> tuple[bytes, ...]:
    _check_count(len(urls), limits)
    return tuple(_decoded(_data(url)[1]) for url in urls)


def _of_video(url: str, limits: Limits) -> tuple[bytes, ...]:
    """One file; or, as vLLM has it, frames in JPEG with commas between."""
    kind, text = _data(url)
    if kind.startswith("video/jpeg"):
        frames = text.split(",")
        _check_count(len(frames), limits)
        return tuple(map(_decoded, frames))
    return (_decoded(text),)


def _check_count(count: int, limits: Limits) -> None:
    if count == 0:
        raise RefusedError(400, "there is no picture and no video in the request")
    if count > limits.most_frames:
        raise RefusedError(413, f"{count} pictures are more than {limits.most_frames}")


def _data(url: str) -> tuple[str, str]:
    """Type and base64 text of a data URL."""
    head, comma, text = url.partition(",")
    if not head.startswith("data:") or not comma:
        raise RefusedError(400, f"{_short(url)!r} is refused: {_ONLY_DATA}")
    if not head.endswith(";base64"):
        raise RefusedError(400, f"{_short(head)!r}: expected base64")
    return head.removeprefix("data:"), text


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedError(400, f"{_short(text)!r} is no base64: {_ONLY_DATA}") from None


def _short(text: str) -> str:
    text = printable(text[: _SHOWN_LETTERS + 1])
    return text if len(text) <= _SHOWN_LETTERS else text[:_SHOWN_LETTERS] + "…"

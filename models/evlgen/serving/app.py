"""The addresses of a server, in OpenAI's layout and in Ollama's."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from evlgen.captioners.protocol import Caption, ModelIdentity, PromptedClip
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import EvlgenError
from evlgen.serving.batching import Batcher
from evlgen.serving.chat import Question, parse_chat, parse_generate
from evlgen.serving.limits import Limits, RefusedError
from evlgen.serving.request_media import MediaDecoder
from evlgen.system.jsons import JsonError, parse_json

_BUSY_SECONDS = 2
_DRAINED_BODIES = 4
Parser = Callable[[Any, Limits, DecodingOptions], Question]


@dataclass(frozen=True)
class Service:
    """What answers.

    Attributes:
        name: of the model, for those who ask.
        identity: of the model.
        decoder: makes frames of media.
        batcher: has the model.
        limits: of requests.
        decoding: how captions are searched for, where a request does not say.
        use_prompts: what users say is what the model is asked; otherwise it sees an assistant's beginning only.
        token: what callers must know; empty: anybody may call.
    """

    name: str
    identity: ModelIdentity
    decoder: MediaDecoder
    batcher: Batcher
    limits: Limits
    decoding: DecodingOptions
    use_prompts: bool
    token: str


def make_app(service: Service, hosts: list[str]) -> FastAPI:
    """The application.

    Args:
        service: what answers.
        hosts: names under which it may be called; empty: any. A page in a browser that has its own name lead here is
            thereby refused.
    """
    app = FastAPI(openapi_url=None)
    if hosts:
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    front = _Front(service)

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        headers = {} if error.retry_seconds is None else {"retry-after": str(error.retry_seconds)}
        if error.status == 401:
            headers["www-authenticate"] = "Bearer"
        body: Any = {"error": error.message}
        if not request.url.path.startswith("/api/"):
            kind = "invalid_request_error" if error.status < 500 else "server_error"
            body = {"error": {"message": error.message, "type": kind, "param": None, "code": None}}
        return JSONResponse(body, error.status, headers)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "under_way": front.under_way, **asdict(service.batcher.counts)}

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        front.check_token(request)
        return {"object": "list", "data": [{"id": service.name, "object": "model", "created": 0, "owned_by": "evlgen"}]}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        question, caption = await front.answer(request, parse_chat)
        if question.stream:
            return StreamingResponse(_events(service.name, caption), media_type="text/event-stream")
        return JSONResponse(_completion(service.name, caption))

    @app.get("/api/tags")
    async def tags(request: Request) -> dict[str, Any]:
        front.check_token(request)
        return {"models": [_tag(service)]}

    @app.get("/api/version")
    async def version() -> dict[str, str]:
        return {"version": "0.0.0"}

    @app.post("/api/generate")
    async def generate(request: Request) -> Response:
        started = time.monotonic_ns()
        question, caption = await front.answer(request, parse_generate)
        lines = _ollama_lines(service.name, caption, time.monotonic_ns() - started)
        if question.stream:
            return Response("".join(json.dumps(line) + "\n" for line in lines), media_type="application/x-ndjson")
        return JSONResponse({**lines[-1], "response": caption.text})

    return app


class _Front:
    """Lets requests in, as many as there is room for, and takes them through decoding and the model."""

    def __init__(self, service: Service) -> None:
        self.under_way = 0
        self._bytes = 0
        self._service = service
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="evlgen-media")

    def check_token(self, request: Request) -> None:
        """Raise a RefusedError for who does not know the token; where there is none, for web pages.

        A page of any site may send a request here, though it cannot read the answer; browsers say where it comes from.
        """
        if not self._service.token:
            if "origin" in request.headers:
                raise RefusedError(403, "web pages may not call a server without a token (EVLGEN_SERVE_TOKEN)")
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._service.token.encode()):
            raise RefusedError(401, "the token is missing or wrong: send it as Authorization: Bearer TOKEN")

    async def answer(self, request: Request, parse: Parser) -> tuple[Question, Caption]:
        """The caption that a request asks for.

        Raises:
            RefusedError: there is none.
        """
        self.check_token(request)
        limits = self._service.limits
        if self.under_way >= limits.most_requests:
            raise RefusedError(429, f"{self.under_way} requests are under way, as many as fit", _BUSY_SECONDS)
        self.under_way += 1
        held = bytearray()
        deadline = time.monotonic() + limits.request_seconds
        try:
            async with asyncio.timeout(limits.request_seconds):
                await self._read(request, held)
                question = await self._in_thread(_parsed, bytes(held), parse, limits, self._service.decoding)
                self._forget(held)
                self._check_model(question.model)
                frames, times = await self._in_thread(self._service.decoder.decode, question.media)
                clip = PromptedClip(frames, times, self._prompt(question))
                caption = self._service.batcher.submit(clip, question.decoding, deadline)
                return question, await _arrived(caption)
        except TimeoutError:
            raise RefusedError(504, f"no answer within {limits.request_seconds:g} seconds") from None
        except asyncio.CancelledError:  # by uvicorn, when the time that is left to requests under way is over
            raise RefusedError(503, "the server is stopping", _BUSY_SECONDS) from None
        except EvlgenError as error:
            raise RefusedError(500, error.what) from error
        finally:
            self.under_way -= 1
            self._forget(held)

    def _forget(self, held: bytearray) -> None:
        self._bytes -= len(held)
        held.clear()

    async def _read(self, request: Request, held: bytearray) -> None:
        """Take the body in, piece by piece; one that is too large is read to its end within reason, and not kept."""
        limits, size, dropped = self._service.limits, 0, ""
        stated = request.headers.get("content-length", "0")
        most = limits.body_bytes
        if stated.isdecimal() and int(stated) > _DRAINED_BODIES * most:
            raise RefusedError(413, f"a request of {int(stated) >> 20} MB is more than {limits.most_body_mb} MB")
        async for piece in request.stream():
            size += len(piece)
            if size > _DRAINED_BODIES * most:
                break
            if size > most:
                dropped = f"the request is more than {limits.most_body_mb} MB"
            if dropped:
                self._forget(held)
                continue
            if self._bytes + len(piece) > limits.all_bodies_bytes:
                raise RefusedError(429, "the requests under way are too large together", _BUSY_SECONDS)
            held += piece
            self._bytes += len(piece)
        if dropped:
            raise RefusedError(413, dropped)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _check_model(self, asked: str) -> None:
        if asked.removesuffix(":latest") not in (self._service.name, self._service.identity.id):
            raise RefusedError(404, f"there is no model of that name here: it is called {self._service.name}")

    def _prompt(self, question: Question) -> str:
        said = question.text if self._service.use_prompts else ""
        return question.beginning or said or self._service.identity.prompt


async def _arrived(caption: Future[Caption]) -> Caption:
    """The caption; given up with whoever waits for it. asyncio's own bridge complains when its loop is gone."""
    loop = asyncio.get_running_loop()
    known = asyncio.Event()

    def tell(_: object) -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(known.set)

    caption.add_done_callback(tell)
    try:
        await known.wait()
    finally:
        caption.cancel()
    return caption.result()


def _parsed(body: bytes, parse: Parser, limits: Limits, usual: DecodingOptions) -> Question:
    try:
        return parse(parse_json(body, "the request"), limits, usual)
    except JsonError as error:
        raise RefusedError(400, error.what) from None


def _completion(name: str, caption: Caption) -> dict[str, Any]:
    tokens = caption.token_count or 0
    return {
        **_head(name, "chat.completion"),
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": one.text},
                "logprobs": None,
                "finish_reason": "stop",
                "log_probability": one.log_probability,
                "token_count": one.token_count,
            }
            for index, one in enumerate((caption, *caption.alternatives))
        ],
        "usage": {"prompt_tokens": 0, "completion_tokens": tokens, "total_tokens": tokens},
    }


async def _events(name: str, caption: Caption) -> AsyncIterator[str]:
    """The caption word by word; it is all there before the first."""
    head = _head(name, "chat.completion.chunk")

    def event(delta: dict[str, str], index: int, finish: str | None = None) -> str:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"

    for index, one in enumerate((caption, *caption.alternatives)):
        yield event({"role": "assistant", "content": ""}, index)
        for piece in _pieces(one.text):
            yield event({"content": piece}, index)
        yield event({}, index, "stop")
    yield "data: [DONE]\n\n"


def _head(name: str, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": name}


def _pieces(text: str) -> list[str]:
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]


def _ollama_lines(name: str, caption: Caption, nanoseconds: int) -> list[dict[str, Any]]:
    def line(text: str, **more: Any) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return {"model": name, "created_at": now, "response": text, "done": bool(more), **more}

    end = line("", done_reason="stop", total_duration=nanoseconds, eval_count=caption.token_count or 0)
    return [*(line(piece) for piece in _pieces(caption.text)), end]


def _tag(service: Service) -> dict[str, Any]:
    details = {"family": "evlgen", "families": ["evlgen"], "format": "safetensors"}
    return {
        "name": service.name,
        "model": service.name,
        "modified_at": "1970-01-01T00:00:00Z",
        "size": 0,
        "digest": service.identity.hash,
        "details": details,
    }

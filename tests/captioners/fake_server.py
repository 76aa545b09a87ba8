"""A server that speaks OpenAI's chat protocol, with faults: what a test hands it decides about every answer."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

MODEL = "some/model:7b"


def chat_answer(text: str | None, logs: list[float] | None = None, **more: Any) -> dict[str, Any]:
    """What OpenAI's server says."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if logs is not None:
        choice["logprobs"] = {"content": [{"token": "x", "logprob": log, "top_logprobs": []} for log in logs]}
    return {"id": "1", "object": "chat.completion", "choices": [choice | more], "usage": {"completion_tokens": 7}}


class Faulty:
    """An answer that is not one.

    Args:
        status: of the answer.
        body: its body, text or a value for JSON.
        headers: more of them.
        close: end the connection without an answer.
        cut_bytes: leave out so much of the end of the body, which is then shorter than announced.
        hang_seconds: wait before anything.
        trickle: send a byte now and then, for ever.
    """

    def __init__(
        self,
        status: int = 200,
        body: Any = "",
        headers: dict[str, str] | None = None,
        *,
        close: bool = False,
        cut_bytes: int = 0,
        hang_seconds: float = 0.0,
        trickle: bool = False,
    ) -> None:
        self.status, self.headers, self.close, self.cut_bytes = status, headers or {}, close, cut_bytes
        self.hang_seconds, self.trickle = hang_seconds, trickle
        self.body = body if isinstance(body, str) else json.dumps(body)


Answer = Callable[[dict[str, Any], int], Any]
"""Given a request and its number, from 0: a value for JSON, or a `Faulty`."""


class FakeServer(ThreadingHTTPServer):
    """Keeps what it was asked in `requests` and `headers`, and the most requests that it had at a time in `most`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Answer, models: Any, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.answer, self.models = answer, models
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()
        self.running = self.most = 0
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def model(self) -> str:
        return f"openai:{MODEL}@{self.url}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a body may wait 40 ms behind its headers
    server: FakeServer

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._note({"path": self.path})
        self._send(self.server.models if self.path == "/v1/models" else Faulty(404, "nothing here"))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            number = sum("messages" in one for one in self.server.requests)
            self._note(body)
            self.server.running += 1
            self.server.most = max(self.server.most, self.server.running)
        try:
            found = self.server.answer(body, number)
        finally:
            with self.server.lock:
                self.server.running -= 1
        self._send(found)

    def _note(self, body: dict[str, Any]) -> None:
        self.server.requests.append(body)
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})

    def _send(self, found: Any) -> None:
        fault = found if isinstance(found, Faulty) else Faulty(body=found)
        self.server.ended.wait(fault.hang_seconds)
        if fault.close or self.server.ended.is_set():
            self.close_connection = True
            return
        content = fault.body.encode()
        self.send_response(fault.status)
        for name, value in {"content-type": "application/json", **fault.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(10**6 if fault.trickle else len(content)))
        self.end_headers()
        while fault.trickle and not self.server.ended.wait(0.02):
            self.wfile.write(b" ")
            self.wfile.flush()
        self.wfile.write(content[: len(content) - fault.cut_bytes])
        if fault.cut_bytes:
            self.close_connection = True


@contextmanager
def serving(answer: Answer, models: Any = None, port: int = 0) -> Iterator[FakeServer]:
    """A server in a thread; on any port that is free, if none is named."""
    listed = {"object": "list", "data": [{"id": MODEL, "object": "model"}]} if models is None else models
    server = FakeServer(answer, listed, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def pictures(body: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    """The frames in a request, as images or as vLLM's video."""
    found = []
    for block in body["messages"][-1]["content"]:
        if block["type"] == "image_url":
            head, texts = block["image_url"]["url"].split(",", 1)
            assert head == "data:image/jpeg;base64"
        elif block["type"] == "video_url":
            head, texts = block["video_url"]["url"].split(",", 1)
            assert head == "data:video/jpeg;base64"
        else:
            continue
        found += [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in texts.split(",")]
    return found


def number_in(body: dict[str, Any]) -> int:
    """The number that `frames_of` hid in the brightness of the first frame: survives JPEG."""
    return round(float(pictures(body)[0].mean()))


def frames_of(number: int, count: int = 2) -> np.ndarray[Any, Any]:
    """Grey frames of one brightness."""
    return np.full((count, 16, 24, 3), number, np.uint8)

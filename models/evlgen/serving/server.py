"""From start to stop: load the model, take the port, answer until told to stop, finish what is under way."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evlgen.captioners.opening import EVLGEN, kind_of
from evlgen.captioners.protocol import LoadOptions
from evlgen.captioning.caption_run import default_workers
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import EvlgenError, UsageError
from evlgen.serving.limits import Limits
from evlgen.system.progress import ProgressCallback

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP_SECONDS = 8
"""How long requests under way may take after the order to stop: who gives it kills after ten."""
_LAST_SECONDS = 1.0
_BACKLOG = 1024


@dataclass(frozen=True)
class ServeRequest:
    """What to serve, and where.

    Attributes:
        model: name, folder or hub name.
        host: address to listen on; other machines reach it unless it is a loopback address.
        port: 0 for any that is free.
        decoding: how captions are searched for, where a request does not say.
        frames: of a clip; None for what the model was trained with.
        batch_size: clips that go through the model together; None: what suits the model.
        workers: decoding processes; None chooses.
        use_prompts: what users say is what the model is asked; None: of models that are asked something by nature.
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: auto, float32, bfloat16, float16.
        limits: of requests.
    """

    model: str = "evlgen-mini"
    host: str = "127.0.0.1"
    port: int = 8000
    decoding: DecodingOptions = DecodingOptions()  # noqa: RUF009 - frozen
    frames: int | None = None
    batch_size: int | None = None
    workers: int | None = None
    use_prompts: bool | None = None
    device: str = "auto"
    dtype: str = "auto"
    limits: Limits = Limits()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        problems = [*self.decoding.problems()]
        if not 0 <= self.port <= 65535:
            problems.append(f"--port {self.port} is not 0 to 65535")
        for name, value in (("frames", self.frames), ("batch-size", self.batch_size), ("workers", self.workers)):
            if value is not None and not 1 <= value <= 1000:
                problems.append(f"--{name} {value} is not 1 to 1000")
        if kind_of(self.model).elsewhere:
            problems.append(f"--model {self.model} is behind a server already")
        if problems:
            raise UsageError("; ".join(problems))


def serve(
    request: ServeRequest,
    stop: threading.Event,
    on_ready: Callable[[str, str], None],
    note: Callable[[str], None],
    report: ProgressCallback | None = None,
) -> None:
    """Answer requests until `stop` is set; those under way then are answered.

    Args:
        request: what to serve, and where.
        stop: set from anywhere.
        on_ready: told the model's name and the server's URL when it can be called.
        note: told what people should know, in one line.
        report: told about downloads.

    Raises:
        UsageError: no such model or device, or the address is none of this machine.
        EvlgenError: FastAPI and uvicorn are not installed, or the port is taken.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise EvlgenError(f"evlgen serve needs {error.name}", "pip install 'evlgen[serve]'") from error
    from evlgen.serving.app import Service, make_app
    from evlgen.serving.batching import Batcher
    from evlgen.serving.request_media import MediaDecoder

    token = os.environ.get("EVLGEN_SERVE_TOKEN", "").strip()
    with ExitStack() as stack:
        listening = stack.enter_context(_listen(request.host, request.port))
        local = _is_loopback(listening)
        kind = kind_of(request.model)
        identity = kind.identify(request.model)
        dtype = kind.resolve_dtype(request.dtype, request.device)
        frames = identity.frames_of(request.frames)
        decoder = stack.enter_context(
            MediaDecoder(identity, request.limits, request.workers or default_workers(), frames)
        )
        options = LoadOptions(request.device, dtype, identity.prompt, request.limits.most_new_tokens)
        captioner = kind.load(request.model, options, report)
        batch_size = request.batch_size or captioner.batch_size
        batcher = Batcher(captioner, batch_size, request.limits.most_requests, note)
        use_prompts = kind is not EVLGEN if request.use_prompts is None else request.use_prompts
        service = Service(identity.id, identity, decoder, batcher, request.limits, request.decoding, use_prompts, token)
        hosts = ["localhost", "127.0.0.1", "[::1]", request.host] if local and not token else []
        config = uvicorn.Config(
            make_app(service, hosts),
            log_level="error",
            access_log=False,
            server_header=False,
            limit_concurrency=8 * request.limits.most_requests,
            timeout_graceful_shutdown=STOP_SECONDS,
        )

        class Server(uvicorn.Server):
            """Signals are the command's business; it sets the event."""

            @contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield

            async def on_tick(self, counter: int) -> bool:
                return stop.is_set() or await super().on_tick(counter)

        if not local and not token:
            note(
                f"warning: other machines can reach {request.host}, and there is no token: set EVLGEN_SERVE_TOKEN, or "
                "leave --host away"
            )
        host, port = listening.getsockname()[:2]
        on_ready(service.name, f"http://{f'[{host}]' if ':' in host else host}:{port}")
        try:
            asyncio.run(Server(config).serve(sockets=[listening]))
        finally:
            batcher.close(_LAST_SECONDS)


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """A socket on which nobody else listens; taken before the model is loaded, so that a taken port costs no time."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(f"--host {host} is no address: {error.strerror or error}", "such as 127.0.0.1") from error
    with socket.socket(family, kind, protocol) as opened:
        if os.name != "nt":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind(address)
            opened.listen(_BACKLOG)
        except OSError as error:
            raise EvlgenError(
                f"cannot listen on port {port} of {host}: {error.strerror or error}", "choose another --port or --host"
            ) from error
        yield opened


def _is_loopback(listening: socket.socket) -> bool:
    return ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback

"""`evlgen serve`: parses, calls `evlgen.serving.server.serve`, and says where it can be reached."""

from contextlib import ExitStack
from threading import Event
from typing import Annotated

import typer

from evlgen.decoding_options import DecodingOptions
from evlgen.serving.limits import Limits
from evlgen.serving.server import ServeRequest
from evlgen_cli.console import download_progress, err
from evlgen_cli.options import DeviceOption, DtypeOption, FramesOption, ModelOption, NumBeamsOption, WorkersOption
from evlgen_cli.signals import stop_on_signals


def serve(
    model: ModelOption = ServeRequest.model,
    host: Annotated[
        str, typer.Option(help="Address to listen on; other machines can reach any but a loopback address.")
    ] = ServeRequest.host,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes one that is free.")] = ServeRequest.port,
    num_beams: NumBeamsOption = DecodingOptions.num_beams,
    max_new_tokens: Annotated[
        int, typer.Option(help="Most tokens of a caption, where a request does not say.")
    ] = DecodingOptions.max_new_tokens,
    frames: FramesOption = ServeRequest.frames,
    prompts: Annotated[
        bool | None,
        typer.Option(
            "--prompts/--no-prompts",
            show_default="no for EVLGen's own models",
            help="Take what users say as the prompt. Captioners that cannot chat describe better without it; what an "
            "assistant is made to begin with is always gone on from.",
        ),
    ] = ServeRequest.use_prompts,
    batch_size: Annotated[
        int | None, typer.Option(show_default="the model's own", help="Most clips that go through the model together.")
    ] = ServeRequest.batch_size,
    workers: WorkersOption = ServeRequest.workers,
    most_body_mb: Annotated[int, typer.Option(help="MB of one request.")] = Limits.most_body_mb,
    most_megapixels: Annotated[
        float, typer.Option(help="Million pixels of a picture, or of a video's frames.")
    ] = Limits.most_megapixels,
    most_frames: Annotated[int, typer.Option(help="Pictures in one request.")] = Limits.most_frames,
    most_requests: Annotated[
        int, typer.Option(help="Requests under way; further ones get 429 and when to come back.")
    ] = Limits.most_requests,
    request_seconds: Annotated[
        float, typer.Option(help="Seconds from a request to its answer; it gets 504 then.")
    ] = Limits.request_seconds,
    most_new_tokens: Annotated[
        int, typer.Option(help="Most tokens of a caption, whatever a request asks for.")
    ] = Limits.most_new_tokens,
    device: DeviceOption = ServeRequest.device,
    dtype: DtypeOption = ServeRequest.dtype,
) -> None:
    """Let other programs use a captioner, by OpenAI's /v1/chat/completions and by Ollama's /api/generate.

    Pictures and videos come inside the requests, as data: URLs; nothing is fetched, no file of this machine read.
    With EVLGEN_SERVE_TOKEN set callers must send it as a bearer token.
    """
    from evlgen.serving.server import serve as run

    request = ServeRequest(
        model=model,
        host=host,
        port=port,
        decoding=DecodingOptions(num_beams, max_new_tokens),
        frames=frames,
        batch_size=batch_size,
        workers=workers,
        use_prompts=prompts,
        device=device,
        dtype=dtype,
        limits=Limits(most_body_mb, most_megapixels, most_frames, most_requests, request_seconds, most_new_tokens),
    )
    stop = Event()
    with ExitStack() as stack:
        downloads = stack.enter_context(ExitStack())
        report = downloads.enter_context(download_progress())

        def ready(name: str, url: str) -> None:
            downloads.close()
            err.print(f"{name} is at {url}/v1 (OpenAI) and {url}/api (Ollama); Ctrl-C ends it")

        stack.enter_context(stop_on_signals(stop, "stopping after the requests under way"))
        run(request, stop, ready, err.print, report)

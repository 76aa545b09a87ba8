"""`evlgen caption`: parses, calls `evlgen.exports.caption_and_export`, and shows what it reports.

With --out the file is the result and stdout carries the summary; without --out the rows themselves go to stdout.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from evlgen.captioning import CaptionRequest, Listener, Summary
from evlgen.captioning.segmenting import Segments
from evlgen.captioning.video_shards import VideoShard
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import UsageError
from evlgen.system.cpus import threads_wait_asleep
from evlgen_cli.commands.caption_report import (
    STOP_SECONDS,
    STOPPING,
    CaptionView,
    show_plan,
    show_status,
    show_summary,
)
from evlgen_cli.commands.export import warn
from evlgen_cli.console import err
from evlgen_cli.exits import Exit
from evlgen_cli.human_numbers import human_seconds
from evlgen_cli.options import (
    ConcurrencyOption,
    DeviceOption,
    DtypeOption,
    FramesOption,
    JsonOption,
    LengthPenaltyOption,
    LoadInOption,
    MergeEqualOption,
    ModelOption,
    NoRepeatOption,
    NumBeamsOption,
    NumCaptionsOption,
    NumSamplesOption,
    PrefixOption,
    PromptOption,
    RepetitionOption,
    RequestTimeoutOption,
    RerankOption,
    ROption,
    SuffixOption,
    SystemPromptOption,
    TemperatureOption,
    TemplateOption,
    TrustRemoteCodeOption,
    WorkersOption,
    out_file,
)
from evlgen_cli.signals import stop_on_signals

if TYPE_CHECKING:
    from evlgen.captioning.caption_run import Captioning
    from evlgen.exports import Outputs, Report


def caption(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            show_default=False,
            help="A video or picture, a folder of them (searched through), a quoted glob, each also as an address "
            "(s3://, gs://, https://, hf://), @list.txt, or - for a list on standard input. Put -- in front of a "
            "path that starts with a dash.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            parser=out_file,
            metavar="FILE",
            help="JSONL file for the captions, one line a video; run again to go on where it ends. x.csv, x.html, "
            "x.parquet, x.srt and x.vtt are made of x.jsonl at the end. Without it lines go to standard output and "
            "nothing is remembered.",
        ),
    ] = None,
    sidecar: Annotated[
        str | None,
        typer.Option(
            show_default="none",
            help="txt, srt or vtt: write such a file beside each video as well, as soon as it is captioned.",
        ),
    ] = None,
    prefix: PrefixOption = "",
    suffix: SuffixOption = "",
    template: TemplateOption = "{caption}",
    merge_equal: MergeEqualOption = False,
    model: ModelOption = CaptionRequest.model,
    num_beams: NumBeamsOption = DecodingOptions.num_beams,
    max_new_tokens: Annotated[int, typer.Option(help="Most tokens of a caption.")] = DecodingOptions.max_new_tokens,
    min_new_tokens: Annotated[int, typer.Option(help="Fewest tokens of a caption.")] = DecodingOptions.min_new_tokens,
    no_repeat_ngram: NoRepeatOption = None,
    repetition_penalty: RepetitionOption = None,
    length_penalty: LengthPenaltyOption = None,
    num_captions: NumCaptionsOption = None,
    num_samples: NumSamplesOption = None,
    temperature: TemperatureOption = None,
    rerank: RerankOption = None,
    prompt: PromptOption = CaptionRequest.prompt,
    system_prompt: SystemPromptOption = CaptionRequest.system_prompt,
    frames: FramesOption = CaptionRequest.frames,
    sampler: Annotated[
        str,
        typer.Option(
            help="Which frames: uniform, as evaluation looks at; head-tail, from the first to the last; random-spans, "
            "as training draws; or at most --frames by keyframes or fps=N."
        ),
    ] = CaptionRequest.sampler,
    backend: Annotated[
        str, typer.Option(help="Decoder of the videos: pyav, decord or ffmpeg.")
    ] = CaptionRequest.backend,
    segments: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            show_default="whole videos",
            help="A caption for each part of a video: scenes, fixed:SECONDS, or a CSV file with the columns video, "
            "start and end.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail on damaged files instead of captioning what can be decoded.")
    ] = False,
    device: DeviceOption = CaptionRequest.device,
    dtype: DtypeOption = CaptionRequest.dtype,
    load_in: LoadInOption = CaptionRequest.load_in,
    trust_remote_code: TrustRemoteCodeOption = CaptionRequest.trust_remote_code,
    r: ROption = CaptionRequest.r,
    batch_size: Annotated[
        int | None,
        typer.Option(
            show_default="32, the first batch 4; 4 of hf:",
            help="Videos that go through the model together; halved when memory runs out.",
        ),
    ] = CaptionRequest.batch_size,
    workers: WorkersOption = CaptionRequest.workers,
    timeout: Annotated[
        float, typer.Option(help="Seconds after which the decoding of one video is given up.")
    ] = CaptionRequest.timeout_seconds,
    fetch_timeout: Annotated[
        float, typer.Option(help="Seconds after which a video that is elsewhere (s3://, https://, ...) is given up.")
    ] = CaptionRequest.fetch_timeout_seconds,
    fetch_gb: Annotated[
        float, typer.Option(help="The largest such video, in GB; each decoding process has one on the disk at a time.")
    ] = CaptionRequest.fetch_gigabytes,
    concurrency: ConcurrencyOption = CaptionRequest.concurrency,
    request_timeout: RequestTimeoutOption = CaptionRequest.request_timeout_seconds,
    limit: Annotated[
        int | None, typer.Option(show_default="all", help="Most videos to caption in this run.")
    ] = CaptionRequest.limit,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            show_default="none",
            help="Mark captions that are less likely good than this, 0 to 1, with a warning in their line.",
        ),
    ] = CaptionRequest.min_confidence,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            show_default="all",
            help="Caption part I of N, from 0, into a file beside --out, for evlgen merge; auto: as torchrun, Slurm or "
            "Kubernetes number this process (auto/N where only they know I).",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            show_default="1",
            help="Processes with a model each: one for each GPU, or for some CPU cores each.",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(help="Where: local, or ray for a Ray cluster (docs/cluster.md), with --processes workers."),
    ] = "local",
    watch: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            max=86400,
            show_default="no",
            help="When all is captioned, look for new and changed files every so often, until stopped.",
        ),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Say what is done and what is left, and do nothing; code 3 if any is left.")
    ] = False,
    status_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default="none",
            help="Keep in x.json, or x.prom for Prometheus, how far the run is: replaced every few seconds.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and why the rest would not; load no model.")
    ] = False,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, captions or summary.")] = False,
) -> None:
    """Caption videos and pictures. Whatever stops a run, the same command goes on where it ended.

    A video is done when the last line about it in --out has the same content and the same settings.
    With other settings it is captioned again; lines are only ever added, and the last one of a video counts.
    Exit code 3: some videos have no caption, or an empty one; their lines say why.
    """
    from evlgen.captioning import plan_captions
    from evlgen.captioning.several_processes import gpu_of_its_own
    from evlgen.exports import CaptionTemplate, Outputs, caption_and_export

    outputs = Outputs.of(output, sidecar, CaptionTemplate(prefix, suffix, template), merge_equal)
    threads_wait_asleep()
    request = CaptionRequest(
        sources=paths,
        out=outputs.journal,
        model=model,
        decoding=DecodingOptions(num_beams, max_new_tokens, min_new_tokens).with_given(
            no_repeat_ngram=no_repeat_ngram,
            repetition_penalty=repetition_penalty,
            length_penalty=length_penalty,
            num_captions=num_captions,
            num_samples=num_samples,
            temperature=temperature,
            rerank=rerank,
        ),
        prompt=prompt,
        system_prompt=system_prompt,
        frames=frames,
        sampler=sampler,
        backend=backend,
        strict=strict,
        device=gpu_of_its_own(device) if shard is not None and shard.startswith("auto") else device,
        dtype=dtype,
        load_in=load_in,
        trust_remote_code=trust_remote_code,
        r=r,
        batch_size=batch_size,
        workers=workers,
        timeout_seconds=timeout,
        fetch_timeout_seconds=fetch_timeout,
        fetch_gigabytes=fetch_gb,
        limit=limit,
        concurrency=concurrency,
        request_timeout_seconds=request_timeout,
        retry_failed=retry_failed,
        min_confidence=min_confidence,
        shard=None if shard is None else VideoShard.parse(shard),
        segments=None if segments is None else Segments.parse(segments),
    )
    captioning = _engine(engine, processes)
    if watch is not None and (processes is not None or engine != "local"):
        raise UsageError("--watch takes one process", "leave --processes and --engine away")
    if status:
        show_status(plan_captions(request), as_json)
        return
    if dry_run:
        plan = plan_captions(request)
        outputs.refuse_several(len(plan.items))
        show_plan(plan, as_json)
        raise typer.Exit(Exit.SOME_FAILED if plan.unreadable else Exit.OK)
    stop = Event()
    if watch is not None:
        _watch(request, outputs, stop, watch, status_file, as_json, quiet)
        return
    with ExitStack() as stack:
        view = _with_status(CaptionView(stack, stop, quiet=quiet, rows_to_stdout=output is None), status_file, stack)
        summary, reports = caption_and_export(request, outputs, view, stop, captioning=captioning)
    _finish(summary, reports, as_json, quiet)


def _engine(name: str, processes: int | None) -> "Captioning":
    """What captions."""
    from evlgen.captioning import caption_videos
    from evlgen.captioning.ray_engine import caption_on_ray
    from evlgen.captioning.several_processes import caption_in_parts

    if name not in ("local", "ray"):
        raise UsageError(f"--engine {name} is unknown: there is local, ray")
    if name == "ray":
        return partial(caption_on_ray, processes=processes)
    return caption_videos if processes is None else partial(caption_in_parts, processes=processes)


def _with_status(view: Listener, path: Path | None, stack: ExitStack) -> Listener:
    """What tells the view, and the status file where there is one."""
    from evlgen.captioning.status_file import StatusFile

    return view if path is None else stack.enter_context(StatusFile(path, view))


def _finish(summary: Summary, reports: Sequence["Report"], as_json: bool, quiet: bool) -> None:
    """Show what a run came to, and end with its exit code."""
    _show(summary, reports, as_json, quiet)
    if summary.interrupted:
        raise typer.Exit(Exit.INTERRUPTED)
    if not summary.complete or any(report.clashes or report.failed for report in reports):
        raise typer.Exit(Exit.SOME_FAILED)


def _show(summary: Summary, reports: Sequence["Report"], as_json: bool, quiet: bool) -> None:
    show_summary(summary, as_json, quiet, reports)
    for report in reports:
        warn(report)


def _watch(
    request: CaptionRequest,
    outputs: "Outputs",
    stop: Event,
    every_seconds: float,
    status_file: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    from evlgen.captioning.watching import watch
    from evlgen.exports import caption_and_export

    summary = None
    rounds = watch(request, stop, every_seconds)
    with stop_on_signals(stop, STOPPING, STOP_SECONDS):
        if not quiet:
            err.print(f"watching, every {human_seconds(every_seconds)}; Ctrl-C ends it")
        for captioning in rounds:
            with ExitStack() as stack:
                view = _with_status(CaptionView(stack, None, quiet=quiet, rows_to_stdout=False), status_file, stack)
                summary, reports = caption_and_export(request, outputs, view, stop, captioning=captioning)
            _show(summary, reports, as_json, quiet)
    if summary is not None and summary.interrupted:
        raise typer.Exit(Exit.INTERRUPTED)

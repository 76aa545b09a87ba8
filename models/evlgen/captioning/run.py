"""The captioning run: find videos, compare with the output, decode, caption, write one line each.

Run again after anything (a kill, a full disk, new videos) and only what is missing is done. Everything that can go
wrong with one video ends in its own line; what is wrong with the whole run is one exception.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace

from evlgen.captioning.apart import refuse_mixing, root_in_row
from evlgen.captioning.backoff import CarefulCaptioner
from evlgen.captioning.captioner import Caption, Captioner, DownloadReport, ModelIdentity, load_captioner, resolve_dtype
from evlgen.captioning.continuing import as_begun
from evlgen.captioning.delivery import Decoded, Decoder, NotDecoded, deliver
from evlgen.captioning.discover import Unreadable, Video, find_videos
from evlgen.captioning.journal import Journal
from evlgen.captioning.listener import Listener
from evlgen.captioning.looks import warnings_about
from evlgen.captioning.pipeline import Outcome, run_pipeline
from evlgen.captioning.plan import Decision, Plan, make_plan
from evlgen.captioning.request import CaptionRequest
from evlgen.captioning.resources import default_workers
from evlgen.captioning.rows import Row, RowError, Status
from evlgen.captioning.sampling import parse_sampler
from evlgen.captioning.settings import CaptionSettings
from evlgen.captioning.state import CAPTIONS, JournalState, Kind, read_state
from evlgen.captioning.summary import Summary


@dataclass(frozen=True)
class Task:
    """What a run makes of what: captions of videos, or answers to questions.

    Attributes:
        kind: of the output file.
        items: everything that was asked for.
        load: loads the model, in a dtype.
        deliver: decodes what is to be done.
        row: the line of an outcome.
        unreadable: folders that could not be read when the items were found.
    """

    kind: Kind
    items: Sequence[Video]
    load: Callable[[str, DownloadReport], Captioner]
    deliver: Callable[[Iterable[Video], Decoder, threading.Event], Iterator[Decoded | NotDecoded]]
    row: Callable[[Outcome, CaptionSettings], Row]
    unreadable: Sequence[Unreadable] = ()


def plan_captions(request: CaptionRequest) -> Plan:
    """What `caption_videos` would do; loads no model, writes and locks nothing.

    Raises:
        UsageError: see `caption_videos`.
    """
    unreadable: list[Unreadable] = []
    videos = find_videos(request.sources, root=request.root, unreadable=unreadable)
    _, settings = request.resolve()
    state = JournalState() if request.out is None else read_state(request.out)
    settings = as_begun(settings, state, request.device)
    plan = make_plan(videos, state, settings, request.retry_failed, request.limit, request.timeout_seconds)
    if request.out is not None:
        refuse_mixing(plan, state, request.out, request.timeout_seconds)
    return replace(plan, unreadable=unreadable)


def caption_videos(
    request: CaptionRequest, listener: Listener | None = None, stop: threading.Event | None = None
) -> Summary:
    """Caption everything that the request names and the output does not hold yet.

    Args:
        request: what to caption, how, and where to.
        listener: told what happens.
        stop: set from anywhere, ends the run after the batch in the model; what is written by then is kept.

    Raises:
        UsageError: nothing to caption, no such model or device, or the output is no caption file.
        JournalError: the output is in use by another run or cannot be written; what it holds is safe.
        WeightsError: the model's weights are missing or damaged.
        ModelBrokenError: the model fails on every video.
    """
    unreadable: list[Unreadable] = []
    videos = find_videos(request.sources, root=request.root, unreadable=unreadable)

    def load(dtype: str, report: DownloadReport) -> Captioner:
        return load_captioner(request.model, request.generation, request.device, dtype, report)

    return run_task(Task(CAPTIONS, videos, load, deliver, make_row, unreadable), request, listener, stop)


def run_task(
    task: Task, request: CaptionRequest, listener: Listener | None = None, stop: threading.Event | None = None
) -> Summary:
    """Do what the output does not hold yet; arguments and errors as of `caption_videos`, but for `sources`."""
    listener = listener or Listener()
    stop = stop or threading.Event()
    identity, settings = request.resolve()
    opened: AbstractContextManager[Journal | None] = (
        nullcontext() if request.out is None else Journal(request.out, task.kind)
    )
    with opened as journal:
        state = JournalState() if journal is None else journal.state
        if journal is not None:
            _report_state(journal, listener)
        settings = as_begun(settings, state, request.device)
        plan = make_plan(task.items, state, settings, request.retry_failed, request.limit, request.timeout_seconds)
        if request.out is not None:
            refuse_mixing(plan, state, request.out, request.timeout_seconds)
        listener.on_plan(replace(plan, unreadable=task.unreadable))
        work = plan.work
        summary = Summary(
            output=request.out,
            done_before=plan.count(Decision.DONE),
            empty_before=plan.count(Decision.EMPTY),
            failed_before=plan.failed_before,
            beyond_limit=plan.count(Decision.BEYOND_LIMIT),
            planned=len(work),
            unreadable_folders=len(task.unreadable),
            batch_size=request.batch_size or 0,
        )
        if work and not stop.is_set():
            settings = _decided(settings, request, listener)
            decoder = open_decoder(request, identity, settings)  # its settings are checked before the model is loaded
            started = time.monotonic()
            model = task.load(settings.dtype, listener.on_download)
            summary.load_seconds = time.monotonic() - started
            captioner = CarefulCaptioner(model, request.batch_size or model.batch_size, listener.on_note)
            clock = summary.clock
            clock.on_count = lambda: listener.on_progress(clock.frames, clock.tokens)
            model.on_tokens = lambda tokens: clock.count(tokens=tokens)
            listener.on_start(len(work))

            def write(outcome: Outcome) -> None:
                row = task.row(outcome, settings)
                if request.out is not None and request.root is None:  # a root that is given is that of a data set
                    row = replace(row, root=root_in_row(outcome.source.video, request.out))
                if journal is not None:
                    journal.append(row)
                summary.add(row)
                listener.on_row(row)

            started = time.monotonic()
            with (
                decoder as decoding,
                closing(run_pipeline(task.deliver(work, decoding, stop), captioner, stop, clock)) as outcomes,
            ):
                for outcome in outcomes:
                    write(outcome)
            summary.seconds = time.monotonic() - started
            summary.batch_size = captioner.batch_size
        summary.interrupted = stop.is_set() and summary.finished < summary.planned
        return summary


def _decided(settings: CaptionSettings, request: CaptionRequest, listener: Listener) -> CaptionSettings:
    """The settings with the dtype decided, and checked against the device; says where a file decides it."""
    decided = replace(settings, dtype=resolve_dtype(settings.dtype, request.device))
    if request.dtype == "auto" and (own := resolve_dtype("auto", request.device)) != decided.dtype:
        listener.on_note(
            f"{request.out} goes on in {decided.dtype}, as it was begun; --dtype {own} is faster on this machine, and "
            "makes everything in it again"
        )
    return decided


def open_decoder(
    request: CaptionRequest, identity: ModelIdentity, settings: CaptionSettings
) -> AbstractContextManager[Decoder]:
    """Decoding children that deliver clips of square frames.

    Raises:
        UsageError: no such sampler or backend.
    """
    from evlgen.video import DecodePool

    return DecodePool(
        workers=request.workers or default_workers(),
        timeout_seconds=request.timeout_seconds,
        backend=request.backend,
        sampler=parse_sampler(settings.sampler, settings.frames),
        strict=request.strict,
        size=(identity.image_size_pixels, identity.image_size_pixels),
    )


def _report_state(journal: Journal, listener: Listener) -> None:
    if journal.state.torn:
        listener.on_note(f"{journal.path}: the last line was incomplete and is done again")
    if journal.state.bad_lines:
        listener.on_note(f"{journal.path}: {journal.state.bad_lines} unreadable lines are ignored")
    if not journal.locked:
        listener.on_note(f"{journal.path} is on a file system without locks: start no second run on it")


def make_row(outcome: Outcome, settings: CaptionSettings) -> Row:
    """The line for one video."""
    source, result = outcome.source, outcome.result
    clip = source.clip if isinstance(source, Decoded) else None
    caption = result if isinstance(result, Caption) else None
    duration = clip.info.duration_seconds if clip else None
    status: Status = "error" if caption is None else "partial" if clip and clip.partial else "ok"
    if caption is not None and not caption.text.strip():
        status = "empty"
    return Row(
        video=source.video.name,
        status=status,
        caption=caption.text if caption else None,
        log_probability=caption.log_probability if caption else None,
        token_count=caption.token_count if caption else None,
        alternatives=caption.alternatives if caption else (),
        tags=caption.tags if caption else (),
        frame_indices=tuple(int(index) for index in clip.indices) if clip else (),
        timestamps_seconds=tuple(float(time) for time in clip.timestamps) if clip else (),
        duration_seconds=None if duration is None else float(duration),
        model=settings.model,
        model_hash=settings.model_hash,
        settings_hash=settings.hash,
        settings=settings.as_dict(),
        fingerprint=source.fingerprint,
        root=None,
        error=result if isinstance(result, RowError) else None,
        warnings=(*clip.warnings, *warnings_about(clip.frames, clip.indices)) if clip else (),
        seconds=outcome.seconds,
    )

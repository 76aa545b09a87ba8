"""The captioning run: find videos, compare with the output, decode, caption, write one line each.

Run again after anything (a kill, a full disk, new videos) and only what is missing is done. Everything that can go
wrong with one video ends in its own line; what is wrong with the whole run is one exception.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from evlgen.captioners.protocol import Caption, Captioner, ModelIdentity
from evlgen.captioning.backoff import CarefulCaptioner
from evlgen.captioning.caption_plan import Plan, make_plan, root_in_row
from evlgen.captioning.caption_request import CaptionRequest, CaptionSettings, parse_sampler
from evlgen.captioning.caption_rows import AnswerRow, CaptionRow, Row, Status
from evlgen.captioning.clip_pipeline import FIRST_BATCH, Decoder, Outcome, deliver, run_pipeline
from evlgen.captioning.confidence import UNSURE, confidence_of, warnings_about
from evlgen.captioning.discover import Unreadable, find_videos
from evlgen.captioning.items import Item, PictureQuestion, Video, prompt_of
from evlgen.captioning.journal import CAPTIONS, Journal, JournalKind, JournalState, read_state
from evlgen.captioning.run_report import Listener, Summary
from evlgen.errors import Failure
from evlgen.system.cpus import usable_cpus
from evlgen.system.memory import usable_bytes

if TYPE_CHECKING:
    from evlgen.configuration import ConfidenceConfig

Captioning = Callable[[CaptionRequest, Listener | None, threading.Event | None], Summary]
"""How videos of a request are captioned: `caption_videos`, or what does the same in another way."""

Rows = Generator[tuple[Item, Row], None, None]


@dataclass(frozen=True)
class RunWork:
    """What a run has to do, and with what.

    Attributes:
        items: what to caption or to answer.
        settings: of the run; the dtype may be left to decide.
        request: where, with which deadlines, how much at once.
        identity: of the model.
        summary: gets all but the counts: times, the size of batches, the model's facts.
        listener: told of everything but rows.
        stop: ends it after the batch in the model.
        models: by dtype, those that are loaded; gets the one that is.
    """

    items: Sequence[Item]
    settings: CaptionSettings
    request: CaptionRequest
    identity: ModelIdentity
    summary: Summary
    listener: Listener
    stop: threading.Event
    models: dict[str, Captioner]


Working = Callable[[RunWork], Rows]
"""What does the work of a run: items and their rows, in the order in which they are done."""

_MOST_WORKERS = 16  # more have nothing to do beside one model
_LEAST_DECODER_BYTES = 4_000_000_000


def plan_captions(request: CaptionRequest) -> Plan:
    """What `caption_videos` would do; loads no model, writes and locks nothing.

    Raises:
        UsageError: see `caption_videos`.
    """
    unreadable: list[Unreadable] = []
    _, settings = request.resolve()
    videos = _videos_of(request, unreadable, Listener())
    state = JournalState() if request.journal is None else read_state(request.journal)
    return make_plan(videos, _with_whole(state, request), settings, request, unreadable)


def _with_whole(state: JournalState, request: CaptionRequest) -> JournalState:
    """What the file of a part says, and behind it what that of the whole said before."""
    if request.shard is None or request.out is None:
        return state
    whole = read_state(request.out)
    return replace(state, entries=whole.entries | state.entries, settings=whole.settings | state.settings)


def caption_videos(
    request: CaptionRequest,
    listener: Listener | None = None,
    stop: threading.Event | None = None,
    *,
    work: Working | None = None,
) -> Summary:
    """Caption everything that the request names and the output does not hold yet.

    Args:
        request: what to caption, how, and where to.
        listener: told what happens.
        stop: set from anywhere, ends the run after the batch in the model; what is written by then is kept.
        work: does it; None: this process.

    Raises:
        UsageError: nothing to caption, no such model or device, or the output is no caption file.
        JournalError: the output is in use by another run or cannot be written; what it holds is safe.
        WeightsError: the model's weights are missing or damaged.
        ModelBrokenError: the model fails on every video.
    """
    unreadable: list[Unreadable] = []
    listener = listener or Listener()
    videos = _videos_of(request, unreadable, listener)
    return run_items(CAPTIONS, videos, request, listener, stop, unreadable, work=work)


def _videos_of(request: CaptionRequest, unreadable: list[Unreadable], listener: Listener) -> list[Video]:
    """What the request names, or its part of that; names do not depend on the part."""
    videos = find_videos(request.sources, root=request.root, unreadable=unreadable)
    own = [one for one in videos if request.shard is None or request.shard.holds(one.name)]
    if request.segments is None:
        return own
    return request.segments.of(own, request.timeout_seconds, listener.on_download, listener.on_note)


def run_items(
    kind: JournalKind,
    items: Sequence[Item],
    request: CaptionRequest,
    listener: Listener | None = None,
    stop: threading.Event | None = None,
    unreadable: Sequence[Unreadable] = (),
    models: dict[str, Captioner] | None = None,
    work: Working | None = None,
) -> Summary:
    """Caption videos, or answer questions, that the output does not hold yet.

    Args:
        kind: what the lines of the output are about.
        items: everything that is asked for.
        request: how and where to; its `sources` are not looked at.
        listener: told what happens.
        stop: as of `caption_videos`.
        unreadable: folders that could not be read when the items were found.
        models: by dtype, those that earlier runs of this request loaded; gets the one that is loaded.
        work: as of `caption_videos`.

    Raises:
        EvlgenError: see `caption_videos`.
    """
    listener = listener or Listener()
    stop = stop or threading.Event()
    identity, settings = request.resolve()
    output: AbstractContextManager[Journal | None]
    output = nullcontext() if request.journal is None else Journal(request.journal, kind)
    with output as journal:
        if journal is not None:
            _report_state(journal, listener)
        state = JournalState() if journal is None else _with_whole(journal.state, request)
        plan = make_plan(items, state, settings, request, unreadable)
        listener.on_plan(plan)
        summary = Summary.of_plan(plan, request.journal, request.batch_size or 0)
        listener.on_summary(summary)
        if plan.work and not stop.is_set():
            loaded = {} if models is None else models
            todo = RunWork(plan.work, plan.settings, request, identity, summary, listener, stop, loaded)
            with closing((work or _work_here)(todo)) as rows:
                for item, row in rows:
                    if request.out is not None and request.root is None:  # a root that is given is that of a data set
                        row = replace(row, root=root_in_row(item, request.out))
                    if journal is not None:
                        journal.append(row)
                    summary.add(row)
                    listener.on_row(row)
        summary.interrupted = stop.is_set() and summary.finished < summary.planned
        return summary


def _work_here(work: RunWork) -> Rows:
    with open_decoder(work.request, work.identity, work.settings) as decoder:
        yield from make_rows(work, decoder)


def make_rows(work: RunWork, decoder: Decoder) -> Rows:
    """Decode items and take them through the model, in this process.

    Raises:
        EvlgenError: see `caption_videos`.
    """
    request, summary, stop = work.request, work.summary, work.stop
    delivered = deliver(work.items, decoder, stop)  # children decode the first files while the model is loaded
    settings = _with_dtype(work)
    captioner = _load(work, settings)
    work.listener.on_start(len(work.items))
    started = time.monotonic()
    outcomes = run_pipeline(
        delivered,
        lambda one: prompt_of(one.item, settings.prompt),
        captioner,
        stop,
        summary.clock,
        first_batch=request.batch_size or FIRST_BATCH,
    )
    with closing(outcomes):
        for outcome in outcomes:
            yield outcome.source.item, make_row(outcome, settings, work.identity.confidence, request.min_confidence)
    summary.seconds = time.monotonic() - started
    summary.batch_size = captioner.batch_size
    summary.facts = work.models[settings.dtype].facts()


def _load(work: RunWork, settings: CaptionSettings) -> CarefulCaptioner:
    """The model, and what tells of its tokens."""
    request, listener, models = work.request, work.listener, work.models
    started = time.monotonic()
    if settings.dtype not in models:
        options = request.load_options(settings.dtype, settings.prompt)
        models[settings.dtype] = request.kind.load(request.model, options, listener.on_download)
    model = models[settings.dtype]
    work.summary.load_seconds = time.monotonic() - started
    clock = work.summary.clock
    clock.on_count = lambda: listener.on_progress(clock.frames, clock.tokens)
    model.on_tokens = lambda tokens: clock.count(tokens=tokens)
    return CarefulCaptioner(model, settings.decoding, request.batch_size or model.batch_size, listener.on_note)


def _with_dtype(work: RunWork) -> CaptionSettings:
    """The settings with the dtype decided, and checked against the device; says where a file decides it."""
    request = work.request
    dtype = request.kind.resolve_dtype(work.settings.dtype, request.device)
    if request.dtype == "auto" and (own := request.kind.resolve_dtype("auto", request.device)) != dtype:
        work.listener.on_note(
            f"{request.out} goes on in {dtype}, as it was begun; --dtype {own} is faster on this machine, and "
            "makes everything in it again"
        )
    return replace(work.settings, dtype=dtype)


def open_decoder(
    request: CaptionRequest, identity: ModelIdentity, settings: CaptionSettings
) -> AbstractContextManager[Decoder]:
    """Decoding children that deliver clips of square frames, or of the videos' own size where the model resizes them.

    Raises:
        UsageError: no such sampler or backend.
    """
    from evlgen.video import DecodePool

    return DecodePool(
        workers=request.workers or default_workers(),
        look_ahead=2 * (request.batch_size or request.kind.batch_size),
        timeout_seconds=request.timeout_seconds,
        backend=request.backend,
        sampler=parse_sampler(settings.sampler, settings.frames),
        strict=request.strict,
        size=identity.decoded_size,
        most_memory_bytes=_most_decoder_bytes(),
        fetch_seconds=request.fetch_timeout_seconds,
        most_fetched_bytes=int(request.fetch_gigabytes * 1e9),
    )


def default_workers() -> int:
    """Decoding processes: half of the CPUs, since the model and its tokenizer want some too; two at least."""
    return min(_MOST_WORKERS, max(2, usable_cpus() // 2))


def _most_decoder_bytes() -> int | None:
    """What a decoding process may take: half of the memory, which no video needs, and room for libraries at least."""
    total = usable_bytes()
    return None if total is None else max(_LEAST_DECODER_BYTES, total // 2)


def _report_state(journal: Journal, listener: Listener) -> None:
    if journal.state.torn:
        listener.on_note(f"{journal.path}: the last line was incomplete and is done again")
    if journal.state.bad_lines:
        listener.on_note(f"{journal.path}: {journal.state.bad_lines} unreadable lines are ignored")
    if not journal.locked:
        listener.on_note(f"{journal.path} is on a file system without locks: start no second run on it")


def make_row(
    outcome: Outcome,
    settings: CaptionSettings,
    calibration: ConfidenceConfig | None = None,
    min_confidence: float | None = None,
) -> Row:
    """The line for one video, or one question.

    Args:
        outcome: what the model made of it.
        settings: how.
        calibration: of the model.
        min_confidence: captions of less are marked.
    """
    source, result = outcome.source, outcome.result
    clip = None if isinstance(source.clip, Failure) else source.clip
    caption = result if isinstance(result, Caption) else None
    duration = clip.info.duration_seconds if clip else None
    status: Status = "error" if caption is None else "partial" if clip and clip.partial else "ok"
    if caption is not None and not caption.text.strip():
        status = "empty"
    confidence = confidence_of(caption, calibration) if caption else None
    unsure = []
    if confidence is not None and min_confidence is not None and confidence < min_confidence:
        unsure = [f"{UNSURE}: confidence {confidence:.2f} is below {min_confidence:g}"]
    facts: dict[str, Any] = {
        "status": status,
        "log_probability": caption.log_probability if caption else None,
        "token_count": caption.token_count if caption else None,
        "alternatives": caption.alternatives if caption else (),
        "agreement": caption.agreement if caption else None,
        "confidence": confidence,
        "tags": caption.tags if caption else (),
        "frame_indices": tuple(int(index) for index in clip.indices) if clip else (),
        "timestamps_seconds": tuple(float(time) for time in clip.timestamps) if clip else (),
        "duration_seconds": None if duration is None else float(duration),
        "model": settings.model,
        "model_hash": settings.model_hash,
        "settings_hash": settings.hash,
        "settings": settings.as_dict(),
        "fingerprint": source.fingerprint,
        "root": None,
        "error": result if isinstance(result, Failure) else None,
        "warnings": (*clip.warnings, *warnings_about(clip.frames, clip.indices), *unsure) if clip else (),
        "seconds": outcome.seconds,
    }
    item, text = source.item, caption.text if caption else None
    if isinstance(item, PictureQuestion):
        return AnswerRow(question_id=item.name, image=item.image, question=item.question, answer=text, **facts)
    start, end = (None, None) if item.span is None else map(float, item.span)
    return CaptionRow(video=item.name, caption=text, start_seconds=start, end_seconds=end, **facts)

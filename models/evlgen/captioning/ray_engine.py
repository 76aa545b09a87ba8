"""Captioning on a Ray cluster with Ray Data: `evlgen caption --engine ray`.

The journal decides what is left and this process is its only writer; workers (actors with a decoder and a model each)
get names of files, which they must see under the same paths, and give rows, never frames. What a dying worker had in
hand is tried again, one video at a time; a video that kills its worker each time ends as an error row. The cluster is
reached or started, shared out to workers, and kept quiet.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

from evlgen.captioners.protocol import Captioner, ModelIdentity
from evlgen.captioning import caption_run
from evlgen.captioning.caption_request import CaptionRequest, CaptionSettings
from evlgen.captioning.caption_run import Rows, RunWork, caption_videos, make_row, make_rows
from evlgen.captioning.clip_pipeline import Delivered, Outcome
from evlgen.captioning.items import Item, source_of
from evlgen.captioning.run_report import Listener, Summary
from evlgen.errors import EvlgenError, Failure, UsageError

_MOST_AT_ONCE = 64
"""Items that a worker is given at a time: many, so that its decoder is busy; few, so that all workers end together."""
_ATTEMPTS = 3
"""The first with others; and twice, since what is sent to a worker as it dies is lost without any fault."""
_DEATHS = 8
"""When more items than this were begun and every worker died before it had any row, it is not one video's fault."""
_POLL_SECONDS = 0.2
_STOP_SECONDS = 2.0
"""How long the thread that listens to Ray may take after a stop: left alone in it, it can take the process down."""

Said = tuple[str, int, Any]
"""What workers say: "row", "note", "times" or "error", the number of the item, and the row, text, times or error."""


def caption_on_ray(
    request: CaptionRequest,
    listener: Listener | None = None,
    stop: threading.Event | None = None,
    *,
    processes: int | None = None,
) -> Summary:
    """Caption with the workers of a Ray cluster: that of RAY_ADDRESS, one that runs here, or one that is started here.

    Args:
        request: what to caption, and where to; its device "cuda", or "auto" where the cluster has GPUs, is a GPU each.
        listener: told what happens.
        stop: ends the run at once; what is written by then is kept.
        processes: workers; None: one for each GPU, or for each machine.

    Raises:
        UsageError: there is no output or no Ray, the cluster lacks what was asked for, or as of `caption_videos`.
        EvlgenError: as of `caption_videos`, or workers die whatever they are given.
    """
    if request.out is None:
        raise UsageError("--engine ray needs --out", "it tells what is done")
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise UsageError(f"--engine ray needs Ray: {error}", "pip install 'evlgen[ray]'") from error
    return caption_videos(request, listener, stop, work=partial(_work_on_ray, processes=processes))


def _work_on_ray(work: RunWork, *, processes: int | None) -> Rows:
    """What `caption_videos` has done on the cluster."""
    items, request, listener, stop = work.items, work.request, work.listener, work.stop
    with cluster() as resources:
        share = share_out(resources, request.device, processes)
        settings = replace(work.settings, dtype=_dtype(work.settings, request, share))
        device = "cuda" if share.gpus else request.device  # a worker sees one GPU, whatever its number
        request = replace(request, workers=request.workers or share.cpus, device=device, dtype=settings.dtype)
        worker = (Worker, (request, settings, work.identity, os.getcwd()))  # noqa: PTH109 - as it is known elsewhere
        each = f"a GPU and {share.cpus} CPUs" if share.gpus else f"{share.cpus} CPUs"
        listener.on_note(f"{share.processes} workers on Ray, with {each} each")
        listener.on_start(len(items))
        started = time.monotonic()
        left = dict(enumerate(items))
        for attempt in range(_ATTEMPTS):
            at_once = 1 if attempt else max(1, min(_MOST_AT_ONCE, -(-len(left) // (4 * share.processes))))
            for kind, number, value in _run(worker, list(_chunks(left, at_once)), share, stop):
                if kind == "row" and number in left:
                    yield left.pop(number), value
                elif kind == "note":
                    listener.on_note(value)
                elif kind == "times":
                    value.seconds = 0.0  # the run's own are not known before its end
                    work.summary.include(value)
                elif kind == "error":
                    raise value
            if stop.is_set() or not left:
                break
            if len(left) == len(items) > _DEATHS:
                raise EvlgenError(
                    "every worker died before it had captioned anything",
                    "Ray's logs say why; out of memory? --batch-size, fewer --processes",
                )
        if not stop.is_set():
            for item in left.values():
                yield item, _died(item, settings, request)
        work.summary.seconds = time.monotonic() - started


def _died(item: Item, settings: CaptionSettings, request: CaptionRequest) -> Any:
    """The row of an item at which workers die."""
    from evlgen.video import content_fingerprints

    error = Failure("crashed", "the worker that captioned it died, each time: out of memory, or a crash in the model")
    if source := source_of(item):
        fingerprint = source.fingerprint
    else:
        fingerprint = content_fingerprints([item.path], request.timeout_seconds)[item.path]
    return make_row(Outcome(Delivered(item, fingerprint, error, 0.0), error, 0.0), settings)


def _dtype(settings: CaptionSettings, request: CaptionRequest, share: Share) -> str:
    """The arithmetic of the run, as a worker decides it where workers have GPUs and this process need not."""
    decide = request.kind.resolve_dtype
    if not share.gpus:
        return decide(settings.dtype, request.device)
    import ray

    remote = ray.remote(num_gpus=share.gpus, num_cpus=share.cpus)(_decide_dtype)
    return str(ray.get(remote.remote(request, settings.dtype)))


def _decide_dtype(request: CaptionRequest, dtype: str) -> str:
    return request.kind.resolve_dtype(dtype, request.device)


def _chunks(items: Mapping[int, Item], most: int) -> Iterator[list[tuple[int, Item]]]:
    """Numbered items in lists of about `most`; those about one file, which is read once for all, stay together."""
    chunk: list[tuple[int, Item]] = []
    for _, group in groupby(items.items(), key=lambda one: one[1].path):
        chunk += group
        if len(chunk) >= most:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _run(
    worker: tuple[type, tuple[Any, ...]],
    chunks: Sequence[list[tuple[int, Item]]],
    share: Share,
    stop: threading.Event,
) -> Iterator[Said]:
    """What workers say about chunks, until all are done or `stop` is set; what dies with a worker is missing."""
    import ray.data

    said: queue.SimpleQueue[Said | BaseException | None] = queue.SimpleQueue()
    with settings_of_ray_data():
        made, arguments = worker
        data = ray.data.from_items([{"work": pickle.dumps(one)} for one in chunks], override_num_blocks=len(chunks))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of arguments that go in 2.64, which the extra leaves out
            data = data.map_batches(
                made,
                batch_size=None,
                fn_constructor_args=arguments,
                compute=ray.data.ActorPoolStrategy(
                    size=min(share.processes, len(chunks)),
                    max_tasks_in_flight_per_actor=1,  # what waits for a worker dies with it
                ),
                num_cpus=share.cpus,
                num_gpus=share.gpus,
                max_restarts=-1,  # each costs a chunk, of which there is an end; one that dies while it starts is final
                max_task_retries=0,
            )

        def listen() -> None:
            try:
                for row in data.iter_rows():
                    if stop.is_set():
                        break
                    said.put(pickle.loads(row["said"]))  # from our own workers
                said.put(None)
            except BaseException as error:  # told by the thread that waits
                said.put(error)

        listening = threading.Thread(target=listen, daemon=True)
        listening.start()
        while not stop.is_set():
            with suppress(queue.Empty):
                one = said.get(timeout=_POLL_SECONDS)
                if one is None:
                    return
                if isinstance(one, BaseException):
                    line = " ".join(str(one).split())[:300]
                    raise EvlgenError(f"Ray gave up: {line}", "run the same command again to go on") from one
                yield one
        listening.join(_STOP_SECONDS)


class Worker:
    """An actor: a decoder and a model, which stay.

    Args:
        request: of the run.
        settings: of the run, the dtype decided.
        identity: of the model.
        folder: that relative paths of the request are relative to.
    """

    def __init__(
        self, request: CaptionRequest, settings: CaptionSettings, identity: ModelIdentity, folder: str
    ) -> None:
        with suppress(OSError):  # a machine need not have it where all paths are absolute
            os.chdir(folder)
        self._request, self._settings, self._identity = request, settings, identity
        self._models: dict[str, Captioner] = {}
        self._stack = ExitStack()
        self._decoder: Any = None

    def __call__(self, batch: Mapping[str, Iterable[bytes]]) -> Iterator[dict[str, list[bytes]]]:
        """What there is to say about chunks of items, as it comes."""
        for chunk in batch["work"]:
            for one in self._caption(pickle.loads(chunk)):  # from the process that started this one
                yield {"said": [pickle.dumps(one)]}

    def _caption(self, chunk: Sequence[tuple[int, Item]]) -> Iterator[Said]:
        numbers = {item: number for number, item in chunk}
        notes = _Notes()
        summary = Summary(None)
        try:
            if self._decoder is None:
                self._decoder = self._stack.enter_context(
                    caption_run.open_decoder(self._request, self._identity, self._settings)
                )
            work = RunWork(
                [item for _, item in chunk],
                self._settings,
                self._request,
                self._identity,
                summary,
                notes,
                threading.Event(),
                self._models,
            )
            for item, row in make_rows(work, self._decoder):
                yield "row", numbers[item], row
        except EvlgenError as error:
            yield "error", 0, error.plain()
        except Exception as error:
            yield "error", 0, EvlgenError(f"bug in a worker: {type(error).__name__}: {error}")
        yield from (("note", 0, text) for text in notes.texts)
        yield "times", 0, summary


class _Notes(Listener):
    """Keeps what people should know."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def on_note(self, text: str) -> None:
        self.texts.append(text)


@dataclass(frozen=True)
class Share:
    """What each of the workers gets of a cluster."""

    processes: int
    cpus: int
    gpus: int


def share_out(machines: Sequence[Mapping[str, float]], device: str, processes: int | None) -> Share:
    """How many workers there are and what each gets.

    Args:
        machines: resources of each.
        device: as of the request.
        processes: as of `caption_on_ray`.

    Raises:
        UsageError: the cluster does not have so much.
    """
    gpus = int(sum(one.get("GPU", 0) for one in machines)) if device.startswith(("auto", "cuda")) else 0
    if device.startswith("cuda") and not gpus:
        raise UsageError(f"--device {device}: the Ray cluster has no GPU", "--device cpu")
    count = processes or gpus or len(machines)
    most = gpus or int(sum(one.get("CPU", 0) for one in machines))
    if count > most:
        what = "GPUs" if gpus else "CPUs"
        raise UsageError(f"--processes {count}: the Ray cluster has {most} {what}", "each worker needs one")
    if gpus:
        cpus = min(one.get("CPU", 0) // one["GPU"] for one in machines if one.get("GPU", 0) >= 1)
    else:
        cpus = min(one.get("CPU", 0) for one in machines) // -(-count // len(machines))
    return Share(count, max(1, int(cpus)), 1 if gpus else 0)


@contextmanager
def cluster() -> Iterator[list[Mapping[str, float]]]:
    """Resources of each machine of the cluster that this process belongs to, or now comes to belong to."""
    import ray

    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr))  # Ray tells of dead workers there, where only data belongs
        for name in ("ray", "ray.data"):  # and of every failure in pages; they are told here
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)
        if not ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster of ours reports to nobody
            try:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
            except Exception as error:
                line = " ".join(str(error).split())[:300]
                raise EvlgenError(
                    f"no Ray cluster can be reached: {line}", "see RAY_ADDRESS, and ray status"
                ) from error
            stack.callback(ray.shutdown)
        yield [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]


@contextmanager
def settings_of_ray_data() -> Iterator[None]:
    """While this is open: rows come one by one, a failure costs what it is about, and nothing is drawn."""
    from ray.data import DataContext

    context = DataContext.get_current()
    wanted = {
        "max_errored_blocks": -1,
        "target_max_block_size": 1,  # bytes: a block is what is written at once, and that should be a row
        "execution_no_progress_timeout_s": -1,  # a video may take its time
        "enable_progress_bars": False,
        "print_on_execution_start": False,
    }
    before = {name: getattr(context, name) for name in wanted if hasattr(context, name)}
    try:
        for name in before:
            setattr(context, name, wanted[name])
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)

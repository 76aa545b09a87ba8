"""One run by several processes on one machine: one for each GPU, or for some CPU cores each.

Every process captions its part (video_shards.py) into a file of its own; at the end, and before the next run after a
kill, the files of the parts become one with the output (joining.py) and are removed.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from evlgen.captioning.caption_request import CaptionRequest
from evlgen.captioning.caption_run import caption_videos, plan_captions
from evlgen.captioning.child_runs import ChildRun, forward, receive, report_to_parent, start
from evlgen.captioning.joining import join_journals
from evlgen.captioning.journal import Journal
from evlgen.captioning.run_report import Listener, Summary
from evlgen.captioning.video_shards import VideoShard
from evlgen.errors import UsageError
from evlgen.system.cpus import usable_cpus


def caption_in_parts(
    request: CaptionRequest,
    listener: Listener | None = None,
    stop: threading.Event | None = None,
    *,
    processes: int,
) -> Summary:
    """Caption with several processes.

    Args:
        request: what to caption, and where to.
        listener: told of rows and notes of all, and of downloads of the first.
        stop: as of `caption_videos`.
        processes: how many; with CUDA the first sees the first GPU alone, and so on, in turn.

    Raises:
        UsageError: there is no output, or as of `caption_videos`.
        EvlgenError: a process failed or was killed; what the others wrote is in the output.
    """
    if request.out is None or request.shard is not None:
        raise UsageError("--processes needs --out, and no --shard", "each process has a part of the videos")
    if "-" in request.sources:
        raise UsageError(
            "--processes cannot read standard input in each process", "write the list to a file: @list.txt"
        )
    listener = listener or Listener()
    stop = stop or threading.Event()
    with Journal(request.out):  # refuses what is no caption file, and is there for those who read it
        pass
    collect_parts(request.out)
    plan = plan_captions(request)
    listener.on_plan(plan)
    summary = Summary.of_plan(plan, request.out, request.batch_size or 0)
    listener.on_summary(summary)
    if not plan.work:
        return summary
    runs: list[ChildRun] = []
    cpus, gpus = max(1, usable_cpus() // processes), _gpus(request.device)
    device = "cuda" if gpus else request.device
    part = replace(request, device=device, workers=request.workers or cpus)
    for index in range(processes):
        variables = {"OMP_NUM_THREADS": str(cpus)}
        if gpus:  # it cannot take memory of another one, as some calls of CUDA do
            variables["CUDA_VISIBLE_DEVICES"] = gpus[index % len(gpus)]
        with _environment(variables):
            runs.append(start(_work, replace(part, shard=VideoShard(index, processes))))
    listener.on_start(len(plan.work))

    def on_message(run: ChildRun, kind: str, value: Any) -> None:
        if kind == "row":
            summary.add(*value)
        if kind != "download" or run is runs[0]:
            forward(listener, kind, value)

    receive(runs, on_message, stop)
    collect_parts(request.out)
    for index, one in enumerate(runs):
        if one.summary is None and stop.is_set():  # it was in the middle of a batch, or still loading
            continue
        summary.include(one.result(f"process {index} of {processes}"))
    summary.interrupted = stop.is_set() and summary.finished < summary.planned
    return summary


def _work(request: CaptionRequest, connection: Connection) -> None:
    """What each process does."""
    report_to_parent(partial(caption_videos, request), connection)


def collect_parts(out: Path) -> None:
    """Put what stands in files of parts into the output, and remove them.

    Raises:
        EvlgenError: see `join_journals`.
    """
    name = re.compile(re.escape(out.stem) + r"\.shard-\d+-of-\d+" + re.escape(out.suffix))
    if not out.parent.is_dir():
        return
    parts = [one for one in out.parent.iterdir() if name.fullmatch(one.name)]
    if parts:
        join_journals(sorted(parts), out)
        for one in parts:
            one.unlink()


def gpu_of_its_own(device: str, environment: Mapping[str, str] | None = None) -> str:
    """The device of one of several processes that torchrun or srun started on this machine: in turn on all its GPUs.

    Args:
        device: as of the request; one that is named stays.
        environment: variables that number this process; None: its own.
    """
    variables = os.environ if environment is None else environment
    numbers = (variables.get(name, "") for name in ("LOCAL_RANK", "SLURM_LOCALID"))
    number = next((int(one) for one in numbers if one.isdecimal()), None)
    count = 0 if number is None else len(_gpus(device))
    return device if number is None or count < 2 else f"cuda:{number % count}"


def _gpus(device: str) -> list[str]:
    """The GPUs there are, by the names that CUDA_VISIBLE_DEVICES has for them; none if another device is named."""
    if device not in ("auto", "cuda"):
        return []
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    visible = [one.strip() for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip()]
    return (visible or [str(number) for number in range(count)])[:count]


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """While this is open, processes that start have these variables."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

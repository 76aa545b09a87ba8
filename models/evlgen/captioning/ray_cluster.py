"""A Ray cluster as captioning sees it: reached or started, shared out to workers, and quiet."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass

from evlgen.errors import EvlgenError, UsageError


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

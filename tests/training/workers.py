"""Runs of several gloo processes: real processes, from a server that has imported everything once."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from evlgen.recipes import Recipe
from evlgen.training import train

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.training.workers"])


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def train_together(count: int, recipe: Recipe, folder: Path, **options: Any) -> list[Any]:
    """Train with `count` processes; returns what `train` returned, or the error it raised, for every rank."""
    return together(count, _train, recipe, folder, options)


def together(count: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Run a function of the module level in `count` processes of one group."""
    port, queue = free_port(), _CONTEXT.Queue()
    processes = [
        _CONTEXT.Process(target=_member, args=(rank, count, port, queue, work, arguments)) for rank in range(count)
    ]
    for process in processes:
        process.start()
    try:
        results = dict(queue.get(timeout=100) for _ in processes)
    finally:
        for process in processes:
            process.join(10)
            if process.is_alive():
                process.kill()
    return [results[rank] for rank in range(count)]


def _member(rank: int, count: int, port: int, queue: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    torch.set_num_threads(1)
    try:
        queue.put((rank, work(*arguments)))
    except Exception as error:
        queue.put((rank, error))


def _train(recipe: Recipe, folder: Path, options: dict[str, Any]) -> Any:
    os.environ["EVLGEN_CACHE"] = str(folder.parent / "cache")
    limit = options.pop("stop_after", None)
    if limit is not None:  # only in the last process: the others must hear of it
        calls = iter(range(1, 10_000))
        last = int(os.environ["RANK"]) + 1 == int(os.environ["WORLD_SIZE"])
        options["stop"] = lambda: next(calls) == limit and last
    records: list[Any] = []
    report = train(recipe, folder=folder, device="cpu", report=records.append, **options)
    return report, len(records)


def alone(work: Callable[..., Any], *arguments: Any) -> int:
    """Run a function of the module level in one process, which may die; returns its exit code, 0 or -signal."""
    process = _CONTEXT.Process(target=work, args=arguments)
    process.start()
    process.join(100)
    assert process.exitcode is not None
    return process.exitcode

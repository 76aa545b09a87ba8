"""The processes of a run: joining those that somebody has started, or starting them on this machine.

torchrun and `accelerate launch` tell each process who it is (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT);
srun tells it in names of its own, which are translated here. Where nobody has told, one process is started for each
GPU, or as many as are asked for. The first one has the terminal. Ctrl-C or SIGTERM to the starting process reaches
all of them; when one fails, the others are ended; none is left behind, not even when the starting process is killed.
torch.distributed.run gives a run 30 s to save after a signal, and answers a failure with a traceback of its own.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from evlgen.errors import EvlgenError, UsageError
from evlgen.system.child_processes import die_with_parent
from evlgen.system.cpus import usable_cpus

_SLURM_PORTS = 20_000, 20_000  # first, and how many; a job's number chooses, so that jobs on one node do not meet


def joined() -> bool:
    """Whether this process was told that it is one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def join_cluster() -> None:
    """Take srun's word for who this process is, unless somebody else has told."""
    told = os.environ
    tasks = int(told.get("SLURM_STEP_NUM_TASKS", told.get("SLURM_NTASKS", "1")))
    # a batch script that calls us without srun has SLURM_NTASKS too, but is in no step
    if joined() or "SLURM_STEP_ID" not in told or "SLURM_PROCID" not in told or tasks < 2:
        return
    first, count = _SLURM_PORTS
    nodes = told.get("SLURM_STEP_NODELIST", told.get("SLURM_NODELIST", "127.0.0.1"))
    told["RANK"], told["WORLD_SIZE"] = told["SLURM_PROCID"], str(tasks)
    told["LOCAL_RANK"] = told.get("SLURM_LOCALID", "0")
    told.setdefault("LOCAL_WORLD_SIZE", re.split(r"\D", told.get("SLURM_STEP_TASKS_PER_NODE", "1"))[0])
    told.setdefault("MASTER_ADDR", first_node(nodes))
    told.setdefault("MASTER_PORT", str(first + int(told.get("SLURM_JOB_ID", "0")) % count))


def first_node(nodes: str) -> str:
    """The first host of a Slurm node list: "gpu[03-05,9],big1" -> "gpu03"."""
    match = re.match(r"([^,\[]+)(?:\[(\w+))?", nodes)
    return nodes if match is None else match[1] + (match[2] or "")


GRACE_SECONDS = 20.0
"""How long the others may take to end by themselves when one has failed: they hear of most failures at once."""

ERRORS = "EVLGEN_ERRORS"
"""Environment variable: the folder in which each process leaves its error, so that it is said once."""

_INTERRUPTED = 130
_POLL_SECONDS = 0.1


def processes_to_start(wanted: int | None, device: str) -> int:
    """How many processes to start here; 1: none but this one.

    Args:
        wanted: what the user asked for, or None.
        device: "auto" or a torch device; several GPUs are taken for "auto" and "cuda".

    Raises:
        UsageError: processes are asked for where a launcher has started them already, or more than there are GPUs.
    """
    if joined():
        if wanted is not None:
            raise UsageError("--processes under a launcher that has started processes already", "leave it out")
        return 1
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if wanted is None:
        return max(1, gpus)
    if gpus and wanted > gpus:
        raise UsageError(f"--processes {wanted}, but there are {gpus} GPUs here", "one process takes one GPU")
    return wanted


def leave_error(error: BaseException) -> None:
    """Tell the starting process why this one fails."""
    folder = os.environ.get(ERRORS)
    if folder is not None:
        (Path(folder) / os.environ["RANK"]).write_text(f"{type(error).__name__}: {error}", encoding="utf-8")


def start(command: Sequence[str], count: int) -> int:
    """Run `command` in `count` processes of one group and wait for them; returns the exit code of the run.

    Must be called from the main thread.

    Raises:
        EvlgenError: a process other than the first failed for a reason of its own.
    """
    with tempfile.TemporaryDirectory(prefix="evlgen-") as folder:
        group = _Group(command, count, Path(folder))
        before = {one: signal.signal(one, group.forward) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            return group.wait()
        finally:
            group.end()
            for one, handler in before.items():
                signal.signal(one, handler)


class _Group:
    def __init__(self, command: Sequence[str], count: int, folder: Path) -> None:
        self.folder = folder
        port = _free_port()
        threads = str(max(1, usable_cpus() // count))
        self.members: list[subprocess.Popen[bytes]] = []
        for rank in range(count):
            told = {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), ERRORS: str(folder),
            }  # fmt: skip
            environment = {"OMP_NUM_THREADS": threads, **os.environ, **told}
            # a session of its own: Ctrl-C at the terminal must reach it once, through `forward`
            options = {"env": environment, "start_new_session": True, "preexec_fn": die_with_parent}
            if rank == 0:
                self.members.append(subprocess.Popen(command, **options))  # type: ignore[call-overload]
            else:
                with (folder / f"{rank}.err").open("wb") as errors:
                    self.members.append(
                        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, **options)  # type: ignore[call-overload]
                    )

    def forward(self, number: int, frame: object) -> None:
        """Hand a signal on to every process."""
        for member in self.members:
            if member.poll() is None:
                member.send_signal(number)

    def wait(self) -> int:
        first_failed: int | None = None
        until = float("inf")
        while any(member.poll() is None for member in self.members) and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
            failed = [r for r, m in enumerate(self.members) if m.poll() not in (None, 0, _INTERRUPTED)]
            if failed and first_failed is None:
                first_failed, until = failed[0], time.monotonic() + GRACE_SECONDS
        self.end()
        codes = [member.wait() for member in self.members]
        if first_failed is None:
            return next((c for c in codes if c), 0)
        if first_failed and self._error(first_failed) != self._error(0):
            raise EvlgenError(f"process {first_failed} of {len(codes)}: {self._error(first_failed)}")
        return codes[0] if codes[0] > 0 else 1

    def _error(self, rank: int) -> str:
        code = self.members[rank].returncode
        if code is not None and code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        told, printed = self.folder / str(rank), self.folder / f"{rank}.err"
        if told.exists():
            return told.read_text(encoding="utf-8")
        lines = printed.read_text(encoding="utf-8", errors="replace").split("\n") if printed.exists() else []
        return next((line for line in reversed(lines) if line.strip()), f"exit code {code}")

    def end(self) -> None:
        """End what still runs."""
        for member in self.members:
            if member.poll() is None:
                member.kill()
        for member in self.members:
            member.wait()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

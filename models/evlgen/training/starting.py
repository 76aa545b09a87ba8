"""Starting the processes of a run on this machine: one for each GPU, or as many as are asked for.

The first one has the terminal. Ctrl-C or SIGTERM to the starting process reaches all of them; when one fails, the
others are ended; none is left behind, not even when the starting process is killed. torch.distributed.run gives a run
30 s to save after a signal, and answers a failure with a traceback of its own.
"""

from __future__ import annotations

import os
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
from evlgen.training.launch import joined

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

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])

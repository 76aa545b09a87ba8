"""A lock is told to the second who asks, and gone with its holder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evlgen.errors import EvlgenError
from evlgen.system.locks import held_alone


def test_the_second_is_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "run" / ".lock"
    code = (
        "import time; from pathlib import Path; from evlgen.system.locks import held_alone\n"
        f"with held_alone(Path({str(path)!r}), 'the folder run'): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(EvlgenError) as caught, held_alone(path, "the folder run", hint="choose another --out"):
            pass
        holder.send_signal(signal.SIGKILL)
    said = str(caught.value)
    assert said.startswith(f"the folder run is in use by process {holder.pid} on {os.uname().nodename} since 20")
    assert said.endswith(" (choose another --out)")
    with held_alone(path, "the folder run"):  # the system has let go of it
        pass


def test_a_lock_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.write_text("[" * 100_000)
    with held_alone(path, "x"):
        path.write_text("nonsense")
        with pytest.raises(EvlgenError, match=r"^x is in use by another process$"), held_alone(path, "x"):
            pass
    with pytest.raises(EvlgenError, match=r"below cannot be written: "), held_alone(path / "below", "x"):
        pass

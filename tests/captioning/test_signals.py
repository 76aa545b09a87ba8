"""Ctrl-C and SIGTERM, sent to a whole process: stop in good order, say how to go on; the second one kills."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from evlgen_cli.signals import stop_on_signals

from . import fakes

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("fake_cli.py")
    return subprocess.Popen(
        [sys.executable, str(script), "caption", str(folder), *arguments], stderr=subprocess.PIPE, text=True
    )


def wait_for_lines(out: Path, count: int) -> None:
    deadline = time.monotonic() + 120  # a busy machine may take its time
    while not out.exists() or out.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, "the run did not start"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_batch_in_the_model_is_finished_and_the_run_goes_on_later(tmp_path: Path, number: int) -> None:
    for index in range(60):
        fakes.write_video(tmp_path / "v" / f"{index}.mp4", sleep=0.1)
    out = tmp_path / "out.jsonl"
    process = start(tmp_path / "v", "--out", str(out), "--batch-size", "2")
    wait_for_lines(out, 3)
    process.send_signal(number)
    _, talk = process.communicate(timeout=20)
    done = len(fakes.rows_of(out))
    assert process.returncode == 130
    assert done % 2 == 0
    assert "stopping after the batch in the model; once more to stop at once\n" in talk
    assert f"interrupted after {done} of 60 videos; run the same command again to go on\n" in talk

    for path in (tmp_path / "v").iterdir():
        os.utime(path)  # touched, but the same content
    process = start(tmp_path / "v", "--out", str(out), "--limit", "4")
    process.communicate(timeout=20)
    rows = fakes.rows_of(out)
    assert (process.returncode, len(rows), len({row["video"] for row in rows})) == (0, done + 4, done + 4)


def test_the_second_ctrl_c_kills(tmp_path: Path) -> None:
    fakes.write_video(tmp_path / "v" / "a.mp4")
    fakes.write_video(tmp_path / "v" / "b.mp4", touch=str(tmp_path / "in the model"), sleep=60)
    out = tmp_path / "out.jsonl"
    process = start(tmp_path / "v", "--out", str(out), "--batch-size", "1")
    wait_for_lines(out, 1)
    while not (tmp_path / "in the model").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "stopping" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == -signal.SIGINT
    assert [row["video"] for row in fakes.rows_of(out)] == ["a.mp4"]


def test_an_ignored_signal_stays_ignored() -> None:
    stop = threading.Event()
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stop_on_signals(stop):
            os.kill(os.getpid(), signal.SIGTERM)
            assert not stop.is_set()
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.wait(1)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL, "the next one kills"
        assert signal.getsignal(signal.SIGINT) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_gets_no_signals_and_no_error() -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with stop_on_signals(threading.Event()):
                pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert failures == []


@pytest.mark.slow
def test_a_batch_that_takes_too_long_is_given_up_and_what_is_written_is_kept(tmp_path: Path) -> None:
    fakes.write_video(tmp_path / "v" / "a.mp4")
    fakes.write_video(tmp_path / "v" / "b.mp4", sleep=600, touch=str(tmp_path / "begun"))
    out = tmp_path / "out.jsonl"
    process = start(tmp_path / "v", "--out", str(out), "--batch-size", "1")
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, talk = process.communicate(timeout=60)  # it promises ten seconds, of a machine that has time for it
    assert process.returncode == 130
    assert "takes too long and is given up; what is written is kept\n" in talk
    assert talk.endswith("interrupted\n")
    assert [row["video"] for row in fakes.rows_of(out)] == ["a.mp4"]


def test_the_alarm_is_off_when_all_ended_in_time() -> None:
    stop, before, timer = threading.Event(), signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    with stop_on_signals(stop, within_seconds=600):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(1)
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 600
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (timer[0] > 0)
    assert signal.getsignal(signal.SIGALRM) is before


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "1>&- 2>&-"])
def test_a_standard_error_that_cannot_be_written_stops_nothing(tmp_path: Path, closed: str) -> None:
    if "full" in closed and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    for index in range(60):
        fakes.write_video(tmp_path / "v" / f"{index}.mp4", sleep=0.1)
    fakes.write_video(tmp_path / "v" / "0.mp4", fail="timeout")
    out, script = tmp_path / "out.jsonl", Path(__file__).with_name("fake_cli.py")
    words = [sys.executable, str(script), "caption", str(tmp_path / "v"), "--out", str(out), "--batch-size", "2"]
    process = subprocess.Popen(f"exec {shlex.join(words)} {closed}", shell=True, stdout=subprocess.DEVNULL)
    wait_for_lines(out, 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130, "the signal is told to nobody, and heeded"
    assert len(fakes.rows_of(out)) >= 3

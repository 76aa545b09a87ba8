"""A decoder that hangs, crashes or prints costs one file, within its deadline, and leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from evlgen.errors import UsageError
from evlgen.video import ClipFrames, DecodeFailure, DecodePool, content_fingerprints
from evlgen.video.content_fingerprint import content_fingerprint
from tests.video.stalled import stalled

FAKE = "tests.video.video_fakes:by_name"


def children() -> set[psutil.Process]:
    """Those of the test process; other tests may have left theirs (a fork server)."""
    return set(psutil.Process().children())


def outcomes(pool: DecodePool, names: list[str]) -> dict[str, str]:
    return {r.path.name: r.kind if isinstance(r, DecodeFailure) else "ok" for r in pool.map(names)}


def test_each_misfortune_costs_its_own_file_and_says_how_it_ended(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """What a child prints is told, and reaches no terminal."""
    names = ["a.x", "exit.x", "b.x", "segfault.x", "raise.x", "c.x", "oom.x", "noisy.x", "d.x"]
    with DecodePool(2, 30.0, FAKE) as pool:
        found = {result.path.name: result for result in pool.map(names)}
    failures = {name: (one.kind, one.message) for name, one in found.items() if isinstance(one, DecodeFailure)}
    assert found.keys() == {*names}
    assert failures == {
        "exit.x": ("crashed", "exit.x: the decoder process ended by itself with exit code 9"),
        "segfault.x": ("crashed", "segfault.x: the decoder process was ended by SIGSEGV"),
        "oom.x": ("crashed", "oom.x: the decoder process was ended by SIGKILL, perhaps for lack of memory"),
        "raise.x": ("decode-error", "raise.x: RuntimeError: the decoder is upset"),
        "noisy.x": (
            "crashed",
            "noisy.x: the decoder process ended by itself with exit code 1: printed on standard error",
        ),
    }
    assert capfd.readouterr() == ("", "")


def test_deadline_kills_and_the_next_file_gets_a_fresh_child() -> None:
    with DecodePool(1, 0.7, FAKE) as pool:
        assert outcomes(pool, ["warm.x"]) == {"warm.x": "ok"}  # the start of the child is not part of the deadline
        for name in ("sleep.x", "stubborn.x"):
            started = time.monotonic()
            failure = next(pool.map([name]))
            seconds = time.monotonic() - started
            assert isinstance(failure, DecodeFailure)
            assert (failure.kind, failure.message) == ("timeout", f"{name}: not decoded within 0.7 seconds")
            assert 0.6 < seconds < 10.0  # a busy machine may take its time to notice
            assert outcomes(pool, ["after.x"]) == {"after.x": "ok"}


def test_ctrl_c_is_the_parents_business() -> None:
    before = children()
    with DecodePool(1, 30.0, FAKE) as pool:
        assert outcomes(pool, ["interrupt.x"]) == {"interrupt.x": "ok"}
        (child,) = children() - before
        assert os.getpgid(child.pid) != os.getpgid(0)


def test_children_import_no_torch_and_end_with_the_pool() -> None:
    before = children()
    with DecodePool(2, 30.0, "tests.video.video_fakes:modules") as pool:
        assert {clip.indices for clip in pool.map("abcd") if isinstance(clip, ClipFrames)} == {(0,)}
        started = children() - before
        assert started
    assert not any(child.is_running() for child in started)


def test_leaving_early_ends_the_work() -> None:
    before, started = children(), time.monotonic()
    with DecodePool(2, 600.0, FAKE) as pool:
        assert next(pool.map(["a.x", "sleep.x", "sleep.y"])).path.name == "a.x"
    assert time.monotonic() - started < 60
    assert not children() - before


def test_a_second_map_does_not_see_results_of_an_abandoned_one() -> None:
    with DecodePool(1, 30.0, FAKE) as pool:
        first = pool.map(["a.x", "b.x", "c.x"])
        next(first)
        del first
        assert outcomes(pool, ["d.x"]) == {"d.x": "ok"}


def test_children_are_replaced_after_recycle_after_files() -> None:
    with DecodePool(1, 30.0, "tests.video.video_fakes:pid", recycle_after=2) as pool:
        pids = [clip.indices[0] for clip in pool.map("abcde") if isinstance(clip, ClipFrames)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


def test_a_child_killed_between_files_costs_no_file() -> None:
    with DecodePool(1, 30.0, "tests.video.video_fakes:pid") as pool:
        (clip,) = pool.map("a")
        assert isinstance(clip, ClipFrames)
        os.kill(clip.indices[0], signal.SIGKILL)
        psutil.wait_procs([psutil.Process(clip.indices[0])] if psutil.pid_exists(clip.indices[0]) else [], timeout=5)
        (again,) = pool.map("b")
        assert isinstance(again, ClipFrames)


def test_input_is_read_no_further_than_needed() -> None:
    read = []

    def endless() -> Iterator[str]:
        for number in range(10**9):
            read.append(number)
            yield f"{number}.x"

    with DecodePool(2, 30.0, FAKE, look_ahead=1) as pool:
        results = pool.map(endless())
        for taken in range(1, 6):
            next(results)
            time.sleep(0.05)
            assert len(read) <= taken + 2 + 1


def test_decoding_goes_on_while_nobody_asks_but_not_far(tmp_path: Path) -> None:
    """A model may take its time over a batch: so many clips are ready then, and no more files are begun."""
    read = []

    def names() -> Iterator[str]:
        for number in range(50):
            read.append(number)
            yield f"{number}.x"

    with DecodePool(2, 30.0, FAKE, look_ahead=6) as pool:
        results = pool.map(names(), 0.02)
        while next(results) is None:
            pass
        time.sleep(1)
        assert len(read) == 8
        assert all(next(results) is not None for _ in range(7)), "these are ready"


@pytest.mark.slow
def test_waiting_is_told() -> None:
    with DecodePool(1, 1.5, FAKE) as pool:
        waited = [result is None for result in pool.map(["a.x", "sleep.x"], 0.2)]
    assert waited.count(False) == 2
    assert waited[-4:-1] == [True, True, True]


ORPHANS = """
import sys, threading, time
from evlgen.video import DecodePool
with DecodePool(2, 600.0, "tests.video.video_fakes:by_name") as pool:
    results = pool.map(["sleep.x", sys.argv[1]])
    threading.Thread(target=lambda: next(results), daemon=True).start()
    while len(pool._children) < 2:
        time.sleep(0.01)
    time.sleep(0.3)  # let both start on their files
    print(*[child.pid for child in pool._children.values()], flush=True)
    time.sleep(600)
"""


def test_children_die_when_the_parent_is_killed() -> None:
    """One that holds the interpreter lock is killed only by Linux's parent death signal."""
    second = "stubborn.x" if sys.platform == "linux" else "sleep.y"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS, second], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    orphans = [psutil.Process(pid) for pid in pids]
    assert len(orphans) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 60  # a busy machine may take its time
    while time.monotonic() < deadline and any(_lives(child) for child in orphans):
        time.sleep(0.02)
    assert not any(_lives(child) for child in orphans)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_an_idle_child_ends_when_its_input_closes() -> None:
    from evlgen.video.process import Child
    from evlgen.video.sampler import Sampler
    from evlgen.video.wire import Settings

    child = Child(Settings(FAKE, Sampler(), None, False, 1))
    process = psutil.Process(child.pid)
    child._process.stdin.close()  # type: ignore[union-attr]
    assert child._process.wait(timeout=5) == 0
    child.close()
    assert not _lives(process)


def test_wrong_settings_are_reported_together() -> None:
    with pytest.raises(UsageError) as caught:
        DecodePool(0, -1.0, "vlc", size=(0, 5))
    assert caught.value.what == (
        "workers must be 1 to 512, not 0; timeout_seconds must be more than 0 and at most 604800, not -1.0; "
        "size must be numbers of 1 or more, not (0, 5); backend 'vlc' is not one of pyav, decord, ffmpeg"
    )


def test_a_backend_that_cannot_be_imported_stops_the_run_with_one_line() -> None:
    from evlgen.errors import EvlgenError

    with DecodePool(1, 30.0, "no_such_module:decode") as pool, pytest.raises(EvlgenError, match="no_such_module"):
        next(pool.map(["a.x"]))


def test_decord_that_is_not_installed_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evlgen.video.backends.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="backend decord is not installed"):
        DecodePool(backend="decord")


def test_importing_the_room_is_cheap() -> None:
    heavy = {"av", "numpy", "PIL", "torch", "typer", "rich", "decord", "ffmpeg"}
    script = f"import sys, evlgen.video; print(sorted({heavy} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"


def test_paths_keep_their_identity(tmp_path: Path) -> None:
    with DecodePool(1, 30.0, FAKE) as pool:
        assert [r.path for r in pool.map([str(tmp_path / "a.x"), tmp_path / "b.x"])] == [
            tmp_path / "a.x",
            tmp_path / "b.x",
        ]


@pytest.fixture
def misfortunes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the next children die while they start."""
    monkeypatch.setenv("MISFORTUNES", str(tmp_path))

    def plan(count: int) -> None:
        for number in range(count):
            (tmp_path / str(number)).touch()

    return plan


def test_a_child_killed_while_it_starts_is_started_again(misfortunes: Callable[[int], None]) -> None:
    misfortunes(2)
    with DecodePool(1, 30.0, "tests.video.dying_backend:decode") as pool:
        assert outcomes(pool, ["a.x", "b.x"]) == {"a.x": "ok", "b.x": "ok"}


@pytest.mark.slow
def test_children_that_never_start_cost_one_file_with_the_cause(misfortunes: Callable[[int], None]) -> None:
    misfortunes(3)
    with DecodePool(1, 30.0, "tests.video.dying_backend:decode") as pool:
        failure, clip = pool.map(["a.x", "b.x"])
    assert failure == DecodeFailure(
        Path("a.x"),
        "crashed",
        "a.x: no decoding process could be started in 3 attempts: "
        "before it was ready, the process was ended by SIGKILL, perhaps for lack of memory",
    )
    assert isinstance(clip, ClipFrames)


def test_a_file_that_does_not_answer_costs_itself_only(tmp_path: Path) -> None:
    for name in ("a.x", "stalled.x", "b.x"):
        (tmp_path / name).write_bytes(bytes(1000))
    with stalled(tmp_path / "stalled.x") as path, ThreadPoolExecutor(1) as thread:
        fingerprints = thread.submit(content_fingerprints, [path, tmp_path / "a.x"], 1.0)
        with DecodePool(1, 1.0, FAKE) as pool:
            results = {result.path.name: result for result in pool.map(sorted(tmp_path.iterdir()))}
        assert fingerprints.result() == {path: None, tmp_path / "a.x": results["a.x"].fingerprint}
    assert results.pop("stalled.x") == DecodeFailure(path, "timeout", f"{path}: not read within 1 seconds")
    assert {type(result) for result in results.values()} == {ClipFrames}
    assert {result.fingerprint for result in results.values()} == {content_fingerprint(tmp_path / "a.x")}


def test_what_kills_the_decoder_still_has_a_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "segfault.x").write_bytes(b"content")
    with DecodePool(1, 30.0, FAKE) as pool:
        (failure,) = pool.map([tmp_path / "segfault.x"])
    assert failure.fingerprint == content_fingerprint(tmp_path / "segfault.x")

"""kill -9 inside a chain, then --resume: the weights of a chain that was never stopped, and no step done twice.

As in tests/training/test_killed_training.py a child process kills itself: inside a step, or before and after the state
file is replaced.
"""

import json
import os
import signal
from pathlib import Path

import pytest

from evlgen.errors import EvlgenError
from evlgen.workflow import state
from tests.training.workers import alone
from tests.workflow.conftest import Run, write_chain
from tests.workflow.test_chain_steps import equal


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_inside(folder: Path, out: Path, what: str, number: int) -> None:
    """Run the chain in this process and kill it at the `number`-th call of `what`."""
    os.environ["EVLGEN_CACHE"] = str(folder / "cache")
    run = Run(folder / "chain.yaml", out, resume=(out / "chain.json").exists())
    calls = iter(range(1, 1000))
    replaced = Path.replace

    def at_a_state(self: Path, target: Path) -> Path:
        if Path(target).name != "chain.json":
            return replaced(self, target)
        here = next(calls) == number
        if here and what == "before":
            die()
        done = replaced(self, target)
        if here:
            die()
        return done

    if what == "step":
        run.stop_train = lambda: bool(run.trained[-1][0] == "second" and next(calls) == number and die())
    else:
        Path.replace = at_a_state  # type: ignore[method-assign, assignment]
    run()


def left(out: Path) -> dict[str, str]:
    steps = json.loads((out / "chain.json").read_text())["steps"] if (out / "chain.json").exists() else {}
    return {name: one["status"] for name, one in steps.items()}


POINTS = [("step", 2), ("before", 4)]
# one: the empty state; two and three: begin and end of data, four and five: of first, six and seven: of second
MORE = [(what, number) for what in ("before", "after") for number in range(1, 8)] + [("step", n) for n in (1, 3, 5)]


@pytest.fixture
def whole(pictures: Path) -> Path:
    Run(write_chain(pictures, "data", "first", "second"), pictures / "whole")()
    return pictures / "whole"


def kill_and_resume(pictures: Path, whole: Path, points: list[tuple[str, int]]) -> None:
    for what, number in points:
        out = pictures / f"{what}{number}"
        assert alone(die_inside, pictures, out, what, number) == -signal.SIGKILL, (what, number)
        before = left(out)
        assert "failed" not in before.values()
        again = Run(pictures / "chain.yaml", out, resume=bool(before) or (out / "chain.json").exists())
        again()
        done = {name for name, status in before.items() if status == "done"}
        assert {name for name, said in again.said.items() if said == "skipped"} == done
        assert equal(out / "second", whole / "second")
        assert not list(out.glob("*.1")), "nothing was begun anew"
        assert {p.name for p in out.iterdir() if p.suffix != ".part"} <= {
            *("chain.json", ".lock", "data", "data.yaml", "first", "first.yaml", "second", "second.yaml"),
        }


@pytest.mark.slow
def test_a_killed_chain_goes_on_as_if_nothing_had_been(pictures: Path, whole: Path) -> None:
    kill_and_resume(pictures, whole, POINTS)


@pytest.mark.slow
def test_wherever_it_is_killed(pictures: Path, whole: Path) -> None:
    kill_and_resume(pictures, whole, MORE)


def test_a_disk_that_cannot_be_written_is_one_line(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    kept = state.ChainState(pictures / "out", "tiny")
    kept.write()
    before = (pictures / "out" / "chain.json").read_bytes()
    kept.steps["a"] = state.StepRecord("done", {}, {}, "2000-01-01")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EvlgenError, match=r"chain.json cannot be written: No space left on device"):
        kept.write()
    assert (pictures / "out" / "chain.json").read_bytes() == before

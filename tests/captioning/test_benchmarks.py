"""The benchmarks of captioning run to their ends, and would tell if what they measure were not so."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.collecting import ROOT

BENCHMARKS = Path(ROOT) / "benchmarks"


@pytest.fixture
def chaos(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("chaos", BENCHMARKS / "chaos.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line(video: str, **other: Any) -> dict[str, Any]:
    same = {"frame_indices": [0], "timestamps_seconds": [0.0], "fingerprint": "1-a", "settings_hash": "b"}
    caption = {"caption": f"of {video}", "log_probability": -1.0, "status": "ok", "error": None}
    return {"video": video, **same, **caption, **other}


def test_chaos_would_tell(chaos: Any, tmp_path: Path) -> None:
    """A journal that lacks a clip, has it twice or has it otherwise is none of an undisturbed run."""
    runs = chaos.Chaos(tmp_path, None, 0)
    runs.truth = {name: line(name) for name in ("a.mp4", "b.mp4")}
    out = tmp_path / "out.jsonl"

    def check(*lines: dict[str, Any]) -> Any:
        out.write_text("".join(json.dumps(one) + "\n" for one in lines))
        return runs.check(out)

    failed = line("a.mp4", caption=None, status="error", error={"kind": "crashed", "message": "x"})
    assert check(failed, line("b.mp4"), line("a.mp4")) == {"crashed": 1}
    for wrong, says in (
        ([line("a.mp4")], "1 clips lack a caption"),
        ([line("a.mp4"), failed], "1 clips lack a caption"),
        ([line("a.mp4"), line("b.mp4"), line("a.mp4")], "captioned twice"),
        ([line("a.mp4"), line("b.mp4", caption="of a.mp4")], "b.mp4 differs"),
        ([line("a.mp4"), line("b.mp4", frame_indices=[1])], "b.mp4 differs"),
    ):
        with pytest.raises(AssertionError, match=says):
            check(*wrong)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["chaos.py", "--runs", "1", "--ray-runs", "0", "--clips", "6"], "Every clip once, as in the undisturbed run."),
        (["many_clips.py", "--clips", "12"], "For the log: 12 clips"),
        (["decode_speed.py", "--rounds", "1", "FOLDER"], "For the log: 8 frames of each of 2 clips"),
    ],
)
def test_each_runs_to_its_end(command: list[str], says: str, tmp_path: Path) -> None:
    if "FOLDER" in command:
        pytest.importorskip("decord")
        from tests.video.video_clips import write_clip

        for name in ("a.mp4", "b.mp4"):
            write_clip(tmp_path / name, count=24)
    words = [str(tmp_path) if word == "FOLDER" else word for word in command[1:]]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / command[0]), *words],
        capture_output=True,
        text=True,
        env=os.environ | {"EVLGEN_CACHE": str(tmp_path / "cache")},
        check=False,
    )
    assert says in done.stdout, done.stderr
    assert done.returncode in (0, 1), "1: a figure is missed, as it may be on a busy machine"

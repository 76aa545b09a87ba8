"""Files from other projects' test suites that break decoders; `expected.jsonl` beside them tells what plain PyAV gets.

Set EVLGEN_DATA to the folder that holds `odd-clips`. Files that plain PyAV gives up halfway ("error") give partial
frames where most of them decode, and a "decode-error" under `strict`.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from evlgen.video import ClipFrames, DecodeFailure, DecodePool, Sampler
from evlgen.video.packets import scan_packets
from tests.video.test_decoding import STUBBORN, need

pytestmark = pytest.mark.data
KINDS = {
    "error": {"decode-error", "empty-file"},
    "no frames": {"no-frames"},
    "no video stream": {"no-video-stream"},
}
MOSTLY_DECODABLE = {"corrupted.mp4", "sample_with_invalid_nalu.mp4"}


@pytest.fixture(scope="module")
def folder() -> Path:
    data = os.environ.get("EVLGEN_DATA")
    if not data or not (Path(data) / "odd-clips" / "expected.jsonl").exists():
        pytest.skip("EVLGEN_DATA does not point at a folder with odd-clips/expected.jsonl")
    return Path(data) / "odd-clips"


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "expected.jsonl").read_text().splitlines()]
    assert len(rows) == 28
    return {row["file"]: row for row in rows}


def run(folder: Path, names: list[str], backend: str, strict: bool) -> dict[str, ClipFrames | DecodeFailure]:
    need(backend)
    with DecodePool(2, 60.0, backend, sampler=Sampler("head-tail", 3), strict=strict) as pool:
        return {result.path.name: result for result in pool.map(folder / name for name in names)}


@pytest.mark.parametrize("backend", STUBBORN)
def test_strict_outcomes_are_those_of_plain_pyav(
    backend: str, folder: Path, expected: dict[str, dict[str, Any]]
) -> None:
    results = run(folder, list(expected), backend, strict=True)
    for name, row in expected.items():
        result = results[name]
        if row["outcome"] == "ok":
            assert isinstance(result, ClipFrames), result
            _check_clip(result, row, _first_pts_seconds(folder / name))
        else:
            assert isinstance(result, DecodeFailure), name
            assert result.kind in KINDS[row["outcome"]], name


@pytest.mark.parametrize("backend", STUBBORN)
def test_by_default_a_file_with_one_bad_part_still_gives_frames(
    backend: str, folder: Path, expected: dict[str, dict[str, Any]]
) -> None:
    results = run(folder, list(expected), backend, strict=False)
    given = {name for name, result in results.items() if isinstance(result, ClipFrames)}
    assert given == {name for name, row in expected.items() if row["outcome"] == "ok"} | MOSTLY_DECODABLE
    partial = {name: r.warnings for name, r in results.items() if isinstance(r, ClipFrames) and r.partial}
    assert set(partial) == MOSTLY_DECODABLE
    assert all(partial.values())


def _check_clip(clip: ClipFrames, row: dict[str, Any], first: float) -> None:
    upright = (row["width"], row["height"]) if row["rotation"] % 180 == 0 else (row["height"], row["width"])
    assert (clip.info.width, clip.info.height) == upright
    assert clip.frames.shape == (3, upright[1], upright[0], 3)
    assert clip.info.rotation == row["rotation"]
    assert clip.info.video_stream_count == row["video_streams"]
    assert clip.indices[0] == 0
    assert clip.indices[-1] == row["frames"] - 1
    assert float(clip.timestamps[-1]) + first == pytest.approx(row["last_pts_seconds"], abs=1e-9)


def _first_pts_seconds(path: Path) -> float:
    scan = scan_packets(path)
    return float(min(p.pts for p in scan.packets if p.is_shown and p.pts is not None) * scan.time_base)

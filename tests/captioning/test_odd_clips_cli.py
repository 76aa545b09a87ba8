"""Real odd files: each has the outcome that its list expects, a caption or one line with a reason; none stops the run.

EVLGEN_DATA names a folder that holds odd-clips/ with expected.jsonl, the outcomes of plain PyAV. With --strict they are
ours; without it two files that are mostly sound give a caption. Decoding is real; the model is a
fake one, since what is tested is that each file ends in its own line.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evlgen.captioning import Caption, PromptedClip
from evlgen.decoding_options import DecodingOptions
from evlgen_cli.main import app

from . import fakes

DATA = os.environ.get("EVLGEN_DATA")

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not DATA, reason="EVLGEN_DATA does not say where odd-clips/ is"),
]

KINDS = {
    "no video stream": {"no-video-stream"},
    "no frames": {"no-frames"},
    "error": {"empty-file", "decode-error"},
}


class ShapeCaptioner(fakes.FakeCaptioner):
    """Any clip gets a caption."""

    def caption(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[Caption]:
        return [Caption(f"a clip of shape {clip.frames.shape}", -1.0, 5) for clip in clips]


MOSTLY_SOUND = {"corrupted.mp4", "sample_with_invalid_nalu.mp4"}


@pytest.mark.parametrize("strict", [True, False])
def test_every_odd_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strict: bool) -> None:
    fakes.install(monkeypatch.setattr, ShapeCaptioner(), decoder=False)
    folder = Path(DATA or "") / "odd-clips"
    expected = {one["file"]: one for one in map(json.loads, (folder / "expected.jsonl").open())}
    out = tmp_path / "out.jsonl"
    arguments = ["caption", str(folder), "--out", str(out), *(["--strict"] if strict else [])]
    result = CliRunner().invoke(app, arguments, prog_name="evlgen")
    assert result.exit_code == 3, result.output
    rows = {row["video"]: row for row in fakes.rows_of(out)}
    assert set(rows) == set(expected)
    assert len(out.read_bytes().splitlines()) == len(expected) == 28
    assert {name for name, row in rows.items() if row["status"] == "partial"} <= (set() if strict else MOSTLY_SOUND)
    wrong = {}
    for name, row in rows.items():
        want = expected[name]
        if name in MOSTLY_SOUND and not strict:  # "ok" where the frames looked at are sound
            fine = row["caption"] and bool(row["warnings"]) == (row["status"] == "partial")
        elif want["outcome"] == "ok":
            last_seconds = want["last_pts_seconds"] + 1e-3
            fine = row["caption"] and max(row["frame_indices"]) < want["frames"] and row["status"] != "error"
            fine = fine and max(row["timestamps_seconds"]) <= last_seconds
        else:
            fine = row["caption"] is None and row["error"] and row["error"]["kind"] in KINDS[want["outcome"]]
            fine = fine and row["error"]["message"]
        if not fine:
            wrong[name] = {"expected": want, "row": row}
    assert not wrong, json.dumps(wrong, indent=1)

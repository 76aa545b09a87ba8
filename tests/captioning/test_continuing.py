"""A file goes on in the arithmetic it was begun with, whatever `auto` means today; a plan takes no torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from evlgen.captioners import evlgen_captioner, opening
from evlgen.captioners.evlgen_captioner import identify_model
from evlgen.captioning import CaptionRequest, Listener, caption_videos, plan_captions
from evlgen.decoding_options import DecodingOptions

from . import fakes

FRESH = """
import sys
from evlgen_cli.main import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print([name for name in ("torch", "transformers", "numpy", "av") if name in sys.modules])
"""


def machine_is_fast_in(monkeypatch: pytest.MonkeyPatch, auto: str) -> None:
    monkeypatch.setattr(opening, "local_dtype", lambda dtype, *machine: auto if dtype == "auto" else dtype)


@pytest.fixture
def out(tmp_path: Path, videos: Path, captioner: fakes.FakeCaptioner) -> Path:
    """Four of six videos, captioned in float32 with a search that is not the usual one."""
    out = tmp_path / "out.jsonl"
    caption_videos(CaptionRequest([str(videos)], out, decoding=DecodingOptions(num_beams=5), limit=4))
    return out


def test_auto_goes_on_as_begun_and_says_so(out: Path, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_is_fast_in(monkeypatch, "bfloat16")
    request = CaptionRequest([str(videos)], out, decoding=DecodingOptions(num_beams=5))
    assert len(plan_captions(request).work) == 2
    notes: list[str] = []
    listener = Listener()
    listener.on_note = notes.append  # type: ignore[method-assign]
    assert caption_videos(request, listener).finished == 2
    assert {row["settings"]["dtype"] for row in fakes.rows_of(out)} == {"float32"}
    assert notes == [
        f"{out} goes on in float32, as it was begun; --dtype bfloat16 is faster on this machine, and makes everything "
        "in it again"
    ]


def test_other_settings_keep_the_arithmetic_too(out: Path, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_is_fast_in(monkeypatch, "bfloat16")
    plan = plan_captions(CaptionRequest([str(videos)], out, decoding=DecodingOptions(num_beams=2)))
    assert plan.difference == "num_beams 5 -> 2"


def test_a_dtype_that_is_named_is_taken(out: Path, videos: Path) -> None:
    plan = plan_captions(CaptionRequest([str(videos)], out, decoding=DecodingOptions(num_beams=5), dtype="bfloat16"))
    assert (len(plan.work), plan.difference) == (6, "dtype float32 -> bfloat16")


def test_most_lines_decide(out: Path, videos: Path) -> None:
    caption_videos(CaptionRequest([str(videos)], out, decoding=DecodingOptions(num_beams=5), dtype="bfloat16"))
    assert len(plan_captions(CaptionRequest([str(videos)], out, decoding=DecodingOptions(num_beams=5))).work) == 0


def test_float16_goes_on_on_an_x86_cpu(out: Path, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_is_fast_in(monkeypatch, "bfloat16")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    caption_videos(CaptionRequest([str(videos)], out, decoding=DecodingOptions(num_beams=5), dtype="float16"))
    assert len(plan_captions(CaptionRequest([str(videos)], out, decoding=DecodingOptions(num_beams=5))).work) == 0


def test_float16_does_not_go_on_without_a_gpu(out: Path, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    caption_videos(CaptionRequest([str(videos)], out, decoding=DecodingOptions(num_beams=5), dtype="float16"))
    plan = plan_captions(CaptionRequest([str(videos)], out, decoding=DecodingOptions(num_beams=5)))
    assert plan.difference == "dtype float16 -> float32"


def test_a_new_file_takes_what_the_machine_is_fast_in(
    videos: Path, tmp_path: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_is_fast_in(monkeypatch, "bfloat16")
    caption_videos(CaptionRequest([str(videos)], tmp_path / "new.jsonl"))
    assert {row["settings"]["dtype"] for row in fakes.rows_of(tmp_path / "new.jsonl")} == {"bfloat16"}


@pytest.mark.parametrize("done", [0, 6], ids=["dry run", "nothing to do"])
def test_what_needs_no_model_imports_no_torch(
    videos: Path, tmp_path: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    out = tmp_path / "out.jsonl"
    if done:
        monkeypatch.setattr(evlgen_captioner, "identify_model", identify_model)  # the file must be that of evlgen-mini
        assert caption_videos(CaptionRequest([str(videos)], out, dtype="float32")).ok == done
    arguments = ["caption", str(videos), "--out", str(out), *([] if done else ["--dry-run"])]
    ran = subprocess.run([sys.executable, "-c", FRESH, *arguments], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr
    shown = f"skipped, done  {done}" if done else "caption  clip1.mp4  (new)"
    assert shown in ran.stdout

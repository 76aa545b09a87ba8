"""What becomes of captions that are none: empty ones, and those whose arithmetic broke down; and of several at once."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evlgen.captioners.protocol import Caption, PromptedClip
from evlgen.captioning import CaptionRequest, Decision, ModelBrokenError, caption_videos, plan_captions
from evlgen.captioning.caption_request import CaptionSettings
from evlgen.decoding_options import DecodingOptions
from evlgen_cli.main import app

from . import fakes


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "captions.jsonl"


def test_an_empty_caption_is_a_status_of_its_own(
    videos: Path, out: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(videos)
    fakes.write_video(videos / "clip2.mp4", " ")
    fakes.write_video(videos / "clip10.mp4", "", partial=True)
    result = CliRunner().invoke(app, ["caption", ".", "-o", str(out)])
    assert result.exit_code == 3
    assert "empty     2 (the model said nothing; --min-new-tokens 1 makes it)\n" in result.stdout
    status = {row["video"]: (row["status"], row["caption"]) for row in fakes.rows_of(out)}
    assert status["clip1.mp4"] == ("ok", "caption of clip1.mp4")
    assert status["clip2.mp4"] == ("empty", " ")
    assert status["clip10.mp4"] == ("empty", "")

    again = CliRunner().invoke(app, ["caption", ".", "-o", str(out), "--json"])
    assert (again.exit_code, len(fakes.rows_of(out))) == (3, 6), "the same settings would give the same"
    assert json.loads(again.stdout)["empty_before"] == 2
    assert plan_captions(CaptionRequest([str(videos)], out)).count(Decision.EMPTY) == 2
    assert len(plan_captions(CaptionRequest([str(videos)], out, decoding=DecodingOptions(min_new_tokens=1))).work) == 6


class Broken(fakes.FakeCaptioner):
    """Gives a caption with a number that is none to those that say so."""

    def caption(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[Caption]:
        return [
            Caption(one.text, -math.inf if "broken" in one.text else one.log_probability, 4)
            for one in super().caption(clips, options)
        ]


def test_a_log_probability_that_is_not_finite_is_an_error(
    videos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.install(monkeypatch.setattr, Broken())
    fakes.write_video(videos / "clip2.mp4", "broken")
    summary = caption_videos(CaptionRequest([str(videos)], out))
    assert (summary.ok, summary.failed) == (5, {"not-finite": 1})
    (row,) = (row for row in fakes.rows_of(out) if row["status"] == "error")
    assert row["caption"] is None
    assert row["error"] == {
        "kind": "not-finite",
        "message": "the model gave the log-probability -inf: its weights or inputs are damaged, or --dtype is too "
        "coarse for it",
    }


def test_a_model_that_is_all_broken_ends_the_run(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch.setattr, Broken())
    for number in range(30):
        fakes.write_video(tmp_path / "v" / f"{number}.mp4", "broken")
    with pytest.raises(ModelBrokenError, match=r"failed on \d+ videos in a row; the last time: the model gave the"):
        caption_videos(CaptionRequest([str(tmp_path / "v")], out))


class Talkative(fakes.FakeCaptioner):
    def caption(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[Caption]:
        return [Caption(one.text, -1.5, 4, (Caption("another", -2.25, 3),)) for one in super().caption(clips, options)]


def test_alternatives_stand_in_the_row(videos: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch.setattr, Talkative())
    caption_videos(CaptionRequest([str(videos / "clip1.mp4")], out, decoding=DecodingOptions(num_captions=2)))
    (row,) = fakes.rows_of(out)
    assert row["caption"] == "caption of clip1.mp4"
    assert row["alternatives"] == [{"caption": "another", "log_probability": -2.25, "token_count": 3}]
    assert row["settings"]["num_captions"] == 2


class Labelling(fakes.FakeCaptioner):
    def caption(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[Caption]:
        return [Caption(one.text, -1.5, 4, tags=(("jeep", 0.51234),)) for one in super().caption(clips, options)]


def test_tags_stand_in_the_row(videos: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.install(monkeypatch.setattr, Labelling())
    caption_videos(CaptionRequest([str(videos / "clip1.mp4")], out))
    (row,) = fakes.rows_of(out)
    assert row["tags"] == [{"name": "jeep", "probability": 0.5123}]


def test_settings_at_their_defaults_have_the_hash_of_before() -> None:
    """Hashes of rows that evlgen wrote before it knew penalties and alternatives."""
    model: tuple[Any, ...] = ("m", "h", "c", 4, "uniform", "pyav", False, "float32")
    plain = CaptionSettings(*model, DecodingOptions())
    prompted = CaptionSettings(*model, DecodingOptions(length_penalty=-1.0), "a video of")
    assert (plain.hash, prompted.hash) == ("e7c2fc080b159899", "95a7150fa9726bb7")
    options: dict[str, Any] = {"no_repeat_ngram": 3, "repetition_penalty": 1.2, "num_captions": 2}
    hashes = {CaptionSettings(*model, DecodingOptions(**{name: value})).hash for name, value in options.items()}
    assert len(hashes | {plain.hash}) == 4

"""`evlgen caption --prompt`: part of the settings, so that another prompt is announced and captioned again."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from evlgen.captioning import CaptionRequest, caption_videos, read_captions
from evlgen.captioning.caption_request import CaptionSettings
from evlgen.decoding_options import DecodingOptions
from evlgen_cli.main import app

from . import fakes
from .test_real_decoder import write_clip


def evlgen(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["caption", "videos", "--out", "out.jsonl", *arguments], prog_name="evlgen")


def said(result: Result) -> str:
    """What stands in front of the progress bar's line."""
    assert result.exit_code == 0, result.stderr
    return result.stderr.rpartition("captioning: ")[0]


def test_another_prompt_is_other_settings(
    tmp_path: Path, videos: Path, captioner: fakes.FakeCaptioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said(evlgen()) == ""
    assert "prompt" not in fakes.rows_of(Path("out.jsonl"))[0]["settings"]
    for prompt, change in (
        ("a photo of", '"" -> "a photo of"'),
        ("photo:", '"a photo of" -> photo:'),
        ("", 'photo: -> ""'),
    ):
        assert said(evlgen("--prompt", prompt)) == (
            f"6 videos have captions made with other settings (prompt {change}); "
            "they are captioned again, and the new lines count\n"
        )
        assert fakes.rows_of(Path("out.jsonl"))[-1]["settings"].get("prompt", "") == prompt
        again = evlgen("--prompt", prompt)
        assert (again.stdout, again.stderr) == (
            "captions\nok             0\nskipped, done  6\noutput         out.jsonl\n", "",
        )  # fmt: skip


def test_files_from_before_there_were_prompts_still_count_as_done() -> None:
    known = {
        "model": "m", "model_hash": "h", "config_hash": "c", "frames": 4, "sampler": "uniform", "backend": "pyav",
        "strict": False, "num_beams": 3, "max_length": 30, "min_length": 0, "dtype": "float32",
    }  # fmt: skip
    own = {key: value for key, value in known.items() if key not in ("num_beams", "max_length", "min_length")}

    def settings_of(prompt: str = "", **options: Any) -> CaptionSettings:
        return CaptionSettings(**own, decoding=DecodingOptions(**options), prompt=prompt)  # type: ignore[arg-type]

    settings = settings_of()
    assert settings.hash == hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
    assert settings.as_dict() == known
    assert settings_of(prompt="a").hash != settings.hash != settings_of(length_penalty=-1).hash


def test_captions_are_the_models_behind_the_prompt(model_folder: Path, tmp_path: Path) -> None:
    import torch

    from evlgen.modeling import EVLGenForConditionalGeneration
    from evlgen.video import DecodePool, Sampler

    write_clip(tmp_path / "v.mp4", level=90, frames=5)
    torch.manual_seed(0)  # a test model's frozen parts are random: one seed, one model
    model = EVLGenForConditionalGeneration.from_pretrained(model_folder)
    with DecodePool(workers=1, sampler=Sampler(frames=3), size=(32, 32)) as pool:
        (clip,) = pool.map([tmp_path / "v.mp4"])
    want = model.generate(model.processor([clip.frames]), prompt="a photo of", num_beams=2, max_new_tokens=5)
    request = CaptionRequest(
        [str(tmp_path / "v.mp4")], tmp_path / "out.jsonl", str(model_folder),
        decoding=DecodingOptions(num_beams=2, max_new_tokens=5), prompt="a photo of", device="cpu", dtype="float32",
    )  # fmt: skip
    torch.manual_seed(0)
    caption_videos(request)
    row = read_captions(tmp_path / "out.jsonl")["v.mp4"]
    assert row["caption"] == want.texts[0]
    assert row["log_probability"] == pytest.approx(want.log_probabilities[0].item(), abs=1e-4)
    assert row["settings"]["prompt"] == "a photo of"

"""`--r`: captions of a model that merges by another schedule than the one it was trained with."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from evlgen.captioning import CaptionRequest, caption_videos, read_captions
from evlgen.configuration import EVLGenConfig, LanguageConfig, VisionConfig
from evlgen.connector_config import TomeFormerConfig
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import UsageError
from evlgen.evaluating.prediction import PredictionRequest, caption_request, find_data
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.video import DecodePool, Sampler

from .test_real_decoder import write_clip


def config_of(layers: int = 3, tokens: int = 17) -> EVLGenConfig:
    return EVLGenConfig(
        vision=VisionConfig(name="x", image_size=16, width=8, tokens=tokens),
        connector=TomeFormerConfig(layers=layers, r=1, width=24, heads=4),
        language=LanguageConfig(width=8),
    )


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("0", [17, 17, 17]), ("3", [14, 11, 8]), ("[5, 2,1]", [12, 10, 9]), ("[2,-1.0]", [13, 11, 11])],
)
def test_a_number_and_schedules(text: str, tokens: list[int]) -> None:
    changed = config_of().with_r(text)
    assert changed.tokens_per_layer() == tokens
    assert changed.model_copy(update={"connector": config_of().connector}) == config_of()  # nothing else


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", r"--r x is no number of tokens \(a number such as 8"),
        ("8,8", "--r 8,8 is no number of tokens"),
        ("true", "--r true is no number of tokens"),
        ("[1,2", "is no number of tokens"),
        ("-1", "--r -1: must not be negative"),
        ("[1,2]", r"--r \[1,2\]: has 2 entries for 3 layers"),
        ("[4,3.0]", "inflection 3.0 is not between -1 and 1"),
        ("1.5", "--r 1.5: "),
        ("7", "--r 7 merges 7 tokens in layer 2, but of 10 tokens 4 can be merged at most"),
    ],
)
def test_what_cannot_be_is_said(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config_of().with_r(text)


def test_r_is_part_of_the_settings_when_it_is_given(model_folder: Path) -> None:
    def settings(r: str | None) -> Any:
        return CaptionRequest(["v"], model=str(model_folder), r=r).resolve()[1]

    assert "r" not in settings(None).as_dict()
    assert settings("[ 1 ]").as_dict()["r"] == "[1]"
    assert len({settings(r).hash for r in (None, "0", "1", "2", " 2")}) == 4
    with pytest.raises(UsageError, match="--r 3 merges 3 tokens in layer 1, but of 5 tokens 2"):
        settings("3")
    with pytest.raises(UsageError, match="--r means nothing to an endpoint"):
        CaptionRequest(["v"], model="openai:m@http://localhost:1", r="3").resolve()


def test_captions_are_those_of_a_model_with_that_r(model_folder: Path, tmp_path: Path) -> None:
    """They are those of a checkpoint whose configuration says so; the random parts of both come from one seed."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes((model_folder / "model.safetensors").read_bytes())
    config = json.loads((model_folder / "config.json").read_text())
    config["connector"]["r"] = 2
    (other / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = EVLGenForConditionalGeneration.from_pretrained(other)
    write_clip(tmp_path / "v.mp4", level=90, frames=5)
    with DecodePool(workers=1, sampler=Sampler(frames=3), size=(32, 32)) as pool:
        (clip,) = pool.map([tmp_path / "v.mp4"])
    want = model.generate(model.processor([clip.frames]), num_beams=2, max_new_tokens=5)
    log_p = {}
    for r in ("2", "0"):
        torch.manual_seed(0)
        options = DecodingOptions(num_beams=2, max_new_tokens=5)
        caption_videos(
            CaptionRequest(
                [str(tmp_path / "v.mp4")],
                tmp_path / "out.jsonl",
                str(model_folder),
                decoding=options,
                r=r,
                device="cpu",
                dtype="float32",
            )
        )
        row = read_captions(tmp_path / "out.jsonl")["v.mp4"]
        log_p[r] = row["log_probability"]
        if r == "2":
            assert row["caption"] == want.texts[0]
    assert log_p["2"] == pytest.approx(want.log_probabilities[0].item(), abs=1e-4)
    assert abs(log_p["0"] - log_p["2"]) > 1e-4


def test_evaluation_hands_it_on(tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text('{"video": "v.mp4", "caption": "a dog"}\n')
    (tmp_path / "media").mkdir()
    request = PredictionRequest(model="evlgen-mini", dataset=tmp_path / "set.jsonl", r="8")
    assert caption_request(request, find_data(request)).r == "8"

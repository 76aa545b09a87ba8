"""Folders of fake videos, the fakes in place, and a real model that is tiny."""

from pathlib import Path

import pytest

from evlgen.configuration import EVLGenConfig, LanguageConfig, TemporalConfig, VisionConfig
from evlgen.connector_config import TomeFormerConfig

from . import fakes

LANGUAGE = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 128,
}
VISION = {"img_size": 32, "embed_dim": 48, "depth": 1, "num_heads": 3}


@pytest.fixture
def captioner(monkeypatch: pytest.MonkeyPatch) -> fakes.FakeCaptioner:
    """The fake model (and decoder) that runs of this test use."""
    captioner = fakes.FakeCaptioner()
    fakes.install(monkeypatch.setattr, captioner)
    return captioner


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Six videos in two folders, equal basenames among them."""
    folder = tmp_path / "videos"
    for name in ("clip1.mp4", "clip2.mp4", "clip10.mp4", "sub/clip1.mp4", "sub/deep/clip1.webm", "sub/clip3.mkv"):
        fakes.write_video(folder / name, f"caption of {name}")
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of a few thousand parameters."""
    from evlgen.modeling import EVLGenForConditionalGeneration

    config = EVLGenConfig(
        vision=VisionConfig(name="vit_tiny_patch16_224", image_size=32, width=48, tokens=5, arguments=VISION),
        connector=TomeFormerConfig(layers=1, width=32, heads=2, intermediate=64, r=1),
        temporal=TemporalConfig(frames=3),
        language=LanguageConfig(architecture=LANGUAGE, width=32),
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    EVLGenForConditionalGeneration.from_config(config, initialise=False).save_pretrained(folder)
    return folder

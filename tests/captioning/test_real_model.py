"""A tiny random EVLGen model through the whole run: what is known before loading is what is loaded."""

from pathlib import Path

import pytest

from evlgen.captioning import CaptionRequest, caption_videos, read_captions
from evlgen.captioning.captioner import identify_model
from evlgen.configuration import ConnectorConfig, EVLGenConfig, LanguageConfig, TemporalConfig, VisionConfig

from .test_real_decoder import write_clip

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


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of a few thousand parameters."""
    from evlgen.modeling import EVLGenForConditionalGeneration

    config = EVLGenConfig(
        vision=VisionConfig(name="vit_tiny_patch16_224", image_size=32, width=48, tokens=5, arguments=VISION),
        connector=ConnectorConfig(layers=1, width=32, heads=2, intermediate=64, r=1),
        temporal=TemporalConfig(frames=3),
        language=LanguageConfig(architecture=LANGUAGE, width=32),
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    EVLGenForConditionalGeneration.from_config(config, initialise=False).save_pretrained(folder)
    return folder


def test_the_identity_is_that_of_the_loaded_model(model_folder: Path) -> None:
    from evlgen.modeling import EVLGenForConditionalGeneration

    identity = identify_model(str(model_folder))
    loaded = EVLGenForConditionalGeneration.from_pretrained(model_folder)
    assert (identity.id, identity.hash) == (loaded.model_id, loaded.model_hash) == ("tiny", identity.hash)
    assert (identity.frames, identity.image_size_pixels) == (3, 32)


def test_clips_of_any_length_are_captioned(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "v"
    folder.mkdir()
    for number, frames in enumerate([1, 2, 12]):
        write_clip(folder / f"{number}.mp4", level=60 * number, frames=frames)
    out = tmp_path / "out.jsonl"
    request = CaptionRequest([str(folder)], out, str(model_folder), max_length=5, device="cpu", dtype="float32")
    assert caption_videos(request).ok == 3
    rows = read_captions(out)
    assert [len(rows[f"{number}.mp4"]["frame_indices"]) for number in range(3)] == [3, 3, 3]
    assert all(row["token_count"] <= 5 and row["log_probability"] < 0 for row in rows.values())
    (model_folder / "config.json").write_text((model_folder / "config.json").read_text() + "\n")
    assert caption_videos(request).ok == 3, "another configuration is another model"

"""A tiny random EVLGen model through the whole run: what is known before loading is what is loaded."""

from pathlib import Path

from evlgen.captioners.evlgen_captioner import identify_model
from evlgen.captioning import CaptionRequest, caption_videos, read_captions
from evlgen.decoding_options import DecodingOptions

from .test_real_decoder import write_clip


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
    request = CaptionRequest(
        [str(folder)], out, str(model_folder), decoding=DecodingOptions(max_new_tokens=5), device="cpu", dtype="float32"
    )
    assert caption_videos(request).ok == 3
    rows = read_captions(out)
    assert [len(rows[f"{number}.mp4"]["frame_indices"]) for number in range(3)] == [3, 3, 3]
    assert all(row["token_count"] <= 5 and row["log_probability"] < 0 for row in rows.values())
    (model_folder / "config.json").write_text((model_folder / "config.json").read_text() + "\n")
    assert caption_videos(request).ok == 3, "another configuration is another model"

"""A tiny random CoCa of open_clip: pooling against its own pooler, tokens against a slow loop over its own forward."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evlgen.captioners.coca_captioner import identify_model, load_captioner
from evlgen.captioners.hub_generation import write
from evlgen.captioners.opening import kind_of
from evlgen.captioners.protocol import LoadOptions, PromptedClip
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import UsageError, WeightsError

open_clip = pytest.importorskip("open_clip")

NAME = "coca_tiny"
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}
CONFIG = {
    "embed_dim": 32,
    "multimodal_cfg": {**TEXT, "mlp_ratio": 2, "dim_head": 8, "n_queries": 4, "attn_pooler_heads": 4},
    "vision_cfg": {
        "image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 16, "attentional_pool": True,
        "attn_pooler_heads": 4, "attn_pooler_queries": 5, "output_tokens": True,
    },
    "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
    "custom_text": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coca")
    (folder / f"{NAME}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / f"{NAME}.json")
    torch.manual_seed(0)
    model = open_clip.create_model(NAME)
    for parameter in model.parameters():  # as they are made, they say the same of every picture
        torch.nn.init.normal_(parameter, std=0.3)
    torch.save(model.state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


def opened(weights: Path, more: str = "") -> Any:
    return load_captioner(f"open_clip:{NAME}/{weights}{more}", LoadOptions("cpu", "float32", "", 8))


def clip(frames: int = 3, prompt: str = "", seed: int = 0) -> PromptedClip:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 255, (frames, 40, 60, 3), dtype=np.uint8)
    return PromptedClip(pixels, tuple(float(place) for place in range(frames)), prompt)


def tokens_of_frames(captioner: Any, shown: PromptedClip) -> list[torch.Tensor]:
    """(1, N, D) what the pooler is given of each frame."""
    seen: list[torch.Tensor] = []
    pooler = captioner.model.coca.visual.attn_pool
    hook = pooler.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    for place in range(len(shown.frames)):
        captioner.inputs([PromptedClip(shown.frames[place : place + 1], (0.0,), "")])
    hook.remove()
    return seen


def test_all_frames_are_pooled_together(weights: Path) -> None:
    captioner, shown = opened(weights), clip()
    together = torch.cat(tokens_of_frames(captioner, shown), 1)
    features = captioner.inputs([shown])["features"]
    captioner.model._frames = 1
    visual = captioner.model.coca.visual
    with torch.inference_mode():
        pooled = visual.ln_post(visual.attn_pool(together))
    assert torch.allclose(features, pooled[:, 1:], atol=1e-5)  # the first query is for contrast


def test_frames_are_averaged_where_that_is_asked(weights: Path) -> None:
    captioner, shown = opened(weights, "@mean"), clip()
    single = [captioner.inputs([PromptedClip(shown.frames[i : i + 1], (0.0,), "")])["features"] for i in range(3)]
    assert torch.allclose(captioner.inputs([shown])["features"], torch.stack(single).mean(0), atol=1e-5)


def test_tokens_and_probabilities_are_those_of_a_slow_loop(weights: Path) -> None:
    captioner = opened(weights)
    single = clip(1, "a dog")
    own = open_clip.create_model_and_transforms(NAME, pretrained=str(weights))
    coca, preprocess = own[0].eval(), own[2]
    from PIL import Image

    image = preprocess(Image.fromarray(single.frames[0]))[None]
    ids = [49406, *open_clip.get_tokenizer(NAME).encode("a dog")]
    begun, expected = len(ids), 0.0
    with torch.inference_mode():
        while len(ids) < begun + 8 and ids[-1] != 49407:
            logits = coca(image, torch.tensor([ids]), output_labels=False)["logits"][0, -1]
            ids.append(int(logits.argmax()))
            expected += float(logits.log_softmax(-1)[ids[-1]])
        inputs = captioner.inputs([single])
        (found,) = write(captioner.model, inputs, DecodingOptions(num_beams=1, max_new_tokens=8), lambda count: None)
    assert list(found.tokens) == ids[begun:]
    assert sum(found.log_probabilities) == pytest.approx(expected, abs=1e-4)


def test_a_clip_of_one_picture_is_captioned_like_the_picture(weights: Path) -> None:
    captioner, single = opened(weights), clip(1)
    still = PromptedClip(np.repeat(single.frames, 4, 0), (0.0, 1.0, 2.0, 3.0), "")
    options = DecodingOptions(num_beams=2, max_new_tokens=6)
    one, several = captioner.caption([single], options)[0], captioner.caption([still], options)[0]
    assert one.text == several.text
    assert one.log_probability == pytest.approx(several.log_probability, abs=1e-4)


def test_a_batch_is_its_clips_one_by_one(weights: Path) -> None:
    captioner = opened(weights)
    clips = [clip(seed=1), clip(seed=2, prompt="a dog"), clip(seed=3)]
    options = DecodingOptions(num_beams=3, max_new_tokens=6, num_captions=2, num_samples=1)
    together = captioner.caption(clips, options)
    for given, one in zip(clips, together, strict=True):
        (alone,) = captioner.caption([given], options)
        assert [one.text, *(other.text for other in one.alternatives)] == [
            alone.text, *(other.text for other in alone.alternatives)
        ]  # fmt: skip
        assert one.log_probability == pytest.approx(alone.log_probability, abs=1e-4)
    assert len({one.text for one in together}) > 1


def test_other_weights_are_another_model(weights: Path, tmp_path: Path) -> None:
    identity = identify_model(f"open_clip:{NAME}/{weights}")
    assert identity.frames == 8
    (tmp_path / "other.pt").write_bytes(b"other")
    assert identify_model(f"open_clip:{NAME}/{tmp_path / 'other.pt'}").hash != identity.hash
    assert identify_model(f"open_clip:{NAME}/{weights}@mean").id != identity.id


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("open_clip:coca_ViT-B-32", r"is incomplete \(open_clip:NAME/PRETRAINED"),
        ("open_clip:nothing/tag", r"open_clip has no model nothing \(those that caption are .*coca_ViT-L-14"),
        ("open_clip:ViT-B-32/openai", "open_clip's ViT-B-32 writes no captions"),
        ("open_clip:coca_ViT-B-32/nothing", "coca_ViT-B-32 has no weights 'nothing' .there is .*laion2b"),
    ],
)
def test_what_is_not_there_is_one_line(model: str, line: str) -> None:
    kind = kind_of(model)
    with pytest.raises(UsageError, match=line):
        kind.load(model, LoadOptions("cpu"))


def test_captions_that_are_too_long_and_damaged_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--max-new-tokens 30 make 31 tokens, and coca_tiny takes 16"):
        load_captioner(f"open_clip:{NAME}/{weights}", LoadOptions("cpu"))
    (tmp_path / "damaged.pt").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="cannot be loaded: "):
        load_captioner(f"open_clip:{NAME}/{tmp_path / 'damaged.pt'}", LoadOptions("cpu", max_new_tokens=8))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs the package open_clip_torch \(pip install 'evlgen\[open-clip\]'"):
        identify_model("open_clip:coca_ViT-B-32/tag")

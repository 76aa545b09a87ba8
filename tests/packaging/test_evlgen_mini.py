"""The embedded model: what ships is whole, and (with a package index) it sees what it captions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from evlgen.configuration import EVLGenConfig, TomeFormerConfig
from evlgen.modeling.pretrained import frozen_sources
from evlgen.modeling.tomeformer import TomeFormer
from evlgen.recipes import load_recipe
from evlgen.weights.catalogue import CONNECTOR_START, LANGUAGE, VISION
from evlgen.weights.named_models import find_checkpoint


@pytest.fixture(scope="module")
def folder() -> Path:
    return find_checkpoint("evlgen-mini")


def test_it_is_the_model_of_its_recipe_and_of_the_catalogue(folder: Path) -> None:
    config = EVLGenConfig.from_pretrained(folder)
    assert config.model_copy(update={"confidence": None}) == load_recipe("mini-small-scst-again").model
    assert config.confidence is not None
    assert config.vision.source == VISION.source
    assert frozen_sources(folder / "model.safetensors") == {"vision": VISION.source, "language": "evlgen:captions"}


def test_mini_looking_is_made_of_what_the_catalogue_has() -> None:
    model = load_recipe("mini-looking").model
    assert (model.vision.source, model.language.source) == (VISION.source, LANGUAGE.source)
    assert isinstance(model.connector, TomeFormerConfig)
    assert model.connector.source == CONNECTOR_START.source


def test_its_weights_are_whole_and_small(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    assert all(torch.isfinite(t.float()).all() for t in tensors.values())
    config = EVLGenConfig.from_pretrained(folder)
    assert isinstance(config.connector, TomeFormerConfig)
    connector = TomeFormer(config.connector, 81).state_dict()
    own = {n.removeprefix("connector."): t.shape for n, t in tensors.items() if n.startswith("connector.")}
    assert own == {n: t.shape for n, t in connector.items()}
    looks, adapters = (sum(mark in name for name in tensors) for mark in (".cross_attention.looks.", ".lora_A."))
    assert (looks, adapters) == (4 * 3, 4 * 7), "norm, query and output, and 7 matrices, of each of 4 layers"
    assert (folder / "model.safetensors").stat().st_size < 25_000_000


def test_the_card_names_data_terms_and_results(folder: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    for word in ("Flickr8k", "MSR-VTT", "research", "CIDEr", "shuffled", "mini-small"):
        assert word in card
    assert "<!--" not in card, "a part of the card is not filled in"


def test_the_card_counts_what_the_file_holds(folder: Path) -> None:
    sizes = {name: tensor.numel() for name, tensor in load_file(folder / "model.safetensors").items()}
    looks = sum(n for name, n in sizes.items() if ".cross_attention." in name)
    adapters = sum(n for name, n in sizes.items() if ".lora_" in name)
    connector = sum(n for name, n in sizes.items() if not name.startswith(("language.", "prompt_", "vision.")))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"yes, {connector / 1e6:.1f} M parameters" in card
    assert f"cross-attention, {looks / 1e6:.1f} M, and LoRA, {adapters / 1e6:.1f} M" in card


@pytest.mark.network
def test_it_sees(tmp_path: Path, folder: Path) -> None:
    """Every sample clip's caption is likelier behind its own soft prompts and tags than behind those of the others."""
    from evlgen.captioning import CaptionRequest, caption_videos, read_captions
    from evlgen.modeling import EVLGenForConditionalGeneration
    from evlgen.modeling.packing import pack_captions, with_prompts
    from evlgen.video import ClipFrames, DecodePool, Sampler
    from evlgen.weights.parts import copy_samples

    clips = copy_samples(tmp_path / "samples")
    caption_videos(CaptionRequest(sources=[str(tmp_path / "samples")], out=tmp_path / "out.jsonl", dtype="float32"))
    rows = read_captions(tmp_path / "out.jsonl")
    assert {row["status"] for row in rows.values()} == {"ok"}, json.dumps(rows)
    model = EVLGenForConditionalGeneration.from_pretrained("evlgen-mini")
    frames: dict[str, np.ndarray] = {}
    with DecodePool(sampler=Sampler(frames=4), size=(288, 288)) as pool:
        for clip in pool.map([str(c) for c in clips]):
            assert isinstance(clip, ClipFrames)
            frames[Path(clip.path).name] = clip.frames
    names = sorted(frames)
    with torch.inference_mode():
        soft_prompts, tags = model.look(model.encode(model.processor([frames[n] for n in names])))
        prefix, tag_prompts = model.prefix(soft_prompts), model.tag_prompts(tags)
        for i, name in enumerate(names):
            ids = model.language.encode_caption(rows[name]["caption"])
            packed = pack_captions(with_prompts([[ids]] * len(names), tag_prompts))
            log_p = torch.zeros(len(names)).index_add(0, packed.sequence, model.log_probabilities(prefix, packed))
            assert int(log_p.argmax()) == i, (
                f"{rows[name]['caption']!r} fits {names[int(log_p.argmax())]} better than {name}"
            )
            assert log_p[i].item() == pytest.approx(rows[name]["log_probability"], abs=0.05)

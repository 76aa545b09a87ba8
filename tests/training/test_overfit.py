"""Sixteen clips learned by heart: what a broken gradient cannot do.

Clips, captions and language model are made here. The language model is a tiny Llama that has learned to write the
sixteen sentences behind a key word; then it is frozen, and the connector has to find, for each clip, soft prompts that
make it write the right one. Perfect captions of three words have a CIDEr of 750; the same one for all would have 47.
Whether gradients are exact to the last digits, tests/modeling compares with autograd's.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from evlgen.modeling import EVLGenForConditionalGeneration, losses
from evlgen.modeling.language import _byte_tokenizer
from evlgen.recipes import load_recipe
from evlgen.training import train
from tests.modeling.conftest import TINY_CNN, TINY_LLAMA, tiny_config
from tests.training.conftest import make_recipe

SENTENCES = {
    "cat": "a cat sleeps", "dog": "two dogs run", "man": "men sing loudly", "cook": "she cooks rice",
    "car": "cars drive fast", "ball": "boys kick balls", "fish": "fish swim deep", "bird": "birds fly away",
    "sea": "waves hit rocks", "tree": "old trees fall", "hand": "hands fold paper", "fire": "wood burns hot",
    "book": "girls read novels", "rain": "rain wets streets", "game": "kids play chess", "moon": "moon rises slowly",
}  # fmt: skip
COLOURS = [(230, 20, 20), (20, 220, 20), (30, 30, 240), (250, 250, 60)]
ENOUGH = 300.0


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny language model that knows the sentences, and nothing of clips."""
    torch.manual_seed(0)
    settings = dict(TINY_LLAMA)
    config = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    model, tokenizer = transformers.AutoModelForCausalLM.from_config(config), _byte_tokenizer()
    texts = [tokenizer.encode(f"<{key}>{text}\n") for key, text in SENTENCES.items()]
    longest = max(map(len, texts))
    ids = torch.tensor([t + [0] * (longest - len(t)) for t in texts])
    labels = torch.tensor([t + [-100] * (longest - len(t)) for t in texts])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("language")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with sixteen clips, a square of one of four colours in one of four corners, and captions.jsonl."""
    folder = tmp_path_factory.mktemp("clips")
    rows = []
    for number, (key, text) in enumerate(SENTENCES.items()):
        _write_clip(folder / f"{key}.mp4", COLOURS[number % 4], number // 4)
        rows.append(json.dumps({"video": f"{key}.mp4", "captions": [text]}))
    (folder / "captions.jsonl").write_text("\n".join(rows))
    return folder


def _write_clip(path: Path, colour: tuple[int, int, int], corner: int) -> None:
    """Four frames of 96 pixels; the square gets larger."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 96, 96, "yuv420p", 4_000_000
        for side in (32, 36, 40, 44):
            frame = np.full((96, 96, 3), 90, np.uint8)
            top, left = (0 if corner < 2 else 96 - side), (0 if corner % 2 == 0 else 96 - side)
            frame[top : top + side, left : left + side] = colour
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def learn(clips: Path, folder: Path, model: dict[str, Any], *, rate: float, **train_section: Any) -> dict[str, Any]:
    """Validation figures after some steps on the clips."""
    source = {"captions": str(clips / "captions.jsonl")}
    sources = {name: [{**source, "features": str(folder / name)}] for name in ("train", "validation")}
    recipe = make_recipe(
        clips,
        model=model,
        data={**sources, "items_per_step": 16, "min_frames": 4, "max_frames": 4},
        vocabulary={"steps": 0, "weight": 0.0},
        validation={"every_steps": train_section["steps"], "loss_items": 16, "caption_items": 16, "max_new_tokens": 30},
        optimizer={"learning_rate": rate, "warmup_steps": 5, "weight_decay": 0.0, "min_lr": rate / 20},
        train={"log_every": 50, **train_section},
    )
    return next(iter(train(recipe, folder=folder / "run", device="cpu").values()))


def _cut_before_the_language_model(patch: pytest.MonkeyPatch) -> None:
    made = EVLGenForConditionalGeneration.look

    def look(self: Any, features: Tensor) -> Any:
        soft_prompts, tags = made(self, features)
        return soft_prompts.detach(), tags

    patch.setattr(EVLGenForConditionalGeneration, "look", look)


def _of_another_clip(patch: pytest.MonkeyPatch) -> None:
    made = EVLGenForConditionalGeneration.caption_loss
    draw = np.random.default_rng(0)

    def caption_loss(self: Any, soft_prompts: Tensor, captions: Any, **options: Any) -> Any:
        order = draw.permutation(len(soft_prompts)) if self.training else np.arange(len(soft_prompts))
        return made(self, soft_prompts[order], captions, **options)

    patch.setattr(EVLGenForConditionalGeneration, "caption_loss", caption_loss)


def _upside_down(patch: pytest.MonkeyPatch) -> None:
    head = losses._FrozenHeadLogProbabilities
    backward = head.backward
    patch.setattr(head, "backward", staticmethod(lambda ctx, upstream: backward(ctx, -upstream)))


def tiny(language: Path) -> dict[str, Any]:
    model = tiny_config(TINY_CNN, r=1).model_dump()
    model["language"] |= {"source": str(language), "architecture": None, "learned_prompt": True}
    return model


@pytest.mark.slow
def test_sixteen_clips_are_learned_by_heart(clips: Path, language: Path, tmp_path: Path) -> None:
    figures = learn(clips, tmp_path, tiny(language), rate=3e-3, steps=200, precision="float32")
    assert figures["cider"] > ENOUGH
    assert figures["distinct_captions"] == len(SENTENCES)
    assert figures["gap"] > 1, "nats per token"


BROKEN = [_cut_before_the_language_model, _of_another_clip, _upside_down]


@pytest.mark.slow
@pytest.mark.parametrize("break_gradients", BROKEN)
def test_and_are_not_where_gradients_are_broken(
    clips: Path,
    language: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    break_gradients: Callable[[pytest.MonkeyPatch], None],
) -> None:
    break_gradients(monkeypatch)
    assert learn(clips, tmp_path, tiny(language), rate=3e-3, steps=200, precision="float32")["cider"] < ENOUGH / 2


@pytest.mark.slow
@pytest.mark.network
def test_the_parts_of_evlgen_mini_learn_them_too(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connector that has never seen a caption, between the real tower and the real language model; minutes."""
    monkeypatch.delenv("EVLGEN_CACHE")  # the parts are large: the user's own cache
    model = load_recipe("mini-pretrain").model.model_dump()
    model["connector"]["dropout"] = 0.0
    figures = learn(clips, tmp_path, model, rate=1e-3, steps=150, precision="auto")
    assert figures["cider"] > ENOUGH
    assert figures["gap"] > 1, "nats per token"

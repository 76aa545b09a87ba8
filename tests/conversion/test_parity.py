"""A converted miniature against a re-computation from the papers' formulas that shares no code with evlgen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from evlgen.modeling import EVLGenForConditionalGeneration
from tests.conversion import authors as mini
from tests.conversion import recomputation
from tests.conversion.conftest import mini_tower

CAPTIONS = ["a dog runs\n", "two men talk in a car\n"]
CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}  # float64: whatever this CPU's order of sums is


def pixels(frames: int, seed: int = 5) -> Tensor:
    return torch.randn(2, frames, 3, 12, 12, generator=torch.Generator().manual_seed(seed))


def text_ids(text: str) -> list[int]:
    """One token a byte; the alphabet of byte-level BPE in its order."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    symbols = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    return [alphabet.index(c) for word, _ in symbols for c in word]


def caption_logits(llm: Any, prompts: Tensor, prompt: list[int], caption: list[int]) -> Tensor:
    """Logits (T, V) that predict each caption token behind soft prompts (Q, W) and a prompt text."""
    embed = llm.get_input_embeddings()
    sequence = torch.cat([prompts, embed(torch.tensor(prompt + caption, dtype=torch.int64))])[None]
    logits = llm(inputs_embeds=sequence, attention_mask=torch.ones(sequence.shape[:2], dtype=torch.int64)).logits[0]
    before = len(prompts) + len(prompt)
    return logits[before - 1 : before - 1 + len(caption)]


@torch.no_grad()
@pytest.mark.parametrize("prompt", ["", "Q: what? A:"])
@pytest.mark.parametrize(("family", "video", "frames"), [
    ("opt", False, 1), ("opt", False, 3), ("opt", True, 1), ("opt", True, 3), ("llm", False, 1), ("llm", True, 3),
])  # fmt: skip
def test_soft_prompts_logits_and_loss(
    converted: Callable[..., Path], family: str, video: bool, frames: int, prompt: str
) -> None:
    tensors = mini.tensors(family=family, video=video)
    gates = [t.item() for n, t in tensors.items() if n.endswith("alpha")]
    assert len(gates) == 2 * video
    assert all(abs(gate) > 0.05 for gate in gates)
    model = EVLGenForConditionalGeneration.from_pretrained(converted(tensors, family, prompt_after=prompt)).double()
    assert model.config.soft_prompt_tokens() == 4
    clips = pixels(frames).double()

    want = torch.stack([recomputation.soft_prompts(clip, tensors, family, mini.R) for clip in clips])
    got = model.soft_prompts(model.encode(clips))
    torch.testing.assert_close(got, want, **CLOSE)

    llm = mini.language_model(family).double()
    ids = [text_ids(caption) for caption in CAPTIONS]
    wanted = [caption_logits(llm, p, text_ids(prompt), i) for p, i in zip(want, ids, strict=True)]
    log_p = [x.log_softmax(-1)[range(len(i)), i] for x, i in zip(wanted, ids, strict=True)]
    assert [model.language.encode_caption(c[:-1]) for c in CAPTIONS] == ids
    output = model([[i] for i in ids], pixel_values=clips)
    torch.testing.assert_close(output.loss, -torch.cat(log_p).mean(), **CLOSE)
    torch.testing.assert_close(output.log_probabilities, torch.stack([p.sum() for p in log_p]), **CLOSE)
    for item in range(2):  # the model's own logits, behind its own prefix
        prefix = model.prefix(got[item : item + 1])
        inputs = torch.cat([prefix, model.language.embed(torch.tensor(ids[item]))[None]], dim=1)
        logits = model.language.model(inputs_embeds=inputs).logits[0, prefix.shape[1] - 1 : -1]
        torch.testing.assert_close(logits, wanted[item], **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("video", [False, True])
def test_a_checkpoint_without_its_tower_computes_the_same(
    converted: Callable[..., Path], tmp_path: Path, video: bool
) -> None:
    """The tower comes from a file of its own, as it does for released checkpoints."""
    tensors = mini.tensors(video=video)
    frozen = set(mini.shapes(video=False)) & {n for n in tensors if n.startswith("visual_encoder.")}
    save_file({n.removeprefix("visual_encoder."): tensors[n] for n in frozen}, tmp_path / "eva.safetensors")
    rest = {n: t for n, t in tensors.items() if n not in frozen}
    folder = converted(rest, "opt", vision=mini_tower(str(tmp_path / "eva.safetensors")))
    assert not (folder / "vision.safetensors").exists()
    model = EVLGenForConditionalGeneration.from_pretrained(folder).double()
    clips = pixels(3).double()
    want = torch.stack([recomputation.soft_prompts(clip, tensors, "opt", mini.R) for clip in clips])
    torch.testing.assert_close(model.soft_prompts(model.encode(clips)), want, **CLOSE)


@torch.no_grad()
def test_an_image_checkpoint_starts_a_video_model(converted: Callable[..., Path]) -> None:
    """Fine-tuning on MSR-VTT starts so; with closed gates the video model is the image model."""
    tensors = mini.tensors()
    folder = converted(tensors, "opt")
    image = EVLGenForConditionalGeneration.from_pretrained(folder).double()
    temporal = image.config.temporal.model_copy(update={"fusion": "temporal", "width": 8, "heads": 2})
    video = EVLGenForConditionalGeneration.from_config(image.config.model_copy(update={"temporal": temporal})).eval()
    video.load_trained(folder / "model.safetensors", start=True)
    video.double()
    clips = pixels(3).double()
    want = torch.stack([recomputation.soft_prompts(clip, tensors, "opt", mini.R) for clip in clips])
    torch.testing.assert_close(video.soft_prompts(video.encode(clips)), want, **CLOSE)

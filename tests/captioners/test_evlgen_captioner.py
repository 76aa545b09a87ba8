"""The adapter between the run and an EVLGen model, against a stand-in model that counts tokens by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from evlgen.captioners.evlgen_captioner import EVLGenCaptioner, identify_model, load_captioner
from evlgen.captioners.protocol import Caption, LoadOptions, PromptedClip
from evlgen.captioning.backoff import is_out_of_memory
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import UsageError, WeightsError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.tags import Tag
from tests.modeling.conftest import TINY_LLAMA, tiny_config, tiny_model, with_lora


class Model:
    """Captions every clip with as many letters as it has frames; features and soft prompts are the clips."""

    device = torch.device("cpu")

    def named_parameters(self) -> list[tuple[str, torch.Tensor]]:
        return []

    def processor(self, clips: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.stack(clips))

    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        assert torch.is_inference_mode_enabled()
        return pixel_values

    def look(self, features: torch.Tensor) -> tuple[torch.Tensor, list[list[Tag]]]:
        return features, [[Tag("jeep", 0.5)] if clip.any() else [] for clip in features]

    def generate_from(self, soft_prompts: torch.Tensor, tags: list[list[Tag]], **options: Any) -> SimpleNamespace:
        options.pop("on_tokens")(len(soft_prompts))
        assert options == {
            "num_beams": 2, "max_new_tokens": 9, "min_new_tokens": 1, "length_penalty": -1.0,
            "prompt": ["a video of", "a film of"], "no_repeat_ngram": 2, "repetition_penalty": 1.5, "num_captions": 2,
            "do_sample": False, "temperature": 1.0, "top_p": 1.0, "seed": None, "num_samples": 0, "rerank": "none",
        }  # fmt: skip
        count, frames = 2 * len(soft_prompts), soft_prompts.shape[1]
        return SimpleNamespace(
            texts=[letter * frames for letter in "abcd"],
            log_probabilities=-torch.arange(count, dtype=torch.float32),
            token_counts=torch.full((count,), frames),
            tags=tags,
        )


def test_captions_keep_the_order_of_the_clips() -> None:
    captioner = EVLGenCaptioner(Model())
    shown, dark = (np.full((3, 2, 2, 3), level, dtype=np.uint8) for level in (1, 0))
    clips = [PromptedClip(shown, (0.0, 1.0, 2.0), "a video of"), PromptedClip(dark, (0.0, 1.0, 2.0), "a film of")]
    heard: list[int] = []
    captioner.on_tokens = heard.append
    first, second = captioner.caption(clips, DecodingOptions(2, 9, 1, -1.0, 2, 1.5, num_captions=2))
    assert first == Caption("aaa", 0.0, 3, (Caption("bbb", -1.0, 3),), (("jeep", 0.5),))
    assert second == Caption("ccc", -2.0, 3, (Caption("ddd", -3.0, 3),))
    assert (heard, captioner.batch_size) == ([2], 32)
    captioner.release_memory()


def test_samples_stand_behind_the_search_and_depend_on_no_other_clip() -> None:
    captioner = EVLGenCaptioner(tiny_model(tiny_config(llm={**TINY_LLAMA, "initializer_range": 0.3})).eval())
    rng = np.random.default_rng(0)
    clips = [PromptedClip(rng.integers(0, 255, (1, 48, 48, 3), dtype=np.uint8), (0.0,), "") for _ in range(3)]
    options = DecodingOptions(num_beams=2, max_new_tokens=6, num_samples=4)
    together = captioner.caption(clips, options)
    for clip, one in zip(clips, together, strict=True):
        (alone,) = captioner.caption([clip], options)
        assert [sample.text for sample in alone.alternatives] == [sample.text for sample in one.alternatives]
    searched = captioner.caption(clips, DecodingOptions(num_beams=2, max_new_tokens=6))
    assert [one.text for one in together] == [one.text for one in searched]
    assert all(len(one.alternatives) == 4 for one in together)
    assert len({sample.text for one in together for sample in one.alternatives}) > 1


def test_tokens_and_parameters_are_those_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(with_lora(tiny_config(), rank=2))
    model.save_pretrained(tmp_path)
    monkeypatch.setattr(EVLGenForConditionalGeneration, "from_pretrained", lambda *_, **__: model)
    captioner = load_captioner(str(tmp_path), LoadOptions("cpu"))
    assert captioner.facts().visual_tokens is None
    captioner.caption([PromptedClip(np.zeros((1, 48, 48, 3), np.uint8), (0.0,), "")], DecodingOptions(max_new_tokens=2))
    facts = captioner.facts()
    assert facts.visual_tokens == model.config.soft_prompt_tokens(frames=1)
    assert facts.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert facts.trained_parameters == sum(one.numel() for one in load_file(tmp_path / "model.safetensors").values())
    assert facts.language_parameters == sum(parameter.numel() for parameter in model.language.parameters())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_recognised(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_real_allocation_that_cannot_be_met_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_a_model_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no config\.json"):
        identify_model(str(tmp_path))
    with pytest.raises(UsageError, match="no model 'nothing'"):
        identify_model("nothing")


def test_a_model_with_an_unreadable_configuration_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"vision": 3}')
    with pytest.raises(WeightsError, match=r"config\.json: vision: Input should be a valid dictionary"):
        identify_model(str(tmp_path))

"""Tiny random models of transformers' own classes, captioned with: against each class's own documented calls.

The classes that are not marked wide stand for three of the four ways in which clips are given to models.
"""

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from typer.testing import CliRunner

from evlgen.captioners import hub_loading
from evlgen.captioners.hub_captioner import HubCaptioner, agreed, identify_model, load_captioner
from evlgen.captioners.hub_generation import write
from evlgen.captioners.hub_inputs import TICKS, fitted, metadata
from evlgen.captioners.protocol import Caption, LoadOptions, PromptedClip
from evlgen.captioning import read_captions
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import EvlgenError, UsageError, WeightsError
from evlgen.recipes import load_table
from evlgen_cli.main import app
from tests.captioning.test_real_decoder import write_clip

from . import tiny_models

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

QUICK = {"git", "blip", "qwen3_vl"}
NAMES = [pytest.param(n, marks=() if n in QUICK else pytest.mark.wide) for n in tiny_models.MAKERS]
VIDEO = [
    pytest.param(n, marks=() if n in QUICK else pytest.mark.wide)
    for n in tiny_models.MAKERS
    if n not in ("git", "git_of_pictures", "blip", "blip_2", "blip_2_t5", "florence2", "instructblip", "idefics3")
]
GREEDY = DecodingOptions(num_beams=1, max_new_tokens=7)
TIMES = (0.04, 0.52, 1.4, 1.48, 3.0, 3.72)
"""Times of frames at a rate that varies."""


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = tiny_models.make(name, tmp_path_factory.mktemp("models") / name)
        return made[name]

    return get


def opened(folder: Path, system_prompt: str = "") -> Any:
    prompt = identify_model(f"hf:{folder}").prompt
    return load_captioner(f"hf:{folder}", LoadOptions("cpu", "float32", prompt, 20, system_prompt=system_prompt))


def clips_for(folder: Path, count: int = 1) -> list[PromptedClip]:
    """Clips of noise, still at first, of as many frames as the model takes; those behind the first are asked more."""
    identity = identify_model(f"hf:{folder}")
    frames = identity.most_frames or len(TIMES)
    rng = np.random.default_rng(0)
    prompts = (identity.prompt, f"{identity.prompt} Be very brief.")
    if identity.prompt == "<CAPTION>":
        prompts = ("<CAPTION>", "<DETAILED_CAPTION>")
    pixels = rng.integers(0, 255, (count, frames, 40, 60, 3), dtype=np.uint8)
    pixels[:, 1] = pixels[:, 0]
    return [
        PromptedClip(
            pixels[number],
            TIMES[:frames],
            prompts[min(number, 1)],
            4.0,
        )
        for number in range(count)
    ]


def documented_inputs(captioner: HubCaptioner, clip: PromptedClip) -> dict[str, Any]:
    """What the class's documentation passes to `generate` for a clip (of way 4, for its first frame)."""
    processor, kind = captioner.processor, captioner.model.config.model_type
    frames = clip.frames
    if kind == "git" and captioner.model.config.num_image_with_embedding:
        return {"pixel_values": processor(images=list(frames), return_tensors="pt").pixel_values[None]}
    if kind == "florence2":
        return dict(processor(text="<CAPTION>", images=frames[0], return_tensors="pt"))
    if kind in ("git", "blip", "blip-2"):
        return dict(processor(images=frames[0], return_tensors="pt"))
    if kind == "instructblip":
        return dict(processor(text=clip.prompt, images=frames[0], return_tensors="pt"))
    if kind == "instructblipvideo":
        return dict(processor(text=clip.prompt, images=frames, return_tensors="pt"))
    videos = getattr(processor, "video_processor", None) is not None
    blocks = (
        [{"type": "video", "video": frames}] if videos else [{"type": "image", "image": f} for f in pictures(frames)]
    )
    message = {"role": "user", "content": [*blocks, {"type": "text", "text": clip.prompt}]}
    told = {"do_sample_frames": False, "video_metadata": [[metadata(frames, clip.timestamps_seconds, 4.0)]]}
    inputs = processor.apply_chat_template(
        [message], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
        processor_kwargs=told if videos else {},
    )  # fmt: skip
    return {name: value for name, value in inputs.items() if name != "video_metadata"}


def pictures(frames: np.ndarray) -> list[Any]:
    from PIL import Image

    return [Image.fromarray(frame) for frame in frames]


def begins(captioner: HubCaptioner, inputs: dict[str, Any]) -> torch.Tensor:
    """(1, T) what the tokens of a caption stand behind."""
    if decodes_apart(captioner.model):
        generation = searching(captioner.model).generation_config
        forced = getattr(generation, "forced_bos_token_id", None)
        return torch.tensor([[generation.decoder_start_token_id, *([] if forced is None else [forced])]])
    if "input_ids" in inputs:
        return inputs["input_ids"]
    queries = [captioner.model.config.image_token_id] * 4 if captioner.model.config.model_type == "blip-2" else []
    return torch.tensor([[*queries, captioner.processor.tokenizer.bos_token_id]])


def searching(model: Any) -> Any:
    return model.language_model if model.config.model_type == "blip-2" else model


def decodes_apart(model: Any) -> bool:
    """Whether a caption does not stand behind its prompt: the language model has an encoder."""
    return bool(getattr(searching(model).config, "is_encoder_decoder", False))


@pytest.mark.parametrize("name", NAMES)
def test_tokens_and_probabilities_are_those_of_the_class_itself(name: str, folder_of: Callable[[str], Path]) -> None:
    captioner = opened(folder_of(name))
    (clip,) = clips_for(folder_of(name))
    inputs = documented_inputs(captioner, clip)
    start = begins(captioner, inputs)
    with torch.inference_mode():
        expected = captioner.model.generate(**inputs, max_new_tokens=7, do_sample=False)[0, start.shape[1] :]
        one = PromptedClip(clip.frames[:1], clip.timestamps_seconds[:1], clip.prompt)
        ours = captioner.inputs([one if captioner.inputs.single_frames else clip])
        for options in (GREEDY, DecodingOptions(num_beams=3, max_new_tokens=7, num_captions=2)):
            found = write(captioner.model, ours, options, lambda count: None)
            if options is GREEDY:
                assert list(found[0].tokens) == expected.tolist()
            assert len(found) == options.num_captions
            for caption in found:
                forced = teacher_forced(captioner, inputs, start, torch.tensor([caption.tokens]))
                np.testing.assert_allclose(caption.log_probabilities, forced, atol=1e-4)
    assert len({one.tokens for one in found}) == 2


def teacher_forced(
    captioner: HubCaptioner, inputs: dict[str, Any], start: torch.Tensor, tokens: torch.Tensor
) -> np.ndarray:
    """(T,) log p of tokens in one pass over all of them."""
    whole = torch.cat([start, tokens], 1)
    if decodes_apart(captioner.model):
        given = {**inputs, "decoder_input_ids": whole}
        if "input_ids" not in given:  # what `generate` of BLIP-2 puts there
            given["input_ids"] = torch.tensor([[captioner.model.config.image_token_id] * 4 + [1]])
            given["attention_mask"] = torch.ones_like(given["input_ids"])
        return probabilities(captioner.model(**given).logits, tokens)
    given = {**inputs, "input_ids": whole, "attention_mask": torch.ones_like(whole)}
    if "mm_token_type_ids" in given:
        kinds = given["mm_token_type_ids"]
        given["mm_token_type_ids"] = torch.cat([kinds, kinds.new_zeros(tokens.shape)], 1)
    return probabilities(captioner.model(**given).logits, tokens)


def probabilities(logits: torch.Tensor, tokens: torch.Tensor) -> np.ndarray:
    logits = logits[:, -tokens.shape[1] - 1 : -1].float()
    return logits.log_softmax(-1).gather(2, tokens[:, :, None])[0, :, 0].numpy()


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_clips_one_by_one(name: str, folder_of: Callable[[str], Path]) -> None:
    captioner = opened(folder_of(name))
    clips = clips_for(folder_of(name), 3)
    heard: list[int] = []
    captioner.on_tokens = heard.append
    options = DecodingOptions(num_beams=2, max_new_tokens=6, num_captions=2, num_samples=2)
    together = captioner.caption(clips, options)
    assert sum(heard) >= 3
    for clip, one in zip(clips, together, strict=True):
        (alone,) = captioner.caption([clip], options)
        assert len(one.alternatives) == 3
        for a, b in zip((one, *one.alternatives), (alone, *alone.alternatives), strict=True):
            assert (a.text, a.token_count) == (b.text, b.token_count)
            assert a.log_probability == pytest.approx(b.log_probability, abs=1e-4)
    assert len({one.text for one in together}) > 1, "captions depend on the clips"


@pytest.mark.parametrize("name", VIDEO)
def test_frames_arrive_once_and_unresampled(
    name: str, folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = opened(folder_of(name))
    processor = captioner.processor.video_processor
    seen: list[torch.Tensor] = []
    inner = processor._preprocess

    def spy(videos: list[torch.Tensor], **options: Any) -> Any:
        seen.extend(videos)
        return inner(videos, **options)

    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("frames are sampled again")

    monkeypatch.setattr(processor, "_preprocess", spy)
    monkeypatch.setattr(processor, "sample_frames", refuse)
    clips = clips_for(folder_of(name), 2)
    captioner.inputs(clips)
    assert len(seen) == 2
    for video, clip in zip(seen, clips, strict=True):
        assert torch.equal(video, torch.from_numpy(clip.frames).permute(0, 3, 1, 2))


@pytest.mark.parametrize("name", [one for one in NAMES if one.values not in {other.values for other in VIDEO}])
def test_pictures_arrive_once_and_as_they_are(
    name: str, folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = opened(folder_of(name))
    kind = type(captioner.processor.image_processor)
    seen: list[np.ndarray] = []
    inner = kind.__call__

    def spy(self: Any, images: Any, *others: Any, **options: Any) -> Any:
        for one in images:
            seen.extend(map(np.asarray, one if isinstance(one, list) else [one]))
        return inner(self, images, *others, **options)

    monkeypatch.setattr(kind, "__call__", spy)
    clips = clips_for(folder_of(name), 2)
    captioner.caption(clips, GREEDY)
    np.testing.assert_array_equal(np.stack(seen), np.concatenate([clip.frames for clip in clips]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qwen3_vl", ["<0.3 seconds>", "<1.4 seconds>", "<3.4 seconds>"]),  # means of two frames each
        pytest.param("smolvlm", ["from 00:00", "from 00:01", "from 00:03", "0:00:04"], marks=pytest.mark.wide),
        pytest.param(
            "video_llama_3",
            ["Time 0.0s:", "Time 0.5s:", "Time 1.4s:", "Time 1.5s:", "Time 3.0s:", "Time 3.7s:"],
            marks=pytest.mark.wide,
        ),
    ],
)
def test_models_are_told_the_true_times(name: str, expected: list[str], folder_of: Callable[[str], Path]) -> None:
    captioner = opened(folder_of(name))
    text = captioner.processor.tokenizer.decode(captioner.inputs(clips_for(folder_of(name)))["input_ids"][0])
    assert [one for one in expected if one not in text] == []


@pytest.mark.wide
def test_the_rate_of_the_frames_is_the_true_one(folder_of: Callable[[str], Path]) -> None:
    captioner = opened(folder_of("qwen2_5_vl"))
    given = captioner.inputs(clips_for(folder_of("qwen2_5_vl")))["second_per_grid_ts"]
    assert [float(one) for one in given] == pytest.approx([2 * (3.72 - 0.04) / 5], abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_captioned_by_the_command(name: str, folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(2):
        write_clip(videos / f"{number}.mp4", level=80 * number + 40)
    out = tmp_path / "out.jsonl"
    arguments = ["caption", str(videos), "--out", str(out), "--model", f"hf:{folder_of(name)}", "--device", "cpu"]
    arguments += ["--dtype", "float32", "--max-new-tokens", "5"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code in (0, 3), result.output  # random models may say nothing that can be seen
    rows = read_captions(out)
    assert set(rows) == {"0.mp4", "1.mp4"}
    identity = identify_model(f"hf:{folder_of(name)}")
    for row in rows.values():
        assert row["status"] in ("ok", "empty")
        assert row["log_probability"] < 0
        assert 0 < row["token_count"] <= 5
        assert len(row["frame_indices"]) == identity.frames
        assert (row["model"], row["model_hash"]) == (folder_of(name).name, identity.hash)
        assert row["settings"]["licence"] == "apache-2.0"
        assert row["settings"].get("prompt", "") == identity.prompt
    again = CliRunner().invoke(app, [*arguments, "--dry-run"], catch_exceptions=False)
    assert "would caption 0 of 2 videos" in again.output


def test_weights_that_are_missing_are_not_made_up(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "lacking"
    shutil.copytree(folder_of("blip"), folder)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in sorted(weights) if "text_decoder" in name)
    save_file({key: value for key, value in weights.items() if key != name}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=f"lacking lacks 1 of its weights, such as {name}"):
        opened(folder)


CODE = """
from pathlib import Path

from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

Path({mark!r}).touch()


class TheirConfig(Qwen3VLConfig):
    model_type = "theirs"


class TheirModel(Qwen3VLForConditionalGeneration):
    config_class = TheirConfig
"""


def test_code_that_comes_with_a_model_runs_only_where_it_is_trusted(
    folder_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", [*sys.path])
    folder = tmp_path / "theirs"
    shutil.copytree(folder_of("qwen3_vl"), folder)
    (folder / "code_of_theirs.py").write_text(CODE.format(mark=str(tmp_path / "ran")))
    config = json.loads((folder / "config.json").read_text())
    named = {"AutoConfig": "TheirConfig", "AutoModelForImageTextToText": "TheirModel"}
    config |= {"model_type": "theirs", "auto_map": {key: f"code_of_theirs.{value}" for key, value in named.items()}}
    (folder / "config.json").write_text(json.dumps(config))
    clips = clips_for(folder_of("qwen3_vl"))
    with pytest.raises(UsageError, match=r"brings Python code .*\(read it, then give --trust-remote-code\)"):
        opened(folder)
    assert not (tmp_path / "ran").exists()
    prompt = clips[0].prompt
    trusting = load_captioner(f"hf:{folder}", LoadOptions("cpu", "float32", prompt, 20, trust_remote_code=True))
    assert (tmp_path / "ran").exists()
    assert type(trusting.model).__name__ == "TheirModel"
    assert trusting.caption(clips, GREEDY) == opened(folder_of("qwen3_vl")).caption(clips, GREEDY)


@pytest.mark.parametrize(
    ("device", "placed"), [("auto", {"device_map": "auto"}), ("cuda:1", {"device_map": {"": torch.device("cuda:1")}})]
)
def test_where_weights_go_on_gpus(
    device: str, placed: dict[str, Any], folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What transformers is told; a part that it leaves to the CPU is one line, since that would take days."""
    given: dict[str, Any] = {}

    def spread(source: str, **options: Any) -> Any:
        given.update(options)
        return SimpleNamespace(hf_device_map={"vision": 0, "text": "cpu"}), {"missing_keys": set()}

    monkeypatch.setattr(hub_loading, "pick_device", lambda name: "cuda" if name == "auto" else name)
    monkeypatch.setattr(hub_loading, "pick_dtype", lambda name, device: torch.bfloat16)
    monkeypatch.setattr(hub_loading, "free_bytes", lambda device, every: None)
    monkeypatch.setattr(transformers.AutoModelForImageTextToText, "from_pretrained", spread)
    with pytest.raises(EvlgenError, match="does not fit into memory: a part of it would have to stay on cpu"):
        load_captioner(f"hf:{folder_of('blip')}", LoadOptions(device, "bfloat16"))
    assert given["dtype"] is torch.bfloat16
    assert {key: value for key, value in given.items() if key in ("device_map", "quantization_config")} == placed


def test_a_system_prompt_stands_in_front(folder_of: Callable[[str], Path]) -> None:
    captioner = opened(folder_of("qwen3_vl"), "You are terse.")
    text = captioner.processor.tokenizer.decode(captioner.inputs(clips_for(folder_of("qwen3_vl")))["input_ids"][0])
    assert text.startswith("system:You are terse.user:")


def test_a_seed_for_each_clip_draws_what_it_draws_alone(folder_of: Callable[[str], Path]) -> None:
    captioner = opened(folder_of("qwen3_vl"))
    clips = clips_for(folder_of("qwen3_vl"), 3)
    options = DecodingOptions(num_beams=1, max_new_tokens=8, do_sample=True, temperature=3.0, seed=[5, 6, 5])
    together = captioner.caption(clips, options)
    alone = [
        captioner.caption([clip], replace(options, seed=seed))[0] for clip, seed in zip(clips, (5, 6, 5), strict=True)
    ]
    assert together == alone
    assert captioner.caption(clips[:1], replace(options, seed=6)) != together[:1]


def test_a_single_frame_is_enough_for_every_way(folder_of: Callable[[str], Path]) -> None:
    for name in sorted(QUICK):
        captioner, clip = opened(folder_of(name)), clips_for(folder_of(name))[0]
        (caption,) = captioner.caption([PromptedClip(clip.frames[:1], (0.0,), clip.prompt)], GREEDY)
        assert caption.token_count > 0


def test_frames_of_a_short_clip_are_shown_again_in_order() -> None:
    clip = PromptedClip(np.arange(3, dtype=np.uint8)[:, None, None, None], (0.0, 1.0, 2.0), "")
    frames, times = fitted(clip, 7)
    assert frames.ravel().tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert times == [0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0]


def test_what_a_processor_is_told_of_frames() -> None:
    told = metadata(np.zeros((3, 4, 6, 3), np.uint8), (0.5, 1.25, 2.0), 2.4)
    assert told["frames_indices"] == [500, 1250, 2000]
    assert (told["fps"], told["total_num_frames"], told["duration"]) == (TICKS, 2250, 2.4)
    assert metadata(np.zeros((1, 4, 6, 3), np.uint8), (0.0,))["total_num_frames"] == 1


def test_the_caption_of_most_frames_is_that_of_the_clip() -> None:
    frames = [
        [Caption(text, -place, 3)] for place, text in enumerate(["a cat", "a dog runs", "the dog runs", "a dog runs"])
    ]
    best, second = agreed(frames, 2)
    assert (best.text, best.log_probability, second.text) == ("a dog runs", -1, "the dog runs")
    assert best.agreement is not None
    assert agreed(frames[:1], 1) == [Caption("a cat", 0, 3)]
    tied = [[Caption(text, -place, 3)] for place, text in enumerate(["a cat", "a dog", "a dog", "a cat"])]
    assert [(one.text, one.log_probability) for one in agreed(tied, 3)] == [("a cat", 0), ("a dog", -1), ("a dog", -2)]


VISUAL_TOKENS = {
    "git": 3 * (2 * 2 + 1),  # frames of 28 x 28 pixels in patches of 14, and a class token with each
    "git_of_pictures": 2 * 2 + 1,
    "blip": 2 * 2 + 1,
    "blip_2": 4,  # queries
    "blip_2_t5": 4,
    "instructblip": 4,
    "instructblipvideo": 4 * 4,
}


@pytest.mark.parametrize("name", NAMES)
def test_tokens_and_parameters_are_those_of_the_model(name: str, folder_of: Callable[[str], Path]) -> None:
    folder = folder_of(name)
    captioner = opened(folder)
    given: list[dict[str, Any]] = []
    inputs_of = captioner.inputs.__call__

    class Watched:
        single_frames, mixed_prompts = captioner.inputs.single_frames, captioner.inputs.mixed_prompts

        def __call__(self, clips: Any) -> Any:
            given.append(inputs_of(clips))
            return given[-1]

    captioner.inputs = Watched()
    assert captioner.facts().visual_tokens is None
    captioner.caption(clips_for(folder), GREEDY)
    facts = captioner.facts()
    if name in VISUAL_TOKENS:
        assert facts.visual_tokens == VISUAL_TOKENS[name]
    elif "video_grid_thw" in given[0] and name.startswith("qwen"):  # the model merges 2 x 2 patches
        assert facts.visual_tokens == int(given[0]["video_grid_thw"].prod()) // 4
    else:
        assert facts.visual_tokens is not None
        assert facts.visual_tokens > 0
    # all distinct tensors of the model
    assert facts.parameters == captioner.model.num_parameters()
    assert facts.peak_memory_bytes is None or facts.peak_memory_bytes > 10**7
    if facts.language_parameters is not None:
        assert 0 < facts.language_parameters < facts.parameters
    if name == "qwen3_vl":
        config = captioner.model.config.text_config
        keys = (*tiny_models.LANGUAGE, "vocab_size", "head_dim")
        alone = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**{key: getattr(config, key) for key in keys}))
        assert facts.language_parameters == alone.num_parameters()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            ImportError("no torchvision\nmore"),
            r"needs a package that is missing: no torchvision \(pip install 'evlgen\[hub",
        ),
        (  # as AutoVideoProcessor has it
            ValueError("a/b requires `torchvision` to be installed. Please install `torchvision` and try again."),
            r"needs a package that is missing: a/b requires `torchvision` .*\(pip install 'evlgen\[hub",
        ),
        (torch.OutOfMemoryError("CUDA out of memory\nmore"), "does not fit into memory: CUDA out of memory"),
        (MemoryError("no room"), "does not fit into memory: no room"),
        (OSError("We couldn't connect\nmore"), "cannot be loaded: We couldn't connect .check the model, the network"),
    ],
)
def test_what_goes_wrong_while_it_is_loaded_is_one_line(
    error: Exception, line: str, folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", fail)
    with pytest.raises(EvlgenError, match=line) as caught:
        opened(folder_of("blip"))
    assert "\n" not in str(caught.value)


def test_every_peer_of_the_recipe_has_a_class_here() -> None:
    """The models are not fetched: the class of each is installed, and is one that tests here caption with."""
    by_class = {names: kind for kind, names in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.items()}
    peers = [one for one in load_table("compare-msrvtt").models if one.model.startswith("hf:")]
    assert len(peers) == 9
    for peer in peers:
        kind = by_class[peer.opened_by]
        assert hasattr(transformers, peer.opened_by)
        assert kind.replace("-", "_") in tiny_models.MAKERS, peer.model
        assert re.fullmatch(r"hf:[\w.-]+/[\w.-]+(@[0-9a-f]{40})?", peer.model)

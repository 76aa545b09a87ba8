"""The whole model: image and video, batches, generation, saving."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.layers.conv2d_same import Conv2dSame

from evlgen.configuration import TemporalConfig, VisionConfig
from evlgen.errors import EvlgenError, UsageError, WeightsError
from evlgen.modeling import EVLGenConfig, EVLGenForConditionalGeneration, EVLGenProcessor
from evlgen.modeling.pretrained import frozen_sources, read_tensors
from evlgen.modeling.vision import VisionTower, _fold_padding
from tests.modeling.conftest import TINY_CNN, TINY_LLAMA, TINY_VIT, tiny_config, tiny_model


@pytest.mark.parametrize("vision", [TINY_VIT, TINY_CNN], ids=["vit", "cnn"])
def test_video_model_with_closed_gates_is_the_mean_of_the_image_tower(vision: object) -> None:
    image = tiny_model(tiny_config(vision, fusion="mean"))
    video = tiny_model(tiny_config(vision, fusion="temporal"))
    video.vision.load_weights(image.vision.trunk.state_dict())
    video.load_state_dict({n: p for n, p in image.state_dict().items() if not n.startswith("vision.")}, strict=False)
    side = vision.image_size
    pixels = torch.randn(2, 3, 3, side, side)
    maps = [image.vision.trunk.forward_features(pixels[:, f]) for f in range(3)]  # timm's own, a frame at a time
    tokens = torch.stack([m.flatten(2).transpose(1, 2) if m.dim() == 4 else m for m in maps]).mean(0)
    want = image.lm_proj(image.connector(image.vl_proj(image.ln_vision(tokens))).tokens)
    torch.testing.assert_close(image.soft_prompts(image.encode(pixels)), want)
    torch.testing.assert_close(video.soft_prompts(video.encode(pixels)), want)
    with torch.no_grad():
        for name, parameter in video.named_parameters():
            if name.endswith("alpha"):
                parameter.fill_(0.5)
    different = video.soft_prompts(video.encode(pixels))
    assert not torch.allclose(different, want, atol=1e-4)


@pytest.mark.parametrize("vision", [TINY_VIT, TINY_CNN], ids=["vit", "cnn"])
def test_a_gate_learns_even_where_frames_listen_to_all_alike(vision: VisionConfig) -> None:
    """Uniform attention in front of mean and LayerNorm would only scale what LayerNorm divides by: no gradient."""
    video = tiny_model(tiny_config(vision, fusion="temporal"))
    for name, parameter in video.named_parameters():
        if "vision." in name and ".query." in name:
            torch.nn.init.zeros_(parameter)
        parameter.requires_grad_(name.endswith(".alpha"))
    prompts = video.soft_prompts(video.encode(torch.randn(2, 3, 3, vision.image_size, vision.image_size)))
    prompts.square().sum().backward()
    slopes = [p.grad.abs().item() for n, p in video.named_parameters() if n.endswith(".alpha")]
    assert min(slopes) > 1e-3 * prompts.square().sum().item()


def test_a_module_whose_heads_do_not_divide_the_channels_is_refused() -> None:
    with pytest.raises(EvlgenError, match=r"64 channels where frames meet, which temporal.heads 5 does not divide"):
        VisionTower(TINY_CNN, TemporalConfig(fusion="temporal", width=20, heads=5))


def test_temporal_attention_equals_a_loop_over_positions_and_heads() -> None:
    """arXiv 2310.03291, section 3.3, one spatial position, one head, one frame at a time."""
    from evlgen.modeling.temporal import TemporalContextualization

    module = TemporalContextualization(8, width=12, heads=4)
    with torch.no_grad():
        module.alpha.fill_(0.7)
    x = torch.randn(2, 3, 5, 8)
    want = x.clone()
    for b in range(2):
        for n in range(5):
            q, k = module.query(x[b, :, n]), module.key(x[b, :, n])
            for h in range(4):
                logits = q[:, 3 * h : 3 * h + 3] @ k[:, 3 * h : 3 * h + 3].T * 12**-0.5
                want[b, :, n, 2 * h : 2 * h + 2] += 0.7 * logits.softmax(-1) @ x[b, :, n, 2 * h : 2 * h + 2]
    torch.testing.assert_close(module(x), want)
    torch.testing.assert_close(module.attention(x).sum(-1), torch.ones(2, 5, 4, 3))


def test_vit_block_with_a_closed_gate_is_timms_block() -> None:
    video = tiny_model(tiny_config(fusion="temporal"))
    plain = tiny_model(tiny_config())
    plain.vision.load_weights(
        {n.replace(".block.", "."): p for n, p in video.vision.trunk.state_dict().items() if ".temporal." not in n}
    )
    pixels = torch.randn(2, 3, 3, 48, 48)
    torch.testing.assert_close(video.encode(pixels), plain.encode(pixels))
    assert len(video.vision.blocks) == 2


@pytest.mark.parametrize(
    ("fusion", "soft_prompts"), [("mean", 6), ("mean-prompts", 6), ("temporal", 6), ("concat", 18)]
)
def test_soft_prompt_counts(fusion: str, soft_prompts: int) -> None:
    model = tiny_model(tiny_config(fusion=fusion))
    prompts = model.soft_prompts(model.encode(torch.randn(2, 3, 3, 48, 48)))
    assert prompts.shape == (2, soft_prompts, 32)
    assert model.config.soft_prompt_tokens(3) == soft_prompts


@pytest.mark.parametrize("fusion", ["mean", "mean-prompts", "temporal", "concat"])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_batch_of_one_equals_a_batch_of_many(fusion: str, beams: int) -> None:
    model = tiny_model(tiny_config(fusion=fusion))
    pixels = torch.randn(5, 3, 3, 48, 48)
    many = model.generate(pixels, num_beams=beams, max_new_tokens=8)
    for i in range(5):
        one = model.generate(pixels[i : i + 1], num_beams=beams, max_new_tokens=8)
        assert one.token_ids()[0] == many.token_ids()[i]
        torch.testing.assert_close(one.log_probabilities[0], many.log_probabilities[i], rtol=1e-4, atol=1e-4)


def naive_log_p(model: EVLGenForConditionalGeneration, prefix: torch.Tensor, ids: list[int]) -> float:
    """Log-probability token by token, one forward pass of the language model each."""
    total = 0.0
    for i, token in enumerate(ids):
        inputs = torch.cat([prefix, model.language.embed(torch.tensor(ids[:i], dtype=torch.int64))])[None]
        total += model.language.model(inputs_embeds=inputs).logits[0, -1].log_softmax(-1)[token].item()
    return total


def test_greedy_is_the_argmax_at_every_step_and_scores_add_up(model: EVLGenForConditionalGeneration) -> None:
    pixels = torch.randn(1, 1, 3, 48, 48)
    out = model.generate(pixels, num_beams=1, max_new_tokens=6)
    prefix = model.prefix(model.soft_prompts(model.encode(pixels)))[0]
    ids: list[int] = []
    while len(ids) < 6 and (not ids or ids[-1] != model.language.end_token_id):
        inputs = torch.cat([prefix, model.language.embed(torch.tensor(ids, dtype=torch.int64))])[None]
        ids.append(int(model.language.model(inputs_embeds=inputs).logits[0, -1].argmax()))
    assert out.token_ids()[0] == ids
    assert out.log_probabilities[0].item() == pytest.approx(naive_log_p(model, prefix, ids), abs=1e-4)


def test_a_wide_beam_finds_the_best_caption_of_all(model: EVLGenForConditionalGeneration) -> None:
    """With more beams than candidates, beam search over two tokens is exhaustive search."""
    pixels = torch.randn(1, 1, 3, 48, 48)
    out = model.generate(pixels, num_beams=256, max_new_tokens=2, min_new_tokens=2, length_penalty=0.0)
    prefix = model.prefix(model.soft_prompts(model.encode(pixels)))[0]
    end = model.language.end_token_id
    first = model.language.model(inputs_embeds=prefix[None]).logits[0, -1].log_softmax(-1)
    first[end] = -torch.inf  # two tokens are asked for
    embedded = model.language.embed(torch.arange(256))[:, None]
    inputs = torch.cat([prefix.expand(256, -1, -1), embedded], dim=1)
    second = model.language.model(inputs_embeds=inputs).logits[:, -1].log_softmax(-1)
    best = int((first[:, None] + second).argmax())
    assert out.token_ids()[0] == [best // 256, best % 256]


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_sampling_repeats_with_a_seed_and_follows_the_model(temperature: float) -> None:
    """Chi-square of 4,000 first tokens against the model's own distribution, which is far from uniform here."""
    model = tiny_model(tiny_config(llm={**TINY_LLAMA, "initializer_range": 0.3}))
    features = model.encode(torch.randn(1, 1, 3, 48, 48)).expand(4000, -1, -1, -1)
    draw = {"features": features, "do_sample": True, "max_new_tokens": 1, "temperature": temperature}
    first = model.generate(**draw, seed=3).sequences[:, 0]
    assert torch.equal(first, model.generate(**draw, seed=3).sequences[:, 0])
    prefix = model.prefix(model.soft_prompts(features[:1]))
    p = (model.language.model(inputs_embeds=prefix).logits[0, -1] / temperature).softmax(-1)
    seen = torch.bincount(first, minlength=256).float()
    frequent = p * 4000 > 5
    assert p.max() > 5 / 256
    assert 3 < frequent.sum() < 256
    expected = 4000 * torch.cat([p[frequent], p[~frequent].sum()[None]])
    counts = torch.cat([seen[frequent], seen[~frequent].sum()[None]])
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    freedom = len(expected) - 1
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5, "four standard deviations"


def test_save_and_load_is_exact_and_holds_only_what_is_trained(tmp_path: Path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path)
    assert sorted(load_file(tmp_path / "model.safetensors")) == sorted(model.trainable_names())
    assert frozen_sources(tmp_path / "model.safetensors") == {"vision": None, "language": None}
    torch.manual_seed(0)  # the frozen parts of a test model are random: the same seed makes the same ones
    again = EVLGenForConditionalGeneration.from_pretrained(tmp_path)
    for name, tensor in model.trained_tensors().items():
        assert torch.equal(tensor, again.trained_tensors()[name]), name
    assert again.config == model.config
    assert len(again.model_hash) == 16


def test_a_checkpoint_that_does_not_fit_names_the_tensors(tmp_path: Path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["surplus"] = tensors.pop("lm_proj.bias")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"missing \['lm_proj.bias'\], unexpected \['surplus'\]"):
        EVLGenForConditionalGeneration.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a weight file")
    with pytest.raises(WeightsError, match="not a readable weight file"):
        EVLGenForConditionalGeneration.from_pretrained(tmp_path)


def test_an_unknown_model_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model 'evlgen-maxi'"):
        EVLGenForConditionalGeneration.from_pretrained("evlgen-maxi")
    with pytest.raises(UsageError, match=r"holds no config.json"):
        EVLGenForConditionalGeneration.from_pretrained(tmp_path)


def test_freezing_folds_batch_norm_and_keeps_the_function() -> None:
    tower = VisionTower(TINY_CNN)
    for module in tower.trunk.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # untouched statistics would fold to nothing
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    pixels = torch.randn(2, 1, 3, 96, 96)
    before = tower.encode(pixels)
    tower.freeze(torch.float32)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in tower.trunk.modules())
    torch.testing.assert_close(tower.encode(pixels), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [96, 91, 75])
def test_freezing_folds_tensorflows_padding_and_keeps_the_function(size: int) -> None:
    """Of inputs that are even or odd at different depths."""
    pixels = torch.randn(3, 3, size, size + 2)
    trunk = timm.create_model("tf_mixnet_s", num_classes=0).eval()  # kernels of 3, 5, 7, 9 and 11 pixels
    for module in trunk.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
    with torch.no_grad():
        wanted = trunk.forward_features(pixels)
        _fold_padding(trunk)
        assert not any(isinstance(module, Conv2dSame) for module in trunk.modules())
        torch.testing.assert_close(trunk.forward_features(pixels), wanted, rtol=1e-4, atol=1e-5)


def test_weights_in_order_load_under_other_names() -> None:
    torch.manual_seed(1)
    given = VisionTower(TINY_CNN)
    tower = VisionTower(TINY_CNN.model_copy(update={"layout": "ordered"}))
    tower.load_weights({f"other.{i}": t for i, t in enumerate(given.trunk.state_dict().values())})
    pixels = torch.randn(1, 1, 3, 96, 96)
    assert torch.equal(tower.encode(pixels), given.encode(pixels))
    with pytest.raises(WeightsError, match=r"do not fit test_efficientnet: \d+ of \d+ tensors"):
        tower.load_weights({"x": torch.zeros(3)})


@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "beit_base_patch16_224", "deit3_small_patch16_224"])
def test_temporal_blocks_with_closed_gates_are_timms_own(name: str) -> None:
    """Rotary positions, layer scale of both spellings, gated MLPs: every pre-norm block that is let in."""
    small = {"img_size": 56 if "patch14" in name else 64, "embed_dim": 48, "depth": 2, "num_heads": 4}
    plain = VisionTower(VisionConfig(name=name, image_size=small["img_size"], width=48, tokens=17, arguments=small))
    video = VisionTower(plain.config, TemporalConfig(fusion="temporal", width=16, heads=4))
    video.load_weights(plain.trunk.state_dict())
    pixels = torch.randn(1, 2, 3, small["img_size"], small["img_size"], dtype=torch.float64)
    torch.testing.assert_close(video.double().encode(pixels), plain.double().encode(pixels))


def test_a_block_without_the_place_is_refused() -> None:
    config = VisionConfig(
        name="vit_base_patch16_rpn_224", image_size=48, width=32, tokens=9,
        arguments={"img_size": 48, "embed_dim": 32, "depth": 1, "num_heads": 4},
    )  # fmt: skip
    with pytest.raises(EvlgenError, match=r"blocks of another kind \(ResPostBlock\)"):
        VisionTower(config, TemporalConfig(fusion="temporal", width=16, heads=4))


def test_minis_departures_work_together_in_bfloat16() -> None:
    """Pre-norm layers and learned prompts, under the autocast that training uses, against float32."""
    config = tiny_config(norm="pre")
    config = config.model_copy(update={"language": config.language.model_copy(update={"learned_prompt": True})})
    model = tiny_model(config)
    pixels = torch.randn(2, 1, 3, 48, 48)
    features = model.encode(pixels)
    exact = model.soft_prompts(features)
    with torch.autocast("cpu", torch.bfloat16):
        close = model.soft_prompts(features)
    torch.testing.assert_close(close.float(), exact, rtol=0.1, atol=0.1 * exact.std().item())
    assert model.prefix(exact).shape[1] == 6 + 2
    torch.testing.assert_close(model.prefix(exact)[:, 0], model.prompt_before.expand(2, -1))


def test_generate_returns_texts_and_the_processor_stands_alone(tmp_path: Path) -> None:
    model = tiny_model()
    output = model.generate(torch.randn(2, 1, 3, 48, 48), max_new_tokens=4)
    assert output.texts == model.processor.batch_decode(output.sequences)
    model.save_pretrained(tmp_path)
    alone = EVLGenProcessor.from_pretrained(tmp_path)
    assert alone.batch_decode(output.sequences) == output.texts
    alone.save_pretrained(tmp_path / "copy")
    assert EVLGenConfig.from_pretrained(tmp_path / "copy") == model.config


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "evil.pth").open("wb") as file:
        pickle.dump({"x": print}, file)
    with pytest.raises(WeightsError, match=r"evil.pth is not a readable weight file"):
        read_tensors(tmp_path / "evil.pth")
    torch.save({"model": {"x": torch.zeros(1)}}, tmp_path / "nested.pth")
    with pytest.raises(WeightsError, match="does not hold tensors by name"):
        read_tensors(tmp_path / "nested.pth")


def test_a_checkpoint_of_other_frozen_parts_is_refused(tmp_path: Path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    save_file(
        model.trained_tensors(), tmp_path / "model.safetensors", metadata={"frozen": json.dumps({"vision": "pypi:x"})}
    )
    assert config["vision"]["source"] is None
    with pytest.raises(WeightsError, match="trained against another vision: pypi:x, not None"):
        EVLGenForConditionalGeneration.from_pretrained(tmp_path)


def test_processor_resizes_normalises_and_refuses_ragged_batches(model: EVLGenForConditionalGeneration) -> None:
    white = np.full((2, 30, 50, 3), 255, dtype=np.uint8)
    pixels = model.processor([white, np.zeros_like(white)])
    assert pixels.shape == (2, 2, 3, 48, 48)
    assert pixels[0].unique().tolist() == [1.0]
    assert pixels[1].unique().tolist() == [-1.0]
    with pytest.raises(UsageError, match=r"one frame count, got \[1, 2\]"):
        model.processor([white, white[:1]])


def test_decoding_stops_at_the_end_token(model: EVLGenForConditionalGeneration) -> None:
    ids = model.language.encode_caption("a dog  runs")
    assert ids[-1] == model.language.end_token_id
    assert model.processor.batch_decode(torch.tensor([[*ids, *ids]])) == ["a dog runs"]
    assert len(model.language.encode_caption("word " * 50)) == 32


def test_mean_prompts_is_the_mean_of_the_prompts_of_concat() -> None:
    late, every = tiny_model(tiny_config(fusion="mean-prompts")), tiny_model(tiny_config(fusion="concat"))
    every.load_state_dict(late.state_dict())
    features = torch.randn(2, 3, late.config.vision.tokens, late.config.vision.width)
    per_frame = every.soft_prompts(features).unflatten(1, (3, -1))
    torch.testing.assert_close(late.soft_prompts(features), per_frame.mean(dim=1))


def test_a_temporal_vit_in_bfloat16_is_the_float32_one_up_to_rounding() -> None:
    """Output and gradients; the modules' own parameters stay float32, and so do their gradients."""
    features, gradients = [], []
    torch.manual_seed(0)
    pixels, weights = torch.randn(2, 3, 3, 48, 48), torch.randn(32)
    for dtype in (torch.float32, torch.bfloat16):
        vision = tiny_model(tiny_config(fusion="temporal")).vision
        for block in vision.blocks:
            block.temporal.alpha.data.fill_(0.5)
        vision.freeze(dtype)
        out = vision.encode(pixels.to(dtype))
        assert out.dtype == dtype
        (out.float() * weights).sum().backward()
        features.append(out.detach().float())
        parameters = [p for block in vision.blocks for p in block.temporal.parameters()]
        assert all(p.grad.dtype == torch.float32 for p in parameters)
        gradients.append(torch.cat([p.grad.flatten() for p in parameters]))
    for exact, rounded in (features, gradients):
        assert 0 < (rounded - exact).norm() / exact.norm() < 0.03


@pytest.mark.parametrize("beams", [1, 3])
def test_tokens_are_told_as_they_are_written(beams: int) -> None:
    model = EVLGenForConditionalGeneration.from_config(tiny_config(), initialise=False)
    pixels, heard = torch.randn(2, 1, 3, 48, 48), list[int]()
    told = model.generate(pixels, num_beams=beams, max_new_tokens=6, min_new_tokens=6, on_tokens=heard.append)
    assert heard == [2] * 6
    assert torch.equal(
        told.sequences, model.generate(pixels, num_beams=beams, max_new_tokens=6, min_new_tokens=6).sequences
    )


def test_config_json_says_what_model_it_is(model: EVLGenForConditionalGeneration, tmp_path: Path) -> None:
    """transformers finds the class by `model_type`; files from before it, and what a hub adds, load as well."""
    model.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    written = json.loads(file.read_text())
    assert next(iter(written.items())) == ("model_type", "evlgen")
    del written["model_type"]
    file.write_text(json.dumps(written))
    assert EVLGenConfig.from_pretrained(tmp_path) == model.config
    file.write_text(json.dumps({**written, "architectures": ["X"], "auto_map": {}, "transformers_version": "5.0.0"}))
    assert EVLGenConfig.from_pretrained(tmp_path) == model.config
    file.write_text(json.dumps({**written, "model_type": "blip-2"}))
    with pytest.raises(
        WeightsError, match=r"config.json: model_type is 'blip-2', expected 'evlgen' \(.*--model hf:FOLDER"
    ):
        EVLGenConfig.from_pretrained(tmp_path)

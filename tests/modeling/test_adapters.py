"""LoRA on the language model against peft's own model: losses, gradients, generation, sampling; saving and loading."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch.nn import functional as F

from evlgen.configuration import EVLGenConfig
from evlgen.errors import UsageError, WeightsError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.sampling import sample_captions
from evlgen.recipes.schema import OptimizerConfig
from evlgen.training.optimizer import parameter_groups
from tests.modeling.conftest import TINY_LLAMA, TINY_OPT, tiny_config, tiny_model, with_lora

peft = pytest.importorskip("peft")

FAMILIES = {"llama": (TINY_LLAMA, ["q_proj", "v_proj", "down_proj"]), "opt": (TINY_OPT, ["q_proj", "out_proj", "fc2"])}
CAPTIONS = [[[5, 6, 7, 10], [8, 10]], [[9, 4, 10]]]


def config_of(family: str, **lora: Any) -> EVLGenConfig:
    llm, targets = FAMILIES[family]
    return with_lora(
        tiny_config(llm={**llm, "init_std" if family == "opt" else "initializer_range": 0.3}),
        **{"rank": 3, "alpha": 12.0, "targets": targets, **lora},
    )


@torch.no_grad()
def trained(config: EVLGenConfig) -> EVLGenForConditionalGeneration:
    """A model whose adapters do something."""
    model = tiny_model(config)
    for parameter in model.language.adapters():
        parameter.copy_(0.3 * torch.randn_like(parameter))
    return model


def pefts_own(family: str, model: EVLGenForConditionalGeneration) -> Any:
    """peft around transformers' model, with the same weights."""
    llm, targets = FAMILIES[family]
    settings = dict(llm)
    base = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    )
    whole = peft.get_peft_model(base, peft.LoraConfig(r=3, lora_alpha=12, target_modules=targets)).eval()
    own = {f"base_model.model.{name}": value for name, value in model.language.model.state_dict().items()}
    assert whole.load_state_dict(own, strict=True)
    return whole


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_losses_and_gradients_are_pefts(family: str) -> None:
    model = trained(config_of(family))
    theirs = pefts_own(family, model).double()
    model.double()
    soft = torch.randn(2, 3, 32, dtype=torch.float64, requires_grad=True)
    out = model.caption_loss(soft, CAPTIONS)
    ours = torch.autograd.grad(out.loss, [soft, *model.language.adapters()])

    reference = soft.detach().clone().requires_grad_(True)
    losses, embed = [], theirs.get_input_embeddings()
    for item, captions in enumerate(CAPTIONS):
        for ids in captions:
            prefix = model.prefix(reference)[item]
            inputs = torch.cat([prefix, embed(torch.tensor(ids[:-1], dtype=torch.int64))])
            logits = theirs(inputs_embeds=inputs[None]).logits[0, len(prefix) - 1 :]
            losses.append(F.cross_entropy(logits, torch.tensor(ids), reduction="none"))
    torch.testing.assert_close(out.log_probabilities, torch.stack([-one.sum() for one in losses]))
    adapters = {n.removeprefix("base_model.model."): p for n, p in theirs.named_parameters() if ".lora_" in n}
    names = [n.removeprefix("language.model.") for n in model.trainable_names() if ".lora_" in n]
    assert names == list(adapters)
    want = torch.autograd.grad(torch.cat(losses).mean(), [reference, *adapters.values()])
    for a, b in zip(ours, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)  # Llama's norms round to float32
        assert b.abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_generation_and_sampling_go_through_the_adapters(family: str) -> None:
    model = trained(config_of(family))
    theirs = pefts_own(family, model)
    prefix = model.prefix(torch.randn(2, 3, 32))
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 10, "eos_token_id": 10}
    mask = torch.ones(prefix.shape[:2], dtype=torch.int64)
    _, greedy = sample_captions(model.language, prefix, samples=0, greedy=True, max_new_tokens=5, min_new_tokens=5)
    for beams in (1, 3):
        want = theirs.generate(inputs_embeds=prefix, attention_mask=mask, num_beams=beams, **options)
        found = model.generate_from(prefix[:, 1:-1], num_beams=beams, max_new_tokens=5, min_new_tokens=5)
        assert torch.equal(found.sequences, want)
        if beams == 1:
            assert greedy is not None
            assert torch.equal(greedy.sequences[:, 0], want)
    plain = tiny_model(config_of(family).model_copy(update={"language": tiny_config(llm=FAMILIES[family][0]).language}))
    plain.language.model.load_state_dict(
        {n.replace(".base_layer.", "."): t for n, t in model.language.model.state_dict().items() if ".lora_" not in n}
    )
    other = plain.generate_from(prefix[:, 1:-1], num_beams=1, max_new_tokens=5, min_new_tokens=5)
    assert not torch.equal(other.sequences, want), "the adapters make a difference"


def test_new_adapters_change_nothing_and_only_they_are_trained() -> None:
    model = tiny_model(config_of("llama"))
    plain = tiny_model(tiny_config(llm={**TINY_LLAMA, "initializer_range": 0.3}))
    soft = torch.randn(2, 3, 32)
    assert torch.equal(
        model.caption_loss(soft, CAPTIONS).log_probabilities, plain.caption_loss(soft, CAPTIONS).log_probabilities
    )
    trainable = {n for n, p in model.language.named_parameters() if p.requires_grad}
    assert trainable == {n for n, _ in model.language.named_parameters() if ".lora_" in n}
    assert len(trainable) == 2 * 2 * 3
    low = EVLGenForConditionalGeneration.from_config(config_of("llama"), dtype=torch.bfloat16)
    assert {p.dtype for p in low.language.adapters()} == {torch.float32}
    assert low.language.head_weight.dtype == torch.bfloat16
    low.caption_loss(soft, CAPTIONS).loss.backward()
    assert all(p.grad is not None for p in low.language.adapters())


def test_dropout_is_on_in_training_only() -> None:
    model = trained(config_of("opt", dropout=0.5))
    soft = torch.randn(2, 3, 32)

    def loss() -> torch.Tensor:
        return model.caption_loss(soft, CAPTIONS).loss

    quiet = loss()
    model.train()
    assert not torch.equal(loss(), loss())
    assert not any(part.training for n, part in model.language.named_modules() if "lora_dropout" not in n)
    model.eval()
    assert torch.equal(loss(), quiet)


def test_a_checkpoint_holds_adapters_and_no_frozen_weight(tmp_path: Path) -> None:
    config = config_of("llama")
    model = trained(config)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert set(tensors) == set(model.trainable_names())
    assert sum(".lora_" in name for name in tensors) == 12
    assert not any("base_layer" in name for name in tensors)
    again = tiny_model(EVLGenConfig.from_pretrained(tmp_path))  # random frozen parts are those of the seed
    assert again.config == config
    again.load_trained(tmp_path / "model.safetensors")
    features = torch.randn(2, 3, 10, 32)
    assert model.generate(features=features).texts == again.generate(features=features).texts
    plain = tiny_model(tiny_config())
    with pytest.raises(WeightsError, match=r"unexpected \['language.model.model.layers.0.mlp.down_proj.lora_A"):
        plain.load_trained(tmp_path / "model.safetensors")


def test_training_may_start_from_a_model_without_adapters(tmp_path: Path) -> None:
    tiny_model(tiny_config(), seed=3).save_pretrained(tmp_path)
    model = tiny_model(config_of("llama"))
    model.load_trained(tmp_path / "model.safetensors", start=True)
    with pytest.raises(WeightsError, match=r"missing \['language.model"):
        model.load_trained(tmp_path / "model.safetensors")


def test_adapters_decay_and_have_their_own_rate() -> None:
    model = tiny_model(config_of("llama"))
    named = {name: model.get_parameter(name) for name in model.trainable_names()}
    *_, last = parameter_groups(named, OptimizerConfig(lora_multiplier=0.1, weight_decay=0.02))
    assert (last["multiplier"], last["weight_decay"]) == (0.1, 0.02)
    assert [id(p) for p in last["params"]] == [id(p) for p in model.language.adapters()]


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens", "q_prj"])
def test_targets_that_are_not_there(target: str) -> None:
    with pytest.raises(UsageError) as caught:
        tiny_model(config_of("llama", targets=["q_proj", target]))
    assert str(caught.value) == (
        f"model.language.lora.targets: the layers of this language model have no {target} "
        "(they have down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj)"
    )

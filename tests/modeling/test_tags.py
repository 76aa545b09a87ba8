"""Tags: what the tower's own classifier sees, against timm's whole model; and how captions follow them."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from evlgen.configuration import EVLGenConfig, TagsConfig, VisionConfig
from evlgen.errors import UsageError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.packing import pack_captions, with_prompts
from evlgen.modeling.tags import Tag, class_names
from evlgen.modeling.vision import VisionTower
from tests.modeling.conftest import TINY_CNN, TINY_LLAMA, TINY_VIT, tiny_config, tiny_model

TOWERS = pytest.mark.parametrize("tower", [TINY_CNN, TINY_VIT], ids=["cnn", "vit"])


def tagged(tower: VisionConfig = TINY_CNN, **tags: Any) -> EVLGenForConditionalGeneration:
    config = tiny_config(tower, llm={**TINY_LLAMA, "initializer_range": 0.2})
    return tiny_model(EVLGenConfig(**{**dict(config), "tags": TagsConfig(**{"threshold": 1e-4, "drop": 0.5, **tags})}))


@TOWERS
@pytest.mark.parametrize("layout", ["timm", "ordered"])
def test_probabilities_are_those_of_timms_whole_model(tower: VisionConfig, layout: str) -> None:
    torch.manual_seed(0)
    whole = timm.create_model(tower.name, num_classes=1000, **tower.arguments).eval()
    ours = VisionTower(tower.model_copy(update={"layout": layout}), classes=1000)
    ours.load_weights(dict(whole.state_dict()))
    ours.freeze(torch.float32)
    pixels = torch.randn(2, 3, 3, tower.image_size, tower.image_size)
    with torch.no_grad():
        theirs = whole(pixels.flatten(0, 1)).softmax(-1).unflatten(0, (2, 3)).mean(1)
        torch.testing.assert_close(ours.class_probabilities(ours(pixels)), theirs, rtol=1e-4, atol=1e-6)


def test_names_are_timms_first_ones() -> None:
    names = class_names(1000)
    assert (names[0], names[386], names[717]) == ("tench", "African elephant", "pickup")
    assert len(names) == 1000
    with pytest.raises(UsageError, match=r"tags\.classes is 7, and class names are known for 1000"):
        class_names(7)


def test_tags_are_the_probable_classes_in_order() -> None:
    model = tagged(most=4)
    features = model.encode(torch.randn(3, 2, 3, 96, 96))
    probabilities = model.vision.class_probabilities(model.vision.contextualize(features))
    for row, own in zip(probabilities, model.tags(features), strict=True):
        best = row.argsort(descending=True)[:4].tolist()
        assert [tag.name for tag in own] == [class_names(1000)[i] for i in best]
        assert [tag.probability for tag in own] == pytest.approx([row[i].item() for i in best])
    strict = tagged(threshold=1.0)
    assert strict.tags(features) == [[], [], []]


def test_a_caption_follows_its_tags_as_it_would_a_prompt() -> None:
    model = tagged(most=2)
    features = model.encode(torch.randn(3, 1, 3, 96, 96))
    soft, tags = model.soft_prompts(features), model.tags(features)
    output = model.generate(features=features, num_beams=2, max_new_tokens=6)
    assert output.tags == tags
    for i, own in enumerate(tags):
        assert len(own) == 2
        text = f"{own[0].name}, {own[1].name}\nQ:"
        said = model.generate(features=features[i : i + 1], prompt="Q:", num_beams=2, max_new_tokens=6)
        prompt = model.language.tokenizer.encode(text)
        by_hand = torch.cat([model.prefix(soft[i : i + 1]), model.language.embed(torch.tensor([prompt]))], dim=1)
        end = model.language.end_token_id
        theirs = model.language.model.generate(
            inputs_embeds=by_hand, attention_mask=torch.ones(by_hand.shape[:2]), num_beams=2, max_new_tokens=6,
            do_sample=False, eos_token_id=end, pad_token_id=end, early_stopping=False,
        )  # fmt: skip
        ids = said.token_ids()[0]
        assert ids == theirs[0].tolist()[: len(ids)]


def test_the_loss_is_that_of_a_sequence_with_the_tags_written_out() -> None:
    model = tagged(most=2)
    features = model.encode(torch.randn(2, 1, 3, 96, 96))
    captions = [[[7, 8, 10], [9, 10]], [[5, 6, 10]]]
    output = model(captions, features=features)
    soft, total = model.soft_prompts(features), []
    for b, own in enumerate(model.tags(features)):
        tag_ids = model.language.encode(", ".join(tag.name for tag in own) + "\n")
        for ids in captions[b]:
            inputs = torch.cat([model.prefix(soft)[b], model.language.embed(torch.tensor([*tag_ids, *ids[:-1]]))])
            log_p = model.language.model(inputs_embeds=inputs[None]).logits[0, -len(ids) :].log_softmax(-1)
            total.append(sum(log_p[n, token] for n, token in enumerate(ids)))
    torch.testing.assert_close(output.log_probabilities, torch.stack(total), rtol=1e-4, atol=1e-4)


def test_tags_are_left_out_by_chance_in_training_only() -> None:
    model = tagged(most=3)
    tags = [[Tag("a", 0.5), Tag("b", 0.3), Tag("c", 0.2)]] * 400
    assert len({tuple(ids) for ids in model.tag_prompts(tags)}) == 1
    model.train()
    torch.manual_seed(0)
    prompts = model.tag_prompts(tags)
    kept = sum(len(model.language.tokenizer.decode(ids).split(", ")) for ids in prompts if ids)
    assert kept / 1200 == pytest.approx(0.5, abs=0.05)
    assert 0.08 < sum(not ids for ids in prompts) / 400 < 0.18, "all three are dropped one time in eight"


def test_smoothed_loss_is_torchs() -> None:
    model = tagged().double()
    features = model.encode(torch.randn(2, 1, 3, 96, 96, dtype=torch.float64))
    soft: Tensor = model.soft_prompts(features).detach().requires_grad_()
    captions = with_prompts([[[7, 8, 10]], [[5, 10]]], [[], []])
    loss = model.caption_loss(soft, captions, label_smoothing=0.1).loss
    packed = pack_captions(captions)
    logits = model._predicting_states(model.prefix(soft), packed) @ model.language.head_weight.T
    theirs = torch.nn.functional.cross_entropy(logits, packed.target, label_smoothing=0.1)
    torch.testing.assert_close(loss, theirs)
    ours, want = (torch.autograd.grad(value, soft)[0] for value in (loss, theirs))
    torch.testing.assert_close(ours, want)


def test_without_a_classifier_in_the_file_tags_are_refused(tmp_path: Path) -> None:
    save_file(VisionTower(TINY_CNN).trunk.state_dict(), tmp_path / "tower.safetensors")
    config = tagged().config
    vision = config.vision.model_copy(update={"source": str(tmp_path / "tower.safetensors")})
    with pytest.raises(Exception, match="classifier"):
        EVLGenForConditionalGeneration.from_config(config.model_copy(update={"vision": vision}))

"""What a recipe may not ask of self-critical training, each mistake in the user's spelling and all at once."""

import pytest

from evlgen.errors import UsageError
from evlgen.recipes import load_recipe


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scst.samples=1", "scst.baseline=mean"], "scst.baseline mean needs scst.samples of 2 or more, it is 1"),
        (["scst.samples=1", "scst.sampler=beam"], "scst.sampler beam needs scst.samples of 2 or more, it is 1"),
        (["scst.samples=1", "scst.normalise_advantages=true"], "scst.normalise_advantages needs scst.samples of 2"),
        (["scst.min_new_tokens=20"], "scst.min_new_tokens 20 leaves no room below max_new_tokens 20"),
        (["scst.sampler=beam", "scst.top_p=0.9"], "scst.sampler beam searches the model's own distribution"),
        (["scst.kl_weight=0.1", "scst.top_p=0.9"], "scst.kl_weight needs samples from all tokens"),
        (["scst.kl_weight=0.1", "scst.sampler=beam"], "scst.kl_weight needs samples from all tokens"),
        (["scst.rewards.cider=0"], r"scst\.rewards: no reward has a weight above 0"),
        (["scst.rewards.meteor=1"], r"unknown key scst\.rewards\.meteor"),
        (["scst.rewards.bleu=1"], r"unknown key scst\.rewards\.bleu \(did you mean 'bleu4'\?\)"),
        (["scst.sample=5"], r"unknown key scst\.sample \(did you mean 'samples'\?\)"),
        (["scst.baseline=best"], r"scst\.baseline: Input should be 'greedy', 'mean', 'beam-mean' or 'none'"),
        (["scst.temperature=0"], r"scst\.temperature: Input should be greater than 0"),
        (["scst.caption_weight=1"], r"scst\.caption_weight: Input should be less than 1"),
        (["train.start_from=null"], r"scst needs train\.start_from"),
        (["vocabulary.steps=10"], r"scst starts from a trained model: set vocabulary\.steps to 0"),
        (["validation.caption_items=0", "validation.metric=loss"], r"set validation\.caption_items above 0"),
        (["train.sharding=fsdp"], r"scst does not shard.*set train\.sharding to auto or ddp"),
    ],
)
def test_bad_values_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe("mini-msrvtt-scst", overrides)


def test_several_mistakes_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe("mini-msrvtt-scst", ["scst.samples=1", "scst.baseline=mean", "scst.min_new_tokens=30"])
    assert "scst.baseline mean needs" in str(caught.value)
    assert "scst.min_new_tokens 30 leaves no room" in str(caught.value)


def test_without_samples_it_is_off_and_nothing_is_asked_of_it() -> None:
    assert load_recipe("mini-pretrain").scst.samples == 0
    assert load_recipe("mini-pretrain", ["scst.baseline=mean", "train.sharding=fsdp"]).train.start_from is None

"""A language model without some of its layers, against transformers' own class of that depth."""

import pytest
import torch
import transformers

from evlgen.configuration import LanguageConfig
from evlgen.errors import UsageError
from evlgen.modeling.beams import beam_captions
from evlgen.modeling.language import FrozenLanguageModel, load_language_model, load_tokenizer
from tests.modeling.conftest import TINY_LLAMA, TINY_OPT, tiny_config

KINDS = pytest.mark.parametrize("llm", [TINY_LLAMA, TINY_OPT], ids=["llama", "opt"])


def language_config(llm: dict[str, object], kept: list[int] | None) -> LanguageConfig:
    whole = tiny_config(llm={**llm, "num_hidden_layers": 4, "init_std": 0.2, "initializer_range": 0.2}).language
    return LanguageConfig(**{**dict(whole), "kept_layers": kept})


def by_transformers(pruned: FrozenLanguageModel, llm: dict[str, object]) -> FrozenLanguageModel:
    """A model of two layers that transformers builds, with the kept layers' weights."""
    settings = transformers.AutoConfig.for_model(**{**llm, "num_hidden_layers": 2})
    model = transformers.AutoModelForCausalLM.from_config(settings)
    model.load_state_dict(pruned.model.state_dict())
    config = language_config(llm, None)
    return FrozenLanguageModel(config, model, load_tokenizer(config))


@KINDS
def test_the_other_layers_are_left_out_of_weights_states_and_cache(llm: dict[str, object]) -> None:
    torch.manual_seed(0)
    whole = load_language_model(language_config(llm, None))
    torch.manual_seed(0)
    pruned = load_language_model(language_config(llm, [1, 3]))
    for here, there in zip(pruned.layers, [whole.layers[1], whole.layers[3]], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(here.parameters(), there.parameters(), strict=True))
    expected = by_transformers(pruned, llm)
    ids = torch.tensor([[7, 8, 9, 10]])
    assert torch.equal(pruned.model(input_ids=ids).logits, expected.model(input_ids=ids).logits)
    prefix = pruned.embed(ids)
    ours, theirs = (beam_captions(m, prefix, beams=3, max_new_tokens=6) for m in (pruned, expected))
    assert ours.token_ids() == theirs.token_ids()


@pytest.mark.parametrize("kept", [[2, 1], [1, 1], [-1, 0], []])
def test_numbers_rise_from_zero(kept: list[int]) -> None:
    with pytest.raises(ValueError, match="kept_layers"):
        language_config(TINY_LLAMA, kept)


def test_a_layer_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"kept_layers \[0, 4\]: the model's layers are 0 to 3"):
        load_language_model(language_config(TINY_LLAMA, [0, 4]))

"""Beams against transformers' beam search, and their log-probabilities against the gradient pass."""

from typing import Any

import pytest
import torch

from evlgen.errors import UsageError
from evlgen.modeling.beams import beam_captions
from evlgen.modeling.rescoring import sampled_log_probabilities
from tests.modeling.conftest import tiny_config, tiny_model
from tests.modeling.test_sampling import LANGUAGE_MODELS, choose_end, prefixes


@LANGUAGE_MODELS
@pytest.mark.parametrize(
    ("shortest", "beams", "penalty"), [(0, 2, 1.0), (0, 5, 1.0), (3, 4, 1.0), (0, 4, 0.0), (2, 3, 0.5)]
)
def test_beams_equal_transformers(llm: dict[str, object], shortest: int, beams: int, penalty: float) -> None:
    model = tiny_model(tiny_config(llm=llm))
    prefix = prefixes(model, 9)
    choose_end(model, prefix, shortest)
    end, longest = model.language.end_token_id, 8
    ours = beam_captions(
        model.language, prefix, beams=beams, max_new_tokens=longest, min_new_tokens=shortest, length_penalty=penalty
    )
    options: dict[str, Any] = {"min_new_tokens": shortest, "renormalize_logits": True} if shortest else {}
    want = model.language.model.generate(
        inputs_embeds=prefix, attention_mask=torch.ones(prefix.shape[:2]), max_new_tokens=longest, do_sample=False,
        num_beams=beams, num_return_sequences=beams, length_penalty=penalty, early_stopping=False, eos_token_id=end,
        pad_token_id=end, return_dict_in_generate=True, output_scores=True, **options,
    )  # fmt: skip
    sequences = want.sequences.unflatten(0, (9, beams))
    width = min(sequences.shape[2], ours.sequences.shape[2])
    assert ours.sequences[..., :width].tolist() == sequences[..., :width].tolist()
    assert (ours.sequences[..., width:] == end).all()
    assert (sequences[..., width:] == end).all()
    assert len(set(ours.token_counts.flatten().tolist())) > 1, "lengths differ, or the test shows little"
    score = ours.log_probabilities / ours.token_counts**penalty
    torch.testing.assert_close(score.flatten(), want.sequences_scores, atol=1e-4, rtol=0)
    rescored = sampled_log_probabilities(model, prefix, ours, min_new_tokens=shortest)
    torch.testing.assert_close(rescored.detach(), ours.log_probabilities, atol=1e-4, rtol=0)
    flat = [ids for item in ours.token_ids() for ids in item]
    for ids, is_end in zip(flat, ours.ended.flatten().tolist(), strict=True):
        assert is_end == (ids[-1] == end)


def test_too_few_and_too_many_beams() -> None:
    model = tiny_model()
    for beams in (0, 257):
        with pytest.raises(UsageError, match=f"{beams} beams, expected 1 or more and at most the 256 tokens"):
            beam_captions(model.language, prefixes(model, 1), beams=beams)

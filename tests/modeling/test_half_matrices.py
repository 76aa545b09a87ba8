"""Matrices in float16 under rows in float32, against numpy and the decoder in float32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evlgen.captioners.evlgen_captioner import load_captioner
from evlgen.captioners.protocol import LoadOptions, PromptedClip
from evlgen.decoding_options import DecodingOptions
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.half_matrices import LARGEST, HalfMatrix, halved, has_half_products
from tests.modeling.test_lean_language import written

pytestmark = pytest.mark.skipif(not has_half_products(), reason="torch has no such products for this CPU")


@pytest.mark.parametrize("rows", [(1,), (3,), (2, 5), (70,)])
def test_only_the_matrix_is_rounded(rows: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal((*shape, 50)).astype(np.float32) for shape in (rows, (33,)))
    expected = x.astype(np.float64) @ weight.astype(np.float16).astype(np.float64).T
    found = HalfMatrix(torch.from_numpy(weight))(torch.from_numpy(x))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_numbers_that_float16_cannot_hold_stay_in_float32() -> None:
    assert isinstance(halved(torch.full((2, 2), LARGEST)), HalfMatrix)
    too_large = torch.full((2, 2), LARGEST * 1.01)
    assert halved(too_large) is too_large


def test_captions_are_those_of_a_float32_model_with_rounded_matrices(tmp_path: Path) -> None:
    config = written(tmp_path / "language", {"num_key_value_heads": 2})
    EVLGenForConditionalGeneration.from_config(config, initialise=False).save_pretrained(tmp_path / "model")
    rng = np.random.default_rng(0)
    clips = [PromptedClip(rng.integers(0, 255, (1, 48, 48, 3), dtype=np.uint8), (0.0,), "") for _ in range(3)]

    def loaded(dtype: str) -> Any:
        torch.manual_seed(0)  # the tower has no weight file
        return load_captioner(str(tmp_path / "model"), LoadOptions(dtype=dtype))

    exact, half = loaded("float32"), loaded("float16")
    decoder = exact.model.language.decoder
    decoder.head = torch.nn.Parameter(decoder.head.half().float(), requires_grad=False)  # embeddings stay
    for matrix in (one for layer in decoder.layers for one in layer.parameters() if one.dim() == 2):
        matrix.copy_(matrix.half())
    assert exact.facts().parameters == half.facts().parameters > 0
    options = DecodingOptions(num_beams=3, max_new_tokens=8)
    for ours, theirs in zip(half.caption(clips, options), exact.caption(clips, options), strict=True):
        assert ours.text == theirs.text
        assert ours.log_probability == pytest.approx(theirs.log_probability, abs=1e-4)

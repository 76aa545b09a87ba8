"""The small language model of mini-race: what it is made of, and that it is one that a recipe can name."""

import importlib.util
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import yaml

from evlgen.configuration import LanguageConfig
from evlgen.modeling.language import load_language_model
from tests.docs.collecting import ROOT
from tests.training.conftest import make_recipe


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("caption_language", ROOT / "benchmarks" / "caption_language.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_made_of_captions_and_can_be_named(script: Any, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = pictures / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(make_recipe(pictures).model_dump(mode="json")))
    folder = pictures / "language"
    words = ["x", "--recipe", str(recipe), "--out", str(folder), "--steps", "2", "--documents", "2"]
    monkeypatch.setattr("sys.argv", words)
    script.main()
    around = LanguageConfig(source=str(folder), width=256, prompt_before="\n", prompt_after="\n", end_text="\n")
    language = load_language_model(around)
    ids = language.encode_caption("a red box")
    assert ids[-1] == language.end_token_id == language.encode("\n")[0]
    assert language.tokenizer.decode(ids, skip_special_tokens=True).strip() == "a red box"


def test_a_document_is_captions_of_one_picture(script: Any) -> None:
    pictures = [[[1, 0], [2, 2, 0]], [[3, 0]], [[4, 0]] * 9]
    for batch in islice(script.documents(pictures, 0, 3, Random(0)), 5):
        whole = sorted([token for token in row if token > 0] for row in batch.tolist())
        assert whole in ([[1, 2, 2], [3], [4] * 6], [[2, 2, 1], [3], [4] * 6])
        assert (batch[:, 0] == 0).all()


def test_the_loss_is_that_of_wanted_tokens_alone(script: Any) -> None:
    class Uniform:
        def __call__(self, input_ids: torch.Tensor) -> object:
            logits = torch.zeros(*input_ids.shape, 8)
            logits[..., 5] = torch.where(input_ids == 1, 99.0, 0.0)  # after a 1 a 5 is sure
            return type("Out", (), {"logits": logits})

    ids = torch.tensor([[0, 1, 5, 3], [0, 1, 5, -100]])
    assert float(script.loss(Uniform(), ids, ids == 5)) == pytest.approx(0.0)
    assert float(script.loss(Uniform(), ids, ids == 3)) == pytest.approx(float(torch.tensor(8.0).log()))

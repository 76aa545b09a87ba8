"""Language models of other classes, from folders and hub repositories, in bfloat16: transformers' own forward pass."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from evlgen.configuration import LanguageConfig
from evlgen.modeling import transformers_opening
from evlgen.modeling.language import _byte_tokenizer, load_config, load_language_model, load_tokenizer
from tests.modeling.conftest import TINY_LLAMA, TINY_OPT

SIZES = {k: v for k, v in TINY_LLAMA.items() if k != "model_type"}
CLASSES: dict[str, dict[str, Any]] = {
    "llama": {**SIZES, "initializer_range": 0.2},
    "opt": {**{k: v for k, v in TINY_OPT.items() if k != "model_type"}, "init_std": 0.2},
    "mistral": {**SIZES, "initializer_range": 0.2},
    "qwen2": {**SIZES, "initializer_range": 0.2},
    "qwen3": {**SIZES, "head_dim": 8, "initializer_range": 0.2},
}


def saved(kind: str, folder: Path) -> Any:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **CLASSES[kind]))
    model = model.to(torch.bfloat16).eval()
    model.save_pretrained(folder)
    _byte_tokenizer().save_pretrained(folder)
    return model


@torch.no_grad()
@pytest.mark.parametrize("kind", CLASSES)
def test_states_in_bfloat16_are_transformers_own(kind: str, tmp_path: Path) -> None:
    theirs = saved(kind, tmp_path)
    language = load_language_model(LanguageConfig(source=str(tmp_path), width=32), dtype=torch.bfloat16)
    assert {p.dtype for p in language.parameters()} == {torch.bfloat16}
    assert len(language.layers) == 2
    inputs = torch.randn(2, 7, 32)
    mask = torch.ones(2, 7, 7, dtype=torch.bool).tril()
    hidden = language.hidden_states(inputs, mask, torch.arange(7).expand(2, 7))
    want = theirs(inputs_embeds=inputs.to(torch.bfloat16)).logits.float()
    ours = (hidden @ language.head_weight.T).float()
    assert (ours - want).norm() / want.norm() < 0.02  # other attention kernels round otherwise
    assert want.std() > 0.3


@pytest.mark.parametrize(
    ("source", "name", "revision"),
    [
        ("hf:facebook/opt-2.7b@905a4b602cda5c501f1b3a2650a4152680238254", "facebook/opt-2.7b", "905a4b60"),
        ("hf:lmsys/vicuna-7b-v1.3@236eeeab96f0dc2e463f2bebb7bb49809279c6d6", "lmsys/vicuna-7b-v1.3", "236eeeab"),
        ("hf:facebook/opt-6.7b", "facebook/opt-6.7b", None),
    ],
)
def test_hub_sources_go_to_transformers_with_their_revision(
    source: str, name: str, revision: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved("opt", tmp_path)
    asked: list[tuple[str, str | None]] = []
    for factory in (transformers.AutoTokenizer, transformers.AutoModelForCausalLM, transformers.AutoConfig):

        def read(
            pretrained_model_name_or_path: str, revision: str | None = None, *, own: Any = factory.from_pretrained,
            **options: Any,
        ) -> Any:  # fmt: skip
            if pretrained_model_name_or_path != tmp_path:  # the tokenizer looks at the configuration itself
                asked.append((pretrained_model_name_or_path, revision and revision[:8]))
            return own(tmp_path, **options)

        monkeypatch.setattr(factory, "from_pretrained", read)
    monkeypatch.setattr(transformers_opening, "_plain_config", lambda **where: {})
    config = LanguageConfig(source=source, width=32)
    assert load_language_model(config, dtype=torch.bfloat16).head_weight.dtype == torch.bfloat16
    assert load_config(config).model_type == "opt"
    load_tokenizer(config)
    assert asked == [(name, revision)] * 4

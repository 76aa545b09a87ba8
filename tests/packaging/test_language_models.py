"""The language models that ship inside the package: named by a source, whole, and the same wherever a model goes."""

import shutil
from pathlib import Path

import pytest
import torch
import transformers

from evlgen.configuration import EVLGenConfig, LanguageConfig
from evlgen.errors import UsageError, WeightsError
from evlgen.hub.saving import save
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.language import load_language_model
from evlgen.modeling.language_files import language_files
from evlgen.modeling.lean_language import load_lean_language
from evlgen.weights import named_models
from evlgen.weights.named_models import packaged_language
from tests.hub.conftest import write_model
from tests.modeling.conftest import tiny_config

SOURCE = "evlgen:captions"
AROUND = {"width": 384, "prompt_before": "\n", "end_text": "\n"}


def test_it_runs_alike_in_transformers_and_for_captions_alone() -> None:
    config = LanguageConfig(source=SOURCE, **AROUND)
    theirs = load_language_model(config)
    ours = load_lean_language(config, Path(language_files(config)["pretrained_model_name_or_path"]), {}, torch.float32)
    assert ours is not None
    ids = theirs.encode_caption("a man is riding a bicycle down the street")
    assert ours.encode_caption("a man is riding a bicycle down the street") == ids
    assert ours.tokenizer.decode(ids).strip() == "a man is riding a bicycle down the street"
    both = torch.tensor([ids, ids[:1] + ids[-2:0:-1] + ids[-1:]])
    positions = torch.arange(len(ids)).expand(2, -1)
    with torch.inference_mode():
        logits = [one.logits(one.run(one.embed(both), None, positions)) for one in (theirs, ours)]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-3, rtol=1e-4)
    nats = torch.nn.functional.cross_entropy(logits[1][:, :-1].transpose(1, 2), both[:, 1:], reduction="none").mean(1)
    assert nats[0] + 1 < nats[1], "it has read captions, and none backwards"


def test_transformers_opens_the_folder() -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(packaged_language(SOURCE))
    assert model.config.vocab_size == len(transformers.AutoTokenizer.from_pretrained(packaged_language(SOURCE)))
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_what_is_not_there_or_damaged_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no language model is called 'evlgen:nobody'") as caught:
        language_files(LanguageConfig(source="evlgen:nobody", **AROUND))
    assert caught.value.hint == "packaged: captions"
    shutil.copytree(packaged_language(SOURCE), tmp_path / "language" / "captions")
    monkeypatch.setattr(named_models, "_assets", lambda: tmp_path)
    weights = packaged_language(SOURCE) / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(WeightsError, match=r"model\.safetensors is not the file that evlgen came with"):
        packaged_language(SOURCE)


def test_a_model_in_front_of_it_can_go_anywhere(tmp_path: Path) -> None:
    """As it is, since evlgen is there as well; and with a copy of it."""
    vision = EVLGenConfig.from_pretrained(write_model(tmp_path / "tiny")).vision
    language = LanguageConfig(source=SOURCE, **AROUND)
    config = EVLGenConfig(**{**dict(tiny_config()), "language": language, "vision": vision})
    EVLGenForConditionalGeneration.from_config(config).save_pretrained(tmp_path / "model")
    assert EVLGenConfig.from_pretrained(tmp_path / "model").language.source == SOURCE
    save(str(tmp_path / "model"), tmp_path / "whole", with_parts=True)
    copied = EVLGenConfig.from_pretrained(tmp_path / "whole").language.source
    assert copied == str(tmp_path / "whole" / "language")
    assert (Path(copied) / "model.safetensors").read_bytes() == (
        packaged_language(SOURCE) / "model.safetensors"
    ).read_bytes()
    features = torch.randn(1, config.temporal.frames, config.vision.tokens, config.vision.width)
    captions = [
        EVLGenForConditionalGeneration.from_pretrained(tmp_path / name, captions_only=True).generate(features=features)
        for name in ("model", "whole")
    ]
    assert captions[0].texts == captions[1].texts

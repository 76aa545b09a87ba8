"""Round trips bit for bit, what is kept aside, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from evlgen.conversion import Assumed, convert, to_authors
from evlgen.conversion.tensor_names import TABLE, to_ours, to_theirs
from evlgen.errors import UsageError, WeightsError
from evlgen.modeling import EVLGenConfig, EVLGenForConditionalGeneration
from tests.conversion import authors as mini
from tests.conversion.conftest import ASSUMED, mini_tower, save
from tests.modeling.conftest import tiny_config, tiny_model


def with_language(tensors: dict[str, Tensor], family: str) -> dict[str, Tensor]:
    return tensors | {f"{family}_model.{n}": t for n, t in mini.language_model(family).state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert sorted(one) == sorted(other)
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("family", ["opt", "llm"])
@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("language", [False, True])
def test_there_and_back_is_the_identity(
    converted: Callable[..., Path], tmp_path: Path, family: str, video: bool, language: bool, suffix: str
) -> None:
    given = mini.tensors(family=family, video=video, pooler=True)
    given["VLconnector.embeddings.position_ids"] = torch.arange(mini.POSITIONS)[None]
    half = [n for n in given if n.startswith("visual_encoder.") and "temporal" not in n]
    given |= {n: given[n].half() for n in half}
    if language:
        given = with_language(given, family)
        if suffix == ".safetensors":
            given = {n: t.clone() for n, t in given.items()}  # the format has no shared memory
    folder = converted(given, family, name=f"given{suffix}")
    back = tmp_path / f"back{suffix}"
    restored = to_authors(str(folder), back, frozen=language)
    assert restored.family == family
    got = load_file(back) if suffix == ".safetensors" else torch.load(back, weights_only=True)["model"]
    frozen = set() if language else set(half)
    equal(got, {n: t for n, t in given.items() if n not in frozen})


def test_a_file_without_frozen_parts_comes_back_whole(converted: Callable[..., Path], tmp_path: Path) -> None:
    given = mini.tensors(video=True, tower=False)
    folder = converted(given, "opt", vision=mini_tower("eva.safetensors"))
    to_authors(str(folder), tmp_path / "back.safetensors")
    equal(load_file(tmp_path / "back.safetensors"), given)


def test_what_stands_in_the_folder(converted: Callable[..., Path]) -> None:
    folder = converted(with_language(mini.tensors(pooler=True), "opt"), "opt")
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json", "language", "model.safetensors", "unused.safetensors", "vision.safetensors",
    ]  # fmt: skip
    model = EVLGenForConditionalGeneration.from_pretrained(folder)
    prompts = {"prompt_before", "prompt_after"}
    assert set(load_file(folder / "model.safetensors")) == set(model.trainable_names()) - prompts
    unused = load_file(folder / "unused.safetensors")
    assert {n: tuple(t.shape) for n, t in unused.items()} == {
        "VLconnector.embeddings.position_embeddings.weight": (mini.POSITIONS - mini.TOKENS, mini.INNER),
        "VLconnector.pooler.dense.bias": (mini.INNER,),
        "VLconnector.pooler.dense.weight": (mini.INNER, mini.INNER),
    }
    config = EVLGenConfig.from_pretrained(folder)
    assert (config.connector.layers, config.connector.r, config.vision.image_size) == (3, 2, 12)
    assert config.vision.source.startswith(f"{folder}/vision.safetensors#sha256=")
    assert config.language.source == f"{folder}/language"
    written = json.loads((folder / "config.json").read_text())
    assert written["vision"]["source"].startswith("vision.safetensors#sha256=")
    assert written["language"]["source"] == "language"
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(model.language.model(ids).logits, mini.language_model("opt")(ids).logits)


def test_a_converted_folder_can_be_moved(
    converted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = with_language(mini.tensors(video=True), "opt")
    moved = converted(given, "opt").rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    model = EVLGenForConditionalGeneration.from_pretrained(moved)
    assert model.config.language.source == f"{moved}/language"
    to_authors(str(moved), tmp_path / "back.pth", frozen=True)
    equal(torch.load(tmp_path / "back.pth", weights_only=True)["model"], given)
    model.save_pretrained(moved)  # and saved there again it is not tied to the place either
    again = moved.rename(tmp_path / "again")
    assert "moved" not in (again / "config.json").read_text()
    EVLGenForConditionalGeneration.from_pretrained(again)
    elsewhere = model.config.model_copy()
    elsewhere.save_pretrained(tmp_path / "elsewhere")  # parts that are not in the folder keep their whole path
    assert f"{tmp_path}/moved/language" in (tmp_path / "elsewhere" / "config.json").read_text()


def test_another_tower_in_its_place_is_refused(converted: Callable[..., Path], tmp_path: Path) -> None:
    folder = converted(mini.tensors(), "opt")
    (folder / "vision.safetensors").rename(tmp_path / "vision.safetensors")
    config = json.loads((folder / "config.json").read_text())
    digest = config["vision"]["source"].partition("#")[2]
    config["vision"]["source"] = f"{tmp_path}/vision.safetensors#{digest}"  # of the same hash it is the same
    (folder / "config.json").write_text(json.dumps(config))
    EVLGenForConditionalGeneration.from_pretrained(folder)
    config["vision"]["source"] = f"{tmp_path}/vision.safetensors"  # without a hash nobody knows
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="trained against another vision"):
        EVLGenForConditionalGeneration.from_pretrained(folder)


def test_leftovers_of_a_frozen_language_model_are_kept_aside(converted: Callable[..., Path]) -> None:
    """Saving all but frozen parameters leaves buffers in, and a tied head, which is not listed as a parameter."""
    given = mini.tensors()
    given["opt_model.lm_head.weight"] = torch.randn(256, 32)
    folder = converted(given, "opt")
    assert not (folder / "language").exists()
    assert "opt_model.lm_head.weight" in load_file(folder / "unused.safetensors")
    given = mini.tensors(family="llm", seed=3)
    given["llm_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    assert not (converted(given, "llm", name="llama.pth") / "language").exists()


def test_a_vocabulary_with_a_row_for_padding(converted: Callable[..., Path]) -> None:
    given = with_language(mini.tensors(family="llm"), "llm")
    for name in ("llm_model.model.embed_tokens.weight", "llm_model.lm_head.weight"):
        given[name] = torch.cat([given[name], torch.zeros(1, 32)])
    model = EVLGenForConditionalGeneration.from_pretrained(converted(given, "llm"))
    assert model.language.head_weight.shape == (257, 32)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1)])
def test_a_gate_of_any_shape_comes_back_in_it(
    converted: Callable[..., Path], tmp_path: Path, shape: tuple[int, ...]
) -> None:
    given = mini.tensors(video=True)
    for name in [n for n in given if n.endswith("alpha")]:
        given[name] = given[name].reshape(shape)
    folder = converted(given, "opt")
    trained = load_file(folder / "model.safetensors")
    assert trained["vision.trunk.blocks.1.temporal.alpha"].shape == (1,)
    to_authors(str(folder), tmp_path / "back.pth", frozen=False)
    back = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    equal(back, {name: given[name] for name in back})
    EVLGenForConditionalGeneration.from_pretrained(folder).save_pretrained(folder)  # a model that was trained further
    to_authors(str(folder), tmp_path / "trained.safetensors")
    assert load_file(tmp_path / "trained.safetensors")["visual_encoder.blocks.1.temporal_merge.alpha"].shape == ()


def changed(**how: Any) -> dict[str, Tensor]:
    tensors = mini.tensors(video=True)
    for name in how.get("without", ()):
        del tensors[name]
    return tensors | how.get("extra", {})


@pytest.mark.parametrize(("tensors", "message"), [
    (
        changed(
            without=["ln_vision.bias", "visual_encoder.blocks.1.attn.q_bias",
                     "visual_encoder.blocks.0.temporal_merge.alpha", "opt_proj.bias"],
            extra={"temp": torch.ones(1), "VLconnector.encoder.layer.0.crossattention.x": torch.ones(1),
                   "VL_proj.weight": torch.ones(24, 31)},
        ),
        r"bad.pth: it does not fit EVLGen as its authors write it: 4 missing \(ln_vision.bias, opt_proj.bias, "
        r"visual_encoder.blocks.0.temporal_merge.alpha, ...\); 2 unexpected \("
        r"VLconnector.encoder.layer.0.crossattention.x, temp\); 1 of another shape \(VL_proj.weight \(24, 31\) not "
        r"\(24, 32\)\) \(what belongs to no part of the model can be kept aside with --unused PREFIX\)",
    ),
    (changed(extra={"llm_proj.bias": torch.ones(3)}), "it holds both opt_ and llm_ tensors"),
    ({"Qformer.x": torch.ones(1)}, r"holds neither opt_proj nor llm_proj; 1 unexpected \(Qformer.x\)"),
    (changed(without=["VL_proj.weight"]), "no tensor VL_proj.weight of 2 dimensions"),
    (with_language(mini.tensors(), "opt") | {"opt_model.model.decoder.embed_positions.weight": torch.ones(3, 32)},
     r"opt_model of the file does not fit language model .*opt-source: 1 of another shape \(model.decoder.embed_pos"),
], ids=["names", "families", "no-family", "no-size", "language"])  # fmt: skip
def test_what_does_not_fit_is_named(
    converted: Callable[..., Path], tmp_path: Path, tensors: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        converted(tensors, "opt", name="bad.pth")
    assert not (tmp_path / "bad-converted").exists()


def test_what_has_to_be_said(converted: Callable[..., Path], tmp_path: Path) -> None:
    bare = save(mini.tensors(tower=False), tmp_path / "bare.pth")
    with pytest.raises(UsageError, match=r"bare.pth: the file holds no vision tower \(name .* with --vision\)"):
        convert(bare, tmp_path / "out")
    whole = save(mini.tensors(family="llm"), tmp_path / "whole.pth")
    with pytest.raises(UsageError, match=r"which language model it is \(width 32\) does not stand in the file"):
        convert(whole, tmp_path / "out", Assumed(**ASSUMED))
    with pytest.raises(UsageError, match="the file holds a vision tower"):
        convert(whole, tmp_path / "out", Assumed(**ASSUMED, vision=mini_tower("x"), language="x"))
    with pytest.raises(UsageError, match=r"connector.width 24 is not divisible by connector.heads 5"):
        converted(mini.tensors(), "opt", heads=5)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(UsageError, match="full is there and is not an empty folder"):
        convert(whole, tmp_path / "full")


def test_further_tensors_can_be_kept_aside(converted: Callable[..., Path], tmp_path: Path) -> None:
    file = save(mini.tensors() | {"temp": torch.ones(1)}, tmp_path / "contrastive.pth")
    converted(mini.tensors(), "opt")
    assumed = Assumed(**ASSUMED, language=str(tmp_path / "opt-source"))
    convert(file, tmp_path / "out", assumed, unused=("temp",))
    assert "temp" in load_file(tmp_path / "out" / "unused.safetensors")


def test_a_link_is_followed(converted: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "back.pth").symlink_to(tmp_path / "disk" / "real.pth")
    to_authors(str(converted(mini.tensors(), "opt")), tmp_path / "back.pth")
    assert (tmp_path / "back.pth").is_symlink()
    assert "model" in torch.load(tmp_path / "disk" / "real.pth", weights_only=True)


def test_what_the_authors_layout_cannot_hold(tmp_path: Path) -> None:
    tiny_model(tiny_config(norm="pre")).save_pretrained(tmp_path / "pre")
    with pytest.raises(UsageError, match=r"the connector of .*/pre is pre-norm, the authors' is not"):
        to_authors(str(tmp_path / "pre"), tmp_path / "x.pth")
    config = tiny_config()
    language = config.language.model_copy(update={"learned_prompt": True})
    tiny_model(config.model_copy(update={"language": language})).save_pretrained(tmp_path / "learned")
    with pytest.raises(UsageError, match=r"no place for 2 tensors of .*/learned: prompt_after, prompt_before"):
        to_authors(str(tmp_path / "learned"), tmp_path / "x.pth")
    tiny_model().save_pretrained(tmp_path / "plain")
    with pytest.raises(UsageError, match=r"the vision tower is not in a file with timm's names"):
        to_authors(str(tmp_path / "plain"), tmp_path / "x.pth", frozen=True)
    assert not (tmp_path / "x.pth").exists()


def test_every_row_of_the_table_reads_both_ways() -> None:
    for row, (theirs, part, ours) in enumerate(TABLE):
        for family in ("opt", "llm"):
            name = theirs.format(n=17, family=family) + ("" if theirs.endswith("ids") else "x.weight")
            found = to_ours(name)
            assert found is not None
            assert found[0] == part, row
            assert found[1].startswith(ours.format(n=17))
            assert to_theirs(part, found[1], family) == name
    assert to_ours("Qformer.bert.x") is None
    assert to_theirs("trained", "prompt_after", "opt") is None

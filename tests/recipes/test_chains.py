"""Chain recipes: every mistake of steps, references and step recipes at once, with the nearest name."""

from pathlib import Path
from typing import Any

import pydantic
import pytest
import yaml

from evlgen.errors import UsageError
from evlgen.recipes import Chain, is_chain, load_any, load_chain, load_recipe
from evlgen.recipes.chain_schema import ChainRecipe

EVAL = {"kind": "eval", "dataset": "d", "split": "test"}
GOOD: list[dict[str, Any]] = [
    {"name": "data", "kind": "check", "recipe": "mini-pretrain"},
    {"name": "base", "kind": "train", "recipe": "mini-pretrain", "set": {"train.steps": 77}},
    {"name": "video", "kind": "train", "recipe": "mini-msrvtt-video", "start_from": "base"},
    {"name": "score-base", "model": "base", **EVAL},
    {"name": "score", "model": "video", **EVAL},
    {"name": "gain", "kind": "compare", "a": "score-base", "b": "score"},
    {"name": "words", "kind": "caption", "model": "evlgen-mini", "videos": ["v"]},
]


def write(folder: Path, *changes: dict[str, Any], steps: list[dict[str, Any]] = GOOD, **header: Any) -> str:
    """A chain file: GOOD with some steps changed (a key that is None is dropped), found by the name they have."""
    changed = {c["was"] if "was" in c else c["name"]: c for c in changes}
    out = []
    for step in steps:
        merged = {**step, **{k: v for k, v in changed.get(step["name"], {}).items() if k != "was"}}
        out.append({k: v for k, v in merged.items() if v is not None})
    content = {"name": "mine", "summary": "a test", "chain": out, **header}
    (folder / "mine.yaml").write_text(yaml.safe_dump(content))
    return str(folder / "mine.yaml")


def mistakes(path: str, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_chain(path, overrides)
    return str(caught.value)


def test_a_chain_and_the_recipes_of_its_steps(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert is_chain(path)
    assert not is_chain("mini-pretrain")
    chain = load_any(path)
    assert isinstance(chain, Chain)
    assert [step.name for step in chain.steps] == [step["name"] for step in GOOD]
    assert chain.recipes == {
        "data": load_recipe("mini-pretrain"),
        "base": load_recipe("mini-pretrain", ["train.steps=77"]),
        "video": load_recipe("mini-msrvtt-video"),
    }
    assert load_any("mini-pretrain") == load_recipe("mini-pretrain")


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"name": "data", "recipe": "mini-pretrian"},
        {"name": "base", "recpie": "x", "recipe": None},
        {"name": "video", "start_from": "bass", "set": {"train.stepz": 3}},
        {"name": "score-base", "kind": "evaluate"},
        {"name": "score", "model": "vido", "metrics": ["cidre"]},
        {"name": "gain", "bootstrap": 3},
        {"name": "words", "model": "evlgen-mimi"},
        sumary="x",
    )
    assert mistakes(path).split("; ") == [
        "mine.yaml: unknown key sumary (did you mean 'summary'?)",
        "base.recipe is missing",
        "unknown key base.recpie (did you mean 'recipe'?)",
        "score-base: unknown kind 'evaluate' (did you mean 'eval'?)",
        "there is: check, prepare, train, eval, caption, compare",
        "score.metrics.0: Input should be 'cider', 'bleu', 'rouge-l', 'meteor' or 'spice'",
        "gain.bootstrap: Input should be greater than or equal to 40",
        "video.start_from: there is no step bass",
        "data: no recipe 'mini-pretrian' (did you mean 'mini-pretrain'?)",
        "video: mini-msrvtt-video.yaml: unknown key train.stepz (did you mean 'steps'?)",
        "words.model: there is neither a step nor a model evlgen-mimi (did you mean 'evlgen-mini'?)",
    ]  # "base" is not offered for "bass": it is not valid itself


def test_references_are_to_earlier_steps_of_the_right_kind(tmp_path: Path) -> None:
    for change, said in (
        (
            {"name": "base", "start_from": "video"},
            "base.start_from: video is a later step; steps refer to earlier ones",
        ),
        ({"name": "base", "start_from": "base"}, "base.start_from: base is this step itself; steps refer to earlier"),
        ({"name": "video", "start_from": "data"}, "video.start_from: data is a check step, expected a train step"),
        ({"name": "video", "start_from": "bas"}, "video.start_from: there is no step bas (did you mean 'base'?)"),
        ({"name": "score", "model": "words"}, "score.model: words is a later step; steps refer to earlier ones"),
        ({"name": "score", "model": "data"}, "score.model: data is a check step, expected a train step"),
        ({"name": "gain", "a": "base"}, "gain.a: base is a train step, expected an eval step"),
        ({"name": "gain", "b": "skore"}, "gain.b: there is no step skore (did you mean 'score'?)"),
        ({"name": "score", "split": "val"}, "gain: score-base and score are of different data sets or splits"),
        ({"name": "video", "was": "base"}, "two steps are called video"),
        ({"name": "words", "videos": ["-"]}, "words: videos: a chain cannot read a list from standard input"),
        (
            {"name": "video", "set": {"train.start_from": "evlgen-mini"}},
            "video: start_from and set train.start_from exclude each other",
        ),
        ({"name": "Base", "was": "base"}, "Base.name: String should match pattern"),
    ):
        assert said in mistakes(write(tmp_path, change)), change


def test_the_schema_alone_refuses_wrong_references() -> None:
    with pytest.raises(pydantic.ValidationError, match=r"base.start_from: video is a later step"):
        ChainRecipe.model_validate(
            {"name": "x", "summary": "x", "chain": [GOOD[0], {**GOOD[1], "start_from": "video"}, GOOD[2]]}
        )


@pytest.mark.parametrize("chain", [None, [], "data", ["data"], [1]])
def test_a_chain_is_a_list_of_steps(tmp_path: Path, chain: Any) -> None:
    assert "chain: expected a list of steps" in mistakes(write(tmp_path, chain=chain))


def test_overrides_reach_steps_and_their_recipes(tmp_path: Path) -> None:
    path = write(tmp_path)
    overrides = ["base.train.steps=50", "video.set.train.seed=3", "score.num_beams=1", "video.recipe=mini-pretrain"]
    chain = load_chain(path, overrides)
    assert (chain.recipes["base"].train.steps, chain.recipes["video"].train.seed) == (50, 3)
    assert chain.recipes["video"].name == "mini-pretrain"
    assert next(s for s in chain.steps if s.name == "score").model_dump()["num_beams"] == 1
    for override, said in (
        ("train.steps=5", "--set train.steps: there is no step train (steps: data, base, video, score-base, score"),
        ("vide.train.steps=5", "there is no step vide (did you mean 'video'?)"),
        ("video=5", "is not of the form STEP.key=value (this recipe is a chain of steps)"),
        ("video.trian.steps=5", "--set video.trian.steps: a train step has no key trian (did you mean 'train'?)"),
        ("score.beams=5", "--set score.beams: an eval step has no key beams"),
        ("base.train.stepz=5", "base: mini-pretrain.yaml: unknown key train.stepz (did you mean 'steps'?)"),
    ):
        assert said in mistakes(path, override), override


def test_a_section_that_is_set_is_merged(tmp_path: Path) -> None:
    chain = load_chain(write(tmp_path, {"name": "base", "set": {"train": {"seed": 4}, "model.connector.r": [1] * 6}}))
    recipe = load_recipe("mini-pretrain")
    assert chain.recipes["base"].train == recipe.train.model_copy(update={"seed": 4})
    assert chain.recipes["base"].model.connector.r == [1] * 6


def test_recipes_beside_the_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.yaml").write_text("extends: mini-pretrain\nname: own\n")
    monkeypatch.chdir("/")
    assert load_chain(write(tmp_path, {"name": "base", "recipe": "own.yaml"})).recipes["base"].name == "own"
    (tmp_path / "longer.yaml").write_text("extends: mine.yaml\nname: longer\n")
    assert [s.name for s in load_chain(str(tmp_path / "longer.yaml")).steps] == [step["name"] for step in GOOD]


def test_a_chain_is_not_one_training_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mine.yaml is a chain of steps, not one training run \(evlgen train runs"):
        load_recipe(write(tmp_path))
    assert "base: mini-msrvtt.yaml is a chain of steps" in mistakes(
        write(tmp_path, {"name": "base", "recipe": "mini-msrvtt"})
    )

"""Every recipe that ships is valid; every mistake in one is named, with the nearest name."""

import re
from pathlib import Path

import pytest

from evlgen.errors import UsageError
from evlgen.recipes import expand_path, find_recipe, is_table, load_any, load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_valid_and_carry_a_manual(name: str) -> None:
    assert load_any(name).name == name
    own = header(name)
    assert f"evlgen {'eval' if is_table(name) else 'train'} --recipe {name}" in own
    read = own
    while base := re.search(r"^extends: (\S+)", own, re.MULTILINE):  # what a recipe extends may say the rest
        own = header(base[1])
        read += own
    for word in ("Needs", "Time", "Memory"):
        assert word in read, f"the header of {name} says nothing about {word}"


def header(name: str) -> str:
    return find_recipe(name).read_text().split("\nname:")[0]


def test_overrides_are_yaml_and_reach_lists() -> None:
    recipe = load_recipe("mini-pretrain", ["train.steps=77", "data.train.0.views=1", "model.connector.r=[1,2,3,4,5,6]"])
    assert recipe.train.steps == 77
    assert recipe.data.train[0].views == 1
    assert recipe.model.connector.schedule() == [1, 2, 3, 4, 5, 6]


def test_all_mistakes_at_once_with_the_nearest_name() -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe("mini-pretrain", ["train.stepz=3", "data.items_per_step=many", "model.connector.heads=7"])
    message = str(caught.value)
    assert "unknown key train.stepz (did you mean 'steps'?)" in message
    assert "data.items_per_step" in message
    assert "connector.width 384 is not divisible by connector.heads 7" in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.items_per_step=10000000", "data.items_per_step: Input should be less than or equal to 100000"),
        ("data.captions_per_item=1000000000", "data.captions_per_item: Input should be less than or equal to 10000"),
        ("data.max_frames=99999999", "data.max_frames: Input should be less than or equal to 10000"),
        ("data.train.0.views=99999999", "data.train.0.views: Input should be less than or equal to 10000"),
        ("data.shard_cache_gb=.inf", "data.shard_cache_gb: Input should be a finite number"),
        ("optimizer.learning_rate=.nan", "optimizer.learning_rate: Input should be a finite number"),
        ("model.vision.std=[.inf, 0.5, 0.5]", "model.vision.std.0: Input should be a finite number"),
        ("train.accumulation_steps=10000000", "train.accumulation_steps: Input should be less than or equal to 100000"),
        ("validation.num_beams=1000000", "validation.num_beams: Input should be less than or equal to 1000"),
        (f"train.steps={10**30}", "train.steps: Input should be less than or equal to 1000000000"),
    ],
)
def test_sizes_that_no_run_has_are_refused_before_it_starts(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        load_recipe("mini-pretrain", [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", "not of the form a.b=value"),
        ("train.steps=[1", r"--set train.steps: '\[1' is not YAML: "),
        ("train.steps=" + "[" * 100_000, r"--set train.steps: '\[+' is nested too deeply"),
        ("train.seed=-1", "train.seed"),
        ("name.x=1", "'x' is not a key there"),
        ("name.x.y=1", "'x' is not a section"),
        ("data.train.9.views=1", "'9' is not a section"),
    ],
)
def test_bad_overrides(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe("mini-pretrain", [override])


def test_unknown_recipes_and_bad_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'mini-pretrain'"):
        load_recipe("mini-pretrian")
    with pytest.raises(UsageError, match="does not exist"):
        load_recipe(str(tmp_path / "none.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(UsageError, match="is not YAML"):
        load_recipe(str(tmp_path / "bad.yaml"))
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(UsageError, match="is not a recipe"):
        load_recipe(str(tmp_path / "list.yaml"))


def test_code_in_yaml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evil.yaml").write_text("name: !!python/object/apply:os.system ['true']")
    with pytest.raises(UsageError, match="is not YAML"):
        load_recipe(str(tmp_path / "evil.yaml"))


def test_unset_variables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVLGEN_DATA", raising=False)
    with pytest.raises(UsageError, match="EVLGEN_DATA is not set"):
        expand_path("${EVLGEN_DATA}/x")
    monkeypatch.setenv("EVLGEN_DATA", "/data")
    assert expand_path("${EVLGEN_DATA}/x") == Path("/data/x")


def test_a_recipe_may_extend_another(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "extends: mini-pretrain\nname: mine\ntrain: {steps: 99}\nvocabulary: {steps: 0}\n"
        "data: {train: [{captions: a.jsonl, media: b}]}\n"
    )
    (tmp_path / "again.yaml").write_text("extends: mine.yaml\nname: again\noptimizer: {learning_rate: 1.0e-3}\n")
    base, recipe = load_recipe("mini-pretrain"), load_recipe(str(tmp_path / "again.yaml"), ["train.seed=5"])
    assert (recipe.name, recipe.train.steps, recipe.train.seed, recipe.vocabulary.steps) == ("again", 99, 5, 0)
    assert recipe.optimizer.learning_rate == 1e-3
    assert [source.captions for source in recipe.data.train] == ["a.jsonl"]  # lists are replaced, not mixed
    assert recipe.model == base.model
    assert recipe.data.validation == base.data.validation
    assert recipe.vocabulary.weight == base.vocabulary.weight


def test_extending_what_is_not_there_or_oneself(tmp_path: Path) -> None:
    path = tmp_path / "loop.yaml"
    for text, said in (
        ("extends: loop.yaml\n", "leads back to itself"),
        ("extends: mini-pretrian\n", "did you mean 'mini-pretrain'"),
        ("extends: [a]\n", "is not the name or the file of a recipe"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=said):
            load_recipe(str(path))

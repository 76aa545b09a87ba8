"""`model.connector.kind`: laid over another kind it stands alone, and mistakes name keys as users write them."""

import json
import re
from pathlib import Path

import pytest

from evlgen.configuration import EVLGenConfig
from evlgen.connector_config import LinearConfig, MlpConfig, PerceiverConfig, TomeFormerConfig
from evlgen.errors import UsageError, WeightsError
from evlgen.recipes import load_recipe
from evlgen.recipes.loading import override_recipe
from tests.modeling.conftest import tiny_config


def test_another_kind_takes_the_place_of_the_whole_section(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: mini-pretrain\nname: a\nmodel: {connector: {kind: mlp, width: 64}}\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\nname: b\nmodel: {connector: {pool_to: 9}}\n")
    (tmp_path / "c.yaml").write_text("extends: a.yaml\nname: c\nmodel: {connector: {kind: mlp, pool_to: 9}}\n")
    assert load_recipe(str(tmp_path / "a.yaml")).model.connector == MlpConfig(width=64)
    for name in "bc":
        assert load_recipe(str(tmp_path / f"{name}.yaml")).model.connector == MlpConfig(width=64, pool_to=9)


def test_kind_is_set_first_whatever_the_order() -> None:
    for order in (1, -1):
        overrides = ["model.connector.queries=5", "model.connector.kind=perceiver"][::order]
        recipe = load_recipe("mini-pretrain", overrides)
        assert recipe.model.connector == PerceiverConfig(queries=5)
        assert override_recipe(load_recipe("mini-pretrain"), overrides) == recipe
    same = load_recipe("mini-pretrain", ["model.connector.r=3", "model.connector.kind=tomeformer"]).model.connector
    assert isinstance(same, TomeFormerConfig)
    assert (same.r, same.width) == (3, 384)
    whole = load_recipe("mini-pretrain", ["model.connector={kind: linear, pool_to: 3}"])
    assert whole.model.connector == LinearConfig(pool_to=3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["kind=conv"], "model.connector: expected a section whose kind is one of tomeformer, qformer, perceiver"),
        (["kind=qformer", "querys=3"], "unknown key model.connector.querys (did you mean 'queries'?)"),
        (["kind=mlp", "r=3"], "unknown key model.connector.r (there is pool_to, kind, width)"),
        (["rr=3"], "unknown key model.connector.rr (did you mean 'r'?)"),
        (["kind=perceiver", "heads=7"], "model.connector: connector.width 768 is not divisible by connector.heads 7"),
        (["kind=linear", "pool_to=0"], "model.connector.pool_to: Input should be greater than 0"),
        (["kind=linear", "pool_to=82"], "model: connector.pool_to 82 is more than the 81 visual tokens"),
    ],
)
def test_mistakes_name_keys_as_they_are_written(overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        load_recipe("mini-pretrain", [f"model.connector.{one}" for one in overrides])


def test_so_do_those_of_a_saved_model(tmp_path: Path) -> None:
    content = json.loads(tiny_config().model_dump_json())
    content["connector"]["heads"] = 0
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=r"config.json: connector.heads: Input should be greater than 0"):
        EVLGenConfig.from_pretrained(tmp_path)

"""The reference of recipe keys: made from the schema, whole, and true for every recipe that comes with evlgen."""

from pathlib import Path

import pytest
import yaml

from evlgen.recipes import find_recipe, load_recipe, recipe_names
from evlgen.recipes.reference import json_schema, markdown, rows

PAGE = Path(__file__).parents[2] / "docs" / "recipe-keys.md"


def test_the_page_is_what_the_schema_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), "evlgen recipes keys > docs/recipe-keys.md"


def test_every_key_has_a_meaning() -> None:
    assert [key for key, _, _, meaning in rows() if not meaning] == []


def test_every_key_of_a_recipe_is_listed() -> None:
    known = {row[0] for row in rows()}

    def walk(value: object, place: str) -> None:
        if isinstance(value, dict) and place not in ("model.vision.arguments", "model.language.architecture"):
            for key, inner in value.items():
                walk(inner, f"{place}.{key}" if place else key)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for inner in value:
                walk(inner, f"{place}.N")
        else:
            assert place in known

    walk(load_recipe("pretrain-opt2.7b").model_dump(mode="json"), "")


def test_the_schema_for_editors_takes_every_recipe_and_no_mistake() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(json_schema())
    for name in recipe_names():
        content = yaml.safe_load(find_recipe(name).read_text())
        assert [error.message for error in check.iter_errors(content)] == [], name
    wrong = yaml.safe_load(find_recipe("mini-pretrain").read_text())
    wrong["train"]["stps"] = 3
    assert not check.is_valid(wrong)
    assert not check.is_valid({"extends": "mini-pretrain", "optimizer": {"learning_rate": -1}})
    assert not check.is_valid({"name": "a", "summary": "b", "chain": [{"name": "x", "kind": "dance"}]})
    assert not check.is_valid({"extends": "mini-pretrain", "model": {"vision": "no-such-tower"}})

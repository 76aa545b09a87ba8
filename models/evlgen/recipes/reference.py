"""What a recipe may say, from the schema itself: a page for people (docs/recipe-keys.md), a JSON schema for editors."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from evlgen.configuration import EVLGenConfig, VisionConfig
from evlgen.connector_config import KINDS as CONNECTORS
from evlgen.recipes.chain_schema import KINDS, ChainRecipe, Step
from evlgen.recipes.model_tables import TableRecipe
from evlgen.recipes.schema import Recipe
from evlgen.towers import TOWERS

RowOfKey = tuple[str, str, str, str]
"""Key, type, default, meaning."""

_HEAD = """\
# Recipe keys

Made from the schema by `evlgen recipes keys > docs/recipe-keys.md`; not to be edited by hand. `evlgen recipes schema`
is the same as a JSON schema, for editors. Units stand in the meaning; steps are optimizer steps. A recipe may also say
`extends: NAME`: then only what differs from that recipe is needed. `evlgen train --set KEY=VALUE` changes one key.

## A training run

"""
_CHAIN = """
## Steps of a chain

A chain has `name`, `summary` and `chain`, a list of steps. `--set STEP.KEY=VALUE` changes a key of a step, or of its
recipe.

"""

_TABLE_OF_MODELS = """
## A table of models

`evlgen eval --recipe NAME` captions with each of `models` and scores them beside each other.

"""


def rows() -> list[RowOfKey]:
    """Every key of a training recipe, sections first."""
    return list(_rows(Recipe, ""))


def _rows(model: type[BaseModel], place: str) -> Iterator[RowOfKey]:
    for name, field in model.model_fields.items():
        key, inner = f"{place}{name}", _section(field.annotation)
        if inner in CONNECTORS.values():
            yield key, "section", "", "What stands between the towers, of one kind; keys are those of the kind"
            for kind, section in CONNECTORS.items():
                found = sorted(_rows(section, f"{key}."), key=lambda row: not row[0].endswith(".kind"))
                yield from ((*row[:3], f"{kind}: {row[3]}") for row in found)
            continue
        if inner is None:
            yield key, _type(field.annotation, field), _default(field), _meaning(field)
            continue
        many = "list of " if get_origin(field.annotation) is list else ""
        optional = type(None) in get_args(field.annotation)
        default = "null" if optional else "required" if field.is_required() and many else ""
        yield key, f"{many}section", default, _meaning(field) or _first(inner.__doc__)
        yield from _rows(inner, f"{key}.N." if many else f"{key}.")


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a type holds, if any."""
    parts = [getattr(one, "__origin__", one) for one in (annotation, *get_args(annotation))]
    return next((part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)), None)


def _type(annotation: Any, field: FieldInfo | None = None) -> str:
    annotation = getattr(annotation, "__origin__", annotation) if hasattr(annotation, "__metadata__") else annotation
    origin = get_origin(annotation)
    if origin is Literal:
        text = " or ".join(str(one) for one in get_args(annotation))
    elif origin in (Union, types.UnionType):
        text = " or ".join("null" if one is type(None) else _type(one) for one in get_args(annotation))
    elif origin is list:
        text = f"list of {_type(get_args(annotation)[0])}"
    elif origin is tuple:
        text = f"[{', '.join(_type(one) for one in get_args(annotation))}]"
    else:
        text = {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}.get(
            getattr(annotation, "__name__", ""), "mapping"
        )
    return text + (_bounds(field) if field is not None else "")


def _bounds(field: FieldInfo) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    found = [
        f"{sign} {getattr(one, name)}"
        for one in field.metadata
        for name, sign in signs.items()
        if getattr(one, name, None) is not None
    ]
    return f", {' and '.join(found)}" if found else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None:
        return "null"
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value) or '""'


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def _first(doc: str | None) -> str:
    return (doc or "").partition("\n")[0].rstrip(".")


def markdown() -> str:
    """The whole reference page."""
    parts = [_HEAD, _table(rows()), _CHAIN]
    shared = list(_rows(Step, ""))
    parts.append(_table(shared))
    for kind, model in KINDS.items():
        own = [row for row in _rows(model, "") if row[0] not in ("kind", *(name for name, *_ in shared))]
        parts += [f"\n### kind: {kind}\n\n{_first(model.__doc__)}.\n\n", _table(own)]
    return "".join([*parts, _TABLE_OF_MODELS, _table(list(_rows(TableRecipe, "")))])


def _table(found: list[RowOfKey]) -> str:
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for key, kind, default, meaning in found:
        cells = [f"`{key}`", kind, f"`{default}`" if default not in ("", "required") else default, meaning]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def json_schema() -> dict[str, Any]:
    """A JSON schema (draft 2020-12) of recipe files: training runs, chains, tables, and files that extend another."""
    run, chain, models = (one.model_json_schema() for one in (Recipe, ChainRecipe, TableRecipe))
    definitions = {**run.pop("$defs"), **chain.pop("$defs"), **models.pop("$defs")}
    tower = definitions[VisionConfig.__name__]
    properties = {"tower": {"enum": sorted(TOWERS), "description": "a tower by its name"}, **tower["properties"]}
    definitions[VisionConfig.__name__] = {
        "description": tower.get("description", ""),
        "anyOf": [
            {"enum": sorted(TOWERS)},
            {"type": "object", "properties": properties, "additionalProperties": False},
        ],
    }
    connector = definitions[EVLGenConfig.__name__]["properties"]["connector"]
    connector["anyOf"] = connector.pop("oneOf")  # without `kind`, which may come from below, a section fits several
    for one in (*definitions.values(), run, chain, models):
        one.pop("required", None)  # what a file leaves out may come from what it extends
    extends = {"type": "string", "description": "the recipe, or the file, that this one lays its keys over"}
    for one in (run, chain, models):
        one["properties"]["extends"] = extends
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "evlgen recipe",
        "$defs": {
            **definitions,
            "run": run,
            "chain": {**chain, "required": ["chain"]},
            "table": {**models, "required": ["models"]},
        },
        "if": {"required": ["chain"]},
        "then": {"$ref": "#/$defs/chain"},
        "else": {"if": {"required": ["models"]}, "then": {"$ref": "#/$defs/table"}, "else": {"$ref": "#/$defs/run"}},
    }

"""Finding, overriding and validating recipes: all mistakes at once, each with the nearest name that exists."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pydantic

from evlgen.connector_config import KINDS, of_another_kind, place_of
from evlgen.errors import UsageError
from evlgen.recipes.renamed_keys import new_key, use_new_keys
from evlgen.recipes.schema import KEPT, Recipe
from evlgen.recipes.yamls import parse_yaml, read_text

_SHOWN_CHARACTERS = 100

CHAIN = "chain"
"""The key that makes a recipe a chain (`evlgen.recipes.chains`)."""

TABLE = "models"
"""The key that makes a recipe a table of models (`evlgen.recipes.model_tables`)."""


def recipe_folder() -> Path:
    """The folder of the recipes that come with evlgen: inside the wheel, or the checkout's recipes/.

    Raises:
        UsageError: neither exists.
    """
    installed = Path(str(resources.files("evlgen"))) / "_recipes"
    checkout = Path(str(resources.files("evlgen"))).parent.parent / "recipes"
    for folder in (installed, checkout):
        if folder.is_dir() and any(folder.glob("*.yaml")):
            return folder
    raise UsageError(f"no recipes: neither {installed} nor {checkout} holds any", "reinstall evlgen")


def recipe_names() -> list[str]:
    """Names of the recipes that come with evlgen."""
    return sorted(p.stem for p in recipe_folder().glob("*.yaml"))


def find_recipe(name_or_path: str, beside: Path | None = None) -> Path:
    """The file of a recipe given by name or by path.

    Args:
        name_or_path: a name of `recipe_names`, or a YAML file.
        beside: where relative files are looked for first.

    Raises:
        UsageError: there is none; the nearest name is offered.
    """
    if beside is not None and (beside / name_or_path).is_file():
        return beside / name_or_path
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        if path.is_file():
            return path
        raise UsageError(f"recipe file {path} does not exist")
    packaged = recipe_folder() / f"{name_or_path}.yaml"
    if packaged.is_file():
        return packaged
    near = difflib.get_close_matches(name_or_path, recipe_names(), n=1)
    names = ", ".join(recipe_names())
    raise UsageError(f"no recipe {name_or_path!r}", f"did you mean {near[0]!r}?" if near else f"there are: {names}")


def load_recipe(
    name_or_path: str,
    overrides: Sequence[str] = (),
    *,
    settings: Mapping[str, Any] | None = None,
    beside: Path | None = None,
) -> Recipe:
    """Read, override and validate a recipe of one training run.

    Args:
        name_or_path: as for `find_recipe`.
        overrides: "a.b=value", the value in YAML.
        settings: the same as values: {"a.b": value}; sections are merged.
        beside: as for `find_recipe`.

    Raises:
        UsageError: bad YAML, every mistake of the recipe in one message, or a chain of several runs.
    """
    path = find_recipe(name_or_path, beside)
    content = read_content(path)
    if CHAIN in content:
        raise UsageError(
            f"{path.name} is a chain of steps, not one training run",
            "evlgen train runs a chain; here name the recipe of one of its steps (evlgen recipes check lists them)",
        )
    if TABLE in content:
        raise UsageError(
            f"{path.name} is a table of models, not a training run", f"evlgen eval --recipe {name_or_path} makes it"
        )
    _set_keys(content, (settings or {}).items(), "set")
    _set_keys(content, map(parse_override, overrides))
    return _validated(content, path.name)


def override_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """A recipe with some keys changed.

    Args:
        recipe: a valid one.
        overrides: "a.b=value", the value in YAML.

    Raises:
        UsageError: every mistake in one message.
    """
    content = recipe.model_dump(mode="json")
    _set_keys(content, map(parse_override, overrides))
    return _validated(content, recipe.name, kept=True) if overrides else recipe


def _validated(content: dict[str, Any], name: str, *, kept: bool = False) -> Recipe:
    try:
        return Recipe.model_validate(content, context={KEPT: kept})
    except pydantic.ValidationError as error:
        lines = [explain(e, Recipe) for e in error.errors()]
        raise UsageError(f"{name}: {'; '.join(lines)}") from None


def read_content(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A recipe's keys; with `extends: NAME` laid over those of that recipe.

    Lists are replaced as a whole, and so is a connector by one of another kind.
    """
    content = parse_yaml(read_text(path), str(path))
    if not isinstance(content, dict):
        raise UsageError(f"{path} is not a recipe: expected keys such as model, data and train")
    content = use_new_keys(content)
    base = content.pop("extends", None)
    if base is None:
        return content
    if not isinstance(base, str):
        raise UsageError(f"{path}: extends: {base!r} is not the name or the file of a recipe")
    beside = path.parent / base
    found = find_recipe(str(beside) if beside.is_file() else base)
    if found in (path, *seen):
        raise UsageError(f"{path}: extends: {base} leads back to itself")
    return _laid_over(read_content(found, (path, *seen)), content)


def _laid_over(base: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in content.items():
        merged[key] = _over(key, merged.get(key), value)
    return merged


def _over(key: str, below: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if key == "vision" and isinstance(below, str) and not value.keys() & {"tower", "name"}:
        below = {"tower": below}  # some keys of a tower that goes by its name
    if key == "connector" and of_another_kind(below, value):
        return value
    return _laid_over(below, value) if isinstance(below, dict) else value


def parse_override(override: str) -> tuple[str, Any]:
    """ "a.b=value" -> "a.b" and the value, which is YAML.

    Raises:
        UsageError: it is of another form.
    """
    name, equals, value = override.partition("=")
    if not equals or not name:
        raise UsageError(f"--set {override!r} is not of the form a.b=value")
    return name, parse_yaml(value, f"--set {name}: {value[:_SHOWN_CHARACTERS]!r}")


def _set_keys(content: dict[str, Any], pairs: Iterable[tuple[str, Any]], said: str = "--set") -> None:
    """`set_key` of every pair; a connector's kind comes first, since it takes the other kind's keys away."""
    for name, value in sorted(pairs, key=lambda pair: not pair[0].endswith("connector.kind")):
        set_key(content, *new_key(name, value), said)


def set_key(content: dict[str, Any], name: str, value: Any, said: str = "--set") -> None:
    """Give the key "a.b" of a recipe's content another value; numbers are places in lists, sections are merged.

    Args:
        content: changed in place.
        name: the key.
        value: a scalar, a list or a section.
        said: how the user said it, for errors.

    Raises:
        UsageError: there is no such place.
    """
    node: Any = content
    *parents, last = name.split(".")
    for part in parents:
        if isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict):
            if part == "vision" and isinstance(node.get(part), str):  # a tower by name, which keys come on top of
                node[part] = {"tower": node[part]}
            node = node.setdefault(part, {})
        else:
            raise UsageError(f"{said} {name}: {part!r} is not a section")
    if isinstance(node, list) and last.isdigit() and int(last) < len(node):
        node[int(last)] = value
    elif isinstance(node, dict):
        if last == "kind" and parents[-1:] == ["connector"] and of_another_kind(node, {"kind": value}):
            node.clear()
        node[last] = _over(last, node.get(last), value)
    else:
        raise UsageError(f"{said} {name}: {last!r} is not a key there")


def explain(error: Any, schema: Any, place: str = "") -> str:
    """One mistake that pydantic found, in words, with the nearest name.

    Args:
        error: of `ValidationError.errors()`.
        schema: the model that was validated.
        place: what the error's location is below of; may be empty.
    """
    where = ".".join([*([place] if place else []), *place_of(error["loc"])])
    if error["type"] == "extra_forbidden":
        there = _siblings(error["loc"], schema)
        near = difflib.get_close_matches(str(error["loc"][-1]), there, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(there)}"
        return f"unknown key {where}" + (f" ({hint})" if there else "")
    if error["type"] == "missing":
        return f"{where} is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _siblings(location: Sequence[int | str], schema: Any) -> list[str]:
    """The keys that the schema knows at the place of an unknown one."""
    node: Any = schema
    for part in location[:-1]:
        if isinstance(part, int) or node is None:
            continue
        if part in KINDS:
            node = KINDS[part]
            continue
        annotation = node.model_fields[part].annotation if part in node.model_fields else None
        inner = [a for a in (annotation, *getattr(annotation, "__args__", ())) if hasattr(a, "model_fields")]
        node = inner[0] if inner else None
    return list(node.model_fields) if node is not None else []


def expand_variables(text: str) -> str:
    """A text with ${VARIABLES} replaced.

    Raises:
        UsageError: a variable is not set.
    """
    missing = [v for v in re.findall(r"\$\{(\w+)\}", text) if v not in os.environ]
    if missing:
        raise UsageError(
            f"{text}: the environment variable{'s' if len(missing) > 1 else ''} {' and '.join(dict.fromkeys(missing))} "
            f"{'are' if len(missing) > 1 else 'is'} not set",
            "the recipe's header says what it is for",
        )
    return os.path.expandvars(text)


def expand_path(text: str) -> Path:
    """A path with ~ and ${VARIABLES} replaced.

    Raises:
        UsageError: a variable is not set.
    """
    return Path(expand_variables(text)).expanduser()

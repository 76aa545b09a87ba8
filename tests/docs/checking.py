"""Whether an example fits: the real command line parses it, and the real schema of recipes has its keys."""

import difflib
import re
import shlex
from functools import cache
from typing import Any, get_args

import click
import typer
from pydantic import BaseModel

from evlgen.data.datasets import registry
from evlgen.errors import UsageError
from evlgen.recipes import Recipe, load_any, recipe_names
from evlgen.weights.named_models import packaged_models
from evlgen_cli.main import app
from evlgen_cli.options import RENAMED

STAND_INS = ("mini-msrvtt-scst", "pretrain-opt2.7b")
"""What NAME of a recipe may stand for."""


@cache
def root() -> Any:
    """The command line as click has it."""
    return typer.main.get_command(app)


def find(words: list[str]) -> tuple[Any, list[str], list[str]]:
    """The command that words name, its name in words, and the words behind it."""
    command, path = root(), []
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command, path, words = command.commands[words[0]], [*path, words[0]], words[1:]
    return command, path, words


@cache
def options() -> frozenset[str]:
    """Every option of every command, and those that have another name now."""

    def of(command: Any) -> set[str]:
        own = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
        return own.union(*(of(inner) for inner in getattr(command, "commands", {}).values()))

    return frozenset(of(root()) | set(RENAMED))


def is_placeholder(word: str) -> bool:
    """Whether a word stands for what the reader has: NAME, RUN/best, $VARIABLE, and so on."""
    return bool(re.match(r"[A-Z][A-Z_]*($|\W)|.*[$…]|.*-[A-Z]{2,}", word))


def problem(text: str, *, whole: bool) -> str:
    """What is wrong with a command, in a line; empty if nothing is.

    Args:
        text: "evlgen ...".
        whole: nothing that it needs may be missing.
    """
    words = [word for word in shlex.split(text, comments=True)[1:] if word != "…"]
    command, path, rest = find(words)
    if hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        near = difflib.get_close_matches(rest[0], command.commands, n=1)
        return f"no command {' '.join([*path, rest[0]])}" + (f" (did you mean {near[0]}?)" if near else "")
    if hasattr(command, "commands") or rest in (["--help"], []):
        return "" if set(rest) <= options() else f"no option {rest}"
    numbers = ["1" if word == "N" else word for word in rest]
    try:
        with command.make_context(" ".join(path), numbers) as context:
            return _values(path, context.params)
    except click.exceptions.Exit:
        return ""
    except Exception as error:  # typer has a click of its own, whose errors are not those of click
        if not whole and type(error).__name__ in ("MissingParameter", "BadOptionUsage"):
            unknown = {word.partition("=")[0] for word in rest if word.startswith("--")} - options()
            return f"no option {' '.join(unknown)}" if unknown else ""
        return f"{type(error).__name__}: {getattr(error, 'message', error)}"


def _values(path: list[str], values: dict[str, Any]) -> str:
    """Names of recipes, models and data sets, and keys of recipes."""
    recipe = values.get("recipe") or (values.get("name") if path[0] == "recipes" else None)
    given = values.get("overrides") or []
    overrides = [one for one in given if not is_placeholder(one.partition("=")[2])]
    for one in set(given) - set(overrides):
        if wrong := key_problem(one.partition("=")[0]):
            return wrong
    if recipe and (recipe in recipe_names() or is_placeholder(recipe)):
        for name in STAND_INS if is_placeholder(recipe) else [recipe]:
            if wrong := of_recipe(name, overrides):
                return wrong
    elif recipe and not recipe.endswith((".yaml", ".yml")):
        return f"no recipe {recipe}"
    models = values.get("models") or [values.get("model") or values.get("name") if path[0] == "models" else None]
    known = {*packaged_models(), *recipe_names(), "full-size"}
    for model in [*models, values.get("model")]:
        if isinstance(model, str) and "/" not in model and model not in known and not is_placeholder(model):
            return f"no model {model}"
    name = values.get("name") if path == ["data", "check"] else None
    return "" if name is None or is_placeholder(name) or name in registry.SETS else f"no data set {name}"


def of_recipe(name: str, overrides: list[str]) -> str:
    """What is wrong with settings on top of a recipe."""
    try:
        load_any(name, overrides)
    except UsageError as error:
        return str(error)
    return ""


def key_problem(key: str) -> str:
    """Whether "model.vision.source" is a key of recipes; only keys that begin with a section of it are looked at."""
    sections = {n for n, field in Recipe.model_fields.items() if _models(field.annotation)}
    parts = key.split(".")
    if parts[0] not in sections:
        return ""
    nodes: list[Any] = [Recipe]
    for part in parts:
        fields = [node.model_fields[part].annotation for node in nodes if part in node.model_fields]
        if not fields:
            names = sorted({name for node in nodes for name in node.model_fields})
            return f"{key}: no key {part}; there are {', '.join(names)}"
        nodes = [model for annotation in fields for model in _models(annotation)]
        if not nodes:  # a value, or a section whose keys are free
            return ""
    return ""


def _models(annotation: Any) -> list[Any]:
    """The sections that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]

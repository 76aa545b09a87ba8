"""Reading chain recipes: steps, references and the recipes of the steps are checked, and all mistakes said at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from evlgen.errors import UsageError
from evlgen.recipes.chain_schema import (
    KINDS,
    AnyStep,
    ChainRecipe,
    RecipeStep,
    Step,
    article,
    nearest,
    reference_problems,
)
from evlgen.recipes.loading import (
    CHAIN,
    explain,
    find_recipe,
    load_recipe,
    parse_override,
    read_content,
    set_key,
)
from evlgen.recipes.model_tables import TableRecipe, is_table, load_table
from evlgen.recipes.schema import Recipe
from evlgen.weights.named_models import packaged_models

_HEADER = {"name", "summary", CHAIN}


@dataclass(frozen=True)
class Chain:
    """A chain and the recipes of its steps.

    Attributes:
        path: its file.
        recipe: as it was read, overrides included.
        recipes: step name -> the recipe it works on, with what the step sets.
        overrides: those of it, the last of each key.
    """

    path: Path
    recipe: ChainRecipe
    recipes: dict[str, Recipe]
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the chain."""
        return self.recipe.name

    @property
    def summary(self) -> str:
        """One line."""
        return self.recipe.summary

    @property
    def steps(self) -> list[AnyStep]:
        """In their order."""
        return self.recipe.chain


def is_chain(name_or_path: str) -> bool:
    """Whether a recipe is a chain of steps.

    Raises:
        UsageError: there is no such recipe, or it is not YAML.
    """
    return CHAIN in read_content(find_recipe(name_or_path))


def load_any(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe | Chain | TableRecipe:
    """A recipe, whether it is one training run, a chain, or a table of models.

    Raises:
        UsageError: see `load_recipe`, `load_chain` and `load_table`.
    """
    if is_table(name_or_path):
        return load_table(name_or_path, overrides)
    return load_chain(name_or_path, overrides) if is_chain(name_or_path) else load_recipe(name_or_path, overrides)


def load_chain(name_or_path: str, overrides: Sequence[str] = ()) -> Chain:
    """Read, override and validate a chain and the recipe of every step.

    Args:
        name_or_path: as for `find_recipe`.
        overrides: "STEP.key=value" of a step's own key, or of a key of its recipe ("video.train.steps=500").

    Raises:
        UsageError: every mistake in one message.
    """
    path = find_recipe(name_or_path)
    content = read_content(path)
    entries = content.get(CHAIN)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"{path.name}: chain: expected a list of steps, each with name, kind and what it needs")
    for override in overrides:
        _override(entries, override)
    names = [str(entry.get("name")) for entry in entries]
    wrong = _header_problems(content)
    steps: list[Any] = []
    for number, entry in enumerate(entries):
        step, lines = _read_step(entry, str(entry.get("name", number)))
        wrong += lines
        steps += [step] if step is not None else []
    wrong += reference_problems(steps, names)
    recipes: dict[str, Recipe] = {}
    for step in steps:
        if isinstance(step, RecipeStep):
            try:
                recipes[step.name] = load_recipe(step.recipe, settings=step.set, beside=path.parent)
            except UsageError as error:
                wrong.append(f"{step.name}: {error}")
        elif problem := _model_problem(step, names):
            wrong.append(problem)
    if wrong:
        raise UsageError(f"{path.name}: {'; '.join(wrong)}")
    chain = ChainRecipe.model_validate({**content, CHAIN: [s.model_dump() for s in steps]})
    return Chain(path, chain, recipes, tuple({one.partition("=")[0]: one for one in overrides}.values()))


def _header_problems(content: dict[str, Any]) -> list[str]:
    unknown = [key for key in content if key not in _HEADER]
    wrong = [f"unknown key {key}{nearest(key, sorted(_HEADER))}" for key in unknown]
    try:
        ChainRecipe.model_validate({**{k: v for k, v in content.items() if k not in unknown}, CHAIN: [_ANY]})
    except pydantic.ValidationError as error:
        wrong += [explain(e, ChainRecipe) for e in error.errors()]
    return wrong


_ANY = {"name": "any", "kind": "prepare", "recipe": "any"}  # the steps are looked at one by one


def _read_step(entry: dict[str, Any], name: str) -> tuple[Step | None, list[str]]:
    kind = entry.get("kind")
    schema = KINDS.get(kind) if isinstance(kind, str) else None
    if schema is None:
        said = "kind is missing" if kind is None else f"unknown kind {kind!r}{nearest(str(kind), list(KINDS))}"
        return None, [f"{name}: {said}; there is: {', '.join(KINDS)}"]
    try:
        return schema.model_validate(entry), []
    except pydantic.ValidationError as error:
        return None, [explain(e, schema, name) for e in error.errors()]


def _model_problem(step: Step, names: Sequence[str]) -> str:
    """What is wrong with the model of an eval or caption step that is none of the steps: nothing has that name."""
    model = getattr(step, "model", None)
    if model is None or model in names:
        return ""
    there = model in packaged_models() or "/" in model or "${" in model or Path(model).expanduser().exists()
    near = nearest(model, [*names, *packaged_models()])
    return "" if there else f"{step.name}.model: there is neither a step nor a model {model}{near}"


def _override(entries: list[dict[str, Any]], override: str) -> None:
    """Apply "STEP.key=value"."""
    name, value = parse_override(override)
    wanted, dot, key = name.partition(".")
    if not dot or not key:
        raise UsageError(f"--set {override!r} is not of the form STEP.key=value", "this recipe is a chain of steps")
    names = [str(entry.get("name")) for entry in entries]
    if wanted not in names:
        near = "" if wanted in Recipe.model_fields else nearest(wanted, names)
        raise UsageError(f"--set {name}: there is no step {wanted}{near}", f"steps: {', '.join(names)}")
    entry = entries[names.index(wanted)]
    schema = KINDS.get(str(entry.get("kind")), Step)
    first = key.partition(".")[0]
    if first in schema.model_fields:
        set_key(entry, key, value)
    elif issubclass(schema, RecipeStep) and first in Recipe.model_fields:
        entry.setdefault("set", {})[key] = value
    else:
        known = [*schema.model_fields, *(Recipe.model_fields if issubclass(schema, RecipeStep) else ())]
        raise UsageError(
            f"--set {name}: {article(str(entry.get('kind')))} step has no key {first}{nearest(first, known)}"
        )

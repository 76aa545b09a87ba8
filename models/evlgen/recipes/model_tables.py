"""Recipes of tables: which models caption which data set, to be scored beside each other (`evlgen eval --recipe`)."""

from __future__ import annotations

from collections.abc import Sequence

import pydantic
from pydantic import Field

from evlgen.errors import UsageError
from evlgen.recipes.chain_schema import SCORES, Metric
from evlgen.recipes.loading import TABLE, explain, find_recipe, parse_override, read_content, set_key
from evlgen.recipes.schema import decoding_key
from evlgen.sections import Strict


class TableModel(Strict):
    """A model of the table, and what is known of it without having it."""

    model: str = Field(description="text of --model, with the revision where it is known; ${VARIABLES} are expanded")
    stands_for: str = Field("", description="the model of the paper that it is, or whose heir it is")
    opened_by: str = Field("", description="class that opens it, of transformers or open_clip; empty: one of ours")
    weights_gb: float | None = Field(None, gt=0, description="GB of its weights in 16 bit; null: unknown")
    licence: str = Field("", description="as its page states it; empty: unknown")


class LeftOut(Strict):
    """A model that cannot be run this way."""

    name: str = Field(description="what its paper calls it")
    why: str = Field(description="in one line")


class TableRecipe(Strict):
    """Models that caption one data set, and what of the paper's they leave out."""

    name: str = Field(pattern=r"^[a-z0-9.-]+$", description="of the recipe, and of the folder of its captions")
    summary: str = Field(description="one line")
    dataset: str = Field(description="as of an eval step; ${VARIABLES} are expanded")
    split: str | None = Field(None, description="only rows with this split; null: all rows")
    media: str | None = Field(None, description="folder or tar of the data set; null: beside the captions")
    models: list[TableModel] = Field(min_length=1, description="in this order; the others are compared with the first")
    left_out: list[LeftOut] = Field(default_factory=list, description="named below the table, with the reason")
    prompt: str | None = Field(None, description="text that captions go on from; null: each model's own")
    num_beams: int | None = decoding_key("num_beams", None, "; null: 3")
    min_new_tokens: int | None = decoding_key("min_new_tokens", None, "; null: 0")
    max_new_tokens: int | None = decoding_key("max_new_tokens", None, "; null: 30")
    metrics: list[Metric] = Field(default_factory=lambda: list(SCORES), min_length=1, description="what is scored")


def is_table(name_or_path: str) -> bool:
    """Whether a recipe is a table of models.

    Raises:
        UsageError: there is no such recipe, or it is not YAML.
    """
    return TABLE in read_content(find_recipe(name_or_path))


def load_table(name_or_path: str, overrides: Sequence[str] = ()) -> TableRecipe:
    """Read, override and validate a table of models.

    Raises:
        UsageError: it is none, or every mistake in one message.
    """
    path = find_recipe(name_or_path)
    content = read_content(path)
    if TABLE not in content:
        raise UsageError(f"{path.name} is no table of models", "evlgen train runs training recipes and chains")
    for override in overrides:
        set_key(content, *parse_override(override))
    try:
        return TableRecipe.model_validate(content)
    except pydantic.ValidationError as error:
        raise UsageError(f"{path.name}: {'; '.join(explain(e, TableRecipe) for e in error.errors())}") from None

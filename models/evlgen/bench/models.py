"""Which models can be measured: packaged ones, folders of checkpoints, recipes, and the paper's full-size models."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic

from evlgen.configuration import CONFIG_FILE, EVLGenConfig
from evlgen.errors import UsageError, WeightsError
from evlgen.recipes import load_recipe, recipe_names
from evlgen.weights.checkpoints import packaged_models

BASE_RECIPE = "msrvtt-scst"
"""What full-size models without a recipe of their own are variants of."""


@dataclass(frozen=True)
class FullSize:
    """A full-size model of the paper.

    Attributes:
        name: a recipe of this name takes the place of `settings`.
        what: one line.
        paper: trainable parameters as the paper counts them; empty where it gives none.
        settings: what differs from the base recipe, by key.
    """

    name: str
    what: str
    paper: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


_IMAGE: dict[str, Any] = {"model.temporal": {"fusion": "mean", "frames": 1}}


def _language(source: str, width: int) -> dict[str, Any]:
    return {"model.language": {"source": f"hf:{source}", "width": width}}


OPT_67 = "facebook/opt-6.7b@a45aa65bbeb77c1558bc99bedc6779195462dab0"
VICUNA_7 = "lmsys/vicuna-7b-v1.3@236eeeab96f0dc2e463f2bebb7bb49809279c6d6"
VICUNA_13 = "lmsys/vicuna-13b-v1.3@6566e9cb1787585d1147dcf4f9bc48f29e1328d2"

_SIX_LAYERS: dict[str, Any] = {"model.connector": {"layers": 6}}

FULL_SIZE = (
    FullSize("pretrain-opt2.7b-55m", "pictures, OPT-2.7b, 6-layer TomeFormer", "55M", {**_IMAGE, **_SIX_LAYERS}),
    FullSize("pretrain-opt2.7b", "pictures, OPT-2.7b, 12-layer TomeFormer", "110M", _IMAGE),
    FullSize("pretrain-opt6.7b", "pictures, OPT-6.7b", "", {**_IMAGE, **_language(OPT_67, 4096)}),
    FullSize("pretrain-vicuna7b", "pictures, Vicuna-7b", "", {**_IMAGE, **_language(VICUNA_7, 4096)}),
    FullSize("pretrain-vicuna13b", "pictures, Vicuna-13b", "", {**_IMAGE, **_language(VICUNA_13, 5120)}),
    FullSize("msrvtt-video", "4 frames, OPT-2.7b, temporal modules in all 39 ViT blocks"),
)


@dataclass(frozen=True)
class NamedModel:
    """A model to measure.

    Attributes:
        name: as it was asked for.
        what: one line.
        config: what it is made of.
        trained: whether there are weights to load under its name.
    """

    name: str
    what: str
    config: EVLGenConfig
    trained: bool = False


def find_model(name: str) -> NamedModel:
    """The model of a name: a packaged model or a folder, else a recipe, else a full-size model of the paper.

    Raises:
        UsageError: there is none; the nearest name is offered.
        WeightsError: the folder's configuration is damaged.
    """
    folder = packaged_models().get(name, Path(name).expanduser())
    if (folder / CONFIG_FILE).is_file():
        try:
            return NamedModel(name, f"checkpoint in {folder}", EVLGenConfig.from_pretrained(folder), trained=True)
        except pydantic.ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise WeightsError(f"{folder / CONFIG_FILE}: {where}: {error.errors()[0]['msg']}") from None
    if folder.is_dir():
        raise UsageError(f"{folder} holds no {CONFIG_FILE}", "give the folder of a checkpoint")
    known = {one.name: one for one in FULL_SIZE}
    if name in known and name not in recipe_names():
        recipe = load_recipe(BASE_RECIPE, settings=known[name].settings)
        return NamedModel(name, known[name].what, recipe.model)
    if name in recipe_names() or Path(name).suffix in {".yaml", ".yml"}:
        recipe = load_recipe(name)
        return NamedModel(name, recipe.summary, recipe.model)
    names = [*packaged_models(), *known, *recipe_names()]
    near = difflib.get_close_matches(name, names, n=1)
    raise UsageError(
        f"no model {name!r}",
        f"did you mean {near[0]!r}?" if near else f"a folder of a checkpoint, or: {', '.join(dict.fromkeys(names))}",
    )


def full_size_models() -> list[NamedModel]:
    """All of `FULL_SIZE`."""
    return [find_model(one.name) for one in FULL_SIZE]

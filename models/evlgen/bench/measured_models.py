"""Which models can be measured: packaged ones, folders of checkpoints, recipes, and the paper's full-size models."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from evlgen.configuration import CONFIG_FILE, EVLGenConfig
from evlgen.errors import UsageError
from evlgen.recipes import load_recipe, recipe_names
from evlgen.weights.named_models import packaged_models


@dataclass(frozen=True)
class FullSize:
    """A full-size model of the paper.

    Attributes:
        name: its recipe.
        what: one line.
        paper: trainable parameters as the paper counts them; empty where it gives none.
    """

    name: str
    what: str
    paper: str = ""


FULL_SIZE = (
    FullSize("pretrain-opt2.7b-55m", "pictures, OPT-2.7b, 6-layer TomeFormer", "55M"),
    FullSize(
        "pretrain-opt2.7b",
        "pictures, OPT-2.7b, 12-layer TomeFormer (msrvtt-image, -mean, -concat train it too)",
        "110M",
    ),
    FullSize("pretrain-opt6.7b", "pictures, OPT-6.7b"),
    FullSize("pretrain-vicuna7b", "pictures, Vicuna-7b"),
    FullSize("pretrain-vicuna13b", "pictures, Vicuna-13b"),
    FullSize(
        "msrvtt-video",
        "4 frames, OPT-2.7b, temporal modules in all 39 ViT blocks (so do msrvtt-scst, -beams, msvd- and vatex-video)",
    ),
)
"""Every model that a full-size recipe trains, once."""


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
    """The model of a name: a packaged model or a folder, else a recipe.

    Raises:
        UsageError: there is none; the nearest name is offered.
        WeightsError: the folder's configuration is damaged.
    """
    folder = packaged_models().get(name, Path(name).expanduser())
    if (folder / CONFIG_FILE).is_file():
        return NamedModel(name, f"checkpoint in {folder}", EVLGenConfig.from_pretrained(folder), trained=True)
    if folder.is_dir():
        raise UsageError(f"{folder} holds no {CONFIG_FILE}", "give the folder of a checkpoint")
    if name in recipe_names() or Path(name).suffix in {".yaml", ".yml"}:
        recipe = load_recipe(name)
        return NamedModel(name, recipe.summary, recipe.model)
    names = [*packaged_models(), *recipe_names()]
    near = difflib.get_close_matches(name, names, n=1)
    raise UsageError(
        f"no model {name!r}",
        f"did you mean {near[0]!r}?" if near else f"a folder of a checkpoint, or: {', '.join(names)}",
    )

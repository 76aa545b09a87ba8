"""The curves of runs from their logs, over steps or over what they cost: losses, gap, scores, learning rate.

Runs whose recipes differ in their seed alone are one line, their mean, in a band from the least to the most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from evlgen.errors import EvlgenError, UsageError
from evlgen.recipes.schema import Recipe
from evlgen.system.figures import new_figure, save_figure
from evlgen.training.run_folder import kept_recipe
from evlgen.training.run_log import RunLog

PANELS = (
    ("loss", "nats per token"), ("vocabulary_loss", "vocabulary loss"), ("generation_loss", "nats per word piece"),
    ("reward", "reward of samples"),
    ("validation loss", "nats per token"), ("validation gap", "nats per token"), ("validation cider", "CIDEr"),
    ("validation bleu-4", "BLEU-4"), ("lr", "learning rate"),
)  # fmt: skip
"""What has a panel where a run has it, and what its axis is called."""

Axis = Literal["steps", "seconds", "items", "flops"]
AXES: dict[str, str] = {
    "steps": "optimizer steps",
    "seconds": "seconds, validations included",
    "items": "pictures and videos seen",
    "flops": "FLOPs, without vision",
}

Curve = tuple[list[float], list[float]]


def curves(folder: Path, axis: Axis = "steps") -> dict[str, Curve]:
    """Places and values of every panel that the log of a run has something for; means over validation sources.

    Args:
        folder: of the run.
        axis: what places are: optimizer steps done, seconds since the start, items seen, FLOPs (`item_flops`).

    Raises:
        UsageError: the folder has no log with a step or a validation in it.
    """
    rows = RunLog(folder).records()
    place = _places(folder, rows, axis)
    found: dict[str, Curve] = {}

    def add(name: str, row: dict[str, Any], step: int, value: Any) -> None:
        places, values = found.setdefault(name, ([], []))
        places.append(place(row, step))
        values.append(float(value))

    for row in rows:
        if isinstance(row.get("validation"), dict) and row["validation"]:
            figures = list(row["validation"].values())
            for name in ("loss", "gap", "cider", "bleu-4"):
                if all(name in one for one in figures):
                    add(f"validation {name}", row, row["step"], fmean(one[name] for one in figures))
        for name in ("loss", "vocabulary_loss", "generation_loss", "reward", "lr"):
            if name in row:
                add(name, row, row["step"] + 1, row[name])
    if not found:
        raise UsageError(
            f"{folder} has no log of a run", "name the folder of a training run, such as runs/mini-pretrain"
        )
    return found


def _places(folder: Path, rows: list[dict[str, Any]], axis: Axis) -> Callable[[dict[str, Any], int], float]:
    """Where on the axis a run is when it wrote a row, after so many steps."""
    if axis == "steps":
        return lambda _, step: step
    if axis == "seconds":
        return lambda row, _: float(row.get("seconds", 0.0))
    recipe = kept_recipe(folder)
    first = recipe.first_phase
    before, after = (1.0, 1.0) if axis == "items" else item_flops(recipe, _tokens_per_item(rows, recipe))
    return lambda _, step: (
        min(step, first.steps) * first.items_per_step * before
        + max(0, step - first.steps) * recipe.data.items_per_step * after
    )


def _tokens_per_item(rows: list[dict[str, Any]], recipe: Recipe) -> int:
    """Caption tokens of an item in a step, on average."""
    tokens = [row["tokens"] for row in rows if "tokens" in row]
    return round(fmean(tokens) / recipe.data.items_per_step) if tokens else recipe.model.language.max_text_tokens


def item_flops(recipe: Recipe, tokens: int) -> tuple[float, float]:
    """FLOPs of training on an item: in a step of the first phase, and in one of the caption loss; vision is left out.

    Args:
        recipe: of the run.
        tokens: of an item's captions.

    Raises:
        EvlgenError: the language model's configuration or a tokenizer cannot be had.
    """
    return _item_flops(recipe.model_dump_json(), tokens)


@lru_cache(maxsize=64)
def _item_flops(recipe_json: str, tokens: int) -> tuple[float, float]:
    from torch._subclasses import FakeTensorMode

    from evlgen.bench.flops import count_connector, count_language_step
    from evlgen.bench.variants import Bridge
    from evlgen.modeling.skeleton import build_skeleton

    recipe = Recipe.model_validate_json(recipe_json, context={"kept": True})
    config = recipe.model
    frames = config.temporal.frames if config.temporal.fusion in ("concat", "mean-prompts") else 1
    with FakeTensorMode():
        sizes = (config.vision.tokens, config.vision.width)
        connector = count_connector(Bridge(config), *sizes, passes=frames, training=True)
    model = build_skeleton(config)
    prefix = config.soft_prompt_tokens() + len(model.prompt_before) + len(model.prompt_after)
    language = count_language_step(model.language, prefix, max(1, tokens))
    first = _representation_flops(recipe) if recipe.representation.steps else connector
    return float(first), float(connector + language)


def _representation_flops(recipe: Recipe) -> int:
    """FLOPs of an item in BLIP-2's first stage, its text as long as it may be; two are run on this machine's CPU."""
    import torch

    from evlgen.bench.flops import count
    from evlgen.bench.variants import Bridge
    from evlgen.modeling.connectors import QFormer
    from evlgen.training.objectives import RepresentationObjective
    from evlgen.weights import fetch

    config, bridge = recipe.representation, Bridge(recipe.model)
    assert isinstance(bridge.connector, QFormer), "the recipe is checked"
    assert config.tokenizer is not None, "the recipe is checked"
    objective = RepresentationObjective(bridge.connector, config, fetch(config.tokenizer))
    tokens = torch.randn(2, recipe.model.vision.tokens, recipe.model.vision.width)
    texts = ["a " * config.max_text_tokens] * 2

    def work() -> None:
        losses = objective(bridge.vl_proj(bridge.ln_vision(tokens)), texts)
        torch.autograd.backward(torch.stack(list(losses.values())).sum())

    return count(work) // 2


def plot_runs(folders: Sequence[Path], out: Path, axis: Axis = "steps") -> None:
    """Draw the curves of runs into a picture; its suffix says in which format (.png, .svg, .pdf).

    Raises:
        UsageError: a folder has no log, or the format is unknown.
        EvlgenError: matplotlib is not installed, or the picture cannot be written.
    """
    groups: dict[str, list[dict[str, Curve]]] = {}
    for folder in folders:
        groups.setdefault(_alike(folder), []).append(curves(folder, axis))
    labels = {_alike(folder): str(folder) for folder in reversed(folders)}
    panels = [(name, unit) for name, unit in PANELS if any(name in one for many in groups.values() for one in many)]
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(5 * columns, 2.6 * lines)
    lines_by_label: dict[str, Any] = {}
    for number, (name, unit) in enumerate(panels, start=1):
        panel = figure.add_subplot(lines, columns, number)
        for colour, (key, many) in enumerate(groups.items()):
            drawn = [one[name] for one in many if name in one]
            if not drawn:
                continue
            places, least, mean, most = _band(drawn)
            seeds = f" and {len(many) - 1} more" if len(many) > 1 else ""
            look = {"color": f"C{colour}", "marker": "o" if len(places) < 30 else None, "markersize": 3}
            lines_by_label[labels[key] + seeds] = panel.plot(places, mean, **look)[0]
            if len(drawn) > 1:
                panel.fill_between(places, least, most, color=f"C{colour}", alpha=0.2)
        panel.set_title(name, fontsize=10)
        panel.set_xlabel(AXES[axis], fontsize=8)
        panel.set_ylabel(unit, fontsize=8)
        panel.grid(alpha=0.3)
    if len(groups) > 1:
        figure.legend(lines_by_label.values(), lines_by_label, loc="outside upper center", ncols=2, fontsize=8)
    save_figure(figure, out)


def _alike(folder: Path) -> str:
    """Equal for runs that differ in their seed alone; a folder without a recipe is like no other."""
    try:
        recipe = kept_recipe(folder)
    except EvlgenError:
        return str(folder)
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": 0})}).model_dump_json()


def _band(drawn: Sequence[Curve]) -> tuple[list[float], list[float], list[float], list[float]]:
    """Places, on average, and there the least, the mean and the most of all, as far as each has come."""
    rows = [list(column) for column in zip(*(values for _, values in drawn), strict=False)]
    places = [fmean(column) for column in zip(*(places for places, _ in drawn), strict=False)]
    return places, [min(row) for row in rows], [fmean(row) for row in rows], [max(row) for row in rows]

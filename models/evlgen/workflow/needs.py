"""What a recipe or a chain needs from outside: which part is there, where each missing one comes from, what to type.

All of it is said at once, before anything is loaded: variables that are not set, data, the model to start from.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from evlgen.captioning.discover import find_videos
from evlgen.captioning.prediction import find_data
from evlgen.data.datasets.locating import resolve_source
from evlgen.data.datasets.registry import find_set
from evlgen.data.shards import open_reader
from evlgen.errors import EvlgenError, UsageError
from evlgen.recipes import Chain, DataSource, Recipe, expand_path, recipe_names
from evlgen.recipes.chain import CaptionStep, EvalStep, TrainStep
from evlgen.weights.named_models import find_checkpoint
from evlgen.workflow.steps import prediction_of

_VARIABLES = {
    "EVLGEN_DATA": "the folder that holds your data sets",
    "EVLGEN_START": "the folder of the model to start from",
    "EVLGEN_MODEL": "the folder of the model to score",
    "EVLGEN_VIDEOS": "the videos to caption",
}

_UNKNOWN = "not known without"


@dataclass(frozen=True)
class Need:
    """Something from outside.

    Attributes:
        what: in a few words.
        problem: why it cannot be used; empty if it can.
        commands: what brings it, in order.
    """

    what: str
    problem: str = ""
    commands: tuple[str, ...] = ()


def needs_of(recipe: Recipe | Chain) -> list[Need]:
    """Everything that a recipe, or a chain of steps, needs from outside, variables first."""
    found = _of_chain(recipe) if isinstance(recipe, Chain) else _of_recipe(recipe)
    named = [_variable(name) for name in _variables(need.what for need in found)]
    return list(dict.fromkeys([*named, *found]))


def _of_recipe(recipe: Recipe, *, starts: bool = True) -> list[Need]:
    """What a training recipe needs; without `starts` the model to start from is another's business."""
    found = [_data(source, recipe) for source in (*recipe.data.train, *recipe.data.validation)]
    if starts and recipe.train.start_from is not None:
        found.append(_start("the model to start from", recipe.train.start_from))
    return found


def _of_chain(chain: Chain) -> list[Need]:
    """What the steps of a chain need that no earlier step makes."""
    names = {step.name for step in chain.steps}
    found: list[Need] = []
    for step in chain.steps:
        if (recipe := chain.recipes.get(step.name)) is not None:
            found += _of_recipe(recipe, starts=isinstance(step, TrainStep) and step.start_from is None)
        if isinstance(step, EvalStep):
            what = f"{step.dataset}{f', split {step.split}' if step.split else ''}, to score on"
            found.append(_tried(what, partial(_set, step), ()))
        if isinstance(step, CaptionStep):
            for videos in step.videos:
                commands = ("evlgen data samples --out samples",) if videos == "samples" else ()
                found.append(_tried(f"videos to caption, {videos}", partial(_videos, videos), commands))
        if isinstance(step, EvalStep | CaptionStep) and step.model not in names:
            found.append(_start("the model", step.model))
    return found


def check_needs(recipe: Recipe | Chain, called: str) -> list[Need]:
    """The needs of a recipe.

    Args:
        recipe: the recipe.
        called: its name or file, as the user typed it.

    Raises:
        UsageError: some are not there, and there is something to type about it; every one is named. What is left out
            here is for the run itself to say.
    """
    needs = needs_of(recipe)
    missing = [need for need in needs if need.problem]
    if any(need.commands for need in missing):
        said = "; ".join(f"{need.what}: {need.problem}" for need in missing if not need.problem.startswith(_UNKNOWN))
        raise UsageError(
            f"{recipe.name} cannot start yet: {said}", f"evlgen recipes show {shlex.quote(called)} is its manual"
        )
    return needs


def guide(recipe: Recipe | Chain, called: str) -> list[str]:
    """What is there, what is not, and the commands in their order, in lines; nothing where all is there.

    Args:
        recipe: the recipe.
        called: its name or file, as the user typed it.
    """
    needs = needs_of(recipe)
    if not any(need.problem and need.commands for need in needs):
        return []
    lines = [f"{recipe.name} needs:"]
    lines += [f"  {'missing' if need.problem else 'there  '}  {need.what}" for need in needs]
    commands = list(dict.fromkeys(command for need in needs if need.problem for command in need.commands))
    return [
        *lines,
        "in this order:",
        *(f"  {command}" for command in [*commands, f"evlgen train --recipe {shlex.quote(called)}"]),
    ]


def _variables(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for text in texts for name in re.findall(r"\$\{(\w+)\}", text)))


def _variable(name: str) -> Need:
    what = f"the variable {name}, {_VARIABLES.get(name, 'see the header of the recipe')}"
    if name in os.environ:
        return Need(f"{what}: {os.environ[name]}")
    return Need(what, "not set", (f"export {name}=FOLDER",))


def _set(step: EvalStep) -> None:
    find_data(prediction_of(step))


def _videos(text: str) -> None:
    find_videos([str(expand_path(text))])


def _data(source: DataSource, recipe: Recipe) -> Need:
    if source.dataset is not None:
        title = find_set(source.dataset).title
        command = f'evlgen data check {source.dataset} --root "{source.root}"'
        return _tried(f"{title}, split {source.split}, in {source.root}", partial(resolve_source, source), (command,))
    if source.shards:
        return _tried(f"shards {source.shards}", partial(open_reader, source, recipe.data), ())
    return _tried(f"captions {source.captions} and their files in {source.media}", partial(_files, source), ())


def _files(source: DataSource) -> None:
    for path in (expand_path(source.captions), expand_path(source.media)):
        if not path.exists():
            raise UsageError(f"{path} does not exist")


def _start(what: str, start: str) -> Need:
    made = re.fullmatch(r"runs/([a-z0-9.-]+)/best/?", start)
    commands: tuple[str, ...] = ()
    if made and made[1] in recipe_names():
        commands = (f"evlgen train --recipe {made[1]}",)
    elif start == "${EVLGEN_START}":
        commands = ("evlgen models convert FILE --to FOLDER   # or evlgen train --recipe pretrain-opt2.7b",)
    return _tried(f"{what}, {start}", lambda: find_checkpoint(str(expand_path(start))), commands)


def _tried(what: str, look: Callable[[], object], commands: tuple[str, ...]) -> Need:
    try:
        look()
    except EvlgenError as error:
        unset = [name for name in _variables([what]) if name not in os.environ]
        return Need(what, f"{_UNKNOWN} {', '.join(unset)}" if unset else error.what, commands)
    return Need(what)

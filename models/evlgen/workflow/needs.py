"""What a recipe or a chain needs from outside: which part is there, where each missing one comes from, what to type.

All of it is said at once, before anything is loaded: variables that are not set, data, the model to start from. A chain
looks for everything once more before its first step, and then also for what no command brings.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from evlgen.captioners.opening import identify_model
from evlgen.captioning.discover import find_videos
from evlgen.data.datasets.locating import resolve_source
from evlgen.data.datasets.registry import find_set
from evlgen.data.shards import open_reader
from evlgen.errors import EvlgenError, UsageError
from evlgen.evaluating.evaluation_sets import QuestionSet
from evlgen.evaluating.prediction import caption_request, find_data
from evlgen.recipes import Chain, DataSource, Recipe, expand_path, expand_variables, recipe_names
from evlgen.recipes.chain_schema import AnyStep, CaptionStep, CompareStep, EvalStep, TrainStep
from evlgen.training.run_log import check_trackers
from evlgen.weights.named_models import find_checkpoint
from evlgen.workflow.chain_steps import prediction_of

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


@dataclass(frozen=True)
class _Wanted:
    """Something from outside before it was looked for.

    Attributes:
        what: in a few words; empty: only a chain looks for it, and no command brings it.
        look: raises an `EvlgenError` where it is not there.
        commands: what brings it, in order.
        step: the step of a chain that needs it.
    """

    what: str
    look: Callable[[], object]
    commands: tuple[str, ...] = ()
    step: str = ""


def needs_of(recipe: Recipe | Chain) -> list[Need]:
    """Everything that a recipe, or a chain of steps, needs from outside, variables first."""
    found = [_tried(one) for one in _wanted(recipe) if one.what]
    named = [_variable(name) for name in _variables(need.what for need in found)]
    return list(dict.fromkeys([*named, *found]))


def check_chain_inputs(chain: Chain) -> None:
    """Look for the files, models and packages that steps name and no earlier step makes: hours may lie between.

    Raises:
        UsageError: everything that is missing, in one message.
    """
    wrong: dict[str, list[str]] = {}
    for wanted in _wanted(chain):
        try:
            wanted.look()
        except EvlgenError as error:
            wrong.setdefault(str(error), []).append(wanted.step)
    if wrong:
        said = [f"{', '.join(dict.fromkeys(steps))}: {text}" for text, steps in wrong.items()]
        raise UsageError(f"{chain.name}: {'; '.join(said)}")


def _wanted(recipe: Recipe | Chain) -> Iterator[_Wanted]:
    """What a recipe needs, or the steps of a chain that no earlier step makes."""
    if isinstance(recipe, Recipe):
        yield from _of_recipe(recipe, starts=True)
        return
    for step in recipe.steps:
        for wanted in _of_step(step, recipe):
            yield replace(wanted, step=step.name)


def _of_recipe(recipe: Recipe, *, starts: bool) -> Iterator[_Wanted]:
    """What a training recipe needs; without `starts` the model to start from is another's business."""
    for source in (*recipe.data.train, *recipe.data.validation):
        yield _data(source, recipe)
    if starts and recipe.train.start_from is not None:
        start = recipe.train.start_from
        yield _start("the model to start from", start, lambda: find_checkpoint(str(expand_path(start))))


def _of_step(step: AnyStep, chain: Chain) -> Iterator[_Wanted]:
    if (recipe := chain.recipes.get(step.name)) is not None:
        yield from _of_recipe(recipe, starts=isinstance(step, TrainStep) and step.start_from is None)
        if isinstance(step, TrainStep):
            yield _Wanted("", partial(check_trackers, recipe))
    if isinstance(step, EvalStep):
        what = f"{step.dataset}{f', split {step.split}' if step.split else ''}, to score on"
        yield _Wanted(what, partial(_evaluation, step))
    if isinstance(step, CompareStep):
        of = next(one for one in chain.steps if isinstance(one, EvalStep) and one.name == step.a)
        yield _Wanted("", partial(_captions_only, of))
    if isinstance(step, CaptionStep):
        for videos in step.videos:
            commands = ("evlgen data samples --out samples",) if videos == "samples" else ()
            yield _Wanted(f"videos to caption, {videos}", partial(_videos, videos), commands)
    if isinstance(step, EvalStep | CaptionStep) and step.model not in {one.name for one in chain.steps}:
        yield _start("the model", step.model, lambda: identify_model(expand_variables(step.model)))


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


def _evaluation(step: EvalStep) -> None:
    asked = prediction_of(step)
    caption_request(asked, find_data(asked))


def _captions_only(step: EvalStep) -> None:
    try:
        data = find_data(prediction_of(step))
    except EvlgenError:  # which the eval step says of itself
        return
    if isinstance(data, QuestionSet):
        raise UsageError(f"{step.name} answers the questions of {data.title}", "compare takes steps of captions")


def _videos(text: str) -> None:
    find_videos([str(expand_path(text))])


def _data(source: DataSource, recipe: Recipe) -> _Wanted:
    if source.dataset is not None:
        title = find_set(source.dataset).title
        command = f'evlgen data check {source.dataset} --root "{source.root}"'
        return _Wanted(f"{title}, split {source.split}, in {source.root}", partial(resolve_source, source), (command,))
    if source.shards:
        return _Wanted(f"shards {source.shards}", partial(open_reader, source, recipe.data))
    return _Wanted(f"captions {source.captions} and their files in {source.media}", partial(_files, source))


def _files(source: DataSource) -> None:
    missing = [str(path) for path in map(expand_path, (source.captions, source.media)) if not path.exists()]
    if missing:
        verb = "does" if len(missing) == 1 else "do"
        raise UsageError(f"{' and '.join(missing)} {verb} not exist", "check data.* in the recipe")


def _start(what: str, start: str, look: Callable[[], object]) -> _Wanted:
    made = re.fullmatch(r"runs/([a-z0-9.-]+)/best/?", start)
    commands: tuple[str, ...] = ()
    if made and made[1] in recipe_names():
        commands = (f"evlgen train --recipe {made[1]}",)
    elif start == "${EVLGEN_START}":
        commands = ("evlgen models convert FILE --to FOLDER   # or evlgen train --recipe pretrain-opt2.7b",)
    return _Wanted(f"{what}, {start}", look, commands)


def _tried(wanted: _Wanted) -> Need:
    try:
        wanted.look()
    except EvlgenError as error:
        unset = [name for name in _variables([wanted.what]) if name not in os.environ]
        problem = f"{_UNKNOWN} {', '.join(unset)}" if unset else error.what
        return Need(wanted.what, problem, wanted.commands)
    return Need(wanted.what)

"""Before the first step: is everything from outside there that later steps will need? Hours may lie between."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from evlgen.captioning.discover import find_videos
from evlgen.captioning.evaluation_sets import QuestionSet
from evlgen.captioning.prediction import caption_request, find_data
from evlgen.data.datasets.locating import resolve_source
from evlgen.data.shards import open_reader
from evlgen.errors import EvlgenError, UsageError
from evlgen.recipes import Chain, expand_path, expand_variables
from evlgen.recipes.chain import AnyStep, CaptionStep, CompareStep, EvalStep, TrainStep
from evlgen.training.trackers import check_trackers
from evlgen.weights.named_models import find_checkpoint
from evlgen.workflow.steps import prediction_of


def check_chain_inputs(chain: Chain) -> None:
    """Look for the files, models and packages that the steps name.

    Raises:
        UsageError: everything that is missing, in one message.
    """
    names = {step.name for step in chain.steps}
    wrong: dict[str, list[str]] = {}
    for step in chain.steps:
        for look in _looks(step, chain, names):
            try:
                look()
            except EvlgenError as error:
                wrong.setdefault(str(error), []).append(step.name)
    if wrong:
        said = [f"{', '.join(dict.fromkeys(steps))}: {text}" for text, steps in wrong.items()]
        raise UsageError(f"{chain.name}: {'; '.join(said)}")


def _looks(step: AnyStep, chain: Chain, names: set[str]) -> list[Callable[[], object]]:
    recipe = chain.recipes.get(step.name)
    looks: list[Callable[[], object]] = []
    if recipe is not None:
        for source in (*recipe.data.train, *recipe.data.validation):
            if source.shards:
                looks.append(partial(open_reader, source, recipe.data))
            elif source.dataset is not None:
                looks.append(partial(resolve_source, source))
            else:
                looks += [partial(_file, source.captions), partial(_file, source.media)]
    if isinstance(step, TrainStep):
        assert recipe is not None
        start = recipe.train.start_from
        looks.append(lambda: check_trackers(recipe))
        if step.start_from is None and start is not None:
            looks.append(lambda: find_checkpoint(str(expand_path(start))))
    if isinstance(step, EvalStep):
        looks.append(lambda: _evaluation(step))
    if isinstance(step, CompareStep):
        of = next(one for one in chain.steps if isinstance(one, EvalStep) and one.name == step.a)
        looks.append(lambda: _captions_only(of))
    if isinstance(step, CaptionStep):
        looks.append(lambda: find_videos([str(expand_path(text)) for text in step.videos]))
    if isinstance(step, EvalStep | CaptionStep) and step.model not in names:
        looks.append(lambda: find_checkpoint(expand_variables(step.model)))
    return looks


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


def _file(text: str) -> None:
    path = expand_path(text)
    if not path.exists():
        raise UsageError(f"{path} does not exist", "check data.* in the recipe")

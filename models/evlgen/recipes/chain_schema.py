"""What a chain recipe may say: training runs and what belongs around them, as named steps in their order.

Steps refer to earlier ones by name: a train step may start from another's best checkpoint, an eval or caption step uses
a train step's model, a compare step two eval steps. Names are all that a chain adds: every step does what the command
of that name does (`evlgen data check`, `data prepare`, `train`, `eval`, `caption`, `compare`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from evlgen.recipes.schema import decoding_key
from evlgen.sections import Strict

Metric = Literal["cider", "bleu", "rouge-l", "meteor", "spice"]
SCORES: list[Metric] = ["cider", "bleu", "rouge-l"]


def _concurrency() -> Any:
    return Field(
        None, gt=0, le=1000, description="requests to a server at a time, where model is openai:MODEL@URL; null: 16"
    )


class Step(Strict):
    """What every step has."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="unique in the chain; also the step's folder")

    def references(self) -> dict[str, tuple[str, str]]:
        """Key -> name of the step that it refers to, and the kind which that must be."""
        return {}


class RecipeStep(Step):
    """A step that works on a training recipe."""

    recipe: str = Field(description="name of a recipe, or its file; a relative file lies beside the chain's own")
    set: dict[str, Any] = Field(
        default_factory=dict, description="keys of the recipe with other values, as --set has them: {train.steps: 500}"
    )


class CheckStep(RecipeStep):
    """Look at every file that a recipe names; what training would refuse stops the chain."""

    kind: Literal["check"]
    decode: bool = Field(False, description="decode every file, and count frames")


class PrepareStep(RecipeStep):
    """Compute the vision features of a recipe's data."""

    kind: Literal["prepare"]


class TrainStep(RecipeStep):
    """A training run."""

    kind: Literal["train"]
    start_from: str | None = Field(
        None, description="an earlier train step, from whose best checkpoint this one starts; null: as its recipe says"
    )

    def references(self) -> dict[str, tuple[str, str]]:
        """The step to start from."""
        return {} if self.start_from is None else {"start_from": (self.start_from, "train")}

    @model_validator(mode="after")
    def _check(self) -> TrainStep:
        train = self.set.get("train")
        if self.start_from is not None and (
            "train.start_from" in self.set or (isinstance(train, dict) and "start_from" in train)
        ):
            raise ValueError("start_from and set train.start_from exclude each other")
        return self


class EvalStep(Step):
    """Caption a captioned data set, or answer a set of questions, and score what was said."""

    kind: Literal["eval"]
    model: str = Field(
        description="an earlier train step, a packaged model, a checkpoint folder or a hub name, ${VARIABLES} expanded"
    )
    dataset: str = Field(
        description="JSONL file of {video|image, captions} or its folder, or the folder of a published set of captions "
        "or questions (evlgen data ls); ${VARIABLES} are expanded"
    )
    split: str | None = Field(None, description="only rows with this split; null: all rows")
    media: str | None = Field(None, description="folder or tar of the data set; null: beside the captions")
    prompt: str | None = Field(
        None,
        description="text that captions go on from; of questions {} stands for the question. null: none, or "
        '"Question: {} Short answer:"',
    )
    normalise_questions: bool = Field(
        False,
        description="ask questions as the authors' code does: lower case, no punctuation but ?, 50 words at most",
    )
    num_beams: int | None = decoding_key("num_beams", None, "; null: 3, or 5 for questions")
    min_new_tokens: int | None = decoding_key("min_new_tokens", None, "; null: 0, or 1 for questions")
    max_new_tokens: int | None = decoding_key("max_new_tokens", None, "; null: 30, or 10 for questions")
    repetition_penalty: float | None = decoding_key("repetition_penalty", None, "; null: 1, nothing")
    length_penalty: float | None = decoding_key("length_penalty", None, "; null: 1, or 0 for questions")
    concurrency: int | None = _concurrency()
    metrics: list[Metric] = Field(
        default_factory=lambda: list(SCORES), min_length=1, description="of captions; answers have their accuracy"
    )
    missing: Literal["skip", "empty"] = Field("skip", description="references without a caption: left out, or empty")
    bootstrap: int = Field(1000, ge=0, le=1_000_000, description="resamples of the items for intervals; 0: none")
    html: bool = Field(False, description="write page.html as well")


class CaptionStep(Step):
    """Caption files and folders of videos."""

    kind: Literal["caption"]
    model: str = Field(
        description="an earlier train step, a packaged model, a checkpoint folder or a hub name, ${VARIABLES} expanded"
    )
    videos: list[str] = Field(min_length=1, description="files, folders, globs, @lists; ${VARIABLES} are expanded")
    out: str = Field("captions.jsonl", description="file of the captions; a relative one lies in the step's folder")
    num_beams: int = decoding_key("num_beams", 3)
    frames: int | None = Field(None, gt=0, le=10_000, description="frames of each video; null: the model's own number")
    concurrency: int | None = _concurrency()

    @model_validator(mode="after")
    def _check(self) -> CaptionStep:
        if "-" in self.videos:
            raise ValueError("videos: a chain cannot read a list from standard input; write it to a file, name @FILE")
        return self


class CompareStep(Step):
    """Compare the captions of two eval steps on the same data set, with a paired bootstrap."""

    kind: Literal["compare"]
    a: str = Field(description="the eval step to start from")
    b: str = Field(description="the eval step that may be better")
    metrics: list[Metric] = Field(default_factory=lambda: list(SCORES), min_length=1, description="what is compared")
    bootstrap: int = Field(1000, ge=40, description="resamples of the items")

    def references(self) -> dict[str, tuple[str, str]]:
        """Both sides."""
        return {"a": (self.a, "eval"), "b": (self.b, "eval")}


KINDS: dict[str, type[Step]] = {
    "check": CheckStep,
    "prepare": PrepareStep,
    "train": TrainStep,
    "eval": EvalStep,
    "caption": CaptionStep,
    "compare": CompareStep,
}

AnyStep = CheckStep | PrepareStep | TrainStep | EvalStep | CaptionStep | CompareStep


class ChainRecipe(Strict):
    """A chain recipe's file."""

    name: str = Field(pattern=r"^[a-z0-9.-]+$")
    summary: str = Field(description="one line")
    chain: list[Annotated[AnyStep, Field(discriminator="kind")]] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> ChainRecipe:
        if wrong := list(reference_problems(self.chain)):
            raise ValueError("; ".join(wrong))
        return self


def reference_problems(steps: Sequence[Step], names: Sequence[str] | None = None) -> Iterator[str]:
    """What is wrong with the names of steps and with what they refer to, a line each.

    Args:
        steps: in order, as far as they are valid themselves.
        names: of all steps in order, also of those that are not valid; None: of `steps`.
    """
    names = [step.name for step in steps] if names is None else names
    for name in dict.fromkeys(n for n in names if names.count(n) > 1):
        yield f"two steps are called {name}"
    kinds = {step.name: str(getattr(step, "kind", "")) for step in steps}
    for step in steps:
        place = names.index(step.name)
        earlier = list(names[:place])
        for key, (wanted, kind) in step.references().items():
            if problem := _reference(wanted, kind, earlier, names[place:], kinds):
                yield f"{step.name}.{key}: {problem}"
        model = getattr(step, "model", None)  # may be a model's name as well, which the loader looks for
        if (
            isinstance(model, str)
            and model in names
            and (problem := _reference(model, "train", earlier, names[place:], kinds))
        ):
            yield f"{step.name}.model: {problem}"
    evaluations = {step.name: step for step in steps if isinstance(step, EvalStep)}
    for step in steps:
        if isinstance(step, CompareStep) and step.a in evaluations and step.b in evaluations:
            a, b = evaluations[step.a], evaluations[step.b]
            if (a.dataset, a.split) != (b.dataset, b.split):
                yield f"{step.name}: {step.a} and {step.b} are of different data sets or splits"


def _reference(wanted: str, kind: str, earlier: list[str], later: Sequence[str], kinds: dict[str, str]) -> str:
    """What is wrong with a reference; nothing if it is to an earlier step of that kind."""
    if wanted in earlier:
        found = kinds.get(wanted, kind)  # a step that is not valid itself has said so
        return "" if found == kind else f"{wanted} is {article(found)} step, expected {article(kind)} step"
    if wanted in later:
        where = "this step itself" if wanted == later[0] else "a later step"
        return f"{wanted} is {where}; steps refer to earlier ones"
    return f"there is no step {wanted}{nearest(wanted, [n for n in earlier if kinds.get(n) == kind])}"


def article(kind: str) -> str:
    """The kind of a step with its article."""
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def nearest(wrong: str, names: Sequence[str]) -> str:
    """ " (did you mean 'x'?)", or nothing where no name is near."""
    near = difflib.get_close_matches(wrong, names, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""

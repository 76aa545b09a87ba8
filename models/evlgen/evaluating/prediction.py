"""What a model says of a data set, before it is scored: captions of a captioned set, or answers to a set of questions.

Both `evlgen eval --model` and the eval steps of chains come here. The run is that of captioning: every caption or
answer is one line of a journal, and the same request goes on where it ended. Rows are named like the rows of the data
set, with the file's suffix where those lack one, so that predictions and references meet by name.

Answers to VQAv2, OK-VQA and GQA: prompt, beams and lengths as in BLIP-2 (arXiv 2301.12597, section 4.2); the length
penalty is that of the released code of BLIP-2 with OPT and of EVLGen, 0, where that paper says -1: beams are compared
by the sums of their log-probabilities, which favours short answers, as people's are.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evlgen.annotations.caption_layouts import QUESTION_PROMPT
from evlgen.annotations.questions import Question, looks_like_answers, read_questions
from evlgen.captioners.opening import short_name
from evlgen.captioners.protocol import ModelOptions
from evlgen.captioning.caption_request import CaptionRequest
from evlgen.captioning.caption_run import caption_videos, run_items
from evlgen.captioning.items import PictureQuestion
from evlgen.captioning.journal import ANSWERS, check_regular, read_captions
from evlgen.captioning.run_report import Listener, Summary
from evlgen.data.caption_sources import read_items
from evlgen.data.media import MediaStore
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import EvlgenError, UsageError
from evlgen.evaluating.evaluation_sets import (
    CaptionedSet,
    QuestionSet,
    find_evaluation_set,
    question_set,
    unpacked,
)
from evlgen.metrics.vqa import normalise_answer
from evlgen.recipes.data_schema import DataSource
from evlgen.system.jsons import write_json

ANSWER_DECODING = DecodingOptions(num_beams=5, min_new_tokens=1, max_new_tokens=10, length_penalty=0.0)

QUESTION_WORDS = 50
_DROPPED = str.maketrans("", "", '.!"()*#:;~')
_SHOWN = 3


@dataclass(frozen=True)
class PredictionRequest(ModelOptions):
    """What to predict, and how; other attributes as of `ModelOptions`. What is left open is as in `evlgen eval`.

    Attributes:
        model: name, folder or hub name.
        dataset: a set of captions or published questions, see `find_evaluation_set`.
        questions: a file of questions, instead of `dataset`.
        annotations: people's answers to `questions`.
        split: of `dataset`.
        media: folder or archive of the files, where it is not found beside the set.
        out: journal of captions or answers; None: named after the set and the model, in the working directory.
        results: file of the answers to hand in; None: beside the journal, with the suffix .json.
        prompt: text that captions go on from; for questions {} stands for the question.
        normalise_questions: ask as the released code of BLIP-2 and EVLGen does.
        decoding: options of the search that differ from the usual ones; those that are None do not.
        retry_failed: see `CaptionRequest`.
    """

    model: str
    dataset: Path | None = None
    questions: Path | None = None
    annotations: Path | None = None
    split: str | None = None
    media: Path | None = None
    out: Path | None = None
    results: Path | None = None
    prompt: str | None = None
    normalise_questions: bool = False
    decoding: Mapping[str, Any] = field(default_factory=dict)
    retry_failed: bool = False


@dataclass(frozen=True)
class Prediction:
    """What came of it.

    Attributes:
        summary: of the run; when it was interrupted, only the journal is there.
        files: all that was written, the journal first.
        scored: the file to score.
        references: captions or answers of people; None where nobody's answers are known.
        split: what the references call it; None for all.
        name: of the data, for headings.
        answered: questions that have an answer; 0 of captions.
        unanswered: questions without one; 0 of captions.
    """

    summary: Summary
    files: tuple[Path, ...]
    scored: Path
    references: Path | None
    split: str | None
    name: str
    answered: int = 0
    unanswered: int = 0


def find_data(request: PredictionRequest) -> CaptionedSet | QuestionSet:
    """The set that a request is about.

    Raises:
        UsageError: it is not there, or not whole.
    """
    if request.questions is not None:
        return question_set(request.questions, annotations=request.annotations, media=request.media)
    assert request.dataset is not None, "a request names a data set or questions"
    return find_evaluation_set(request.dataset, split=request.split, media=request.media)


def caption_request(request: PredictionRequest, data: CaptionedSet | QuestionSet) -> CaptionRequest:
    """How captions or answers are made; of questions a picture is a video of one frame.

    Raises:
        UsageError: options contradict each other, or the prompt has no {} for the question.
    """
    asks = isinstance(data, QuestionSet)
    prompt = request.prompt if request.prompt is not None else QUESTION_PROMPT if asks else ""
    if asks and "{}" not in prompt:
        raise UsageError(f"--prompt {prompt!r} has no {{}} for the question", f"such as {QUESTION_PROMPT!r}")
    if request.normalise_questions and not asks:
        raise UsageError("--normalise-questions is for questions, and captions have none", "leave it away")
    return CaptionRequest(
        sources=(),
        out=_journal(request, data),
        model=request.model,
        decoding=(ANSWER_DECODING if asks else DecodingOptions()).with_given(**request.decoding),
        prompt=prompt,
        frames=1 if asks else None,
        retry_failed=request.retry_failed,
        **request.model_options(),
    )


def predict(
    request: PredictionRequest,
    data: CaptionedSet | QuestionSet,
    listener: Listener | None = None,
    stop: threading.Event | None = None,
) -> Prediction:
    """Predict what the journal does not hold yet.

    Args:
        request: what and how.
        data: what it is about, see `find_data`.
        listener: told what happens; rows are `CaptionRow`s or `AnswerRow`s.
        stop: see `caption_videos`.

    Raises:
        UsageError: the set cannot be predicted or scored; this is found before the model is loaded.
        EvlgenError: no question was answered, or as of `caption_videos`.
    """
    if isinstance(data, CaptionedSet):
        run = caption_request(request, data)
        assert run.out is not None
        summary = caption_dataset(data, run, listener, stop)
        return Prediction(summary, (run.out,), run.out, data.captions, data.split, data.name)
    questions = read_questions(data.questions, data.annotations)
    out = _journal(request, data)
    results = request.results or out.with_suffix(".json")
    if request.results is None and results.exists() and not out.exists():  # not ours; perhaps the questions themselves
        raise UsageError(f"{results} is there already, and no {out.name} beside it", "choose another --out")
    run = caption_request(request, data)
    references = data.annotations or (data.questions if all(one.answers for one in questions) else None)
    if references is not None and not looks_like_answers(references):
        raise UsageError(f"{references} holds no answers to questions", "expected annotations of VQAv2 or OK-VQA")
    if request.normalise_questions:
        questions = [replace(one, question=normalised(one.question)) for one in questions]
    summary = answer_questions(data, questions, run, listener, stop)
    if summary.interrupted:
        return Prediction(summary, (out,), results, references, None, data.name)
    answered = write_results(questions, out, results)
    if not answered:
        raise EvlgenError(
            "no question was answered", f"the lines of {out} say why; evlgen eval --retry-failed tries again"
        )
    unanswered = len(questions) - answered
    return Prediction(summary, (out, results), results, references, None, data.name, answered, unanswered)


def _journal(request: PredictionRequest, data: CaptionedSet | QuestionSet) -> Path:
    out = request.out or Path(f"{data.name}-{short_name(request.model)}.jsonl")
    if isinstance(data, CaptionedSet):
        return out
    if out.suffix != ".json":  # /dev/null.jsonl is not what was meant
        check_regular(out)
    stem = out.with_suffix("") if out.suffix in (".json", ".jsonl") else out
    return stem.with_name(f"{stem.name}.jsonl")


def caption_dataset(
    data: CaptionedSet,
    request: CaptionRequest,
    listener: Listener | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Caption every item of a data set that the output does not hold yet.

    Args:
        data: what to caption.
        request: how and where to; its `sources` are replaced.
        listener: told what happens.
        stop: see `caption_videos`.

    Raises:
        UsageError: no rows, or none of the files that the data set names is there; a few that are missing are left out,
            and the listener is told.
        EvlgenError: see `caption_videos`.
    """
    source = DataSource(captions=str(data.captions), media=str(data.media), split=data.split)
    items = read_items(source, lower_case=False)
    if any(item.prompts for item in items):
        raise UsageError(
            f"{data.captions} has prompts or questions of its own, which captions of a set do not go on from",
            "leave them out and give --prompt; questions are answered with --questions",
        )
    names = list(dict.fromkeys(item.name for item in items))
    here = _present(data.media, names)
    if not here:
        what = f"{data.media} holds none of the {len(names)} files that {data.captions} names, such as {names[0]}"
        raise UsageError(what, "name the folder or the tar with --media")
    if left_out := [name for name in names if name not in here]:
        shown = ", ".join(left_out[:_SHOWN]) + (", ..." if len(left_out) > _SHOWN else "")
        (listener or Listener()).on_note(
            f"{len(left_out)} of {len(names)} files that {data.captions} names are not in {data.media} and are "
            f"left out: {shown}"
        )
    with unpacked(data.media, list(here)) as (root, files):
        sources = [str(root / file) for file in files]
        return caption_videos(replace(request, sources=sources, root=root), listener, stop)


def answer_questions(
    data: QuestionSet,
    questions: list[Question],
    request: CaptionRequest,
    listener: Listener | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Answer every question that the output does not hold an answer to yet.

    Args:
        data: where the pictures are; questions about those that are missing fail, each by itself.
        questions: what to ask.
        request: see `caption_request`.
        listener: told what happens; rows are `AnswerRow`s.
        stop: see `caption_videos`.

    Raises:
        UsageError: none of the pictures is there.
        EvlgenError: see `caption_videos`.
    """
    names = list(dict.fromkeys(one.image for one in questions))
    here = _present(data.media, names)
    if not here:
        raise UsageError(
            f"{data.media} holds none of the {len(names)} pictures of {data.questions}, such as {names[0]}",
            "name the folder, tar or zip that does with --media",
        )
    with unpacked(data.media, list(here)) as (root, files):
        known = dict(zip(here, files, strict=True))
        items = [
            PictureQuestion(one.question_id, root / known.get(one.image, one.image), one.image, one.question)
            for one in questions
        ]
        return run_items(ANSWERS, items, request, listener, stop)


def _present(media: Path, names: list[str]) -> dict[str, None]:
    """Those of the names whose files are there: of clips of YouTube, for one, nobody has all."""
    with MediaStore(str(media)) as store:
        return dict.fromkeys(name for name in names if store.resolve(name) is not None)


def normalised(question: str) -> str:
    """A question as the released code of BLIP-2 and EVLGen asks it.

    That is in lower case, without most punctuation (the question mark stays), and at most 50 words of it.
    """
    return " ".join(question.lower().translate(_DROPPED).rstrip(" ").split(" ")[:QUESTION_WORDS])


def write_results(questions: list[Question], journal: Path, path: Path) -> int:
    """Write the answers as the official results format has them, [{question_id, answer}]; gives their number.

    They are brought into VQA's normal form (lower case, digits, no articles), in which LAVIS scores those of BLIP-2:
    the official script leaves an answer as it is where people agree, so that "Yes" would be wrong where all said "yes".

    Args:
        questions: whose answers to write, in this order; those without one are left out.
        journal: the lines of `answer_questions`.
        path: an existing file is replaced at once or not at all.

    Raises:
        EvlgenError: the file cannot be written.
    """
    rows = read_captions(journal, ANSWERS)
    results = [
        {"question_id": _official_id(q.question_id), "answer": normalise_answer(rows[q.question_id]["answer"])}
        for q in questions
        if q.question_id in rows and isinstance(rows[q.question_id].get("answer"), str)
    ]
    if results:
        write_json(path, results, hint=f"the answers are safe in {journal}; make room and run again")
    return len(results)


def _official_id(text: str) -> str | int:
    """VQAv2's ids are numbers in its files; text stands for them everywhere else."""
    return int(text) if text.isdecimal() and str(int(text)) == text else text

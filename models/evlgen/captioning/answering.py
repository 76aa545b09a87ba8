"""Answering questions about pictures (VQAv2, OK-VQA, GQA), so that the answers can be scored or handed in.

The run is that of captioning: every answer is one line of a journal, and the same command goes on where it ended. A
picture is decoded once for all of its questions. Prompt, beams and lengths as in BLIP-2 (arXiv 2301.12597, section
4.2); the length penalty is that of the released code of BLIP-2 with OPT and of EVLGen, 0, where that paper says -1.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from evlgen.captioning.captioner import Captioner, DownloadReport, Generation, ModelAnswerer, load_model
from evlgen.captioning.dataset import find_question_files, unpacked
from evlgen.captioning.delivery import Decoded, Decoder, NotDecoded, deliver
from evlgen.captioning.discover import Video
from evlgen.captioning.listener import Listener
from evlgen.captioning.pipeline import Outcome
from evlgen.captioning.request import CaptionRequest
from evlgen.captioning.rows import AnswerRow, Row
from evlgen.captioning.run import Task, make_row, run_task
from evlgen.captioning.settings import CaptionSettings
from evlgen.captioning.state import ANSWERS, read_captions
from evlgen.captioning.summary import Summary
from evlgen.data.layouts import QUESTION_PROMPT
from evlgen.data.media import MediaStore
from evlgen.data.questions import Question, read_questions
from evlgen.errors import UsageError
from evlgen.metrics.vqa import normalise_answer
from evlgen.system.jsons import write_json

PROMPT = QUESTION_PROMPT
BEAMS = 5
LEAST_TOKENS, MOST_TOKENS = 1, 10
LENGTH_PENALTY = 0.0
"""Beams are compared by the sums of their log-probabilities, which favours short answers, as people's are."""

QUESTION_WORDS = 50
_DROPPED = str.maketrans("", "", '.!"()*#:;~')

_MEDIA = ("images", "images.tar", "images.zip")


@dataclass(frozen=True)
class QuestionSet:
    """Questions and their pictures.

    Attributes:
        path: the file of questions.
        questions: in file order.
        media: folder, tar or zip of the pictures.
        pictures: the names among theirs that are there; questions about others will fail, each by itself.
        answers: the file that holds people's answers; None where there are none.
        name: for file names and headings.
    """

    path: Path
    questions: list[Question]
    media: Path
    pictures: list[str]
    answers: Path | None
    name: str


def find_questions(path: Path, *, annotations: Path | None = None, media: Path | None = None) -> QuestionSet:
    """Read questions, and look whether they can be answered and scored before any model is loaded.

    Args:
        path: file of questions.
        annotations: file of people's answers; GQA's stand with the questions.
        media: folder, tar or zip of the pictures; looked for beside the questions if None.

    Raises:
        UsageError: a file is missing or is not what it must be, a question is there twice, answers lack questions, or
            none of the pictures is there.
    """
    questions = read_questions(path, annotations)
    if media is None:
        places = [path.parent / name for name in _MEDIA]
        media = next((one for one in places if one.exists()), None)
    if media is None or not media.exists():
        looked = f"{media}" if media else f"{', '.join(_MEDIA)} beside {path}"
        raise UsageError(f"no pictures: looked for {looked}", "name the folder, tar or zip with --media")
    names = dict.fromkeys(question.image for question in questions)
    with MediaStore(str(media)) as store:
        pictures = [name for name in names if store.resolve(name) is not None]
    if not pictures:
        raise UsageError(
            f"{media} holds none of the {len(names)} pictures of {path}, such as {questions[0].image}",
            "name the folder, tar or zip that does with --media",
        )
    answers = annotations
    if answers is None and all(question.answers for question in questions):
        answers = path
    return QuestionSet(path, questions, media, pictures, answers, path.stem)


def find_question_set(path: Path, *, split: str | None = None, media: Path | None = None) -> QuestionSet | None:
    """The questions of a published set (VQAv2, OK-VQA, GQA) in a folder; None where that holds captions, or nothing.

    Args:
        path: the folder.
        split: of the set.
        media: folder, tar or zip of the pictures; the set's own if None.

    Raises:
        UsageError: a part of the set is missing; or as of `find_questions`.
    """
    files = find_question_files(path, split=split, media=media)
    if files is None:
        return None
    assert files.captions is not None
    assert files.media is not None
    found = find_questions(files.captions, annotations=files.answers, media=files.media)
    return replace(found, name=f"{path.absolute().name}-{files.split.name}")


def normalised(found: QuestionSet) -> QuestionSet:
    """The same set with its questions as the released code of BLIP-2 and EVLGen asks them.

    That is in lower case, without most punctuation (the question mark stays), and at most 50 words of them.
    """

    def plain(question: str) -> str:
        return " ".join(question.lower().translate(_DROPPED).rstrip(" ").split(" ")[:QUESTION_WORDS])

    return replace(found, questions=[replace(one, question=plain(one.question)) for one in found.questions])


def answer_request(
    out: Path,
    model: str,
    *,
    prompt: str = PROMPT,
    num_beams: int = BEAMS,
    min_length: int = LEAST_TOKENS,
    max_length: int = MOST_TOKENS,
    no_repeat_ngram: int = 0,
    repetition_penalty: float = 1.0,
    length_penalty: float = LENGTH_PENALTY,
    device: str = "auto",
    dtype: str = "auto",
    retry_failed: bool = False,
) -> CaptionRequest:
    """A request for answers: one frame (a picture is a video of one), short answers, the question inside the prompt.

    Raises:
        UsageError: the prompt has no {} for the question.
    """
    if "{}" not in prompt:
        raise UsageError(f"--prompt {prompt!r} has no {{}} for the question", f"such as {PROMPT!r}")
    return CaptionRequest(
        sources=(),
        out=out,
        model=model,
        num_beams=num_beams,
        min_length=min_length,
        max_length=max_length,
        no_repeat_ngram=no_repeat_ngram,
        repetition_penalty=repetition_penalty,
        length_penalty=length_penalty,
        prompt=prompt,
        frames=1,
        device=device,
        dtype=dtype,
        retry_failed=retry_failed,
    )


def answer_questions(
    found: QuestionSet,
    request: CaptionRequest,
    listener: Listener | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Answer every question that the output does not hold an answer to yet.

    Args:
        found: what to answer.
        request: see `answer_request`.
        listener: told what happens; rows are `AnswerRow`s.
        stop: see `caption_videos`.

    Raises:
        EvlgenError: see `caption_videos`.
    """
    by_id = {question.question_id: question for question in found.questions}

    def load(dtype: str, report: DownloadReport) -> Captioner:
        return load_answerer(request.model, request.generation, request.device, dtype, report)

    def row(outcome: Outcome, settings: CaptionSettings) -> Row:
        asked = by_id[outcome.source.video.name]
        plain = {**vars(make_row(outcome, settings)), "video": asked.image}
        return AnswerRow(**plain, question_id=asked.question_id, question=asked.question)

    with unpacked(found.media, found.pictures) as (root, files):
        known = dict(zip(found.pictures, files, strict=True))
        items = [Video(q.question_id, root / known.get(q.image, q.image), q.question) for q in found.questions]
        return run_task(Task(ANSWERS, items, load, deliver_questions, row), request, listener, stop)


def load_answerer(
    model: str, generation: Generation, device: str, dtype: str, report: DownloadReport | None = None
) -> Captioner:
    """Load an EVLGen model that takes what is `Asked`; arguments and errors as for `load_captioner`."""
    return ModelAnswerer(load_model(model, device, dtype, report), generation)


def deliver_questions(
    questions: Iterable[Video], decoder: Decoder, stop: threading.Event
) -> Iterator[Decoded | NotDecoded]:
    """As `deliver`, but a picture is decoded once, and its questions follow each other."""
    by_path: dict[Path, list[Video]] = {}
    for question in questions:
        by_path.setdefault(question.path, []).append(question)
    for result in deliver([asked[0] for asked in by_path.values()], decoder, stop):
        asked = by_path[result.video.path]
        for question in asked:
            yield replace(result, video=question, seconds=result.seconds / len(asked))


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
    write_json(path, results, hint=f"the answers are safe in {journal}; make room and run again")
    return len(results)


def _official_id(text: str) -> str | int:
    """VQAv2's ids are numbers in its files; text stands for them everywhere else."""
    return int(text) if text.isdecimal() and str(int(text)) == text else text

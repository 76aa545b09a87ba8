"""One line of the output: what is written for one video, or one question, and how it is put on a line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from evlgen.captioners.protocol import Caption
from evlgen.captioning.confidence import UNSURE
from evlgen.captioning.items import key_of
from evlgen.errors import Failure
from evlgen.system.names import escaped

FORMAT = 1
"""Version of the lines (docs/journal.md); it rises when what a field means changes, not when one comes."""

Status = Literal["ok", "partial", "empty", "error"]
"""`partial`: captioned from the part of the video that could be decoded. `empty`: the model had nothing to say."""


@dataclass(frozen=True, kw_only=True)
class _Row:
    """What captions and answers have in common.

    Attributes:
        status: ok, partial, empty or error.
        log_probability: natural logarithm of the text's probability, summed over its tokens, end token included.
        token_count: tokens that the sum runs over.
        alternatives: the other captions, where several were asked for.
        agreement: how much the text has in common with the alternatives, from 0 to 1; with --rerank consensus.
        confidence: how likely the text is good, from 0 to 1; of calibrated models (confidence.py).
        tags: what the model's vision tower sees by itself, with probabilities; of models with tags.
        frame_indices: frames that the model saw, counted from 0.
        timestamps_seconds: their presentation times.
        duration_seconds: length of the video, None where unknown.
        model: id of the model.
        model_hash: hash of the model.
        settings_hash: hash of `settings`.
        settings: everything that changes a caption.
        fingerprint: content fingerprint; None when the file could not be read.
        root: folder that the name is relative to, as seen from that of the output; None: it is not, or there is none.
        error: None unless status is error.
        warnings: what the decoder had to put up with, and what the frames do not show.
        seconds: time spent on this item: decoding, with the wait for a free decoding process, and its share of its
            batch in the model.
    """

    status: Status
    log_probability: float | None
    token_count: int | None
    alternatives: tuple[Caption, ...]
    agreement: float | None = None
    confidence: float | None = None
    tags: tuple[tuple[str, float], ...]
    frame_indices: tuple[int, ...]
    timestamps_seconds: tuple[float, ...]
    duration_seconds: float | None
    model: str
    model_hash: str
    settings_hash: str
    settings: Mapping[str, Any]
    fingerprint: str | None
    root: str | None
    error: Failure | None
    warnings: tuple[str, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values in the order in which they are written."""
        values = dict(vars(self))
        values["log_probability"] = _finite(self.log_probability, 5)
        values["alternatives"] = [_alternative(one) for one in self.alternatives]
        values["agreement"] = _finite(self.agreement, 4)
        values["confidence"] = _finite(self.confidence, 4)
        values["tags"] = [{"name": name, "probability": _finite(p, 4)} for name, p in self.tags]
        for name in ("alternatives", "agreement", "confidence", "tags", "root", "start_seconds", "end_seconds"):
            if values.get(name) in (None, []):
                values.pop(name, None)
        values["timestamps_seconds"] = [_finite(seconds, 6) for seconds in self.timestamps_seconds]
        values["duration_seconds"] = _finite(self.duration_seconds, 6)
        values["error"] = self.error and {"kind": self.error.kind, "message": self.error.message}
        values["seconds"] = _finite(self.seconds, 3)
        return {**values, "format": FORMAT}

    def as_line(self) -> bytes:
        """One JSON line, newline included. What is no text or cannot be seen is escaped, so that it survives."""
        return _as_line(self.as_dict())


@dataclass(frozen=True, kw_only=True)
class CaptionRow(_Row):
    """The outcome for one video.

    Attributes:
        video: name of the video, see `evlgen.captioning.discover`.
        caption: the caption; None for an error.
        start_seconds: where the part begins that it is about; None: it is about the whole video.
        end_seconds: where that part ends.
    """

    video: str
    caption: str | None
    start_seconds: float | None = None
    end_seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values in the order in which they are written."""
        first: dict[str, Any] = {"video": self.video}
        part = {}
        if self.start_seconds is not None:
            part = {"start_seconds": _finite(self.start_seconds, 3), "end_seconds": _finite(self.end_seconds, 3)}
        return first | part | {"status": self.status, "caption": self.caption} | super().as_dict() | part

    @property
    def label(self) -> str:
        """What people know the video, or the part of it, by."""
        return key_of(self.video, self.start_seconds, self.end_seconds)

    @property
    def text(self) -> str | None:
        """The caption."""
        return self.caption


@dataclass(frozen=True, kw_only=True)
class AnswerRow(_Row):
    """The outcome for one question.

    Attributes:
        question_id: as in the file of questions.
        image: the picture or video that it is about.
        question: as it was asked.
        answer: the answer; None for an error.
    """

    question_id: str
    image: str
    question: str
    answer: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values in the order in which they are written."""
        first = {"question_id": self.question_id, "image": self.image, "status": self.status}
        return first | {"question": self.question, "answer": self.answer} | super().as_dict()

    @property
    def label(self) -> str:
        """The question, by which people know it."""
        return self.question

    @property
    def text(self) -> str | None:
        """The answer."""
        return self.answer


Row = CaptionRow | AnswerRow


@dataclass(frozen=True)
class EditedRow:
    """A line that a person has caused: a caption by hand, or the model's own put back.

    Attributes:
        values: of the line.
    """

    values: Mapping[str, Any]

    @classmethod
    def by_hand(cls, before: Mapping[str, Any], text: str) -> EditedRow:
        """The line `before` with a person's caption: what the model knew of its own is left out, facts stay.

        The settings stay as well; that `edited` is true keeps the caption, whatever the settings of a run are.
        """
        model_only = ("alternatives", "agreement", "confidence")
        values = {key: value for key, value in before.items() if key not in model_only}
        if isinstance(values.get("warnings"), list):
            values["warnings"] = [one for one in values["warnings"] if not str(one).startswith(f"{UNSURE}:")]
        own = {"status": "ok", "caption": text, "log_probability": None, "token_count": None, "error": None}
        return cls({**values, **own, "edited": True, "format": FORMAT})

    def as_line(self) -> bytes:
        """One JSON line, as of other rows."""
        return _as_line(self.values)


def _as_line(values: Mapping[str, Any]) -> bytes:
    return (escaped(json.dumps(values, ensure_ascii=False, allow_nan=False)) + "\n").encode()


def _alternative(caption: Caption) -> dict[str, Any]:
    values = {
        "caption": caption.text,
        "log_probability": _finite(caption.log_probability, 5),
        "token_count": caption.token_count,
        "agreement": _finite(caption.agreement, 4),
    }
    return {name: value for name, value in values.items() if value is not None or name != "agreement"}


def _finite(value: float | None, digits: int) -> float | None:
    """JSON has no NaN and no infinity; digits beyond these are noise."""
    return None if value is None or not math.isfinite(value) else round(float(value), digits)

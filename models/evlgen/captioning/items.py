"""What a run works on: a video or picture to caption, or a question about one to answer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from evlgen.system.remote_files import RemoteFile

Span = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class Video:
    """A video or picture to caption.

    Attributes:
        name: a path with forward slashes, relative to the root.
        path: absolute path; of a file elsewhere, one that only stands for it.
        span: the part of it that is meant, from when to when in seconds; None: all of it.
        source: where a file is that is elsewhere.
    """

    name: str
    path: Path
    span: Span | None = None
    source: RemoteFile | None = None

    @property
    def key(self) -> str:
        """What the journal knows it by."""
        return key_of(self.name, *(self.span or (None, None)))

    @property
    def root(self) -> Path | None:
        """The folder that the name is relative to; None where the path does not end with the name."""
        if self.source is not None:
            return None
        head, end = str(self.path), f"{os.sep}{Path(self.name)}"
        return Path(head.removesuffix(end) or os.sep) if head.endswith(end) else None


@dataclass(frozen=True)
class PictureQuestion:
    """A question about a picture or video.

    Attributes:
        name: the question's id, which is its key in the journal.
        path: absolute path of the picture.
        image: what the file of questions calls the picture.
        question: as it is asked.
    """

    name: str
    path: Path
    image: str
    question: str

    @property
    def key(self) -> str:
        """What the journal knows it by."""
        return self.name


Item = Video | PictureQuestion


def key_of(name: str, start_seconds: float | Fraction | None, end_seconds: float | Fraction | None) -> str:
    """What the journal knows a video, or a part of it, by: its name, and the part as a media fragment."""
    if start_seconds is None or end_seconds is None:
        return name
    return f"{name}#t={float(start_seconds):.3f},{float(end_seconds):.3f}"


def root_of(item: Item) -> Path | None:
    """The folder that a video's name is relative to; the names of questions are not relative to any."""
    return item.root if isinstance(item, Video) else None


def source_of(item: Item) -> RemoteFile | None:
    """Where the file is that it is about, if that is elsewhere."""
    return item.source if isinstance(item, Video) else None


def question_of(item: Item) -> str | None:
    """What is asked about it; nothing of a video that is to be captioned."""
    return item.question if isinstance(item, PictureQuestion) else None


def prompt_of(item: Item, prompt: str) -> str:
    """What the model's text goes on from: the prompt of the run, in which {} stands for a question."""
    return prompt if isinstance(item, Video) else prompt.replace("{}", item.question)

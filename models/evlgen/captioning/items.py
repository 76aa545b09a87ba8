"""What a run works on: a video or picture to caption, or a question about one to answer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Video:
    """A video or picture to caption.

    Attributes:
        name: key in the journal: a path with forward slashes, relative to the root.
        path: absolute path.
    """

    name: str
    path: Path

    @property
    def root(self) -> Path | None:
        """The folder that the name is relative to; None where the path does not end with the name."""
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


Item = Video | PictureQuestion


def root_of(item: Item) -> Path | None:
    """The folder that a video's name is relative to; the names of questions are not relative to any."""
    return item.root if isinstance(item, Video) else None


def question_of(item: Item) -> str | None:
    """What is asked about it; nothing of a video that is to be captioned."""
    return item.question if isinstance(item, PictureQuestion) else None


def prompt_of(item: Item, prompt: str) -> str:
    """What the model's text goes on from: the prompt of the run, in which {} stands for a question."""
    return prompt if isinstance(item, Video) else prompt.replace("{}", item.question)

"""What was read from a file. Ids are strings everywhere: 391895 in a file is "391895" here."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Predictions:
    """Captions, or answers to questions, that a model gave.

    Attributes:
        path: the file.
        layout: what kind of file it is, in words.
        captions: by id, in file order.
        failed: ids whose row says that there is no caption, and why.
        notes: one line for each thing that a user should know.
    """

    path: Path
    layout: str
    captions: dict[str, str]
    failed: dict[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class References:
    """Captions that people wrote.

    Attributes:
        path: the file.
        layout: what kind of file it is, in words.
        captions: one or more by id, in file order.
        groups: by id, the domain or else the category or else the split, where the file has one.
        notes: one line for each thing that a user should know.
        aliases: by id, a second name under which predictions may know it: the file name of an image that the file
            calls by number, or the number of one that it calls by file name.
    """

    path: Path
    layout: str
    captions: dict[str, list[str]]
    groups: dict[str, str]
    notes: tuple[str, ...]
    aliases: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answers:
    """Answers that people gave to questions about pictures or videos.

    Attributes:
        path: the file.
        layout: what kind of file it is, in words.
        answers: by question id, as many as people were asked (10 in VQAv2, 1 in GQA), in file order.
        questions: by question id, where the file has them.
        types: by question id, the type of the question and the type of the answer, "" where not given.
        notes: one line for each thing that a user should know.
    """

    path: Path
    layout: str
    answers: dict[str, list[str]]
    questions: dict[str, str]
    types: dict[str, tuple[str, str]]
    notes: tuple[str, ...] = ()

"""What can be captioned, or answered, and then scored: captioned data sets and sets of questions, with their media.

A captioned data set is a JSONL file of {image|video|file, captions, split} and its media, a folder or a tar (as in
recipes); or the folder of a published set (MSR-VTT, COCO, ...: evlgen data ls). Only names are looked at here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from evlgen.data.datasets.locating import Located, recognise
from evlgen.data.media import MediaStore
from evlgen.errors import EvlgenError, UsageError

_CAPTION_FILES = ("{split}.jsonl", "captions.jsonl")
_MEDIA = ("{split}.tar", "images.tar", "videos.tar", "media.tar", "{split}", "images", "videos", "media")
_PICTURES = ("images", "images.tar", "images.zip")


@dataclass(frozen=True)
class CaptionedSet:
    """Where a captioned data set is.

    Attributes:
        captions: the captions file.
        media: a folder or an archive.
        split: rows to take, as the captions file calls them; None for all.
        label: what people call the split, where that is something else.
    """

    captions: Path
    media: Path
    split: str | None
    label: str | None = None

    @property
    def name(self) -> str:
        """For file names and headings: the folder's name and the split."""
        return f"{self.captions.absolute().parent.name}-{self.label or self.split or self.captions.stem}"

    @property
    def files(self) -> list[Path]:
        """Everything that is read of it, media last."""
        return [self.captions, self.media]


@dataclass(frozen=True)
class QuestionSet:
    """Where questions, their pictures and people's answers are.

    Attributes:
        questions: the file of questions.
        media: folder, tar or zip of the pictures.
        annotations: the file of answers, where they have one of their own.
        name: for file names and headings.
        title: of a published set; else its file.
    """

    questions: Path
    media: Path
    annotations: Path | None
    name: str
    title: str

    @property
    def files(self) -> list[Path]:
        """Everything that is read of it, media last."""
        return [path for path in (self.questions, self.annotations, self.media) if path is not None]


def find_evaluation_set(
    path: Path, *, split: str | None = None, media: Path | None = None
) -> CaptionedSet | QuestionSet:
    """The set in a folder or captions file: published questions if it holds some and no captions, else captions.

    Args:
        path: the captions file, or a folder that holds {split}.jsonl or captions.jsonl, or the files of a published
            set of captions or questions.
        split: rows to take.
        media: folder, tar or zip of the files; looked for beside the captions if None.

    Raises:
        UsageError: a part of it is not there.
    """
    return _published_questions(path, split, media) or find_captioned_set(path, split=split, media=media)


def _published_questions(path: Path, split: str | None, media: Path | None) -> QuestionSet | None:
    if not path.is_dir() or any(one.is_file() for one in _captions_files(path, split)) or _holds_captions(path, split):
        return None
    found = recognise(path, split, "questions")
    if found is None:
        return None
    found = _elsewhere(found, media)
    found.check()
    assert found.captions is not None
    assert found.media is not None
    name = f"{path.absolute().name}-{found.split.name}"
    return QuestionSet(found.captions, found.media, found.answers, name, found.known.title)


def question_set(questions: Path, *, annotations: Path | None = None, media: Path | None = None) -> QuestionSet:
    """The set of a file of questions.

    Args:
        questions: the file.
        annotations: file of people's answers; GQA's stand with the questions.
        media: folder, tar or zip of the pictures; looked for beside the questions if None.

    Raises:
        UsageError: there are no pictures.
    """
    places = [questions.parent / name for name in _PICTURES] if media is None else [media]
    found = next((one for one in places if one.exists()), None)
    if found is None:
        looked = f"{', '.join(_PICTURES)} beside {questions}" if media is None else f"{media}"
        raise UsageError(f"no pictures: looked for {looked}", "name the folder, tar or zip with --media")
    return QuestionSet(questions, found, annotations, questions.stem, str(questions))


def find_captioned_set(path: Path, *, split: str | None = None, media: Path | None = None) -> CaptionedSet:
    """Where the captions and the media of a data set are.

    Args:
        path: the captions file, or a folder that holds {split}.jsonl or captions.jsonl, or the files of a published
            set.
        split: rows to take.
        media: folder or tar; looked for beside the captions if None.

    Raises:
        UsageError: one of them is not there.
    """
    captions = path
    if path.is_dir():
        found = _captions_files(path, split)
        captions = next((one for one in found if one.is_file()), found[-1])
        if not captions.is_file():
            if (known := _published(path, split, media)) is not None:
                return known
            splits = sorted(one.stem for one in path.glob("*.jsonl"))
            hint = f"--split {' or '.join(splits)}" if splits else "name the captions file itself; evlgen data ls"
            raise UsageError(f"data set {path} holds no {' or '.join(one.name for one in found)}", hint)
    elif not path.is_file():
        raise UsageError(f"no such data set: {path}", "name a JSONL file of captions, or the folder that holds it")
    if media is None:
        places = [captions.parent / name.format(split=split or captions.stem) for name in _MEDIA]
        media = next((one for one in places if one.exists()), None)
    if media is None or not media.exists():
        looked = f"{media}" if media else f"{', '.join(one.name for one in places)} beside {captions}"
        raise _no_media(looked)
    return CaptionedSet(captions, media, split)


def _holds_captions(path: Path, split: str | None) -> bool:
    """Whether a published set of captions has this split here: COCO's folder may hold questions about its pictures."""
    try:
        found = recognise(path, split)
    except UsageError:  # it has no such split, or several: then questions may
        return recognise(path, split, "questions") is None
    return found is not None and found.captions is not None


def _captions_files(folder: Path, split: str | None) -> list[Path]:
    return [folder / name.format(split=split) for name in _CAPTION_FILES if split or "{" not in name]


def _elsewhere(found: Located, media: Path | None) -> Located:
    if media is None:
        return found
    if not media.exists():
        raise _no_media(str(media))
    return found.with_media(media)


def _no_media(looked: str) -> UsageError:
    return UsageError(f"no pictures or videos: looked for {looked}", "name the folder or the tar with --media")


def _published(path: Path, split: str | None, media: Path | None) -> CaptionedSet | None:
    """A published set in a folder; None if it holds none."""
    found = recognise(path, split) or recognise(path, split, "questions")  # these are refused with their name
    if found is None:
        return None
    source = _elsewhere(found, media).source()
    return CaptionedSet(Path(source.captions), Path(source.media), source.split, found.split.name)


@contextmanager
def unpacked(media: Path, names: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """The media as files below a folder while this is open, and what the named ones are called there.

    It is the folder of the media itself, or what `names` needs of an archive. Files are called as the data set names
    them, with their suffix where a name lacks it.

    Raises:
        UsageError: a name leads out of the folder or archive.
        EvlgenError: an archive cannot be unpacked.
    """
    with MediaStore(str(media)) as store:
        files = [_with_suffix(name, store.resolve(name)) for name in names]
        if store.is_folder:
            yield media.absolute(), files
            return
        with tempfile.TemporaryDirectory(prefix="evlgen-dataset-", ignore_cleanup_errors=True) as folder:
            for name, file in zip(names, files, strict=True):
                target = Path(folder, file)
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(store.read(name))
                except OSError as error:
                    raise EvlgenError(
                        f"cannot unpack {name} of {media}: {error.strerror}",
                        "unpack the archive yourself, give --media",
                    ) from error
            yield Path(folder), files


def _with_suffix(name: str, real: str | None) -> str:
    suffix = "" if real is None else PurePosixPath(real).suffix
    return name if name.lower().endswith(suffix.lower()) else f"{name}{suffix}"

"""Captioning the pictures or videos of a captioned data set, so that they can be scored.

A data set is a JSONL file of {image|video|file, captions, split} and its media, a folder or a tar (as in recipes); or
the folder of a published set (MSR-VTT, COCO, ...: evlgen data ls). Rows of the output are named like the rows of the
data set, with the file's suffix where those lack one, so that predictions and references meet by name.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from evlgen.captioning.listener import Listener
from evlgen.captioning.request import CaptionRequest
from evlgen.captioning.run import caption_videos
from evlgen.captioning.summary import Summary
from evlgen.data.captions import MediaStore, read_items
from evlgen.data.datasets.finding import Located, recognise
from evlgen.errors import EvlgenError, UsageError
from evlgen.recipes.data import DataSource

_SHOWN = 3
_CAPTION_FILES = ("{split}.jsonl", "captions.jsonl")
_MEDIA = ("{split}.tar", "images.tar", "videos.tar", "media.tar", "{split}", "images", "videos", "media")


@dataclass(frozen=True)
class Dataset:
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


def find_dataset(path: Path, *, split: str | None = None, media: Path | None = None) -> Dataset:
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
    return Dataset(captions, media, split)


def find_question_files(path: Path, *, split: str | None = None, media: Path | None = None) -> Located | None:
    """The published set of questions in a folder, if it holds one and no captions, which come first; arguments and
    errors as of `find_dataset`."""
    if not path.is_dir() or any(one.is_file() for one in _captions_files(path, split)) or _holds_captions(path, split):
        return None
    found = recognise(path, split, "questions")
    if found is not None:
        found = _elsewhere(found, media)
        found.check()
    return found


def _holds_captions(path: Path, split: str | None) -> bool:
    """Whether a published set of captions has this split here: COCO's folder may hold questions about its pictures."""
    try:
        found = recognise(path, split)
    except UsageError:  # it has no such split, or several: then questions may
        return recognise(path, None if split is None else split, "questions") is None
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


def _published(path: Path, split: str | None, media: Path | None) -> Dataset | None:
    """A published set in a folder; None if it holds none."""
    found = recognise(path, split) or recognise(path, split, "questions")  # these are refused with their name
    if found is None:
        return None
    source = _elsewhere(found, media).source()
    return Dataset(Path(source.captions), Path(source.media), source.split, found.split.name)


def caption_dataset(
    dataset: Dataset,
    request: CaptionRequest,
    listener: Listener | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Caption every item of a data set that the output does not hold yet.

    Args:
        dataset: what to caption.
        request: how and where to; its `sources` are replaced.
        listener: told what happens.
        stop: see `caption_videos`.

    Raises:
        UsageError: no rows, or none of the files that the data set names is there; a few that are missing are left out,
            and the listener is told.
        EvlgenError: see `caption_videos`.
    """
    source = DataSource(captions=str(dataset.captions), media=str(dataset.media), split=dataset.split)
    items = read_items(source, lower_case=False)
    if any(item.prompts for item in items):
        raise UsageError(
            f"{dataset.captions} has prompts or questions of its own, which captions of a set do not go on from",
            "leave them out and give --prompt; questions are answered with --questions",
        )
    names = list(dict.fromkeys(item.name for item in items))
    names = _present(dataset, names, listener or Listener())
    with unpacked(dataset.media, names) as (root, files):
        sources = [str(root / file) for file in files]
        return caption_videos(replace(request, sources=sources, root=root), listener, stop)


def _present(dataset: Dataset, names: list[str], listener: Listener) -> list[str]:
    """The names whose files are there: of clips of YouTube, for one, nobody has all."""
    with MediaStore(str(dataset.media)) as store:
        left_out = [name for name in names if store.resolve(name) is None]
    if len(left_out) == len(names):
        what = f"{dataset.media} holds none of the {len(names)} files that {dataset.captions} names, such as {names[0]}"
        raise UsageError(what, "name the folder or the tar with --media")
    if left_out:
        shown = ", ".join(left_out[:_SHOWN]) + (", ..." if len(left_out) > _SHOWN else "")
        listener.on_note(
            f"{len(left_out)} of {len(names)} files that {dataset.captions} names are not in {dataset.media} and are "
            f"left out: {shown}"
        )
    missing = set(left_out)
    return [name for name in names if name not in missing]


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
        folder = Path(tempfile.mkdtemp(prefix="evlgen-dataset-"))
        try:
            for name, file in zip(names, files, strict=True):
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    target.write_bytes(store.read(name))
                except OSError as error:
                    raise EvlgenError(
                        f"cannot unpack {name} of {media}: {error.strerror}",
                        "unpack the archive yourself, give --media",
                    ) from error
            yield folder, files
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _with_suffix(name: str, real: str | None) -> str:
    suffix = "" if real is None else PurePosixPath(real).suffix
    return name if name.lower().endswith(suffix.lower()) else f"{name}{suffix}"

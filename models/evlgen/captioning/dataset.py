"""Captioning the pictures or videos of a captioned data set, so that they can be scored.

A data set is a JSONL file of {image|video|file, captions, split} and its media, a folder or a tar (as in recipes). Rows
of the output are named like the rows of the data set, so that predictions and references meet by name.
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
from evlgen.errors import EvlgenError, UsageError
from evlgen.recipes.schema import DataSource

_CAPTION_FILES = ("{split}.jsonl", "captions.jsonl")
_MEDIA = ("{split}.tar", "images.tar", "videos.tar", "media.tar", "{split}", "images", "videos", "media")


@dataclass(frozen=True)
class Dataset:
    """Where a captioned data set is.

    Attributes:
        captions: the JSONL file.
        media: a folder or a tar.
        split: rows to take; None for all.
    """

    captions: Path
    media: Path
    split: str | None

    @property
    def name(self) -> str:
        """For file names and headings: the folder's name and the split."""
        return f"{self.captions.absolute().parent.name}-{self.split or self.captions.stem}"


def find_dataset(path: Path, *, split: str | None = None, media: Path | None = None) -> Dataset:
    """Where the captions and the media of a data set are.

    Args:
        path: the JSONL file, or a folder that holds {split}.jsonl or captions.jsonl.
        split: rows to take.
        media: folder or tar; looked for beside the captions if None.

    Raises:
        UsageError: one of them is not there.
    """
    captions = path
    if path.is_dir():
        found = [path / name.format(split=split) for name in _CAPTION_FILES if split or "{" not in name]
        captions = next((one for one in found if one.is_file()), found[-1])
        if not captions.is_file():
            splits = sorted(one.stem for one in path.glob("*.jsonl"))
            hint = f"--split {' or '.join(splits)}" if splits else "name the JSONL file itself"
            raise UsageError(f"data set {path} holds no {' or '.join(one.name for one in found)}", hint)
    elif not path.is_file():
        raise UsageError(f"no such data set: {path}", "name a JSONL file of captions, or the folder that holds it")
    if media is None:
        places = [captions.parent / name.format(split=split or captions.stem) for name in _MEDIA]
        media = next((one for one in places if one.exists()), None)
    if media is None or not media.exists():
        looked = f"{media}" if media else f"{', '.join(one.name for one in places)} beside {captions}"
        raise UsageError(f"no pictures or videos: looked for {looked}", "name the folder or the tar with --media")
    return Dataset(captions, media, split)


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
        UsageError: no rows, or files that the data set names are missing.
        EvlgenError: see `caption_videos`.
    """
    source = DataSource(captions=str(dataset.captions), media=str(dataset.media), split=dataset.split)
    names = list(dict.fromkeys(item.name for item in read_items(source, lower_case=False)))
    with unpacked(dataset.media, names) as root:
        sources = [str(root / name) for name in names]
        return caption_videos(replace(request, sources=sources, root=root), listener, stop)


@contextmanager
def unpacked(media: Path, names: list[str]) -> Iterator[Path]:
    """The media as files below a folder, while this is open: the folder itself, or what `names` needs of a tar."""
    if media.is_dir():
        yield media.absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="evlgen-dataset-"))
    try:
        with MediaStore(str(media)) as store:
            for name in names:
                if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    raise UsageError(f"{name} leads out of the data set", "names must be relative")
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    target.write_bytes(store.read(name))
                except OSError as error:
                    raise EvlgenError(
                        f"cannot unpack {name} of {media}: {error.strerror}", "unpack the tar yourself, give --media"
                    ) from error
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)

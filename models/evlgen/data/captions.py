"""Captioned items from a JSONL file and a folder or tar of media."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evlgen.errors import EvlgenError, UsageError
from evlgen.recipes import DataSource, expand_path

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


@dataclass(frozen=True)
class CaptionedItem:
    """One picture or video with its reference captions."""

    name: str
    captions: tuple[str, ...]


def read_items(source: DataSource, *, lower_case: bool) -> list[CaptionedItem]:
    """Items of a source, in file order.

    Raises:
        UsageError: the file is missing or a line is not what it must be; file and line are named.
    """
    path = expand_path(source.captions)
    if not path.is_file():
        raise UsageError(f"captions file {path} does not exist", "check data.*.captions in the recipe")
    items: list[CaptionedItem] = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name = next(row[k] for k in ("video", "image", "file") if k in row)
            captions = row["captions"] if "captions" in row else [row["caption"]]
            good = isinstance(name, str) and isinstance(captions, list) and len(captions) > 0
            if not (good and all(isinstance(c, str) and c.strip() for c in captions)):
                raise ValueError
        except (ValueError, KeyError, StopIteration, TypeError):
            raise UsageError(
                f"{path} line {number}: expected a video, image or file (a name) and its captions (non-empty texts)"
            ) from None
        if source.split is None or row.get("split") == source.split:
            items.append(CaptionedItem(name, tuple(clean_caption(c, lower_case=lower_case) for c in captions)))
    if not items:
        raise UsageError(f"{path} has no rows" + (f" of split {source.split!r}" if source.split else ""))
    return items[: source.limit]


def _lines(path: Path) -> list[str]:
    """Lines by line feeds only: JSON strings may hold other line separators as they are."""
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "expected JSONL in UTF-8") from None


def clean_caption(text: str, *, lower_case: bool) -> str:
    """One line, single spaces; with `lower_case` also no final full stop."""
    text = " ".join(text.split())
    return text.lower().rstrip(" .") if lower_case else text


class MediaStore:
    """Files by name, from a folder or read in place from a tar.

    Raises:
        UsageError: neither a folder nor a tar.
    """

    def __init__(self, media: str) -> None:
        self.path = expand_path(media).absolute()
        self._tar: tarfile.TarFile | None = None
        self._members: dict[str, tarfile.TarInfo] = {}
        if self.path.is_file():
            try:
                self._tar = tarfile.open(self.path)  # noqa: SIM115 - lives as long as the store
                self._members = {m.name.removeprefix("./"): m for m in self._tar if m.isfile()}
            except (tarfile.TarError, OSError) as error:
                raise UsageError(f"{self.path} is not a whole tar file: {error}") from None
        elif not self.path.is_dir():
            raise UsageError(f"media {self.path} is neither a folder nor a tar", "check data.*.media in the recipe")

    def stamp(self, name: str) -> tuple[int, int]:
        """Size in bytes and modification time of a file; (-1, -1) if there is none."""
        if self._tar is not None:
            member = self._members.get(name)
            return (-1, -1) if member is None else (member.size, int(member.mtime))
        try:
            status = (self.path / name).stat()
        except OSError:
            return (-1, -1)
        return status.st_size, status.st_mtime_ns

    def read(self, name: str) -> bytes:
        """Bytes of a file.

        Raises:
            EvlgenError: no such file, or it cannot be read.
        """
        try:
            if self._tar is None:
                return (self.path / name).read_bytes()
            stream = self._tar.extractfile(self._members[name])
            assert stream is not None, "only files are kept"
            return stream.read()
        except KeyError:
            raise EvlgenError(f"{self.path} holds no {name}") from None
        except (OSError, tarfile.TarError) as error:
            raise EvlgenError(f"{self.path / name} cannot be read: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tar is not None:
            self._tar.close()


def decode_frames(name: str, content: bytes, max_frames: int) -> list[NDArray[np.uint8]]:
    """RGB frames (H, W, 3) of a picture, or at most `max_frames` evenly spread ones of a short training clip.

    Raises:
        EvlgenError: it cannot be decoded.
    """
    try:
        if Path(name).suffix.lower() in IMAGE_SUFFIXES:
            return [np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))]
        return _decode_clip(content, max_frames)
    except Exception as error:  # decoders raise whatever they like on bad input
        raise EvlgenError(f"{name} cannot be decoded: {type(error).__name__}: {error}") from None


def _decode_clip(content: bytes, max_frames: int) -> list[NDArray[np.uint8]]:
    import av

    with av.open(io.BytesIO(content)) as container:
        if not container.streams.video:
            raise ValueError("no video stream")
        container.streams.video[0].thread_type = "NONE"
        frames: list[Any] = list(container.decode(video=0))
    if not frames:
        raise ValueError("no frames")
    count = min(max_frames, len(frames))
    chosen = [int((i + 0.5) * len(frames) / count) for i in range(count)]
    return [frames[i].to_ndarray(format="rgb24") for i in chosen]

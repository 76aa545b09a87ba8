"""Pictures, clips and archives of them, made by the tests of this room."""

import io
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import av
import numpy as np
from PIL import Image

from evlgen.data.caption_sources import CaptionedItem, ReadSource, Role
from evlgen.data.decoding import decode_picture, distinct_frames
from evlgen.data.media import MediaStore
from evlgen.errors import Failure
from evlgen.recipes import DataSource
from evlgen.recipes.data_schema import DataConfig
from evlgen.video import ClipFrames, DecodePool, Sampler


def png(grey: int, size: tuple[int, int] = (20, 10)) -> bytes:
    """One flat picture."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(buffer, "png")
    return buffer.getvalue()


def jpg(grey: int, size: tuple[int, int] = (20, 10)) -> bytes:
    """One flat picture."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(buffer, "jpeg")
    return buffer.getvalue()


def clip(levels: list[int], *, rate: int = 1, pts: list[int] | None = None, form: str = "mp4") -> bytes:
    """An MPEG-4 clip with one flat frame for each level of grey."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form) as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number, level in enumerate(levels):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level, dtype=np.uint8), format="rgb24")
            if pts is not None:
                frame.pts = pts[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def greys(frames: list[np.ndarray], levels: list[int]) -> list[int]:
    """Which level each frame shows."""
    return [levels[int(np.argmin([abs(f.mean() - v) for v in levels]))] for f in frames]


@cache
def decode_frames(name: str, content: bytes, max_frames: int) -> list[np.ndarray]:
    """Frames of one picture or video from its bytes, by no reader of this room; not to be changed."""
    if name.endswith(("png", "jpg")):
        return [decode_picture(content)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"clip{PurePosixPath(name).suffix}"
        path.write_bytes(content)
        with DecodePool(workers=1, sampler=Sampler(frames=max_frames)) as pool:
            clip = pool.decode(path)
    assert isinstance(clip, ClipFrames)
    return distinct_frames(clip)


def source_of(
    media: MediaStore,
    items: Sequence[CaptionedItem | str],
    *,
    role: Role = "train",
    name: str = "set/train",
    uncaptioned: Sequence[Failure] = (),
    **config: Any,
) -> ReadSource:
    """A source of items or names, as `read_source` gives it."""
    captioned = [CaptionedItem(item, ("x",)) if isinstance(item, str) else item for item in items]
    settings = DataSource(captions="none.jsonl", media=str(media.path), **config)
    return ReadSource(name, role, settings, captioned, list(uncaptioned), media)


def data_of(**settings: Any) -> DataConfig:
    """Settings of a recipe's data, with no matter what sources."""
    none = [{"captions": "none.jsonl"}]
    return DataConfig.model_validate({"train": none, "validation": none, **settings})


def lay_out(root: Path, files: Mapping[str, bytes], kind: str) -> Path:
    """The files as a folder, a tar, a compressed tar or a zip."""
    if kind == "folder":
        for name, content in files.items():
            (root / "media" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "media" / name).write_bytes(content)
        return root / "media"
    path = root / f"media.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as made:
            for name, content in files.items():
                made.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if kind == "tgz" else "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path

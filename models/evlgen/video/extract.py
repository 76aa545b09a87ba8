"""Write sampled frames to image files, or to one contact sheet with the times drawn in: the sampler made visible."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from evlgen.errors import UsageError
from evlgen.system.cpus import usable_cpus
from evlgen.video.clip import ClipFrames, DecodeFailure, VideoInfo
from evlgen.video.pool import DecodePool
from evlgen.video.sampler import Sampler

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_FORMATS = ("png", "jpg")
_TILE_WIDTH = 320  # pixels of one picture in a contact sheet
_CAPTION_HEIGHT = 18  # pixels below each picture for its time


@dataclass(frozen=True)
class ExtractedFrames:
    """What was written.

    Args:
        path: the video.
        info: what the video says about itself.
        indices: presentation index of each frame.
        timestamps: seconds after the first frame, one for each frame.
        files: one image file for each frame, or a single contact sheet.
        partial: a part of the video could not be read.
        warnings: plain sentences.
    """

    path: Path
    info: VideoInfo
    indices: tuple[int, ...]
    timestamps: tuple[Fraction, ...]
    files: tuple[Path, ...]
    partial: bool
    warnings: tuple[str, ...]


def extract_frames(
    folders: Mapping[Path, Path],
    sampler: Sampler | None = None,
    *,
    backend: str = "pyav",
    timeout_seconds: float = 60.0,
    image_format: str = "png",
    contact_sheet: bool = False,
) -> Iterator[ExtractedFrames | DecodeFailure]:
    """Sample frames of videos and write them, each video's into a folder of its own: results as they get done.

    Files are named after the video, the position in the sample, the presentation index and the time in seconds, for
    instance `clip-02-i000037-1.233s.png`; a contact sheet is `clip-sheet.png`.

    Args:
        folders: the folder of each video's images; made if need be.
        sampler: which frames; the default is `Sampler()`.
        backend: decoder, as for `DecodePool`.
        timeout_seconds: a video that takes longer is given up.
        image_format: png or jpg.
        contact_sheet: one picture with all frames and their times, instead of one each.

    Raises:
        UsageError: for wrong settings or a folder that cannot be written.
    """
    if image_format not in IMAGE_FORMATS:
        raise UsageError(f"image format {image_format!r} is not one of {', '.join(IMAGE_FORMATS)}")
    with DecodePool(max(1, min(len(folders), usable_cpus())), timeout_seconds, backend, sampler) as pool:
        for clip in pool.map(folders):
            if isinstance(clip, DecodeFailure):
                yield clip
                continue
            out = folders[clip.path]
            try:
                out.mkdir(parents=True, exist_ok=True)
                files = _write_sheet(clip, out, image_format) if contact_sheet else _write_each(clip, out, image_format)
            except OSError as error:
                raise UsageError(
                    f"{out}: cannot be written: {error.strerror or error}", "choose another --out"
                ) from error
            yield ExtractedFrames(
                clip.path, clip.info, clip.indices, clip.timestamps, files, clip.partial, clip.warnings
            )


def contact_sheet(pictures: "Sequence[Image]", labels: Sequence[str]) -> "Image":
    """Pictures of one size in a roughly square grid, each with its label below.

    Args:
        pictures: at least one, all of one size.
        labels: one for each picture.
    """
    from PIL import Image, ImageDraw

    columns = next(c for c in range(1, len(pictures) + 1) if c * c >= len(pictures))
    rows = -(-len(pictures) // columns)
    height = max(1, round(pictures[0].height * _TILE_WIDTH / pictures[0].width))
    sheet = Image.new("RGB", (columns * _TILE_WIDTH, rows * (height + _CAPTION_HEIGHT)))
    draw = ImageDraw.Draw(sheet)
    for place, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left, top = place % columns * _TILE_WIDTH, place // columns * (height + _CAPTION_HEIGHT)
        sheet.paste(picture.resize((_TILE_WIDTH, height)), (left, top))
        draw.text((left + 4, top + height + 2), label, fill="white")
    return sheet


def _write_each(clip: ClipFrames, out: Path, image_format: str) -> tuple[Path, ...]:
    files = []
    digits = len(str(len(clip.indices) - 1)) if len(clip.indices) > 10 else 2
    for place, (picture, index, time) in enumerate(zip(_images(clip), clip.indices, clip.timestamps, strict=True)):
        name = f"{clip.path.stem}-{place:0{digits}d}-i{index:06d}-{float(time):.3f}s.{image_format}"
        files.append(out / name)
        picture.save(files[-1])
    return tuple(files)


def _write_sheet(clip: ClipFrames, out: Path, image_format: str) -> tuple[Path, ...]:
    labels = [f"{float(time):.3f} s  frame {i}" for i, time in zip(clip.indices, clip.timestamps, strict=True)]
    file = out / f"{clip.path.stem}-sheet.{image_format}"
    contact_sheet(_images(clip), labels).save(file)
    return (file,)


def _images(clip: ClipFrames) -> "list[Image]":
    from PIL import Image

    return [Image.fromarray(picture) for picture in clip.frames]

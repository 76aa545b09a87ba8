"""Still pictures: the one place of the house where Pillow opens what users have, and how a picture becomes RGB.

By content, never by name, and only formats that are whole in one file: Pillow would also open PostScript, by running
Ghostscript. A still picture is a clip of one frame. Animations: a GIF is left to the video decoder as long as that can
decode it; WebP and PNG, and GIFs where it cannot, are sampled like videos, by the durations that they state.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING

from evlgen.errors import VideoError
from evlgen.video.clip import Answer, Backend, ClipFrames, VideoInfo
from evlgen.video.picture import Size, resize, sampled_clip
from evlgen.video.sampler import Sampler
from evlgen.video.timeline import Timeline

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

_ANIMATED = ("GIF", "WEBP", "PNG")
_ROTATIONS = {3: -180, 6: -90, 8: 90}  # EXIF orientation -> degrees counter-clockwise; mirror images aside
_ORIENTATION = 0x0112  # EXIF tag


def open_picture(source: Path | IO[bytes]) -> "Image":
    """Open a picture of one of FORMATS, told by its content.

    Raises:
        PIL.UnidentifiedImageError: it is none.
        Exception: whatever Pillow raises on bad input.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(source, formats=FORMATS)
    except UnidentifiedImageError:  # Pillow's own text holds an address of memory
        raise UnidentifiedImageError(f"cannot identify image file: it is none of {', '.join(FORMATS)}") from None


def to_rgb8(image: "Image") -> "npt.NDArray[np.uint8]":
    """RGB pixels (H, W, 3), upright as EXIF says, scaled by the depth of the samples, on white where transparent.

    Raises:
        Exception: whatever Pillow raises on bad input.
    """
    import numpy as np
    from PIL import Image, ImageOps

    sixteen_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    upright = ImageOps.exif_transpose(image)
    if sixteen_bits:  # Pillow's own conversion cuts off at 255
        grey = (np.asarray(upright).astype(np.int64) * 255 + 32767) // 65535
    elif image.mode in ("I", "F"):  # nothing says what is white: the range of the values does
        values = np.nan_to_num(np.asarray(upright).astype(np.float64))
        grey = np.rint((values - values.min()) * (255 / (np.ptp(values) or 1)))
    else:
        if upright.has_transparency_data:  # what stands below a transparent pixel is nobody's choice
            colours = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
        return np.asarray(upright.convert("RGB"))
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)


def decode(path: Path, sampler: Sampler, size: Size = None) -> ClipFrames:
    """The frame of a still picture, or the frames of an animation that `sampler` chooses.

    Raises:
        VideoError: "decode-error".
    """
    with _errors_of(path), open_picture(path) as image:
        return _decode(path, image, sampler, size)


def with_pictures(backend: Backend) -> Backend:
    """A backend that decodes pictures as well as what it decodes by itself."""

    def pictures_too(path: Path, sampler: Sampler, size: Size = None, strict: bool = False, threads: int = 1) -> Answer:
        name, animated = _recognise(path)
        if name and not (name == "GIF" and animated):
            return decode(path, sampler, size)
        try:
            return backend(path, sampler, size, strict, threads)
        except VideoError:
            if name:
                return decode(path, sampler, size)
            raise

    return pictures_too


def _recognise(path: Path) -> tuple[str, bool]:
    """The format of a picture and whether it moves; nothing of what is no picture, or cannot be read."""
    if not path.is_file():  # reading a pipe would wait for ever
        return "", False
    with suppress(OSError), _errors_of(path, let_pass=OSError), open_picture(path) as image:
        return image.format or "", _is_animated(image)
    return "", False


@contextmanager
def _errors_of(path: Path, let_pass: type[Exception] = MemoryError) -> Iterator[None]:
    """Make one line of whatever Pillow raises on bad input."""
    try:
        yield
    except (MemoryError, let_pass):
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise VideoError("decode-error", f"{path}: the picture cannot be decoded: {text}") from error


def _is_animated(image: "Image") -> bool:
    return image.format in _ANIMATED and getattr(image, "n_frames", 1) > 1


def _decode(path: Path, image: "Image", sampler: Sampler, size: Size) -> ClipFrames:
    count = getattr(image, "n_frames", 1)
    name = (image.format or "").lower()
    rotation = _ROTATIONS.get(image.getexif().get(_ORIENTATION, 1), 0)
    if _is_animated(image):
        timeline = _timeline(image, count)
        indices = sampler.choose(timeline, path.name)
    else:
        timeline, indices = Timeline((Fraction(0),), Fraction(0)), (0,)
    pictures: dict[int, npt.NDArray[np.uint8]] = {}
    for index in sorted(set(indices)):
        if index:
            image.seek(index)
        pictures[index] = to_rgb8(image)
    height, width, _ = pictures[indices[0]].shape
    info = VideoInfo(name, name, width, height, rotation, timeline.duration or None, count, None, 1, False)
    notes = [f"only the first of its {count} pages is looked at"] if name == "tiff" and count > 1 else []
    return sampled_clip(path, timeline, [(i, resize(pictures[i], size)) for i in indices], info, notes=notes)


def _timeline(image: "Image", count: int) -> Timeline:
    """When each frame comes on display, from the durations that the frames state."""
    starts, end = [], 0
    for index in range(count):
        image.seek(index)
        image.load()  # WebP tells a frame's duration when the frame is decoded
        starts.append(end)
        end += max(round(image.info.get("duration", 0)), 1)  # milliseconds
    image.seek(0)
    return Timeline.from_pts(starts, Fraction(1, 1000), end - starts[-1])

"""Make small clips whose pictures say which frame they are: a bar code of 8 bits across the picture.

Nothing here uses evlgen: `decode_everything` is the plain slow truth that the fast reader is compared with.
"""

import struct
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT, BITS = 128, 64, 8
X264 = {"preset": "veryfast", "g": "12", "bf": "3", "x264-params": "keyint=12:min-keyint=12:scenecut=0:bframes=3"}


def barcode(number: int) -> np.ndarray:
    """uint8 (64, 128, 3): 8 bars, the highest bit on the left, white for 1."""
    bars = [255 if number >> (BITS - 1 - bit) & 1 else 0 for bit in range(BITS)]
    return np.repeat(np.repeat(np.array(bars, np.uint8)[None, :, None], WIDTH // BITS, 1), HEIGHT, 0).repeat(3, 2)


def noisy_barcode(number: int) -> np.ndarray:
    """The same with noise in the lowest quarter, so that a clip has some bytes to lose."""
    picture = barcode(number)
    picture[HEIGHT * 3 // 4 :] = np.random.default_rng(number).integers(0, 256, (HEIGHT // 4, WIDTH, 3), np.uint8)
    return picture


def read_barcode(picture: np.ndarray) -> int:
    """The number in an upright picture of any size."""
    width = picture.shape[1] / BITS
    centre = picture[picture.shape[0] // 2].mean(-1)
    bits = [centre[int((bit + 0.25) * width) : int((bit + 0.75) * width) + 1].mean() > 127 for bit in range(BITS)]
    return sum(int(bit) << (BITS - 1 - place) for place, bit in enumerate(bits))


def write_clip(
    path: Path,
    codec: str = "libx264",
    count: int = 50,
    *,
    pts: list[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    pictures: list[np.ndarray] | None = None,
    rotation: int = 0,
    streams: int = 1,
    thread_count: int = 1,
) -> Path:
    """Encode `count` bar codes, shown at `pts` (default: 0, 1, 2 …) in units of `time_base` seconds."""
    pictures = pictures or [barcode(number) for number in range(count)]
    height, width, _ = pictures[0].shape
    with av.open(str(path), "w", options=container_options or {}) as container:
        outputs = []
        for place in range(streams):
            stream = container.add_stream(codec, rate=25, options=X264 if options is None else options)
            stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
            stream.codec_context.time_base = time_base
            stream.codec_context.thread_count = thread_count
            if rotation:
                stream.set_display_rotation(rotation)
            outputs.append((stream, pictures if place == 0 else [255 - picture for picture in pictures]))
        for place in range(len(pictures)):
            for stream, images in outputs:
                frame: Any = av.VideoFrame.from_ndarray(images[place], format="rgb24")
                frame = frame.reformat(format=pix_fmt)
                frame.pts = place if pts is None else pts[place]
                frame.time_base = time_base
                container.mux(stream.encode(frame))
        for stream, _ in outputs:
            container.mux(stream.encode(None))
    return path


def write_audio(path: Path) -> Path:
    """Half a second of silence, no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        for place in range(4):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, place * 1024, Fraction(1, 8000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@cache
def decode_everything(path: Path) -> list[tuple[Fraction, np.ndarray]]:
    """(seconds since the first frame, stored RGB picture) of every frame, in presentation order."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(frame.pts, frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
        frames.sort(key=lambda item: item[0])
        return [((pts - frames[0][0]) * Fraction(stream.time_base), picture) for pts, picture in frames]


def shown_at(times: list[Fraction], seconds: Fraction) -> int:
    """The time rule, written as slowly and plainly as possible."""
    answer = 0
    for index, time in enumerate(times):
        if time <= seconds:
            answer = index
    return answer


def damage(source: Path, target: Path, first: float, last: float) -> Path:
    """Copy `source`, overwriting the bytes from share `first` to share `last` of its media data with noise.

    The length fields inside the data go too, as after a failed download.
    """
    data = bytearray(source.read_bytes())
    start = data.rfind(b"mdat") + 4
    (size,) = struct.unpack(">I", data[start - 8 : start - 4])
    lo, hi = start + int(size * first), start + int(size * last)
    data[lo:hi] = np.random.default_rng(0).integers(0, 256, hi - lo, np.uint8).tobytes()
    target.write_bytes(data)
    return target

"""What the video room hands out: facts about a file, decoded frames, or the reason why there are none."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from evlgen.errors import Failure

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about itself. Only width, height and rotation come from a decoded frame; the rest can lie.

    Args:
        container_format: FFmpeg's name, for instance "mov,mp4,m4a,3gp,3g2,mj2".
        codec: FFmpeg's name of the decoder or encoder format, for instance "h264".
        width: pixels across as displayed, after rotation; a sample aspect ratio is not applied.
        height: pixels down as displayed, after rotation.
        rotation: degrees counter-clockwise by which the stored picture is turned for display (-90 means a quarter
            turn clockwise), as in the file's display matrix; 0 when there is none.
        duration_seconds: declared by the stream or, failing that, by the container; None when nothing is declared.
        declared_frame_count: from the header; None when nothing is declared.
        average_frame_rate: frames per second, from the header; None when nothing is declared.
        video_stream_count: cover pictures of audio files are not counted.
        has_audio: whether there is an audio stream.
    """

    container_format: str
    codec: str
    width: int
    height: int
    rotation: int
    duration_seconds: Fraction | None
    declared_frame_count: int | None
    average_frame_rate: Fraction | None
    video_stream_count: int
    has_audio: bool


@dataclass(frozen=True, eq=False)
class ClipFrames:
    """Sampled frames of one video, in the order in which the sampler asked for them.

    Args:
        path: the file, as it was given.
        frames: uint8, shape (F, H, W, 3), RGB, upright.
        indices: F presentation indices, counted from 0 over all frames that are on display: without those that an
            edit list hides or that the end of the file cuts in half, with those that the decoder cannot decode.
        timestamps: F times in seconds at which these frames come on display, from the first frame of the video.
        info: what the file says about itself.
        partial: True when a part of the file could not be read; `warnings` says what.
        warnings: plain sentences; empty for a sound file.
        fingerprint: of the file's content just before it was decoded (content_fingerprint.py); set by the pool.
        spans: the parts that were asked for, if not the whole video (`Sampler.spans`); set by the pool.
    """

    path: Path
    frames: "npt.NDArray[np.uint8]"
    indices: tuple[int, ...]
    timestamps: tuple[Fraction, ...]
    info: VideoInfo
    partial: bool = False
    warnings: tuple[str, ...] = ()
    fingerprint: str | None = None
    spans: tuple[tuple[Fraction, Fraction], ...] = ()

    def parts(self) -> Iterator["ClipFrames"]:
        """A clip for each span, in order; the clip itself where the whole video was asked for."""
        if not self.spans:
            yield self
            return
        count = len(self.indices) // len(self.spans)
        for number, span in enumerate(self.spans):
            own = slice(number * count, (number + 1) * count)
            yield replace(
                self,
                frames=self.frames[own],
                indices=self.indices[own],
                timestamps=self.timestamps[own],
                spans=(span,),
            )


@dataclass(frozen=True)
class DecodeFailure:
    """Why a file gave no frames: a `Failure` with the file, parts and content that it is of, as `ClipFrames` has them.

    Args:
        path: the file, as it was given.
        kind: one of the kinds of `evlgen.errors.VideoError`.
        message: one line for the user.
        fingerprint: as of `ClipFrames`; None for a file that could not be read.
        spans: as of `ClipFrames`.
    """

    path: Path
    kind: str
    message: str
    fingerprint: str | None = None
    spans: tuple[tuple[Fraction, Fraction], ...] = ()

    def named(self, name: str) -> Failure:
        """The failure of what is called `name` elsewhere: its reason has that in place of the path."""
        reason = self.message.removeprefix(f"{self.path}: ").replace(str(self.path), name)
        return Failure(self.kind, reason, name)


Answer = ClipFrames | DecodeFailure
Backend = Callable[..., Answer]
"""A decoder, called with path, sampler, size, strict and threads; see `pyav_backend.decode`."""

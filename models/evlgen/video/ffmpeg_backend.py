"""Decode with the machine's own ffmpeg program, through ffmpeg-python: for what that build decodes and PyAV does not.

Times come from the packets (packets.py), as with every backend. ffmpeg selects by them and answers in NUT, a container
that tells each raw picture's exact time, so nothing is matched by counting. One pass from the start, without seeking:
right for every file, slower than PyAV's jumps in long ones. Where the picture size changes within a file, ffmpeg itself
scales to the first picture's, without a warning. Imported in the child only: what is missing stops the run, once.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING

import ffmpeg

from evlgen.errors import EvlgenError, VideoError
from evlgen.system.child_processes import die_with_parent
from evlgen.video.backends import find_ffmpeg
from evlgen.video.clip import ClipFrames, VideoInfo
from evlgen.video.container import (
    OPENED_FORMATS,
    describe_header,
    first_video_stream,
    nothing_decoded,
    open_container,
    probe,
)
from evlgen.video.packets import PacketScan, scan_packets
from evlgen.video.picture import Size, resize, sampled_clip
from evlgen.video.pyav_backend import Pictures, frame_times
from evlgen.video.sampler import Sampler

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Range = tuple[int, int]
"""First and last pts, both included."""

QUICK = {"fpsprobesize": "0"}  # the frame rate of the answer plays no part
MOST_RANGES = 100  # terms of the select expression, which is evaluated for every frame
_TROUBLE = re.compile("corrupt decoded frame|(?i:error (while decoding|submitting|processing) |decod[a-z]+ error)")


def _passthrough(binary: str) -> dict[str, str]:
    """The option against dropping and doubling frames, which has changed its name between ffmpeg 5.1 and 8."""
    known = subprocess.run([binary, "-fps_mode", "passthrough", "-version"], capture_output=True, check=False)
    return {"fps_mode" if known.returncode == 0 else "vsync": "passthrough"}


if not hasattr(ffmpeg, "input"):
    raise EvlgenError(
        "the module ffmpeg that is imported is not ffmpeg-python's: the package ffmpeg shadows it",
        "pip uninstall ffmpeg ffmpeg-python, then pip install ffmpeg-python",
    )
BINARY = find_ffmpeg()
PASSTHROUGH = _passthrough(BINARY)


def decode(path: Path, sampler: Sampler, size: Size = None, strict: bool = False, threads: int = 1) -> ClipFrames:
    """Decode the frames of `path` that `sampler` chooses; arguments and errors as in `pyav_backend.decode`."""
    scan = scan_packets(path, decodable=False)
    pts, timeline = frame_times(path, scan, threads)
    indices = sampler.choose(timeline, path.name)
    program = _Program(path, scan, pts, size, threads)
    pictures = program.read(sorted({pts[index] for index in indices}))
    warnings = tuple(dict.fromkeys((*scan.damage, *program.warnings)))
    if strict and warnings:
        raise VideoError("decode-error", f"{path}: {warnings[0]}")
    rank = {value: index for index, value in enumerate(pts)}
    found = [(rank[value], picture) for value, picture in (pictures[pts[index]] for index in indices)]
    return sampled_clip(path, timeline, found, _info(path, program.shape), damage=warnings)


class _Program:
    """Runs ffmpeg on one file; keeps the warnings, ffmpeg's first complaint and the shape of its upright pictures."""

    def __init__(self, path: Path, scan: PacketScan, pts: list[int], size: Size, threads: int) -> None:
        self.path, self.scan, self.pts, self.size, self.threads = path, scan, pts, size, threads
        self.warnings: list[str] = []
        self.shape: tuple[int, ...] = ()
        self.complaint = ""

    def read(self, targets: list[int]) -> Pictures:
        """Pictures for all targets (pts, ascending); one that does not come is replaced by the one before, or after."""
        pictures = self._collect(targets, _ranges(targets))
        if all(wanted in pictures and pictures[wanted][0] == wanted for wanted in targets):
            return pictures
        pictures = self._collect(targets, [(self.pts[0], self.pts[-1])])
        if not pictures:
            raise nothing_decoded(self.path, self.warnings[0] if self.warnings else self.complaint)
        if missing := sum(wanted != found for wanted, (found, _) in pictures.items()):
            self.warnings.append(f"{missing} of the chosen frames could not be decoded and are replaced by a neighbour")
        return pictures

    def _collect(self, targets: list[int], ranges: list[Range]) -> Pictures:
        pictures: Pictures = {}
        waiting, known = list(targets), frozenset(self.pts)
        last: tuple[int, npt.NDArray[np.uint8]] | None = None
        for pts, picture in self._frames(ranges):
            if pts not in known:
                continue
            while waiting and pts > waiting[0]:  # it should have come by now
                shown, substitute = last or (pts, picture)
                pictures[waiting.pop(0)] = (shown, resize(substitute, self.size))
            last = (pts, picture)
            if waiting and pts == waiting[0]:
                pictures[waiting.pop(0)] = (pts, resize(picture, self.size))
            if not waiting:
                break
        if last is not None:
            pictures.update({target: (last[0], resize(last[1], self.size)) for target in waiting})
        return pictures

    def _frames(self, ranges: list[Range]) -> "Iterator[tuple[int, npt.NDArray[np.uint8]]]":
        """(pts, upright RGB picture) of the frames within `ranges`, from a process that ends with the iterator."""
        import av

        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                self._command(ranges), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, bufsize=0,
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )  # fmt: skip
            assert process.stdout is not None
            try:
                # No answer, or half of one, is no error here: the log says why.
                with suppress(av.error.FFmpegError), av.open(process.stdout, format="nut", options=QUICK) as answer:
                    for frame in answer.decode(video=0):
                        picture = frame.to_ndarray(format="rgb24")
                        self.shape = picture.shape
                        yield self.pts[0] + int(frame.pts * Fraction(frame.time_base) / self.scan.time_base), picture
                process.stdout.close()
                if process.wait() < 0:
                    self.warnings.append(f"ffmpeg was ended by signal {-process.returncode}")
            finally:
                process.kill()
                process.wait()
                process.stdout.close()
                self._note(log)

    def _command(self, ranges: list[Range]) -> list[str]:
        base = self.scan.time_base
        source = ffmpeg.input(
            f"file:{self.path}", protocol_whitelist="file", format_whitelist=OPENED_FORMATS, copyts=None, nostdin=None,
            v="level+warning", threads=self.threads, thread_type="slice",  # frame threads lose frames around an error
        )  # fmt: skip
        video = (
            source[str(self.scan.stream_index)]
            .filter("select", "+".join(f"between(pts,{first},{last})" for first, last in ranges))
            .filter("trim", end_pts=ranges[-1][1] + 1)  # ends the process after the last chosen frame
            .filter("setpts", f"PTS-({self.pts[0]})")  # NUT has no negative times
            .filter("scale", flags="bilinear")  # PyAV's way from YUV to RGB; the size stays
            .filter("format", "rgb24")
        )
        rate = f"{base.numerator}:{base.denominator}"
        output = video.output("pipe:", format="nut", vcodec="rawvideo", enc_time_base=rate, **PASSTHROUGH)
        command: list[str] = ffmpeg.compile(output, cmd=BINARY)
        return command

    def _note(self, log: IO[bytes]) -> None:
        """What ffmpeg complained about, as far as it concerns pictures, without the addresses in its messages."""
        log.seek(0)
        for line in log.read().decode(errors="replace").splitlines():
            text = re.sub(r"\[[^]]*\] ", "", line).strip()
            if _TROUBLE.search(text):
                self.warnings.append(f"a part of the video could not be decoded: ffmpeg: {text}")
                return
            if "[error]" in line or "[fatal]" in line:
                self.complaint = self.complaint or text


def _ranges(targets: list[int]) -> list[Range]:
    """`targets` as at most MOST_RANGES ranges, cut at the widest gaps; what lies between is decoded and dropped."""
    gaps = sorted(range(1, len(targets)), key=lambda at: targets[at - 1] - targets[at])
    cuts = [0, *sorted(gaps[: MOST_RANGES - 1]), len(targets)]
    return [(targets[start], targets[end - 1]) for start, end in pairwise(cuts)]


def _info(path: Path, shape: tuple[int, ...]) -> VideoInfo:
    """What PyAV says; where it cannot decode the file, its header and the shape of ffmpeg's upright pictures."""
    try:
        return probe(path)
    except VideoError:
        with open_container(path) as container:
            stream = first_video_stream(container, path, decodable=False)
            return describe_header(container, stream, shape[1], shape[0])

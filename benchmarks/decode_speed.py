"""Eight frames of each clip: our decoder against the plain loops that one writes with decord and with PyAV.

All get the same clips and frame indices, those of the sampler, decode in this one process with the same number of
threads, and give RGB pictures of the videos' own size, which are compared. The plain loops: decord's `get_batch`; PyAV
decoding from the start to the last frame that is wanted; PyAV seeking to the keyframe before each. Rounds take turns,
so that a noisy machine hits all alike, and the fastest of each counts. Finding out which frames there are is part of
our time and not of theirs.

    EVLGEN_DATA=... python benchmarks/decode_speed.py [--rounds 5] [--threads 1] [FOLDER]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np

from evlgen.video import Sampler
from evlgen.video.pyav_backend import decode

FRAMES = 8
NEAR = 12.0
"""Levels by which pictures may differ in the mean: the libraries convert colours in their own ways."""

Wanted = Sequence[int]
Loop = Callable[[Path, Wanted, Sequence[float], int], list[Any]]


def with_decord(path: Path, indices: Wanted, _: Sequence[float], threads: int) -> list[Any]:
    """decord's own way to some frames."""
    reader = decord.VideoReader(str(path), num_threads=threads)
    return list(reader.get_batch(list(indices)).asnumpy())


def with_pyav(path: Path, indices: Wanted, _: Sequence[float], threads: int) -> list[Any]:
    """Decode from the start, keep what is wanted, leave behind the last."""
    wanted, found = set(indices), {}
    with av.open(str(path)) as container:
        _set_threads(container, threads)
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                found[number] = frame.to_ndarray(format="rgb24")
            if number >= indices[-1]:
                break
    return [found[index] for index in indices]


def with_seeks(path: Path, _: Wanted, times: Sequence[float], threads: int) -> list[Any]:
    """Seek to the keyframe before each, decode up to it."""
    found = []
    with av.open(str(path)) as container:
        _set_threads(container, threads)
        stream = container.streams.video[0]
        start = (stream.start_time or 0) * stream.time_base
        for moment in times:
            container.seek(int((moment + start) / stream.time_base), stream=stream)
            frame = next(one for one in container.decode(stream) if float(one.time - start) >= moment - 1e-3)
            found.append(frame.to_ndarray(format="rgb24"))
    return found


def _set_threads(container: Any, threads: int) -> None:
    context = container.streams.video[0].codec_context
    context.thread_count = threads
    context.thread_type = "AUTO"


def with_ours(path: Path, _: Wanted, __: Sequence[float], threads: int) -> list[Any]:
    """The decoder of evlgen caption, which finds the frames by itself."""
    return list(decode(path, Sampler(frames=FRAMES), threads=threads).frames)


LOOPS: dict[str, Loop] = {
    "evlgen": with_ours,
    "decord get_batch": with_decord,
    "PyAV from the start": with_pyav,
    "PyAV with seeks": with_seeks,
}


def measure(clips: Sequence[Path], rounds: int, threads: int) -> dict[str, list[float]]:
    """Seconds of the fastest round, of each loop for each clip."""
    truth = {clip: decode(clip, Sampler(frames=FRAMES)) for clip in clips}
    best = {name: [float("inf")] * len(clips) for name in LOOPS}
    for round_ in range(rounds):
        for number, clip in enumerate(clips):
            indices = [int(one) for one in truth[clip].indices]
            times = [float(one) for one in truth[clip].timestamps]
            order = list(LOOPS)[round_ % len(LOOPS) :] + list(LOOPS)[: round_ % len(LOOPS)]
            for name in order:
                started = time.perf_counter()
                frames = LOOPS[name](clip, indices, times, threads)
                best[name][number] = min(best[name][number], time.perf_counter() - started)
                if round_ == 0:
                    for ours, theirs in zip(truth[clip].frames, frames, strict=True):
                        far = float(np.abs(ours.astype(int) - theirs.astype(int)).mean())
                        assert far < NEAR, f"{name} gives other frames of {clip.name}: {far:.1f} levels"
    return best


def main() -> None:
    """Measure, print; exit code 1 if ours is slower than the best of the plain loops, over all clips."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if args.folder is None:
        if "EVLGEN_DATA" not in os.environ:
            sys.exit("set EVLGEN_DATA to the folder of the captioned data, or name a folder of clips")
        args.folder = Path(os.environ["EVLGEN_DATA"]) / "panda-clips"
    decord.logging.set_level(decord.logging.QUIET)
    clips = sorted(args.folder.glob("*.mp4"))
    best = measure(clips, args.rounds, args.threads)
    print(f"{'ms':24}" + "".join(f"{name:>22}" for name in LOOPS))
    for number, clip in enumerate(clips):
        print(f"{clip.stem[:23]:24}" + "".join(f"{1e3 * best[name][number]:22.1f}" for name in LOOPS))
    total = {name: sum(seconds) for name, seconds in best.items()}
    plain = min((name for name in LOOPS if name != "evlgen"), key=lambda name: total[name])
    slower = sum(
        ours > min(best[name][i] for name in LOOPS if name != "evlgen") for i, ours in enumerate(best["evlgen"])
    )
    ratio = total[plain] / total["evlgen"]
    print(
        f"\nFor the log: {FRAMES} frames of each of {len(clips)} clips, "
        f"{args.threads} thread(s), best of {args.rounds}: "
        + ", ".join(f"{name} {1e3 * seconds:.0f} ms" for name, seconds in total.items())
        + f"; {ratio:.2f} times the best plain loop ({plain}); slower than the best for {slower} clips"
    )
    sys.exit(ratio < 1)


if __name__ == "__main__":
    main()

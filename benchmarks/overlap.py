"""Decoding, the model, and the run in which they overlap, in clips a second: the run against the slower one alone.

One process loads the model once. Then, in turns: the decoding children of a run decode all clips and nobody captions
them; the model captions the same clips from memory, in its own batches; and a whole run captions them. Clips are those
of the folder, several times under other names, so that what begins and ends a run weighs little.

    EVLGEN_DATA=... python benchmarks/overlap.py [--rounds 3] [--times 3] [--model evlgen-mini] [FOLDER ...]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from evlgen.captioners.protocol import PromptedClip
from evlgen.captioning import CaptionRequest
from evlgen.captioning.backoff import CarefulCaptioner
from evlgen.captioning.caption_run import default_workers, open_decoder, run_items
from evlgen.captioning.discover import find_videos
from evlgen.captioning.journal import CAPTIONS
from evlgen.system.cpus import threads_wait_asleep, usable_cpus
from evlgen.video import ClipFrames

GOAL = 0.9


def measure(folder: Path, model_name: str, rounds: int) -> dict[str, list[float]]:
    """Clips a second by what was done, of each round."""
    request = CaptionRequest([str(folder)], model=model_name)
    identity, settings = request.resolve()
    dtype = request.kind.resolve_dtype("auto", request.device)
    model = request.kind.load(request.model, request.load_options(dtype, settings.prompt), lambda *_: None)
    videos = find_videos(request.sources)
    paths = [video.path for video in videos]
    with open_decoder(request, identity, settings) as pool:
        decoded = [one for one in pool.map(paths, 1.0) if isinstance(one, ClipFrames)]
    assert len(decoded) == len(videos), "all clips must be sound"
    clips = [PromptedClip(one.frames, tuple(map(float, one.timestamps)), settings.prompt) for one in decoded]

    def decode() -> float:
        with open_decoder(request, identity, settings) as pool:
            list(pool.map(paths[:4], 1.0))  # the children are there
            started = time.monotonic()
            assert sum(isinstance(one, ClipFrames) for one in pool.map(paths, 1.0)) == len(paths)
            return time.monotonic() - started

    def caption() -> float:
        careful = CarefulCaptioner(model, settings.decoding, model.batch_size, print)
        started = time.monotonic()
        for start in range(0, len(clips), model.batch_size):
            careful.caption(clips[start : start + model.batch_size])
        return time.monotonic() - started

    def run() -> float:
        summary = run_items(CAPTIONS, videos, request, models={dtype: model})
        assert summary.ok == len(videos), summary.failed
        return summary.seconds

    caption()  # the first batch of a process is slower than the others
    ways: dict[str, Callable[[], float]] = {"decode alone": decode, "model alone": caption, "run": run}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds):
        for name in [*ways][round_ % 3 :] + [*ways][: round_ % 3]:
            found[name].append(len(videos) / ways[name]())
            print(f"round {round_ + 1}, {name}: {found[name][-1]:.2f} clips/s", flush=True)
    return found


def main() -> None:
    """Measure, print; exit code 1 below the goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--times", type=int, default=3, help="each clip so often")
    parser.add_argument("--model", default="evlgen-mini")
    args = parser.parse_args()
    threads_wait_asleep()  # as `evlgen caption` does
    if not args.folders:
        if "EVLGEN_DATA" not in os.environ:
            sys.exit("set EVLGEN_DATA to the folder of the captioned data, or name folders of clips")
        args.folders = [Path(os.environ["EVLGEN_DATA"]) / name for name in ("panda-clips", "msrvtt-real")]
    clips = sorted(path for folder in args.folders for path in folder.glob("*.mp4"))
    with tempfile.TemporaryDirectory() as temporary:
        for turn in range(args.times):
            for path in clips:
                (Path(temporary) / f"{turn}-{path.name}").symlink_to(path.absolute())
        found = measure(Path(temporary), args.model, args.rounds)
    rate = {name: statistics.median(rates) for name, rates in found.items()}
    slower = min(("decode alone", "model alone"), key=lambda name: rate[name])
    share = statistics.median(one / other for one, other in zip(found["run"], found[slower], strict=True))
    print(
        f"\nFor the log: {args.times * len(clips)} clips, {args.model}, {usable_cpus()} CPUs, "
        f"{default_workers()} decoding processes, median of {args.rounds}: "
        + ", ".join(f"{name} {one:.2f} clips/s" for name, one in rate.items())
        + f"; the run is at {100 * share:.0f}% of the slower ({slower}); {100 * GOAL:.0f}% is the goal"
        + f" (one after the other would be {1 / (1 / rate['decode alone'] + 1 / rate['model alone']):.2f} clips/s)"
    )
    sys.exit(share < GOAL)


if __name__ == "__main__":
    main()

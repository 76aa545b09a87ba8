"""Memory and start-up over many clips: 10,000 tiny ones through the real decoder and journal.

The model is that of stand_in.py, so that what grows is ours. Each clip has the same pictures and other bytes at its
end, hence a fingerprint of its own. Memory must be flat after the first 500 clips, of the run and with its decoding
processes (which are replaced every 200 files), and the whole command must see within two seconds that nothing is left
to do: find the clips, read the journal, compare the content of each.

    python benchmarks/many_clips.py [--clips 10000]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from stand_in import StandIn, install, write_clip

from evlgen.captioning import CaptionRequest, Listener, caption_videos, plan_captions
from evlgen.captioning.journal import read_state
from evlgen.system.memory import family_resident_bytes, resident_bytes

MILLION = 1e6
MOST_GROWTH = 1.1
"""Of the memory after the first clips; decoding processes come and go."""
MOST_START_SECONDS = 2.0
STARTS = 3


class Meter(Listener):
    """Notes the memory at some rows.

    Attributes:
        rows: so many came.
        found: megabytes of the run, and with its decoding processes, by row.
    """

    def __init__(self, at: set[int]) -> None:
        self.rows, self._at = 0, at
        self.found: dict[int, tuple[float, float]] = {}

    def on_row(self, row: Any) -> None:
        """Count, and look."""
        assert row.error is None, row.error
        self.rows += 1
        if self.rows in self._at:
            own, family = (resident_bytes() or 0) / MILLION, (family_resident_bytes() or 0) / MILLION
            self.found[self.rows] = own, family
            print(f"after {self.rows:,} clips: {own:.1f} MB, with the decoding processes {family:.1f} MB", flush=True)


def main() -> None:
    """Caption, look at memory and times, print; exit code 1 where one is too large."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=10_000)
    args = parser.parse_args()
    install()
    StandIn.seconds_a_batch, StandIn.batch_size = 0.0, 16
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "clips"
        folder.mkdir()
        write_clip(folder / "0.mp4", 0)
        content = (folder / "0.mp4").read_bytes()
        for number in range(1, args.clips):
            # a box of the container that nobody reads: its size, its name, what it holds
            (folder / f"{number}.mp4").write_bytes(content + b"\0\0\0\x10free" + number.to_bytes(8, "big"))
        request = CaptionRequest([str(folder)], Path(temporary) / "out.jsonl")
        started = time.monotonic()
        first = min(500, args.clips // 4)
        meter = Meter({first, *(args.clips * part // 8 for part in range(2, 9))})
        caption_videos(request, meter)
        seconds = time.monotonic() - started
        assert meter.rows == args.clips
        print(f"{args.clips:,} clips in {seconds:.0f} s, {args.clips / seconds:.0f} clips/s")

        assert request.out is not None
        started = time.monotonic()
        entries = len(read_state(request.out).entries)
        print(f"reading the journal of {entries:,} lines: {time.monotonic() - started:.2f} s")
        started = time.monotonic()
        assert not plan_captions(request).work
        print(f"with finding the clips and comparing their content: {time.monotonic() - started:.2f} s")
        words = [sys.executable, str(Path(__file__).with_name("stand_in.py")), "caption", str(folder)]
        starts = []
        for _ in range(STARTS):
            started = time.monotonic()
            subprocess.run([*words, "--out", str(request.out), "--quiet"], check=True, stdout=subprocess.DEVNULL)
            starts.append(time.monotonic() - started)
        print("the command with nothing to do: " + ", ".join(f"{one:.2f}" for one in starts) + " s")
    begun, later = meter.found.pop(first), list(meter.found.values())
    growth = max(max(one[index] for one in later) / begun[index] for index in range(2))
    start = statistics.median(starts)
    print(
        f"\nFor the log: {args.clips:,} clips, {args.clips / seconds:.0f} a second; memory after {first:,}: "
        f"{begun[0]:.0f} MB, with decoding processes {begun[1]:.0f} MB; at most {max(one[0] for one in later):.0f} and "
        f"{max(one[1] for one in later):.0f} MB later, {growth:.2f} times as much ({MOST_GROWTH} is allowed); start "
        f"with nothing to do {start:.2f} s (median of {STARTS}; {MOST_START_SECONDS:g} is allowed)"
    )
    sys.exit(growth > MOST_GROWTH or start > MOST_START_SECONDS)


if __name__ == "__main__":
    main()

"""Captioning runs that are killed at random moments and started again until they are done; what is left must be whole.

Each run captions the same clips through the real command line and decoder. At random moments the run itself or one of
its decoding children gets SIGKILL. A child that dies costs its clip a `crashed` row, so runs are started with
--retry-failed. At the end every clip must have exactly one line with a caption, and that of the undisturbed run.

    python benchmarks/chaos.py [--runs 20] [--clips 200] [--seed 0] [--within 6] [--model FOLDER]

Without --model the model is that of stand_in.py, which starts without torch.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
from stand_in import write_clip

COMPARED = (
    "caption",
    "log_probability",
    "frame_indices",
    "timestamps_seconds",
    "status",
    "fingerprint",
    "settings_hash",
)


def start(folder: Path, out: Path, model: str | None) -> subprocess.Popen[bytes]:
    """A run of the command line."""
    program = [str(Path(__file__).with_name("stand_in.py"))] if model is None else ["-m", "evlgen_cli"]
    words = [sys.executable, *program, "caption", str(folder), "--out", str(out), "--retry-failed", "--quiet"]
    return subprocess.Popen(words + (["--model", model] if model else []), stderr=subprocess.DEVNULL)


def disturb(process: subprocess.Popen[bytes], after_seconds: float, parent: bool) -> str:
    """Wait so long, then kill the run or one of its children; what was killed, "" if it was too late for that."""
    try:
        process.wait(after_seconds)
        return ""
    except subprocess.TimeoutExpired:
        pass
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        if not parent and children:
            random.choice(children).kill()
            return "child"
        process.kill()
    except psutil.NoSuchProcess:
        return ""
    return "parent"


def lines_of(out: Path) -> list[dict[str, object]]:
    """All whole lines of a caption file."""
    return [json.loads(line) for line in out.read_bytes().split(b"\n")[:-1]] if out.exists() else []


def run(folder: Path, out: Path, model: str | None, dice: random.Random, within_seconds: float) -> Counter[str]:
    """One run, killed and started again until it ends by itself with everything captioned; what happened how often."""
    happened: Counter[str] = Counter()
    before: list[bytes] = []
    for _ in range(200):
        process = start(folder, out, model)
        happened["starts"] += 1
        while process.poll() is None:
            killed = disturb(process, dice.uniform(0, within_seconds), dice.random() < 0.5)
            happened[killed] += 1
            if killed == "parent":
                break
        process.wait()
        content = out.read_bytes().split(b"\n") if out.exists() else [b""]
        happened["torn lines"] += content.pop() != b""
        assert content[: len(before)] == before, "a line that was there has changed"
        before = content
        if process.returncode == 0:
            return happened
        assert process.returncode in (3, -9), f"ended with {process.returncode}"
    raise AssertionError("never done")


def check(out: Path, truth: dict[str, dict[str, object]]) -> int:
    """Compare with the undisturbed run; the number of `crashed` rows that were made good."""
    lines = lines_of(out)
    captioned = [line for line in lines if line["error"] is None]
    times = Counter(str(line["video"]) for line in captioned)
    assert times.keys() == truth.keys(), f"{len(truth.keys() - times.keys())} clips lack a caption"
    assert set(times.values()) == {1}, "a clip was captioned twice"
    for line in captioned:
        wanted = truth[str(line["video"])]
        assert all(line[key] == wanted[key] for key in COMPARED), f"{line['video']} differs"
    return len(lines) - len(captioned)


def main() -> None:
    """Run, check, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--within", type=float, default=6.0, help="seconds, at most, from one kill to the next")
    parser.add_argument("--model")
    args = parser.parse_args()
    dice = random.Random(args.seed)
    random.seed(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "clips"
        folder.mkdir()
        for number in range(args.clips):
            write_clip(folder / f"{number}.mp4", number)
        whole = Path(temporary) / "whole.jsonl"
        started = time.monotonic()
        assert start(folder, whole, args.model).wait() == 0
        seconds = time.monotonic() - started
        truth = {str(line["video"]): line for line in lines_of(whole)}
        assert len(truth) == args.clips
        print(f"undisturbed: {args.clips} clips in {seconds:.1f} s")
        total: Counter[str] = Counter()
        for number in range(args.runs):
            out = Path(temporary) / f"{number}.jsonl"
            happened = run(folder, out, args.model, dice, args.within)
            happened["crashed rows"] = check(out, truth)
            total += happened
            print(f"run {number + 1}: {dict(happened)}", flush=True)
        print(
            f"{args.runs} runs: {total['starts']} starts, {total['parent']} kills of the run, {total['child']} of a "
            f"child, {total['torn lines']} torn lines, {total['crashed rows']} crashed rows; every clip once, as in "
            "the undisturbed run"
        )


if __name__ == "__main__":
    main()

"""Captioning runs that are disturbed at random moments and started again until they are done: all must be there, once.

Each run captions the same clips through the real command line, some with --processes 2, some on Ray. It, one of its
children (those that decode, and the processes of several) or, on Ray, one of its workers gets SIGKILL; it gets SIGTERM
or SIGINT; its disk is full (its file may not grow beyond a size, RLIMIT_FSIZE: a part of a line is written, then an
error, as on a full disk); and its decoder sometimes never returns or eats memory (misfortune.py). What costs a clip its
caption leaves an error row, so runs are started with --retry-failed until one ends by itself with everything captioned.
Then every clip must have exactly one line with a caption, that of the undisturbed run; lines that were there must be as
they were, and no child may outlive its run. Before, 4 parts merged and two workers on Ray must make the very lines of
one process, but for the seconds that they took.

    python benchmarks/chaos.py [--runs 60] [--ray-runs 5] [--clips 200] [--seed 0] [--model FOLDER]

The model is that of stand_in.py, which starts without torch, unless one is named. Linux, since it reads /proc.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
from stand_in import write_clip

COMPARED = ("caption", "frame_indices", "timestamps_seconds", "status", "fingerprint", "settings_hash")
ENDED = {0, 3, 130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT}
"""Exit codes of runs; the signals too, where they came before Python was ready for them. 1 is a full disk's."""
GAVE_UP = {"alone": set(), "processes": {1}, "Ray": {1, -signal.SIGSEGV, -signal.SIGABRT}}
"""A process of several was killed; a cluster lost its workers as they started, or Ray's own library crashed."""
MISFORTUNES = "0.002 0.005"
DECODE_SECONDS = 5
WAYS = {"alone": [], "processes": ["--processes", "2"], "Ray": ["--engine", "ray", "--processes", "2"]}
"""How a run captions."""


class Chaos:
    """Runs of one folder.

    Args:
        folder: of clips.
        model: None: the stand-in.
        seed: of the dice.
    """

    def __init__(self, folder: Path, model: str | None, seed: int) -> None:
        self._folder, self._model = folder, model
        self._dice = random.Random(seed)
        self.truth: dict[str, dict[str, object]] = {}
        self.seconds: dict[str, float] = {}

    def start(self, out: Path, *more: str, misfortunes: str = "0 0") -> subprocess.Popen[bytes]:
        """A run of the command line."""
        program = [str(Path(__file__).with_name("stand_in.py"))] if self._model is None else ["-m", "evlgen_cli"]
        words = [sys.executable, *program, "caption", str(self._folder), "--out", str(out), "--retry-failed", "--quiet"]
        words += ["--backend", "misfortune:decode", "--timeout", str(DECODE_SECONDS), *more]
        words += ["--model", self._model] if self._model else []
        environment = os.environ | {"EVLGEN_MISFORTUNES": misfortunes, "PYTHONPATH": str(Path(__file__).parent)}
        return subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment)

    def undisturbed(self, out: Path) -> float:
        """Learn what is right; seconds that it took."""
        started = time.monotonic()
        assert self.start(out).wait() == 0, "the undisturbed run failed"
        self.seconds = dict.fromkeys(WAYS, time.monotonic() - started)
        self.truth = {str(line["video"]): line for line in lines_of(out)}
        return self.seconds["alone"]

    def one(self, out: Path, way: str) -> Counter[str]:
        """One run, disturbed and started again until it ends by itself with everything captioned; what happened."""
        happened: Counter[str] = Counter()
        before: list[bytes] = []
        for _ in range(200):
            process = self.start(out, *WAYS[way], misfortunes=MISFORTUNES)
            happened["starts"] += 1
            full = way == "alone" and self._dice.random() < 0.2
            if full:
                size = (out.stat().st_size if out.exists() else 0) + self._dice.randrange(300 * len(self.truth))
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            while process.poll() is None:
                what = self._dice.choices(("run", "child", "SIGTERM", "SIGINT"), (3, 4, 1, 1))[0]
                happened[self._disturb(process, what, way)] += 1
                if what != "child":
                    break
            code = process.wait(60)  # after SIGTERM ten seconds are promised, of a machine that has time
            assert code in ENDED or (full and code == 1) or code in GAVE_UP[way], f"a run ended with {code}"
            happened["gave up"] += code in GAVE_UP[way]
            happened["disk full"] += full and code == 1
            content = out.read_bytes().split(b"\n") if out.exists() else [b""]
            happened["torn lines"] += content.pop() != b""
            if way != "processes":  # which joins files, sorted
                assert content[: len(before)] == before, "a line that was there has changed"
            before = content
            if code == 0:
                return happened
        raise AssertionError("never done")

    def _disturb(self, process: subprocess.Popen[bytes], what: str, way: str) -> str:
        """Wait for a random moment, then do it; what was done, "" if it was too late for that."""
        try:
            process.wait(self._dice.uniform(0, 1.5 * self.seconds[way]))
            return ""
        except subprocess.TimeoutExpired:
            pass
        try:
            children = psutil.Process(process.pid).children(recursive=True)
            if what == "child":
                if way == "Ray":
                    what, children = "Ray worker", workers_on_ray()
                if not children:
                    return ""
                self._dice.choice(children).kill()
                return what
            process.send_signal(signal.SIGKILL if what == "run" else signal.Signals[what])
            if what == "run" and way != "Ray":
                process.wait()
                assert psutil.wait_procs(children, 10)[1] == [], "a decoding child outlived its run"
        except psutil.NoSuchProcess:
            return ""
        return what

    def check(self, out: Path) -> Counter[str]:
        """Compare with the undisturbed run; the error rows that were made good, by kind."""
        lines = lines_of(out)
        captioned = [line for line in lines if line["error"] is None]
        times = Counter(str(line["video"]) for line in captioned)
        assert times.keys() == self.truth.keys(), f"{len(self.truth.keys() - times.keys())} clips lack a caption"
        assert set(times.values()) == {1}, "a clip was captioned twice"
        for line in captioned:
            wanted = self.truth[str(line["video"])]
            assert all(line[key] == wanted[key] for key in COMPARED), f"{line['video']} differs"
            assert math.isclose(line["log_probability"], wanted["log_probability"], abs_tol=1e-3), line["video"]
        return Counter(line["error"]["kind"] for line in lines if line["error"] is not None)


def lines_of(out: Path) -> list[dict[str, object]]:
    """All whole lines of a caption file."""
    return [json.loads(line) for line in out.read_bytes().split(b"\n")[:-1]] if out.exists() else []


def results_of(out: Path) -> bytes:
    """Its lines, sorted, without the seconds that they took and the place of the file."""
    rows = [{key: value for key, value in line.items() if key not in ("seconds", "root")} for line in lines_of(out)]
    return "\n".join(sorted(json.dumps(row) for row in rows)).encode()


def start_ray() -> bool:
    """Two CPUs on a cluster of this process, which the runs find; False without Ray."""
    try:
        import ray
    except ImportError:
        return False
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # for workers
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["EVLGEN_MISFORTUNES"] = MISFORTUNES
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    return True


def workers_on_ray() -> list[psutil.Process]:
    """Processes of our cluster that caption."""
    found = []
    for one in psutil.Process().children(recursive=True):
        try:
            if one.cmdline()[0].startswith("ray::") and "Worker" in one.cmdline()[0]:
                found.append(one)
        except (psutil.NoSuchProcess, IndexError):
            continue
    return found


def compare_ways(chaos: Chaos, folder: Path, whole: Path, ray: bool) -> str:
    """One process, four parts merged and two workers on Ray must make the same bytes; in words."""
    parts = folder / "parts.jsonl"
    for index in range(4):
        assert chaos.start(parts, "--shard", f"{index}/4").wait() == 0
    files = [str(path) for path in folder.glob("parts.shard-*.jsonl")]
    subprocess.run([sys.executable, "-m", "evlgen_cli", "merge", *files, "--out", str(parts)], check=True, stdout=-3)
    assert results_of(parts) == results_of(whole), "four parts, merged, are not the run of one process"
    if ray:
        on_ray = folder / "ray.jsonl"
        started = time.monotonic()
        code = chaos.start(on_ray, *WAYS["Ray"]).wait()
        chaos.seconds["Ray"] = time.monotonic() - started
        while code:  # its workers have misfortunes
            code = chaos.start(on_ray, *WAYS["Ray"]).wait()
        made = [line for line in lines_of(on_ray) if line["error"] is None]
        on_ray.write_text("".join(json.dumps(line) + "\n" for line in made))
        assert results_of(on_ray) == results_of(whole), "two workers on Ray do not make what one process makes"
    return f"1 process, 4 parts merged{' and Ray with 2 workers' if ray else ''}: the same bytes when sorted"


def main() -> None:
    """Run, check, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--ray-runs", type=int, default=5, help="of these, so many on Ray")
    parser.add_argument("--processes-runs", type=int, default=5, help="of these, so many with two processes")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model")
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        (place / "clips").mkdir()
        for number in range(args.clips):
            write_clip(place / "clips" / f"{number}.mp4", number)
        chaos = Chaos(place / "clips", args.model, args.seed)
        seconds = chaos.undisturbed(place / "whole.jsonl")
        assert len(chaos.truth) == args.clips
        print(f"undisturbed: {args.clips} clips in {seconds:.1f} s", flush=True)
        ray = args.ray_runs > 0 and args.model is None and start_ray()
        ways = compare_ways(chaos, place, place / "whole.jsonl", ray) if args.model is None else ""
        print(ways, flush=True)
        total: Counter[str] = Counter()
        for number in range(args.runs):
            out = place / f"{number}.jsonl"
            way = "Ray" if ray and number < args.ray_runs else "alone"
            if way == "alone" and args.runs - number <= args.processes_runs:
                way = "processes"
            happened = chaos.one(out, way)
            happened.update({f"{kind} rows": count for kind, count in chaos.check(out).items()})
            happened[f"runs {way}"] = 1
            del happened[""]
            total += happened
            print(f"run {number + 1}, {time.monotonic() - began:.0f} s: {dict(+happened)}", flush=True)
        told = ", ".join(f"{what} {count}" for what, count in sorted(total.items()) if what)
        print(
            f"\nFor the log: {args.runs} runs over {args.clips} clips, seed {args.seed}, "
            f"{(time.monotonic() - began) / 60:.1f} minutes: {told}. Every clip once, as in the undisturbed run. {ways}"
        )


if __name__ == "__main__":
    main()

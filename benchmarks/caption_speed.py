"""How much faster `evlgen caption` is than a straightforward loop, on the same clips, model and settings.

The straightforward loop is what one writes first: open a video with PyAV, decode it, take the frames, run the model at
batch 1 in float32 and write with transformers' `generate`, next video. Both run as whole processes, alternating, so
that a noisy machine hits both alike.

    EVLGEN_DATA=... python benchmarks/caption_speed.py [--runs 3] [--model evlgen-mini] [--loop-model M] [FOLDER ...]

With --loop-model the loop has another model than the command, so that what a smaller model brings counts as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def straightforward(clips: list[Path], model_name: str, num_beams: int) -> dict[str, str]:
    """Captions by the loop that one writes first; prints how long loading and captioning took."""
    import av
    import numpy as np
    import torch
    from transformers_generate import transformers_captions

    from evlgen.modeling import EVLGenForConditionalGeneration

    started = time.monotonic()
    model = EVLGenForConditionalGeneration.from_pretrained(model_name, dtype=torch.float32)
    loaded = time.monotonic()
    captions = {}
    for clip in clips:
        with av.open(str(clip)) as container:
            frames = list(container.decode(video=0))
        times = [float(f.time) for f in frames]
        end = times[-1] + (times[-1] - times[-2] if len(times) > 1 else 0)
        count = model.config.temporal.frames
        moments = [times[0] + (i + 0.5) * (end - times[0]) / count for i in range(count)]
        shown = [max(i for i, t in enumerate(times) if t <= m or i == 0) for m in moments]
        pixels = model.processor([np.stack([frames[i].to_ndarray(format="rgb24") for i in shown])])
        with torch.inference_mode():
            ids = transformers_captions(model, *model.look(model.encode(pixels)), num_beams=num_beams)
        captions[clip.name] = model.processor.batch_decode(torch.tensor(ids))[0]
    print(json.dumps({"load": loaded - started, "work": time.monotonic() - loaded, "captions": captions}))
    return captions


def loop(clips: list[Path], args: argparse.Namespace) -> dict[str, Any]:
    """One run of the straightforward loop, as a process of its own."""
    model = args.loop_model or args.model
    command = [sys.executable, __file__, "--loop", "--model", model, "--num-beams", str(args.num_beams)]
    started = time.monotonic()
    done = subprocess.run([*command, *map(str, clips)], check=True, capture_output=True, text=True)
    return {"seconds": time.monotonic() - started, **json.loads(done.stdout.splitlines()[-1])}


def tool(clips: list[Path], model_name: str, num_beams: int, dtype: str = "auto") -> dict[str, Any]:
    """One run of `evlgen caption` on the clips."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "captions.jsonl"
        command = [sys.executable, "-m", "evlgen_cli", "caption", *map(str, clips), "--out", str(out), "--json"]
        command += ["--model", model_name, "--num-beams", str(num_beams), "--dtype", dtype, "--quiet"]
        started = time.monotonic()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.monotonic() - started
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        summary = json.loads(done.stdout) if done.stdout.strip() else {}
    captions = {Path(row["video"]).name: row["caption"] for row in rows}
    return {"seconds": seconds, "captions": captions, "summary": summary}


def main() -> None:
    """Alternate the two and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default="evlgen-mini")
    parser.add_argument("--loop-model", help="another one for the loop; captions are not compared then")
    parser.add_argument("--num-beams", type=int, default=3)
    parser.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.folders:
        data = os.environ.get("EVLGEN_DATA")
        if data is None:
            sys.exit("set EVLGEN_DATA to the folder of the captioned data, or name folders of clips")
        args.folders = [Path(data) / "panda-clips", Path(data) / "msrvtt-real"]
    clips = sorted(p for f in args.folders for p in ([f] if f.is_file() else f.glob("*.mp4")))
    if args.loop:
        straightforward(clips, args.model, args.num_beams)
        return
    loops: list[dict[str, Any]] = []
    tools: list[dict[str, Any]] = []
    for run in range(args.runs):
        order = [lambda: loops.append(loop(clips, args)), lambda: tools.append(tool(clips, args.model, args.num_beams))]
        for one in order if run % 2 == 0 else reversed(order):  # neither has the page cache to itself
            one()
        a, b = loops[-1]["seconds"], tools[-1]["seconds"]
        print(f"pair {run + 1}: loop {a:.1f} s, evlgen caption {b:.1f} s, {a / b:.2f}x", flush=True)
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(loops, tools, strict=True)]
    print(f"\n{len(clips)} clips, {args.num_beams} beams, {os.cpu_count()} CPUs, python {platform.python_version()}")
    print(
        f"straightforward loop  {statistics.median(x['seconds'] for x in loops):6.1f} s, "
        f"of which loading {statistics.median(x['load'] for x in loops):.1f} s"
    )
    print(f"evlgen caption        {statistics.median(x['seconds'] for x in tools):6.1f} s, start-up included")
    print(f"ratio                 {statistics.median(ratios):6.2f} (median of {args.runs} pairs)")
    if args.loop_model:
        return
    exact = tool(clips, args.model, args.num_beams, "float32")
    for name, other in (("evlgen caption", tools[-1]), ("evlgen caption --dtype float32", exact)):
        captions = loops[-1]["captions"]
        differ = [clip for clip in captions if other["captions"].get(clip) != captions[clip]]
        print(f"captions of {name} that differ from the float32 loop's: {len(differ)} of {len(clips)}")
        for clip in differ:
            print(f"  {clip}: {captions[clip]!r} / {other['captions'].get(clip)!r}")


if __name__ == "__main__":
    main()

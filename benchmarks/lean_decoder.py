"""What the Llama decoder for captioning alone gains over transformers' class: start, prefix, a step, a whole search.

Both run the same model, soft prompts and options in the same process, in turn; the best of each counts. Captions are
compared, in the arithmetic that is asked for.

    python benchmarks/lean_decoder.py [--model evlgen-mini] [--dtype bfloat16] [--clips 4] [--beams 3] [--rounds 5]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.hardware import keep_large_allocations
from evlgen.modeling.prefix_cache import SharedPrefix

STEPS = 10
START = """
from evlgen.modeling import EVLGenForConditionalGeneration as Model
import torch
Model.from_pretrained({model!r}, dtype=torch.{dtype}, captions_only={lean})
"""


def best(rounds: int, *jobs: Callable[[], object]) -> list[float]:
    """Seconds of each job, run in turn so that other work on the machine disturbs them alike."""
    found = [float("inf")] * len(jobs)
    for _ in range(rounds + 1):
        for number, job in enumerate(jobs):
            started = time.perf_counter()
            job()
            found[number] = min(found[number], time.perf_counter() - started)
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", default="evlgen-mini")
    arguments.add_argument("--dtype", default="bfloat16")
    for name, default in (("--clips", 4), ("--beams", 3), ("--rounds", 5)):
        arguments.add_argument(name, type=int, default=default)
    given = arguments.parse_args()
    keep_large_allocations()
    dtype = getattr(torch, given.dtype)

    def start(lean: bool) -> None:
        code = START.format(model=given.model, dtype=given.dtype, lean=lean)
        subprocess.run([sys.executable, "-c", code], check=True)

    starts = best(given.rounds, lambda: start(False), lambda: start(True))
    models = [
        EVLGenForConditionalGeneration.from_pretrained(given.model, dtype=dtype, captions_only=lean)
        for lean in (False, True)
    ]
    torch.manual_seed(0)
    side = models[0].config.vision.image_size
    frames = torch.rand(given.clips, models[0].config.temporal.frames, 3, side, side)
    features = models[0].encode(frames)
    soft, tags = models[0].look(features)
    prompts = models[0].tag_prompts(tags)
    ids = torch.zeros(given.clips, given.beams, dtype=torch.int64)

    def prefix(model: Any) -> SharedPrefix:
        return SharedPrefix(model.language, model.prefix(soft), prompts)

    def steps(model: Any) -> None:
        shared = prefix(model)
        for _ in range(STEPS):
            shared.step(ids)

    with torch.inference_mode():
        before = best(given.rounds, *(lambda m=model: prefix(m) for model in models))
        both = best(given.rounds, *(lambda m=model: steps(m) for model in models))
        options = {"tags": tags, "num_beams": given.beams}
        search = best(given.rounds, *(lambda m=model: m.generate_from(soft, **options) for model in models))
        one, other = (model.generate_from(soft, **options) for model in models)
    step = [(b - a) / STEPS for a, b in zip(before, both, strict=True)]
    print(f"{given.model}, {given.dtype}, {given.clips} clips, {given.beams} beams, {torch.get_num_threads()} threads")
    rows = (("start, a new process", starts), ("prefix", before), ("a step", step), ("search", search))
    for name, (theirs, ours) in rows:
        print(f"{name:22} transformers {theirs * 1e3:8.1f} ms, lean {ours * 1e3:8.1f} ms, {theirs / ours:.2f}x")
    same = sum(a == b for a, b in zip(one.texts, other.texts, strict=True))
    print(f"captions alike: {same} of {given.clips}")


if __name__ == "__main__":
    main()

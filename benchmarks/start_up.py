"""From the command to the first clip in the model: `evlgen caption` of one clip, with all files cached.

In turn with it runs what no captioner in front of timm gets around when it is written plainly, `import torch, timm`, so
that the machine's own speed can be taken out.

    python benchmarks/start_up.py CLIP [--runs 5] [--model evlgen-mini]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NOTED = """
import importlib.util, os, sys, time

class Watch:  # the tower tells when it is first asked, and nothing else changes
    def find_spec(self, name, path=None, target=None):
        if name != "evlgen.modeling.vision":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            encode = module.VisionTower.encode
            def noted(tower, pixels):
                with open(os.environ["EVLGEN_NOTED"], "x") as file:
                    file.write(str(time.time()))
                module.VisionTower.encode = encode
                return encode(tower, pixels)
            module.VisionTower.encode = noted
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Watch())
from evlgen_cli.main import main
main()
"""


def command(clip: Path, model: str) -> float:
    """Seconds from the start of a process to its first clip in the model."""
    with tempfile.TemporaryDirectory() as folder:
        noted = Path(folder) / "noted"
        arguments = ["caption", str(clip), "--model", model, "--out", str(Path(folder) / "captions.jsonl")]
        started = time.time()
        subprocess.run(
            [sys.executable, "-c", NOTED, *arguments],
            env={**os.environ, "EVLGEN_NOTED": str(noted)}, check=True, capture_output=True,
        )  # fmt: skip
        return float(noted.read_text()) - started


def libraries() -> float:
    """Seconds of a process that imports torch and timm and does nothing."""
    started = time.time()
    subprocess.run([sys.executable, "-c", "import torch, timm"], check=True)
    return time.time() - started


def main() -> None:
    """Print both, run by run, and their medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="evlgen-mini")
    args = parser.parse_args()
    command(args.clip, args.model)  # files and byte code into the page cache
    pairs = []
    for _ in range(args.runs):
        pairs.append((command(args.clip, args.model), libraries()))
        print(f"to the first clip {pairs[-1][0]:.2f} s, import torch, timm {pairs[-1][1]:.2f} s", flush=True)
    ours, theirs = (statistics.median(one) for one in zip(*pairs, strict=True))
    print(f"median {ours:.2f} s and {theirs:.2f} s: {ours / theirs:.2f} times")


if __name__ == "__main__":
    main()

"""Draw the training curve of a run: loss and matched-against-shuffled gap on validation items, CIDEr beside them.

python benchmarks/plot_training.py runs/mini-small/log.jsonl --out docs/mini-small.svg   (needs matplotlib)
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    """Read a log, write an SVG and a CSV of the validation figures."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "evlgen"  # the same log gives the same file
    from matplotlib import pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = [json.loads(line) for line in args.log.read_text().splitlines()]
    checks = [r for r in rows if "validation" in r]
    train = [r for r in rows if "loss" in r]
    sets = list(checks[0]["validation"])
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    left.plot([r["step"] for r in train], [r["loss"] for r in train], color="0.8", label="training")
    for name in sets:
        steps = [r["step"] for r in checks]
        left.plot(steps, [r["validation"][name]["loss"] for r in checks], label=name)
        middle.plot(steps, [r["validation"][name]["gap"] for r in checks], label=name)
        right.plot(steps, [r["validation"][name]["cider"] for r in checks], label=name)
    titles = ("loss (nats per token)", "gap: shuffled - matched loss", "CIDEr of greedy captions")
    for axis, title in zip((left, middle, right), titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("optimizer steps", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    middle.axhline(0, color="0.8", linewidth=0.8)
    left.legend(fontsize=8, frameon=False)
    figure.savefig(args.out, metadata={"Date": None})
    lines = ["step,seconds,set,loss,gap,cider"]
    lines += [
        f"{r['step']},{r['seconds']},{name},{v['loss']:.4f},{v['gap']:.4f},{v['cider']:.2f}"
        for r in checks
        for name, v in r["validation"].items()
    ]
    args.out.with_suffix(".csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

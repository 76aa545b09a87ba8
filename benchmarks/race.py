"""What the runs of a race came to, and what each had spent when it was as good as the worst of them.

    python benchmarks/race.py runs/mini-race

Runs that differ in their seed alone (NAME-0, NAME-1) are one row: means, and the least and the most. CIDEr and gap are
those of validation items, averaged over the sources; validations are in the seconds. FLOPs leave the vision tower out,
whose features are cached. Test CIDEr and distinct captions are those of the eval steps SET-NAME, where the chain has
come to them; CIDEr of a single run has its interval.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from evlgen.workflow.run_curves import Curve, curves

COSTS = ("seconds", "items", "flops")


def spent(curve: Curve, target: float) -> float | None:
    """The first place on a curve where it is at the target; None where it never is."""
    return next((place for place, value in zip(*curve, strict=True) if value >= target), None)


def shown(values: Sequence[float | None], digits: int = 1) -> str:
    """Their mean, with the least and the most."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return f"{len(values) - len(known)} of {len(values)} never"
    both = f" ({min(known):,.{digits}f} to {max(known):,.{digits}f})" if len(known) > 1 else ""
    return f"{fmean(known):,.{digits}f}{both}"


def test_cider(race: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Set -> run -> CIDEr with its interval, and distinct captions, of the eval steps that are done."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for path in sorted(race.glob("*/scores.json")):
        name, _, run = path.parent.name.partition("-")
        scored = json.loads(path.read_text())
        found.setdefault(name, {})[run] = {
            **scored["scores"]["CIDEr"],
            "distinct": scored["diagnostics"]["distinct_captions"],
        }
    return found


def shown_test(scores: Sequence[dict[str, Any]]) -> str:
    """Of one run with its interval, of several as `shown`."""
    if len(scores) == 1 and scores[0].get("interval"):
        return "{:.1f} ({:.1f} to {:.1f})".format(scores[0]["value"], *scores[0]["interval"])
    return shown([score["value"] for score in scores])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("race", type=Path, help="folder of the chain")
    args = parser.parse_args()
    runners: dict[str, list[Path]] = {}
    for folder in sorted(path.parent for path in args.race.glob("*/log.jsonl")):
        name, _, seed = folder.name.rpartition("-")
        runners.setdefault(name if seed.isdigit() and len(seed) == 1 else folder.name, []).append(folder)
    drawn = {name: [{axis: curves(run, axis) for axis in COSTS} for run in runs] for name, runs in runners.items()}
    best = {name: [max(one["items"]["validation cider"][1]) for one in many] for name, many in drawn.items()}
    target = min(min(values) for values in best.values())
    print(f"as good: validation CIDEr {target:.1f}, the best of the worst run\n")
    tested = test_cider(args.race)
    heads = ["runner", "seeds", "best CIDEr", "last gap", "seconds in all", "seconds until as good", "items", "TFLOP"]
    heads += [head for name in tested for head in (f"test CIDEr, {name}", "distinct")]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, many in drawn.items():
        gaps = [one["items"]["validation gap"][1][-1] for one in many]
        costs = [[spent(one[axis]["validation cider"], target) for one in many] for axis in COSTS]
        costs[2] = [None if value is None else value / 1e12 for value in costs[2]]
        whole = [one["seconds"]["validation gap"][0][-1] for one in many]
        cells = [shown(best[name]), shown(gaps, 2), shown(whole, 0)]
        cells += [shown(cost, digits) for cost, digits in zip(costs, (0, 0, 1), strict=True)]
        for scores in tested.values():
            known = [scores[run.name] for run in runners[name] if run.name in scores]
            cells += [shown_test(known), shown([score["distinct"] for score in known], 0)] if known else ["", ""]
        print(f"| {name} | {len(many)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

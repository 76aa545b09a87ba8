"""What the runs of a race came to, and what each had spent when it was as good as the worst of them.

    python benchmarks/race.py runs/mini-race

Runs that differ in their seed alone (NAME-0, NAME-1) are one row: means, and the least and the most. CIDEr and gap are
those of validation items, averaged over the sources; validations are in the seconds. FLOPs leave the vision tower out,
whose features are cached. Test CIDEr is that of the steps score-NAME, where the chain has come to them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

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


def test_score(race: Path, run: Path) -> float | None:
    """CIDEr of the eval step of a run; None where there is none yet."""
    path = race / f"score-{run.name}" / "scores.json"
    return float(json.loads(path.read_text())["scores"]["CIDEr"]["value"]) if path.is_file() else None


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
    print("| runner | seeds | best CIDEr | last gap | seconds until as good | items | TFLOP | test CIDEr |")
    print("|---|---|---|---|---|---|---|---|")
    for name, many in drawn.items():
        gaps = [one["items"]["validation gap"][1][-1] for one in many]
        costs = [[spent(one[axis]["validation cider"], target) for one in many] for axis in COSTS]
        costs[2] = [None if value is None else value / 1e12 for value in costs[2]]
        cells = [shown(best[name]), shown(gaps, 2), shown(costs[0], 0), shown(costs[1], 0), shown(costs[2], 1)]
        tested = [test_score(args.race, run) for run in runners[name]]
        cells.append("" if None in tested else shown(tested))
        print(f"| {name} | {len(many)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

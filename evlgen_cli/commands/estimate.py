"""What `evlgen train --estimate` shows: memory by part as a table, then parameters, disk and time in a line each."""

from typing import TYPE_CHECKING

from evlgen_cli.console import download_progress, out, print_json, table
from evlgen_cli.human_numbers import human_bytes, human_count, human_seconds

if TYPE_CHECKING:
    from evlgen.recipes import Chain, Recipe
    from evlgen.training.memory_formulas import ProcessMemory
    from evlgen.training.run_estimate import RunEstimate

HELP = (
    "Only say what memory and disk a run would take, and its time: by one step with random weights where the "
    "model fits here. Memory is that of one training step; left out are temporaries, the CUDA "
    "context, children that decode frames, captions that validation and self-critical training generate, and feature "
    "pages that the system caches. So it is a lower bound: a run on a CPU held 1.9 times as much at its end."
)

_PARTS = {
    "frozen": "frozen parameters", "trained": "trained parameters", "gradients": "gradients", "optimizer": "optimizer",
    "average": "moving average", "gathered": "gathered by fsdp", "activations": "activations",
}  # fmt: skip


def show_estimate(loaded: "Recipe | Chain", device: str, processes: int | None, gpu: str | None, as_json: bool) -> None:
    """Estimate a recipe, or every training step of a chain, and print it.

    Args:
        loaded: a valid one.
        device: of the run.
        processes: of which ddp and fsdp are shown; None: as many as there are GPUs, at least 2.
        gpu: name of a GPU that the run would be on; None: `device`.
        as_json: print JSON.
    """
    from evlgen.errors import UsageError
    from evlgen.recipes import Chain
    from evlgen.training.run_estimate import estimate_run

    if not isinstance(loaded, Chain):
        with download_progress() as report:
            estimate = estimate_run(loaded, device=device, processes=processes, gpu=gpu, report=report)
        if as_json:
            print_json(estimate.as_dict())
        else:
            _show(estimate.recipe, estimate)
        return
    runs = {step.name: loaded.recipes[step.name] for step in loaded.steps if step.kind == "train"}
    if not runs:
        raise UsageError(f"the chain {loaded.name} has no train step", "there is nothing to estimate")
    steps = {}
    for name, recipe in runs.items():
        with download_progress() as report:
            steps[name] = estimate_run(recipe, device=device, processes=processes, gpu=gpu, report=report)
        if not as_json:
            _show(f"step {name}: {recipe.name}", steps[name])
    if as_json:
        print_json({"chain": loaded.name, "steps": {name: one.as_dict() for name, one in steps.items()}})


def _show(title: str, estimate: "RunEstimate") -> None:
    out.print(
        f"{title} on {estimate.device} in {estimate.precision}: {human_count(estimate.frozen_parameters)} parameters "
        f"frozen, {human_count(estimate.trained_parameters)} trained"
    )
    rows = [
        [label, *(human_bytes(one.parts[part]) for one in estimate.memory)]
        for part, label in _PARTS.items()
        if any(one.parts[part] for one in estimate.memory)
    ]
    rows.append(["total, at least", *(human_bytes(one.total) for one in estimate.memory)])
    rows.append(["items at once", *(str(one.items) for one in estimate.memory)])
    table(["memory of each process", *(_column(one) for one in estimate.memory)], rows)
    for one, fit in zip(estimate.memory, estimate.fits, strict=False):
        of = f"{human_bytes(fit.needed)} at least, of {human_bytes(fit.room)} of {fit.place}"
        out.print(f"fits, {_column(one)}: {fit.verdict} ({of})")
    if estimate.library_bytes is not None:
        out.print(f"Python and its libraries come on top: {human_bytes(estimate.library_bytes)}")
    if estimate.step is not None:
        took = f"{human_seconds(estimate.step.seconds)}, {human_bytes(estimate.step.memory_bytes)}"
        out.print(f"one step, measured here with random weights: {took}, libraries included")
    out.print(f"captions: {estimate.captions}")
    unknown = "not known without the captions"
    disk = unknown if estimate.feature_bytes is None else f"at most {human_bytes(estimate.feature_bytes)}"
    out.print(f"features on disk: {disk if estimate.feature_bytes != 0 else 'none, frames are decoded in every step'}")
    time = "not known" if estimate.seconds is None else f"{human_seconds(estimate.seconds)}, validation left out"
    out.print(f"time: {time} ({estimate.measured})")


def _column(one: "ProcessMemory") -> str:
    return "one process" if one.processes == 1 else f"{one.sharding}, {one.processes} processes"

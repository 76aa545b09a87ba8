"""`evlgen bench`: tokens, parameters, FLOPs and times of a model at several r, and of a Q-Former in its place."""

from typing import TYPE_CHECKING, Annotated

import typer

from evlgen_cli.console import download_progress, err, out, print_json, table
from evlgen_cli.options import DeviceOption, JsonOption
from evlgen_cli.texts import human_bytes, human_flops, human_seconds

if TYPE_CHECKING:
    from evlgen.bench import BenchReport, ModelReport
    from evlgen.bench.run import ConnectorReport
    from evlgen.bench.timing import Times

LARGEST_DIFFERENCE = 0.01
"""Of the counter and the closed formula; a larger one is warned of."""


def bench(
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            show_default="evlgen-mini",
            help="evlgen-mini, a recipe, a checkpoint's folder, or full-size for the paper's models; may be repeated.",
        ),
    ] = None,
    r: Annotated[
        str, typer.Option("--r", metavar="N[,N…]", help="Tokens merged per layer; 0 is always measured.")
    ] = "16",
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a generated caption.")] = 20,
    time: Annotated[bool, typer.Option("--time/--no-time", help="Time it on this machine, or only count.")] = True,
    batch: Annotated[int, typer.Option(min=1, help="Items in a connector that is timed.")] = 2,
    caption_batch: Annotated[int, typer.Option(min=1, help="Videos captioned at once, besides one.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="How often each r is timed, in turn.")] = 5,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """What merging r tokens per layer saves: tokens, FLOPs and time, against r = 0 and a BLIP-2 Q-Former.

    FLOPs are counted on the real modules without their memory, so full-size models need neither files nor a GPU.
    Times are of this machine: connectors of any size, whole captions of models whose weights are at hand.
    """
    from evlgen.bench import BenchRequest, parse_r
    from evlgen.bench import bench as measure

    request = BenchRequest(
        models=tuple(models or ["evlgen-mini"]),
        r=parse_r(r),
        new_tokens=new_tokens,
        timed=time,
        batch=batch,
        caption_batch=caption_batch,
        rounds=rounds,
        device=device,
    )
    with download_progress() as report:
        result = measure(request, report)
    if as_json:
        print_json(result.as_dict())
    else:
        for model in result.models:
            _show(model, result)
    for model in result.models:
        worst = max(
            max(one.connector.difference or 0.0, one.step.difference, one.caption.difference)
            for one in model.connectors
        )
        if worst > LARGEST_DIFFERENCE:
            err.print(f"warning: {model.name}: torch's counter and the closed formula differ by {worst:.1%}")


def _show(model: "ModelReport", result: "BenchReport") -> None:
    frames = "1 frame" if model.frames == 1 else f"{model.frames} frames"
    out.print(f"{model.name}: {model.what}")
    out.print(
        f"one item: {frames} of {model.visual_tokens} tokens; trained on a caption of {model.text_tokens} tokens, "
        f"or captioned greedily with {model.new_tokens}\n"
    )
    rows = [[one.part, _count(one.trained), _count(one.frozen)] for one in model.parameters]
    total = [sum(one.trained for one in model.parameters), sum(one.frozen for one in model.parameters)]
    table(["parameters", "trained", "frozen"], [*rows, ["total", *map(_count, total)]])
    memory = model.memory
    parts = {
        "frozen": memory.frozen, "trained": memory.trained, "gradients": memory.gradients, "AdamW": memory.optimizer
    }  # fmt: skip
    said = ", ".join(f"{name} {human_bytes(size)}" for name, size in parts.items())
    out.print(f"memory without activations: {human_bytes(memory.total)} ({said})\n")
    first = model.connectors[0]
    columns = [
        "connector",
        "tokens after each layer",
        "soft prompts",
        "parameters",
        "forward",
        "training step",
        "caption",
    ]
    table([*columns, "formula off by"], [_flops(one, first) for one in model.connectors])
    _show_times(model, result)
    out.print("")


def _flops(one: "ConnectorReport", first: "ConnectorReport") -> list[str]:
    return [
        one.name,
        " ".join(map(str, one.tokens_per_layer)),
        str(one.soft_prompts),
        _count(one.parameters),
        *(
            f"{human_flops(mine)} ({mine / base:.0%})"
            for mine, base in (
                (one.connector.counted, first.connector.counted),
                (one.step.counted, first.step.counted),
                (one.caption.counted, first.caption.counted),
            )
        ),
        f"{max(one.connector.difference or 0.0, one.step.difference, one.caption.difference):.2%}",
    ]


def _show_times(model: "ModelReport", result: "BenchReport") -> None:
    if not result.request.timed:
        return
    request, machine = result.request, result.machine
    place = machine.get("gpu") or f"{machine['device']} (threads: {machine['threads']})"
    out.print(
        f"\ntimed on {place} in {result.precision}: median (range) of {request.rounds} rounds, and times as fast as r=0"
    )
    table(
        [f"connector, batch {request.batch}", "forward", "backward", "both"],
        [[one.name, *map(_time, (one.forward, one.backward, one.both))] for one in model.connector_times],
    )
    if model.not_timed:
        out.print(f"whole captions are not timed: {model.not_timed}")
        return
    out.print("")
    table(
        [f"captions of {model.new_tokens} tokens", "videos at once", "frames to text"],
        [[one.name, str(one.batch), _time(one.caption)] for one in model.caption_times],
    )


def _time(times: "Times") -> str:
    low, high = _seconds(times.fastest_seconds), _seconds(times.slowest_seconds)
    return f"{_seconds(times.median_seconds)} ({low} to {high}) {times.times_as_fast:.2f}x"


def _seconds(seconds: float) -> str:
    return human_seconds(seconds) if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _count(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 100_000 else str(count)

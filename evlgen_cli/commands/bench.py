"""`evlgen bench`: tokens, parameters, FLOPs and times of a model at several r, and of a Q-Former in its place."""

from typing import TYPE_CHECKING, Annotated

import typer

from evlgen_cli import completion
from evlgen_cli.console import download_progress, out, print_json, table
from evlgen_cli.human_numbers import human_bytes, human_count, human_flops, human_seconds
from evlgen_cli.options import DeviceOption, JsonOption

if TYPE_CHECKING:
    from evlgen.bench import BenchRequest, ModelReport
    from evlgen.bench.flops import ConnectorReport
    from evlgen.bench.timing import CaptionTimes, ConnectorTimes

    Part = ModelReport | list[ConnectorTimes] | list[CaptionTimes]


def bench(
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            autocompletion=completion.model_or_recipe,
            show_default="evlgen-mini",
            help="evlgen-mini, a recipe, a checkpoint's folder, or full-size for the paper's models; may be repeated.",
        ),
    ] = None,
    r: Annotated[
        str | None,
        typer.Option(
            "--r",
            metavar="N[,N…]",
            show_default="16",
            help="Tokens merged per layer, by a TomeFormer; 0 is always measured.",
        ),
    ] = None,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a generated caption.")] = 20,
    time: Annotated[bool, typer.Option("--time/--no-time", help="Time it on this machine, or only count.")] = True,
    batch: Annotated[int, typer.Option(min=1, help="Items in a connector that is timed.")] = 2,
    caption_batch: Annotated[int, typer.Option(min=1, help="Videos captioned at once, besides one.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="How often each r is timed at most, in turn.")] = 5,
    seconds: Annotated[
        float, typer.Option(min=1, help="After so long no further round of a measurement begins; there are three.")
    ] = 30,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """What merging r tokens per layer saves: tokens, FLOPs and time, against r = 0 and a BLIP-2 Q-Former.

    A connector of another kind, which merges nothing, is measured as it is.
    FLOPs are counted on the real modules without their memory, so full-size models need neither files nor a GPU.
    Times are of this machine: connectors of any size, whole captions of models whose weights are at hand.
    """
    from evlgen.bench import BenchRequest, parse_r
    from evlgen.bench import bench as measure

    request = BenchRequest(
        models=tuple(models or ["evlgen-mini"]),
        r=None if r is None else parse_r(r),
        new_tokens=new_tokens,
        timed=time,
        batch=batch,
        caption_batch=caption_batch,
        rounds=rounds,
        seconds=seconds,
        device=device,
    )
    with download_progress() as report:

        def show(part: "Part") -> None:
            report.close()
            if isinstance(part, list):
                for one in part:
                    _show_times(one)
            else:
                _show(part, request)

        result = measure(request, report, (lambda part: None) if as_json else show)
    if as_json:
        print_json(result.as_dict())
    elif time:
        machine = result.machine
        place = machine.get("gpu") or f"{machine['device']} (threads: {machine['threads']})"
        out.print(f"timed on {place} in {result.precision}; connectors in batches of {batch}")
        out.print("as fast: as the first row, which is timed in the same rounds")
    for model in result.models:
        if time and model.not_timed and not as_json:
            out.print(f"{model.name}: whole captions are not timed: {model.not_timed}")


def _show(model: "ModelReport", request: "BenchRequest") -> None:
    """What was counted, and the head of the table of times."""
    frames = "1 frame" if model.frames == 1 else f"{model.frames} frames"
    out.print(f"{model.name}: {model.what}")
    out.print(
        f"one item: {frames} of {model.visual_tokens} tokens; trained on a caption of {model.text_tokens} tokens,"
    )
    out.print(f"or captioned greedily with {model.new_tokens}\n")
    rows = [[one.part, human_count(one.trained), human_count(one.frozen)] for one in model.parameters]
    total = [sum(one.trained for one in model.parameters), sum(one.frozen for one in model.parameters)]
    table(["parameters", "trained", "frozen"], [*rows, ["total", *map(human_count, total)]])
    memory = model.memory
    parts = {
        "frozen": memory.frozen, "trained": memory.trained, "gradients": memory.gradients, "AdamW": memory.optimizer
    }  # fmt: skip
    said = ", ".join(f"{name} {human_bytes(size)}" for name, size in parts.items())
    out.print(f"\nmemory without activations: {human_bytes(memory.total)}\n({said})\n")
    table(
        ["connector", "prompts", "parameters", "tokens after each layer"],
        [[one.name, str(one.soft_prompts), human_count(one.parameters), _tokens(one)] for one in model.connectors],
    )
    first = model.connectors[0]
    out.print("")
    table(["FLOPs of one item", "forward", "training step", "caption"], [_flops(o, first) for o in model.connectors])
    out.print("")
    if request.timed:
        _row("", "", "median", "range", "rounds", "as fast")


def _tokens(one: "ConnectorReport") -> str:
    return " ".join(map(str, one.tokens_per_layer))


def _flops(one: "ConnectorReport", first: "ConnectorReport") -> list[str]:
    pairs = (
        (one.connector, first.connector),
        (one.step.total, first.step.total),
        (one.caption.total, first.caption.total),
    )
    return [one.name, *(f"{human_flops(mine)} ({mine / base:.0%})" for mine, base in pairs)]


def _show_times(one: "ConnectorTimes | CaptionTimes") -> None:
    """The rows of one variant; columns are fixed, since others follow when they have been measured."""
    from evlgen.bench.timing import CaptionTimes

    if isinstance(one, CaptionTimes):
        times = {f"caption, {one.batch} at once": one.caption}
    else:
        times = {"connector forward": one.forward, "connector backward": one.backward, "connector both": one.both}
    for what, value in times.items():
        spread = f"{_seconds(value.fastest_seconds)} to {_seconds(value.slowest_seconds)}"
        _row(one.name, what, _seconds(value.median_seconds), spread, str(value.rounds), f"{value.times_as_fast:.2f}x")


def _row(name: str, what: str, median: str, spread: str, rounds: str, ratio: str) -> None:
    out.print(f"{name:<8} {what:<18} {median:>10} {spread:>25} {rounds:>6} {ratio:>7}")


def _seconds(seconds: float) -> str:
    return human_seconds(seconds) if seconds >= 1 else f"{1000 * seconds:.3g} ms"

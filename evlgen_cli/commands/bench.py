"""`evlgen bench`: what a model costs at several r and what its captions are worth, beside simpler ways."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evlgen_cli import completion
from evlgen_cli.console import download_progress, err, out, print_json, table
from evlgen_cli.human_numbers import human_bytes, human_count, human_flops, human_seconds
from evlgen_cli.options import DeviceOption, JsonOption, SplitOption

if TYPE_CHECKING:
    from evlgen.bench import ModelReport
    from evlgen.bench.benchmark import Part
    from evlgen.bench.flops import ConnectorReport
    from evlgen.bench.report_rows import Change, Row
    from evlgen.bench.timing import CaptionTimes, ConnectorTimes


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
            show_default="the model's own",
            help="Tokens that each layer merges, or schedules as of evlgen caption --r, with commas between them: "
            '"0,8,[10,8,8],[8,-0.5]"; 0 is always measured.',
        ),
    ] = None,
    baselines: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[,NAME…]",
            show_default="none",
            help="Simpler ways to as few tokens beside every r: random, stride (dropping in every layer), pool "
            "(averaging the grid), small (smaller pictures), frames (fewer), or all.",
        ),
    ] = None,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a generated caption.")] = 20,
    time: Annotated[bool, typer.Option("--time/--no-time", help="Time it on this machine, or only count.")] = True,
    batch: Annotated[int, typer.Option(min=1, help="Items in a connector that is timed.")] = 2,
    caption_batch: Annotated[str, typer.Option(metavar="N[,N…]", help="Videos captioned at once, besides one.")] = "8",
    video: Annotated[
        Path | None,
        typer.Option(
            show_default="noise", help="A video to decode where captions are timed, so that decoding is, too."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each r is timed at most, in turn.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="After so long no further round of a measurement begins.")] = 30,
    device: DeviceOption = "auto",
    dataset: Annotated[
        Path | None,
        typer.Option(help="Caption this data set with every variant and score the captions: as of evlgen eval."),
    ] = None,
    split: SplitOption = None,
    media: Annotated[
        Path | None,
        typer.Option(show_default="beside the captions", help="Folder, tar or zip with the videos or pictures."),
    ] = None,
    num_beams: Annotated[int, typer.Option(min=1, help="Beams of the search for these captions; 1 is greedy.")] = 1,
    output: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Keep all that is known as JSON while it comes; run again to go on with captions that it holds.",
        ),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--plot", help="Draw the curve: .png, .svg or .pdf; needs the extra plot.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write curves and tables as one HTML file.")] = None,
    compare: Annotated[
        Path | None, typer.Option("--compare", help="A file of --out, to show every figure beside, with what is noise.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What merging r tokens per layer saves: tokens, FLOPs and time, against r = 0, a BLIP-2 Q-Former and baselines.

    A connector of another kind, which merges nothing, is measured as it is.
    FLOPs are counted on the real modules without their memory, so full-size models need neither files nor a GPU.
    Times are of this machine: connectors of any size, whole captions of models whose weights are at hand.
    docs/bench.md says what each figure is.
    """
    from evlgen.bench import (
        BenchRequest,
        CurveData,
        CurvePoint,
        compare_reports,
        parse_baselines,
        parse_numbers,
        parse_r,
        plot_report,
        read_report,
        rows_of,
        write_page,
    )
    from evlgen.bench import bench as measure
    from evlgen.system.figures import picture_format

    old = None if compare is None else read_report(compare)
    if picture is not None:
        picture_format(picture)  # a wrong name is told before hours of measuring
    data = None
    if dataset is not None:
        from evlgen.evaluating.evaluation_sets import find_captioned_set

        found = find_captioned_set(dataset, split=split, media=media)
        data = CurveData(found.captions, found.media, found.split)

    request = BenchRequest(
        models=tuple(models or ["evlgen-mini"]),
        r=None if r is None else parse_r(r),
        baselines=() if baselines is None else parse_baselines(baselines),
        new_tokens=new_tokens,
        timed=time,
        batch=batch,
        caption_batches=parse_numbers(caption_batch, "--caption-batch"),
        video=video,
        rounds=rounds,
        seconds=seconds,
        device=device,
        data=data,
        num_beams=num_beams,
        out=output,
    )
    with download_progress() as report:

        def show(part: "Part") -> None:
            report.close()
            if not isinstance(part, list):
                _show(part)
            elif part and not isinstance(part[0], CurvePoint):
                _show_times(part)

        result = measure(request, report, (lambda part: None) if as_json else show)
    values = result.as_dict()
    changes = [] if old is None else compare_reports(old, values)
    if picture is not None:
        plot_report(values, picture)
    if html is not None:
        write_page(values, html, changes=changes, old=str(compare or ""))
    if as_json:
        print_json(values | {"changes": [{**vars(one), "verdict": one.verdict} for one in changes]})
        return
    _show_scores(rows_of(values))
    if old is not None and not changes:
        err.print(f"{compare} has no figure of these models and variants")
    if changes:
        out.print(f"beside {compare}:")
        table(["", "", "old", "new", ""], [_change(one) for one in changes])
        out.print("")
    if time:
        machine = result.machine
        place = machine.get("gpu") or f"{machine['device']} (threads: {machine['threads']})"
        out.print(f"timed on {place} in {result.precision}; connectors in batches of {batch}")
        out.print("as fast: as the first row, which is timed in the same rounds")
    for model in result.models:
        if time and model.not_timed:
            out.print(f"{model.name}: whole captions are not timed: {model.not_timed}")


def _show_scores(rows: "list[Row]") -> None:
    """What captions were worth beside what they cost, and what that says."""
    from evlgen.bench.report_rows import remarks, told_change

    scored = [row for row in rows if row.cider is not None]
    if not scored:
        return
    several = len({row.model for row in rows}) > 1
    cells = []
    for row in scored:
        name = f"{row.name} ({row.model})" if several else row.name
        low_high = "" if row.interval is None else f" ({row.interval[0]:.2f} to {row.interval[1]:.2f})"
        seconds = "-" if row.seconds is None else _seconds(row.seconds)
        cider = f"{row.cider:.2f}{low_high}"
        cells.append(
            [f"{name}{' *' * row.trained}", str(row.tokens), human_flops(row.flops), seconds, cider, told_change(row)]
        )
    table(["", "prompts", "FLOPs", "time", "CIDEr", "change"], cells)
    out.print("* as the model was trained; time is that of one caption in the largest batch")
    for one in remarks(rows):
        out.print(one)
    out.print("")


def _change(one: "Change") -> list[str]:
    old, new = (
        _seconds(value) if one.unit == "s" else human_flops(value) if one.unit == "FLOP" else f"{value:.4g}"
        for value in (one.old, one.new)
    )
    return [one.variant, one.figure, old, new, one.verdict]


def _show(model: "ModelReport") -> None:
    """What was counted."""
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


def _tokens(one: "ConnectorReport") -> str:
    return " ".join(map(str, one.tokens_per_layer))


def _flops(one: "ConnectorReport", first: "ConnectorReport") -> list[str]:
    pairs = (
        (one.connector, first.connector),
        (one.step.total, first.step.total),
        (one.caption.total, first.caption.total),
    )
    return [one.name, *(f"{human_flops(mine)} ({mine / base:.0%})" for mine, base in pairs)]


def _show_times(part: "list[ConnectorTimes] | list[CaptionTimes]") -> None:
    """A table of one measurement; of phases the medians over rounds."""
    from evlgen.bench.timing import CaptionTimes

    columns: list[str] = []
    rows, title = [], ""
    for one in part:
        if isinstance(one, CaptionTimes):
            phases, whole, title = one.phases, one.caption, f"captions, {one.batch} at once"
        else:
            phases, whole, title = {"forward": one.forward, "backward": one.backward}, one.both, "connector, training"
        title += f", rounds: {whole.rounds}"
        columns = ["", *phases, "all", "p95", "as fast"]
        times = [value.median_seconds for value in (*phases.values(), whole)] + [whole.p95_seconds]
        rows.append([one.name, *map(_seconds, times), f"{whole.times_as_fast:.2f}x"])
    out.print(title)
    table(columns, rows)
    out.print("")


def _seconds(seconds: float) -> str:
    return human_seconds(seconds) if seconds >= 1 else f"{1000 * seconds:.3g} ms"

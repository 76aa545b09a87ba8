"""`evlgen compare`: two files of captions against the same references, with a paired bootstrap."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evlgen.system.names import printable
from evlgen_cli.console import err, out, print_json, table
from evlgen_cli.exits import Exit
from evlgen_cli.options import (
    USUAL_METRICS,
    BootstrapOption,
    DeadlineOption,
    FrequenciesOption,
    JsonOption,
    LevelOption,
    MetricsOption,
    ReferencesOption,
    ResampleSeedOption,
    SplitOption,
)

if TYPE_CHECKING:
    from evlgen.metrics.comparison import Comparison, Difference


def compare(
    a: Annotated[Path, typer.Argument(help="Captions to start from: JSONL, COCO results JSON, CSV.")],
    b: Annotated[Path, typer.Argument(help="Captions that may be better.")],
    references: ReferencesOption,
    split: SplitOption = None,
    metrics: MetricsOption = USUAL_METRICS,
    frequencies: FrequenciesOption = None,
    bootstrap: BootstrapOption = 1000,
    level: LevelOption = 0.95,
    seed: ResampleSeedOption = 0,
    deadline: DeadlineOption = 1800.0,
    largest: Annotated[int, typer.Option(help="How many of the largest gains and losses to show.", min=0)] = 5,
    as_json: JsonOption = False,
) -> None:
    """Is B better than A? Scores both on the videos that both captioned, with a paired bootstrap over videos.

    Shows the change of every score with its interval and p, how many videos got better or worse, and the captions that
    changed most. Exit code 3: some references have no caption in A or B, or a score had to be skipped.
    """
    from evlgen.metrics.evaluation import BootstrapOptions
    from evlgen.metrics.file_evaluation import EvaluationRequest, compare_files
    from evlgen.metrics.scoring import ScoringOptions, parse_metrics

    request = EvaluationRequest(
        references=references,
        split=split,
        scoring=ScoringOptions(metrics=parse_metrics(metrics), deadline_seconds=deadline),
        bootstrap=BootstrapOptions(bootstrap, seed, level),
        frequencies=frequencies,
    )
    result, notes = compare_files(a, b, request, largest=largest)
    for note in notes:
        err.print(f"note: {printable(note)}")
    if as_json:
        print_json({"a": str(a), "b": str(b), "references": str(references), **result.as_dict()})
    else:
        _show(result, a, b)
    if not result.complete:
        raise typer.Exit(Exit.SOME_FAILED)


def _show(result: "Comparison", a: Path, b: Path) -> None:
    out.print(f"A  {a}\nB  {b}\n{result.items} videos\n")
    percent = f"{100 * result.bootstrap.level:g}%"
    table(
        ["score", "A", "B", "B - A", f"{percent} interval", "p", "B better / same / worse"],
        [_row(one) for one in result.scores],
    )
    significant = [one for one in result.scores if one.significant]
    better = [one.name for one in significant if (one.change or 0) > 0]
    worse = [one.name for one in significant if (one.change or 0) < 0]
    out.print("")
    if better or worse:
        said = [f"higher in B: {', '.join(better)}"] if better else []
        said += [f"lower in B: {', '.join(worse)}"] if worse else []
        out.print(f"beyond chance ({percent}): {'; '.join(said)}")
    else:
        out.print(f"no score differs beyond chance ({percent})")
    if result.caution:
        out.print(result.caution)
    of_a, of_b = result.diagnostics_a, result.diagnostics_b
    out.print("")
    table(
        ["captions", "mean words", "distinct", "vocabulary", "bad endings"],
        [
            [
                side,
                f"{figures.mean_words:.1f}",
                str(figures.distinct_captions),
                str(figures.vocabulary),
                f"{100 * figures.bad_ending_share:.1f}%",
            ]
            for side, figures in (("A", of_a), ("B", of_b))
        ],
    )
    for heading, chosen in (
        ("largest gains of B", [one for one in result.largest if one.change > 0]),
        ("largest losses of B", [one for one in result.largest if one.change < 0]),
    ):
        if chosen:
            out.print(f"\n{heading} ({result.sorted_by})")
        for item in chosen:
            out.print(f"  {printable(item.id)}  {item.a:.1f} -> {item.b:.1f}")
            out.print(f"    A  {printable(item.caption_a)}\n    B  {printable(item.caption_b)}")
            out.print(f"    e.g. {printable(item.references[0])}")
    for what, ids in (
        ("references have a caption in A only", result.only_in_a),
        ("references have a caption in B only", result.only_in_b),
        ("references have a caption in neither", result.in_neither),
    ):
        if ids:
            err.print(f"warning: {len(ids)} {what}; left out ({printable(', '.join(ids[:3]))}, ...)")


def _row(one: "Difference") -> list[str]:
    if one.skipped or one.a is None or one.b is None or one.change is None or one.interval is None or one.p is None:
        return [one.name, "", "", "", f"skipped: {one.skipped}", "", ""]
    low, high = one.interval
    return [
        one.name,
        f"{one.a:.2f}",
        f"{one.b:.2f}",
        f"{one.change:+.2f}",
        f"{low:+.2f} to {high:+.2f}",
        _p_text(one.p, one.p_at_floor),
        f"{one.wins} / {one.ties} / {one.losses}",
    ]


def _p_text(p: float, at_floor: bool) -> str:
    if at_floor:  # rounded up: the statement must be true
        digits = max(1, -math.floor(math.log10(p)))
        return f"<= {math.ceil(p * 10**digits) / 10**digits:.{digits}f}"
    return f"{p:.3f}" if p >= 0.001 else "<0.001"

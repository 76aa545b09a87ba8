"""What `evlgen train` says at the end of a run: the best step, scores before and after, and what to type next."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlgen_cli.console import err, out, print_json

if TYPE_CHECKING:
    from evlgen.recipes import Recipe
    from evlgen.training.summary import RunSummary

_LOWER_IS_BETTER = "loss"
_IN_NATS = ("loss", "gap")
_FIGURES = ("cider", "bleu-4", "rouge-l", "loss", "gap")


def say_end(recipe: "Recipe", folder: Path, report: dict[str, Any], as_json: bool) -> None:
    """Print the best checkpoint on standard output, and beside it what a person wants to know.

    Args:
        recipe: of the run.
        folder: of the run.
        report: its last validation.
        as_json: everything as JSON instead.
    """
    from evlgen.training.summary import summarize

    summary, best, following = summarize(folder), folder / "best", next_commands(recipe, folder)
    if as_json:
        chosen: dict[str, Any] = {}
        if summary is not None:
            chosen = {"best_step": summary.best_step, "best": summary.best, "first": summary.first}
        print_json({"folder": str(folder), "validation": report, **chosen, "next": following})
        return
    out.print(f"best checkpoint: {best}")
    if summary is not None:
        for line in summary_lines(summary):
            err.print(line)
    for start, command in zip(("next:", *("     ",) * len(following)), following, strict=False):
        err.print(f"{start} {command}")


def summary_lines(summary: "RunSummary") -> list[str]:
    """The best step, and scores before and after, a line for each source."""
    score, before = (_score(summary.metric, value) for value in (summary.best_score, summary.first_score))
    lines = [f"best at step {summary.best_step} of {summary.steps}: {summary.metric} {score}, {before} at the start"]
    if not summary.improved:
        lines.append(
            "training has not made it better than it was: lower optimizer.learning_rate, or train on more captions"
        )
    for name, figures in summary.best.items():
        first = summary.first.get(name, {})
        shown = [key for key in _FIGURES if key in figures and key in first]
        both = [f"{key} {_number(key, first[key])} -> {_number(key, figures[key])}" for key in shown]
        lines.append(f"  {name}: {', '.join(both)}")
    return lines


def _score(metric: str, value: float) -> str:
    return _number(metric, -value if metric == _LOWER_IS_BETTER else value)


def _number(name: str, value: float) -> str:
    return f"{value:.3f}" if name in _IN_NATS else f"{value:.1f}"


def next_commands(recipe: "Recipe", folder: Path) -> list[str]:
    """What to type after a run: caption something, score the held-out items, see the curves."""
    best = str(folder / "best")
    commands = [["evlgen", "caption", "VIDEOS", "--model", best, "--out", "captions.jsonl"]]
    source = recipe.data.validation[0]
    place = source.root if source.dataset is not None else source.captions
    score = ["evlgen", "eval", "--model", best, "--dataset", str(place)]
    score += ["--split", source.split] if source.split is not None else []
    if source.dataset is None:
        score += ["--media", source.media]
    commands += [score, ["evlgen", "plot", str(folder)]]
    return [_typed(command) for command in commands]


def _typed(command: list[str]) -> str:
    """A command as it is typed; ${VARIABLES} stay for the shell."""
    return " ".join(f'"{word}"' if "${" in word else shlex.quote(word) for word in command)

"""What `evlgen train` says of a run: a line for every log record, then the best step, scores and what to type next."""

import shlex
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from evlgen.system.progress import ProgressCallback
from evlgen_cli.console import err, out, print_json
from evlgen_cli.human_numbers import human_bytes, human_seconds

if TYPE_CHECKING:
    from evlgen.recipes import Recipe
    from evlgen.training.run_log import RunSummary

_NAMES = {
    "loss": "loss", "vocabulary_loss": "vocabulary", "precision_at_5": "p@5", "contrast_loss": "contrast",
    "matching_loss": "matching", "generation_loss": "generation", "reward": "reward",
    "greedy_reward": "greedy", "advantage_size": "advantage", "zero_advantages": "zero", "distinct_share": "distinct",
    "sample_tokens": "tokens", "kl": "kl", "gradient_norm": "gradient",
}  # fmt: skip
_SCORES = {"cider": "cider", "bleu-4": "bleu-4", "rouge-l": "rouge-l"}
_LOWER_IS_BETTER = "loss"
_IN_NATS = ("loss", "gap")
_FIGURES = ("cider", "bleu-4", "rouge-l", "loss", "gap")


def train_and_tell(
    recipe: "Recipe", *, folder: Path, resume: bool, device: str, stop: Event, progress: ProgressCallback
) -> dict[str, Any]:
    """Run a recipe in this process, with a line on standard error for every log record.

    Args:
        recipe: a valid one.
        folder: of the run.
        resume: go on in it.
        device: "auto" or a torch device.
        stop: ends the run in good order when it is set, and is set when another process has ended it.
        progress: told of downloads and items.

    Returns:
        The last validation report.
    """
    from evlgen.training import train

    return train(
        recipe,
        folder=folder,
        resume=resume,
        device=device,
        progress=progress,
        report=lambda record: err.print(record_line(record)),
        say=err.print,
        stop=stop.is_set,
        interrupt=stop.is_set,
        on_stop=stop.set,
    )


def record_line(record: dict[str, Any]) -> str:
    """One log record as one line."""
    start = f"step {record['step']}/{record['of']} {human_seconds(record['seconds'])}"
    if "warning" in record:
        return f"{start} warning: {record['warning']}"
    if "validation" in record:
        parts = []
        for name, figures in record["validation"].items():
            scores = "".join(f" {short} {figures[key]:.1f}" for key, short in _SCORES.items() if key in figures)
            if "cider" in figures:
                scores += f" words {figures['mean_words']:.1f} distinct {figures['distinct_captions']}"
                scores += f" bad endings {figures['bad_endings']:.0%}"
            parts.append(f"{name}: loss {figures['loss']:.3f} gap {figures['gap']:.3f}{scores}")
        return f"{start} validation {'; '.join(parts)}"
    figures = " ".join(f"{short} {record[key]:.3f}" for key, short in _NAMES.items() if key in record)
    rate = f"{record['items_per_second']:.3g} items/s"
    if "captions_per_second" in record:
        rate += f" {record['captions_per_second']:.3g} captions/s"
    memory = [human_bytes(record[key]) for key in ("memory_bytes", "gpu_memory_bytes") if key in record]
    left = human_seconds(record["seconds_left"])
    return f"{start} {figures} lr {record['lr']:.2e}, {rate}, {' + GPU '.join(memory)}, {left} left"


def say_end(recipe: "Recipe", folder: Path, report: dict[str, Any], as_json: bool) -> None:
    """Print the best checkpoint on standard output, and beside it what a person wants to know.

    Args:
        recipe: of the run.
        folder: of the run.
        report: its last validation.
        as_json: everything as JSON instead.
    """
    from evlgen.training.run_log import summarize

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

"""How much faster evlgen's caption scores are than pycocoevalcap's own path, on the same captions in the same run.

1. Tokenization, BLEU-1 to BLEU-4, ROUGE-L and CIDEr of a whole test set (pycocoevalcap tokenizes with Java).
2. CIDEr-D of a batch of sampled captions, as a self-critical reward needs it every step: prepared references and
   document frequencies here, pycocoevalcap's Cider on exactly these pairs there.

Both sides alternate, so that a noisy machine hits both alike, and their results must agree to 1e-9.

    python benchmarks/metrics_speed.py [--items 2990] [--references 20] [--runs 3] [--captions FILE.jsonl]
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import platform
import random
import shutil
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.cider.cider_scorer import CiderScorer as TheirCiderScorer
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from evlgen.metrics.bleu import bleu_of, bleu_statistics
from evlgen.metrics.cider import CiderScorer
from evlgen.metrics.frequencies import DocumentFrequencies
from evlgen.metrics.ngrams import count_ngrams
from evlgen.metrics.rouge import rouge_l

try:
    from evlgen.metrics.tokenizer import tokenize_captions
except ImportError:
    tokenize_captions = None

Seconds = dict[str, float]
TOLERANCE = 1e-9


def made_up(items: int, references: int, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Predictions and references of 5 to 20 words out of a few thousand with Zipf's frequencies, by a small grammar."""
    rng = random.Random(seed)
    syllables = [a + b for a in "b d f g h k l m n p r s t v".split() for b in "a e i o u an er in on us".split()]
    words = [x + y for x, y in itertools.islice(itertools.product(syllables, syllables), 0, None, 5)]
    rng.shuffle(words)
    kinds = {"noun": words[:2000], "verb": [w + "ing" for w in words[2000:2900]], "adjective": words[2900:3500]}
    weights = {k: list(itertools.accumulate(1 / (i + 2) for i in range(len(w)))) for k, w in kinds.items()}

    def scene() -> dict[str, list[str]]:
        return {k: rng.choices(kinds[k], cum_weights=weights[k], k=5) for k in kinds}

    def word(kind: str, about: dict[str, list[str]]) -> str:
        if rng.random() < 0.75:
            return about[kind][min(int(rng.expovariate(0.8)), 4)]
        return rng.choices(kinds[kind], cum_weights=weights[kind])[0]

    def thing(about: dict[str, list[str]]) -> list[str]:
        some = rng.choice(["a", "a", "a", "the", "the", "some", "two"])
        return [some, *([word("adjective", about)] if rng.random() < 0.25 else []), word("noun", about)]

    def sentence(about: dict[str, list[str]]) -> str:
        parts = [*thing(about), "is", word("verb", about)]
        parts += thing(about) if rng.random() < 0.8 else ["slowly"]
        while rng.random() < 0.5:
            parts += [rng.choice(["in", "on", "with", "near", "while"]), *thing(about)]
        text = " ".join(parts[:20])
        text = text[0].upper() + text[1:] if rng.random() < 0.3 else text
        return text + "." if rng.random() < 0.3 else text.replace(" while", ", while")

    scenes = [scene() for _ in range(items)]
    return [sentence(s) for s in scenes], [[sentence(s) for _ in range(references)] for s in scenes]


def from_file(path: Path, items: int, references: int) -> tuple[list[str], list[list[str]]]:
    """The first caption of each row as prediction, the others as references; rows repeat if there are too few."""
    rows = [json.loads(line)["captions"] for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    rows = [captions[: references + 1] for captions in rows if len(captions) > 1]
    chosen = list(itertools.islice(itertools.cycle(rows), items))
    return [captions[0] for captions in chosen], [captions[1:] for captions in chosen]


def timed(seconds: Seconds, name: str, function: Callable[[], Any]) -> Any:
    """The result of a function; its time is noted."""
    gc.collect()
    started = time.perf_counter()
    result = function()
    seconds[name] = time.perf_counter() - started
    return result


def theirs(predictions: list[str], references: list[list[str]], *, java: bool) -> tuple[Seconds, dict[str, Any]]:
    """pycocoevalcap's own path, as its eval.py goes it; without Java from captions that are tokenized already."""
    seconds: Seconds = {}
    if java:

        def tokenize() -> tuple[Any, Any]:
            tokenizer = PTBTokenizer()
            truth = {i: [{"caption": c} for c in captions] for i, captions in enumerate(references)}
            return tokenizer.tokenize(truth), tokenizer.tokenize(
                {i: [{"caption": c}] for i, c in enumerate(predictions)}
            )

        pair = timed(seconds, "tokenization", tokenize)
    else:
        pair = dict(enumerate(references)), {i: [c] for i, c in enumerate(predictions)}

    def bleu_and_cider() -> tuple[Any, Any]:
        return Bleu(4).compute_score(*pair, verbose=0), Cider().compute_score(*pair)

    bleu, cider = timed(seconds, "BLEU-1 to 4 and CIDEr", bleu_and_cider)
    rouge = timed(seconds, "ROUGE-L", lambda: Rouge().compute_score(*pair))
    results = {"BLEU-1 to 4": bleu, "ROUGE-L": rouge, "CIDEr": cider}
    return seconds, results


def ours(predictions: list[str], references: list[list[str]], *, java: bool) -> tuple[Seconds, dict[str, Any]]:
    """The same with evlgen; BLEU and CIDEr share the counts of the references' n-grams."""
    seconds: Seconds = {}
    if java:

        def tokenize() -> tuple[list[str], list[list[str]]]:
            flat = iter(tokenize_captions([*predictions, *itertools.chain.from_iterable(references)]))
            first = list(itertools.islice(flat, len(predictions)))
            return first, [list(itertools.islice(flat, len(captions))) for captions in references]

        predictions, references = timed(seconds, "tokenization", tokenize)

    def bleu_and_cider() -> tuple[Any, Any]:
        counted = count_ngrams(references)
        rows, points = bleu_statistics(predictions, counted), CiderScorer(counted).score(predictions)
        return (bleu_of(rows.sum(0)), bleu_of(rows).T), (points.mean(), points)

    bleu, cider = timed(seconds, "BLEU-1 to 4 and CIDEr", bleu_and_cider)
    points = timed(seconds, "ROUGE-L", lambda: rouge_l(predictions, references))
    results = {"BLEU-1 to 4": bleu, "ROUGE-L": (points.mean(), points), "CIDEr": cider}
    return seconds, results


def difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    """The largest, over corpus scores and scores of single captions."""
    return max(float(np.abs(np.array(x) - np.array(y)).max()) for k in a for x, y in zip(a[k], b[k], strict=True))


def reward_values(scorer: CiderScorer, items: list[int], captions: list[str], references: list[list[str]]) -> float:
    """Largest difference to pycocoevalcap's scorer when that is given the same document frequencies."""

    class Documents(list):  # type: ignore[type-arg]
        def __len__(self) -> int:  # they take the logarithm of this
            return len(references)

    check = TheirCiderScorer()
    for item, caption in zip(items, captions, strict=True):
        check += (caption, references[item])
    counts = DocumentFrequencies.from_references(references).counts
    check.document_frequency = defaultdict(float, {tuple(k.split(" ")): float(v) for k, v in counts.items()})
    check.crefs = Documents(check.crefs)
    return float(np.abs(scorer.score_pairs(items, captions) - np.array(check.compute_cider())).max())


def table(title: str, rows: list[tuple[str, list[float], list[float]]], unit: str, scale: float) -> None:
    """Median (and range) of both sides and of the ratios of the pairs."""

    def cell(values: list[float], digits: int) -> str:
        return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"

    print(f"\n| {title} | pycocoevalcap, {unit} | evlgen, {unit} | ratio |\n|---|---|---|---|")
    for name, slow, fast in rows:
        ratios = [a / b for a, b in zip(slow, fast, strict=True)]
        slow, fast = [a * scale for a in slow], [b * scale for b in fast]
        print(f"| {name} | {cell(slow, 2)} | {cell(fast, 2)} | {cell(ratios, 1)} |")


def main() -> None:
    """Alternate the two sides and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=2990)
    parser.add_argument("--references", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--captions", type=Path, help="JSONL with rows {captions: [...]}; default: made up captions")
    parser.add_argument("--videos", type=int, default=64, help="videos in a batch of sampled captions")
    parser.add_argument("--samples", type=int, default=5, help="captions sampled for each of them")
    args = parser.parse_args()
    source = (args.items, args.references)
    predictions, references = from_file(args.captions, *source) if args.captions else made_up(*source)
    java = tokenize_captions is not None and shutil.which("java") is not None
    words = sum(len(c.split()) for captions in references for c in captions)
    count = sum(map(len, references))
    print(f"{len(references)} items, {count} references of {words / count:.1f} words on average; ", end="")
    print(f"median (range) of {args.runs} alternating runs; {os.cpu_count()} CPUs, python {platform.python_version()}")
    if not java:
        print("without tokenization: no Java, or no evlgen.metrics.tokenizer")
        predictions = [" ".join(c.lower().replace(".", "").replace(",", "").split()) for c in predictions]
        references = [[" ".join(c.lower().replace(".", "").replace(",", "").split()) for c in r] for r in references]

    sides: list[tuple[Callable[..., Any], list[Seconds]]] = [(theirs, []), (ours, [])]
    worst = 0.0
    for run in range(args.runs):
        results = {}
        for side, seconds in sides if run % 2 == 0 else reversed(sides):
            spent, results[side] = side(predictions, references, java=java)
            seconds.append(spent)
        worst = max(worst, difference(results[theirs], results[ours]))
    (_, slow), (_, fast) = sides
    rows = [(name, [s[name] for s in slow], [s[name] for s in fast]) for name in slow[0]]
    scorers = [name for name in slow[0] if name != "tokenization"]
    rows.append(("the scores", *([sum(s[n] for n in scorers) for s in side] for side in (slow, fast))))
    if java:
        rows.append(("all", *([sum(s.values()) for s in side] for side in (slow, fast))))
    table("whole test set", rows, "s", 1)
    print(f"\nlargest difference of a score, of the corpus or of one caption: {worst:.1e}")

    if java:
        predictions, references = (tokenize_captions(predictions), [tokenize_captions(r) for r in references])
    rng = random.Random(0)
    items = [i for i in rng.sample(range(len(references)), args.videos) for _ in range(args.samples)]
    # what a captioner samples: half of a reference or of another item's, and a few words of anything
    vocabulary = predictions[0].split() + predictions[1].split()
    captions = []
    for item in items:
        tokens = rng.choice(references[item if rng.random() < 0.7 else rng.randrange(len(references))]).split()
        captions.append(" ".join(rng.choice(vocabulary) if rng.random() < 0.2 else t for t in tokens))
    prepared: Seconds = {}
    frequencies = timed(prepared, "frequencies", lambda: DocumentFrequencies.from_references(references))
    scorer = timed(prepared, "references", lambda: CiderScorer(references, frequencies))
    truth = {k: references[i] for k, i in enumerate(items)}, {k: [c] for k, c in enumerate(captions)}
    rewards: list[tuple[list[float], Callable[[], Any]]] = [
        ([], lambda: Cider().compute_score(*truth)),
        ([], lambda: scorer.score_pairs(items, captions)),
    ]
    for run in range(2 * args.runs + 1):
        for times, function in rewards if run % 2 == 0 else reversed(rewards):
            spent = {}
            timed(spent, "reward", function)
            if run:  # the first is a warm-up of both
                times.append(spent["reward"])
    name = f"{args.videos} videos x {args.samples} samples"
    table("CIDEr-D of a batch of sampled captions", [(name, rewards[0][0], rewards[1][0])], "ms", 1000)
    print(f"\npreparation, once: document frequencies {prepared['frequencies']:.2f} s, ", end="")
    print(f"references {prepared['references']:.2f} s")
    worst_reward = reward_values(scorer, items, captions, references)
    print(f"largest difference of a reward, given the same document frequencies: {worst_reward:.1e}")
    if max(worst, worst_reward) > TOLERANCE:
        sys.exit(f"the results differ by more than {TOLERANCE}")


if __name__ == "__main__":
    main()

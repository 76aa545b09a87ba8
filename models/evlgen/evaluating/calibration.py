"""How `evlgen models calibrate` learns which captions are good: a logistic regression, kept in the model's config.json.

It is fitted on validation data: on the log-probability a token and, where captions were compared (`--rerank
consensus`), on their agreement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlgen.captioning.confidence import probability
from evlgen.captioning.journal import read_captions
from evlgen.configuration import CONFIG_FILE, ConfidenceConfig, EVLGenConfig, LogisticConfig
from evlgen.errors import UsageError
from evlgen.metrics.bootstrap import interval
from evlgen.metrics.evaluation import BootstrapOptions, Evaluation
from evlgen.metrics.file_evaluation import EvaluationRequest, evaluate_files
from evlgen.metrics.scoring import ScoringOptions

GOOD_CIDER = 40.0
"""Points that a good caption has at least: about where subject and action agree with what people wrote."""

LEAST_CAPTIONS = 100

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` found.

    Attributes:
        config: what it wrote.
        captions: how many it looked at.
        good: share of them that are good.
        correlation: Spearman's, of confidence with the captions' own CIDEr.
        correlation_interval: where 95% of 1,000 resamples of the captions have it.
        by_log_probability: Spearman's of the log-probability a token alone, for comparison.
        parts: (mean confidence, share that is good, captions) of five parts of them, from the least confident on.
    """

    config: ConfidenceConfig
    captions: int
    good: float
    correlation: float
    correlation_interval: tuple[float, float]
    by_log_probability: float
    parts: tuple[tuple[float, float, int], ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "config": self.config.model_dump()}


def calibrate(files: Sequence[tuple[Path, Path]], split: str | None = None) -> Calibration:
    """Learn how likely captions are good.

    Args:
        files: pairs of a journal of `evlgen caption` or `evlgen eval` and the references of its videos; validation
            data, since what is fitted on a test split says nothing about it.
        split: of the references, where they have splits.

    Raises:
        UsageError: a file is not what it must be, or there are too few captions with a probability.
    """
    means, agreements, ciders = [], [], []
    for journal, references in files:
        rows = read_captions(journal)
        scoring, bootstrap = ScoringOptions(metrics=("cider",)), BootstrapOptions(samples=0)
        request = EvaluationRequest(references, split=split, scoring=scoring, bootstrap=bootstrap)
        result = evaluate_files(journal, request).result
        if not isinstance(result, Evaluation):
            raise UsageError(f"{references} holds answers", "captions are calibrated on captions of people")
        for item in result.items:
            row = rows.get(item.id)
            if row is not None and row.get("log_probability") is not None and row.get("token_count"):
                means.append(row["log_probability"] / row["token_count"])
                agreements.append(row.get("agreement"))
                ciders.append(item.values["CIDEr"])
    if len(means) < LEAST_CAPTIONS:
        raise UsageError(
            f"{len(means)} captions have references and a log-probability; {LEAST_CAPTIONS} are needed",
            "caption a whole validation split with evlgen eval --model",
        )
    own, good = np.array(means)[:, None], np.array(ciders) >= GOOD_CIDER
    if good.all() or not good.any():
        raise UsageError(f"{int(good.sum())} of {len(good)} captions are good", "there is nothing to tell apart")
    compared = None not in agreements
    both = np.column_stack([own, np.array(agreements, dtype=float)]) if compared else None
    config = ConfidenceConfig(
        alone=fit_logistic(own, good), with_agreement=None if both is None else fit_logistic(both, good)
    )
    fitted, features = (config.alone, own) if both is None or config.with_agreement is None else (
        config.with_agreement, both
    )  # fmt: skip
    confidence = np.array([probability(fitted, row) for row in features.tolist()])
    order = np.array_split(np.argsort(confidence, kind="stable"), 5)
    scores = np.array(ciders)
    return Calibration(
        config=config,
        captions=len(means),
        good=float(good.mean()),
        correlation=spearman(confidence, scores),
        correlation_interval=interval(_resampled(confidence, scores), 0.95),
        by_log_probability=spearman(own[:, 0], scores),
        parts=tuple((float(confidence[p].mean()), float(good[p].mean()), len(p)) for p in order),
    )


def write_confidence(folder: Path, config: ConfidenceConfig) -> None:
    """Put what `calibrate` found into the config.json of a model's folder.

    Raises:
        UsageError: the folder holds no model.
        WeightsError: its config.json is not readable.
        EvlgenError: it cannot be written.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise UsageError(f"{folder} holds no {CONFIG_FILE}", "give the folder of a checkpoint")
    EVLGenConfig.from_pretrained(folder).model_copy(update={"confidence": config}).save_pretrained(folder)


def fit_logistic(features: Floats, target: NDArray[np.bool_], *, ridge: float = 1e-3) -> LogisticConfig:
    """Logistic regression by Newton's method.

    Args:
        features: (N, D).
        target: (N,) what is to be told.
        ridge: of the weights of standardised features, so that data that can be told apart perfectly has an end.
    """
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    x = np.column_stack([np.ones(len(features)), (features - mean) / spread])
    penalty = ridge * len(x) * np.diag([0.0] + [1.0] * features.shape[1])
    weights = np.zeros(x.shape[1])
    for _ in range(50):  # it takes about six
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -60, 60)))
        gradient = x.T @ (p - target) + penalty @ weights
        hessian = (x * (p * (1 - p))[:, None]).T @ x + penalty
        step = np.linalg.solve(hessian, gradient)
        weights -= step
        if np.abs(step).max() < 1e-9:
            break
    plain = weights[1:] / spread
    return LogisticConfig(intercept=float(weights[0] - plain @ mean), weights=[float(w) for w in plain])


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation of two (N,); ties have their mean rank; 0 where one of them is constant."""
    first, second = _ranks(a), _ranks(b)
    if min(np.ptp(first), np.ptp(second)) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Floats = (ends - (counts - 1) / 2)[place]
    return ranks


def _resampled(a: Floats, b: Floats) -> Floats:
    draw = np.random.default_rng(0)
    chosen = [draw.integers(len(a), size=len(a)) for _ in range(1000)]
    return np.array([spearman(a[one], b[one]) for one in chosen])

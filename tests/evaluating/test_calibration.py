"""Confidence: the regression against a loop that climbs by small steps, ranks by hand, and the way into the rows."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from evlgen.captioners import evlgen_captioner
from evlgen.captioners.protocol import Caption
from evlgen.captioning import CaptionRequest, caption_videos
from evlgen.captioning.confidence import confidence_of
from evlgen.configuration import ConfidenceConfig, LogisticConfig
from evlgen.errors import UsageError
from evlgen.evaluating.calibration import calibrate, fit_logistic, spearman
from tests.captioning import fakes

ALONE = LogisticConfig(intercept=1.0, weights=[2.0])
BOTH = LogisticConfig(intercept=-1.0, weights=[0.5, 4.0])


def test_the_regression_is_where_small_steps_end() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 2)) * [1, 5] + [3, -2]
    good = draw.random(300) < 1 / (1 + np.exp(-(x @ [1.5, -0.3] - 5)))
    found = fit_logistic(x, good, ridge=0.0)

    design, weights = np.column_stack([np.ones(300), x]), np.zeros(3)
    for _ in range(100_000):
        weights += 2e-4 * design.T @ (good - 1 / (1 + np.exp(-design @ weights)))
    assert [found.intercept, *found.weights] == pytest.approx(weights.tolist(), abs=1e-3)


def test_data_that_can_be_told_apart_has_an_end() -> None:
    found = fit_logistic(np.arange(20.0)[:, None], np.arange(20) >= 10)
    assert math.isfinite(found.intercept)
    assert 0 < found.weights[0] < 10


def test_ranks_by_hand() -> None:
    # ranks 1, 2.5, 2.5, 4 and 2, 1, 3, 4: products 3, squares 4.5 and 5
    assert spearman(np.array([1.0, 2, 2, 9]), np.array([5.0, 1, 7, 8])) == pytest.approx(3 / math.sqrt(4.5 * 5))
    assert spearman(np.ones(4), np.arange(4.0)) == 0


def test_agreement_counts_where_it_is_known() -> None:
    config = ConfidenceConfig(alone=ALONE, with_agreement=BOTH)
    assert confidence_of(Caption("a", -2.0, 4), config) == pytest.approx(0.5)  # 1 + 2 x -0.5 = 0
    compared = Caption("a", -2.0, 4, agreement=0.5)
    assert confidence_of(compared, config) == pytest.approx(1 / (1 + math.exp(-0.75)))  # -1 - 0.25 + 2
    assert confidence_of(compared, ConfidenceConfig(alone=ALONE)) == pytest.approx(0.5)
    assert confidence_of(Caption("", float("-inf"), 1), config) is None
    assert confidence_of(Caption("", 0.0, 0), config) is None
    assert confidence_of(compared, None) is None


def _write(path, rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_calibration_orders_captions_by_their_own_cider(tmp_path) -> None:
    """Right captions were written with a higher probability here: the confidence must say so."""
    draw = np.random.default_rng(1)
    words = "ant bee cat dog elk fox gnu hen ibex jay".split()
    rows, references = [], []
    for number in range(200):
        word, right = words[number % 10], bool(draw.random() < 0.5)
        said = word if right else words[(number + 3) % 10]
        log_p = draw.normal(-0.5 if right else -1.5, 0.3)
        row = {"video": f"{number}.mp4", "status": "ok", "caption": f"a {said} runs over the field"}
        rows.append({**row, "log_probability": 6 * log_p, "token_count": 6, "settings_hash": "x", "fingerprint": "y"})
        references.append({"video": f"{number}.mp4", "captions": [f"a {word} runs over the field", f"one {word}"]})
    _write(tmp_path / "captions.jsonl", rows)
    _write(tmp_path / "references.jsonl", references)
    found = calibrate([(tmp_path / "captions.jsonl", tmp_path / "references.jsonl")])
    assert found.captions == 200
    assert found.correlation > 0.5
    assert found.config.with_agreement is None
    least, most = found.parts[0], found.parts[-1]
    assert least[1] < 0.2 < 0.8 < most[1]
    assert abs(sum(mean * count for mean, _, count in found.parts) / 200 - found.good) < 0.02

    _write(tmp_path / "few.jsonl", rows[:50])
    with pytest.raises(UsageError, match="50 captions have references and a log-probability; 100 are needed"):
        calibrate([(tmp_path / "few.jsonl", tmp_path / "references.jsonl")])


def test_rows_say_it_and_unsure_ones_are_marked(tmp_path, monkeypatch) -> None:
    known = replace(fakes.identify("calibrated"), confidence=ConfidenceConfig(alone=ALONE))
    fakes.install(monkeypatch.setattr, fakes.FakeCaptioner())
    monkeypatch.setattr(evlgen_captioner, "identify_model", lambda model: known)
    fakes.write_video(tmp_path / "v" / "one.mp4")

    def summary_and_row(out, **options):
        summary = caption_videos(CaptionRequest([str(tmp_path / "v")], tmp_path / out, **options))
        return summary, fakes.rows_of(tmp_path / out)[-1]

    _, row = summary_and_row("plain.jsonl")  # log p -1.5 over 4 tokens: 1 - 2 x 0.375 = 0.25
    assert row["confidence"] == round(1 / (1 + math.exp(-0.25)), 4)
    assert row["warnings"] == []
    summary, row = summary_and_row("marked.jsonl", min_confidence=0.6)
    assert row["warnings"] == ["unsure: confidence 0.56 is below 0.6"]
    assert (row["status"], summary.marked) == ("ok", {"unsure": 1})
    summary, _ = summary_and_row("marked.jsonl", min_confidence=0.2)
    assert summary.done_before == 1, "what marks a caption does not change it"

    monkeypatch.setattr(evlgen_captioner, "identify_model", fakes.identify)
    with pytest.raises(UsageError, match="model plain has no confidence"):
        summary_and_row("none.jsonl", model="plain", min_confidence=0.5)

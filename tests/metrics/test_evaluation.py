"""A whole evaluation and a whole comparison against pycocoevalcap's own scorers, and what they refuse to hide."""

import itertools

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from evlgen.errors import UsageError
from evlgen.metrics.comparison import compare
from evlgen.metrics.evaluation import BootstrapOptions, Evaluation, evaluate, parse_missing
from evlgen.metrics.frequencies import DocumentFrequencies
from evlgen.metrics.pairing import Paired
from evlgen.metrics.scoring import METRICS, ScoringOptions, parse_metrics, tokenize_sets
from evlgen.metrics.tokenizer import tokenize_captions

NO_INTERVALS = BootstrapOptions(samples=0)

REFERENCES = {
    "v1": ["A man is riding a horse.", "someone rides a brown horse", "a rider on a horse's back"],
    "v2": ["Two dogs play in the snow", "dogs running through snow, fast"],
    "v3": ["a woman cooks pasta in a kitchen", "a lady is cooking", "she's making food"],
    "v4": ["people dance at a party"],
    "v5": ["a band plays on a stage", "musicians performing live", "a rock concert"],
}
GOOD = {
    "v1": "a man rides a horse",
    "v2": "two dogs run in the snow",
    "v3": "a woman is cooking in a kitchen",
    "v4": "people are dancing at a party",
    "v5": "a band is playing on a stage",
}
BAD = {
    "v1": "a man is talking",
    "v2": "a man is talking",
    "v3": "a woman is cooking in a kitchen",
    "v4": "",
    "v5": "a band with a",
}


def paired(captions: dict[str, str], groups: dict[str, str] | None = None) -> Paired:
    ids = [key for key in REFERENCES if key in captions]
    absent = {key: many for key, many in REFERENCES.items() if key not in captions}
    return Paired(
        ids=ids,
        captions=[captions[key] for key in ids],
        references=[REFERENCES[key] for key in ids],
        groups=groups or {},
        without_references=["v99"],
        absent=absent,
        failed={},
        rule="exact ids",
    )


def reference_scores(captions: dict[str, str]) -> dict[str, tuple[float, list[float]]]:
    """Corpus and per-caption values of pycocoevalcap's scorers, in points."""
    ids = [key for key in REFERENCES if key in captions]
    result = {key: [text] for key, text in zip(ids, tokenize_captions([captions[k] for k in ids]), strict=True)}
    truth = dict(zip(ids, tokenize_sets([REFERENCES[k] for k in ids]), strict=True))
    bleu, per_bleu = Bleu(4).compute_score(truth, result, verbose=0)
    out = {f"BLEU-{n + 1}": (100 * bleu[n], [100 * v for v in per_bleu[n]]) for n in range(4)}
    for name, scorer in (("CIDEr", Cider()), ("ROUGE-L", Rouge())):
        corpus, single = scorer.compute_score(truth, result)
        out[name] = (100 * float(corpus), [100 * float(v) for v in single])
    return out


def values(result: Evaluation) -> dict[str, float | None]:
    return {score.name: score.value for score in result.scores}


@pytest.mark.parametrize("captions", [GOOD, BAD, {"v2": GOOD["v2"], "v5": GOOD["v5"]}])
def test_every_score_is_pycocoevalcaps(captions: dict[str, str]) -> None:
    result = evaluate(paired(captions), ScoringOptions(), NO_INTERVALS)
    expected = reference_scores(captions)
    assert values(result).keys() == expected.keys()
    for name, (corpus, single) in expected.items():
        assert values(result)[name] == pytest.approx(corpus, abs=1e-7)
        np.testing.assert_allclose([item.values[name] for item in result.items], single, atol=1e-7)


def test_intervals_hold_the_score_and_repeat_with_the_seed() -> None:
    results = [evaluate(paired(BAD), ScoringOptions(), BootstrapOptions(200, seed)) for seed in (0, 0, 1)]
    assert results[0].scores == results[1].scores
    assert results[0].scores != results[2].scores
    for score in results[0].scores:
        assert score.interval is not None
        assert score.value is not None
        assert score.interval[0] <= score.value <= score.interval[1]


def test_what_is_missing_is_said_and_can_be_counted() -> None:
    part = {key: GOOD[key] for key in ("v1", "v2", "v3")}
    skipped = evaluate(paired(part), ScoringOptions(), NO_INTERVALS)
    assert (skipped.without_prediction, skipped.without_references) == (("v4", "v5"), ("v99",))
    assert not skipped.complete
    counted = evaluate(paired(part), ScoringOptions(), NO_INTERVALS, missing="empty")
    assert counted.complete
    assert len(counted.items) == 5
    expected = reference_scores({**part, "v4": "", "v5": ""})
    for name, value in values(counted).items():
        assert value == pytest.approx(expected[name][0], abs=1e-7)


def test_a_group_is_scored_as_if_it_were_the_whole_set() -> None:
    groups = {"v1": "near", "v2": "out", "v3": "near", "v4": "out", "v5": "out"}
    result = evaluate(paired(GOOD, groups), ScoringOptions(), NO_INTERVALS, by_group=True)
    assert [(g.name, g.items) for g in result.groups] == [("near", 2), ("out", 3)]
    for group in result.groups:
        alone = reference_scores({key: GOOD[key] for key, name in groups.items() if name == group.name})
        for score in group.scores:
            assert score.value == pytest.approx(alone[score.name][0], abs=1e-7)


def test_given_frequencies_are_used() -> None:
    frequencies = DocumentFrequencies.from_references(tokenize_sets([["a man"], ["a dog"], ["the snow", "a man"]]))
    options = ScoringOptions(("cider",), frequencies)
    given = evaluate(paired(GOOD), options, NO_INTERVALS)
    own = evaluate(paired(GOOD), ScoringOptions(("cider",)), NO_INTERVALS)
    assert values(given) != values(own)
    assert given.frequencies == "given, from 3 reference sets"
    with_itself = DocumentFrequencies.from_references(tokenize_sets(list(REFERENCES.values())))
    same = evaluate(paired(GOOD), ScoringOptions(("cider",), with_itself), NO_INTERVALS)
    assert values(same)["CIDEr"] == pytest.approx(values(own)["CIDEr"], abs=1e-9)


def test_a_skipped_score_leaves_the_others_and_makes_the_result_incomplete(monkeypatch: pytest.MonkeyPatch) -> None:
    from evlgen.metrics import scoring
    from evlgen.metrics.java import Unavailable

    def fail(*_: object, **__: object) -> None:
        raise Unavailable("no Java", "pip install 'evlgen[java]'")

    monkeypatch.setattr(scoring, "meteor_statistics", fail)
    result = evaluate(paired(GOOD), ScoringOptions(("cider", "meteor")), BootstrapOptions(50))
    cider, meteor = result.scores
    assert cider.value is not None
    assert (meteor.value, meteor.interval) == (None, None)
    assert "no Java" in meteor.skipped
    assert not result.complete
    assert result.as_dict()["scores"]["METEOR"]["value"] is None
    changes = compare(paired(GOOD), paired(BAD), ScoringOptions(("cider", "meteor")), BootstrapOptions(50))
    assert [one.skipped for one in changes.scores] == ["", meteor.skipped]


def test_comparison_by_hand() -> None:
    result = compare(paired(BAD), paired(GOOD), ScoringOptions(), BootstrapOptions(400))
    a, b = reference_scores(BAD), reference_scores(GOOD)
    for one in result.scores:
        assert one.a == pytest.approx(a[one.name][0], abs=1e-7)
        assert one.change == pytest.approx(b[one.name][0] - a[one.name][0], abs=1e-7)
        differences = np.array(b[one.name][1]) - np.array(a[one.name][1])
        counted = (np.sum(differences > 1e-9), np.sum(abs(differences) <= 1e-9), np.sum(differences < -1e-9))
        assert (one.wins, one.ties, one.losses) == counted
    cider = np.array(b["CIDEr"][1]) - np.array(a["CIDEr"][1])
    assert result.sorted_by == "CIDEr"
    assert [one.change for one in result.largest] == pytest.approx(sorted(cider[cider > 1e-9], reverse=True), abs=1e-7)
    assert result.largest[0].caption_b == GOOD[result.largest[0].id]
    assert result.diagnostics_a.bad_ending_share == pytest.approx(1 / 5)


def test_equal_captions_do_not_differ() -> None:
    result = compare(paired(GOOD), paired(GOOD), ScoringOptions(), BootstrapOptions(100))
    for one in result.scores:
        assert (one.change, one.interval, one.p, one.ties, one.significant) == (0.0, (0.0, 0.0), 1.0, 5, False)
    assert result.largest == ()


def test_comparison_uses_what_both_have_and_says_the_rest() -> None:
    result = compare(
        paired({k: BAD[k] for k in ("v1", "v2")}), paired({k: GOOD[k] for k in ("v2", "v3", "v4")}),
        ScoringOptions(), BootstrapOptions(50),
    )  # fmt: skip
    assert result.items == 1
    assert (result.only_in_a, result.only_in_b, result.in_neither) == (("v1",), ("v3", "v4"), ("v5",))
    assert not result.complete
    with pytest.raises(UsageError, match="share no item"):
        compare(paired({"v1": "a"}), paired({"v2": "a"}), ScoringOptions(), BootstrapOptions(50))


def test_options_are_checked() -> None:
    assert parse_metrics("all") == METRICS
    assert parse_metrics("ROUGE-L, cider") == ("cider", "rouge-l")
    for text, said in (("bleurt", "unknown metric bleurt"), ("", "unknown metric ''"), ("cider,x,y", "x, y")):
        with pytest.raises(UsageError, match=said):
            parse_metrics(text)
    with pytest.raises(UsageError, match="--missing zero is neither skip nor empty"):
        parse_missing("zero")
    with pytest.raises(UsageError, match="too few resamples"):
        BootstrapOptions(10)
    with pytest.raises(UsageError, match="--level 95"):
        BootstrapOptions(level=95)
    with pytest.raises(UsageError, match="nothing to score"):
        evaluate(paired({}), ScoringOptions(), NO_INTERVALS)
    with pytest.raises(UsageError, match="needs resamples"):
        compare(paired(GOOD), paired(BAD), ScoringOptions(), NO_INTERVALS)


def test_published_rows_stand_apart() -> None:
    from evlgen.metrics.paper_results import PUBLISHED, published_tables

    assert published_tables("MSR-VTT videodatainfo") == [PUBLISHED["msrvtt"]]
    assert published_tables("coco annotations", "/data/nocaps_val.json") == [PUBLISHED["nocaps"]]
    assert published_tables(answers=True) == [PUBLISHED["vqa"]]
    assert PUBLISHED["vqa"] not in published_tables("mine.jsonl")
    for table in PUBLISHED.values():
        assert all(len(row) == len(table.columns) for _, row in table.rows)
    ladder = [row[0] for _, row in PUBLISHED["msrvtt"].rows[:5]]
    assert all(a < b for a, b in itertools.pairwise(v for v in ladder if v is not None))

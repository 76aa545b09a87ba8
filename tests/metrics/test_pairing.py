"""Pairs worked by hand for every rule, and every way in which pairing must refuse."""

import random
from pathlib import Path

import pytest

from evlgen.errors import UsageError
from evlgen.metrics.pairing import pair
from evlgen.metrics.predictions import Predictions
from evlgen.metrics.references import References


def predicted(*ids: str, failed: dict[str, str] | None = None) -> Predictions:
    return Predictions(Path("p"), "JSON lines", {key: f"caption of {key}" for key in ids}, failed or {}, ())


def referred(*ids: str, groups: dict[str, str] | None = None, aliases: dict[str, str] | None = None) -> References:
    captions = {key: [f"first of {key}", f"second of {key}"] for key in ids}
    return References(Path("r"), "JSON lines", captions, groups or {}, (), aliases or {})


@pytest.mark.parametrize(
    ("given", "known", "rule"),
    [
        ("b.mp4 a.mp4", "a.mp4 b.mp4", "exact ids"),
        ("clips/b.mp4 clips/a.mp4", "a.mp4 b.mp4", "file names without folders and suffix"),
        ("b.webm a.mkv", "a b", "file names without folders and suffix"),
        ("b.5 a.5", "x/a.5.mp4 y\\b.5.AVI", "file names without folders and suffix"),
        (
            "val2014/COCO_val2014_000000000042.jpg COCO_train2014_000000391895.jpg",
            "391895 42",
            "the number in COCO file names",
        ),
        ("42 391895", "COCO_val2014_000000391895.jpg COCO_val2014_000000000042.jpg", "the number in COCO file names"),
        ("000000000042.jpg 000000391895.jpg", "391895 42", "the number in COCO file names"),
        ("video7011.mp4 x/video7010.mp4", "7010 7011", "the number in MSR-VTT video names"),
        ("7011 7010", "video7010 video7011", "the number in MSR-VTT video names"),
        ("video7011 video7010", "video7010.mp4 video7011.mp4", "file names without folders and suffix"),
    ],
)
def test_rules(given: str, known: str, rule: str) -> None:
    second, first = given.split()
    paired = pair(predicted(second, first), referred(*known.split()))
    assert paired.rule == rule
    assert paired.ids == known.split()
    assert paired.captions == [f"caption of {first}", f"caption of {second}"]
    assert paired.references == [[f"first of {key}", f"second of {key}"] for key in known.split()]
    assert (paired.without_references, paired.absent, paired.failed) == ([], {}, {})


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ("f0.jpg f1.jpg", "the file names that the references give"),
        ("val/f0.jpg f1.png", "the file names that the references give, without folders and suffix"),
    ],
)
def test_file_names_that_the_references_give(given: str, rule: str) -> None:
    first, second = given.split()
    paired = pair(predicted(second, first), referred("0", "1", aliases={"0": "f0.jpg", "1": "f1.jpg"}))
    assert (paired.rule, paired.ids) == (rule, ["0", "1"])
    assert paired.captions == [f"caption of {first}", f"caption of {second}"]


def test_nothing_is_lost() -> None:
    predictions = predicted("d", "a", "x", failed={"b": "timeout: slow", "y": "timeout: slow"})
    paired = pair(predictions, referred("a", "b", "c", "d", groups={"a": "in-domain", "b": "out-domain"}))
    assert paired.ids == ["a", "d"]
    assert paired.captions == ["caption of a", "caption of d"]
    assert paired.without_references == ["x", "y"]
    assert list(paired.absent) == ["b", "c"]
    assert paired.absent == {key: [f"first of {key}", f"second of {key}"] for key in ("b", "c")}
    assert paired.failed == {"b": "timeout: slow"}
    assert paired.groups == {"a": "in-domain", "b": "out-domain"}


def test_a_failed_id_is_named_as_the_references_name_it() -> None:
    paired = pair(predicted("a.mp4", failed={"b.mp4": "timeout"}), referred("a", "b"))
    assert (paired.ids, list(paired.absent), paired.failed) == (["a"], ["b"], {"b": "timeout"})


def test_all_failed_is_still_a_pairing() -> None:
    paired = pair(predicted(failed={"a": "timeout"}), referred("a", "b"))
    assert (paired.ids, list(paired.absent), paired.failed) == ([], ["a", "b"], {"a": "timeout"})


def test_random_ids_agree_with_a_slow_loop() -> None:
    source = random.Random(3)
    for _ in range(50):
        given = source.sample(range(40), source.randrange(1, 40))
        known = source.sample(range(40), source.randrange(1, 40))
        if not set(given) & set(known):
            continue
        spell = source.choice([lambda i: f"v{i}", lambda i: f"d/v{i}.mp4"])
        paired = pair(predicted(*(spell(i) for i in given)), referred(*(f"v{i}" for i in known)))
        assert paired.ids == [f"v{k}" for k in known if k in given]
        assert paired.captions == [f"caption of {spell(k)}" for k in known if k in given]
        assert paired.without_references == [spell(g) for g in given if g not in known]
        assert list(paired.absent) == [f"v{k}" for k in known if k not in given]


def test_a_subset_is_no_reason_to_shout_but_a_few_matches_are() -> None:
    many = [f"v{i}" for i in range(100)]
    assert pair(predicted("v7"), referred(*many)).rule == "exact ids"
    assert pair(predicted(*many), referred("v7")).rule == "exact ids"
    others = [f"w{i}" for i in range(80)]
    paired = pair(predicted("v1", "v2", *others), referred(*many))
    assert paired.rule == "exact ids; ONLY 2 MATCH, of 82 predictions and 100 references"
    assert (paired.ids, len(paired.without_references), len(paired.absent)) == (["v1", "v2"], 80, 98)


@pytest.mark.parametrize(
    ("given", "known", "text"),
    [
        (
            "a.mp4 b.mp4",
            "c d",
            "no id of predictions p is in references r: they have for example 'a.mp4' and 'c' "
            "(are these files of the same data set and split?)",
        ),
        (
            "v1.mp4 v2 v3",
            "v1.mp4 v2.mp4 v3.mp4",
            "predictions p: ids are written in several ways: 1 of 3 match references r "
            "by exact ids, but 3 by file names without folders and suffix (write them all alike, such as 'v1.mp4')",
        ),
        (
            "9 COCO_val2014_000000000010.jpg",
            "9 10",
            "predictions p: ids are written in several ways: 1 of 2 match "
            "references r by exact ids, but 2 by the number in COCO file names (write them all alike, such as '9')",
        ),
        (
            "x/a.mp4 y/a.mp4",
            "a b",
            "matching predictions p with references r by file names without folders and suffix is "
            "ambiguous: 'x/a.mp4' and 'y/a.mp4' are both 'a' (make the ids alike)",
        ),
        (
            "a b",
            "x/a.mp4 y/a.mp4",
            "matching predictions p with references r by file names without folders and suffix is "
            "ambiguous: 'x/a.mp4' and 'y/a.mp4' are both 'a' (make the ids alike)",
        ),
        (
            "COCO_val2014_000000000009.jpg COCO_train2014_000000000009.jpg",
            "9 10",
            "matching predictions p with references r "
            "by the number in COCO file names is ambiguous: 'COCO_val2014_000000000009.jpg' and "
            "'COCO_train2014_000000000009.jpg' are both '9' (make the ids alike)",
        ),
        ("", "a", "predictions p: no items"),
    ],
)
def test_refusals(given: str, known: str, text: str) -> None:
    with pytest.raises(UsageError) as error:
        pair(predicted(*given.split()), referred(*known.split()))
    assert str(error.value) == text


def test_a_clash_that_concerns_nobody_is_no_clash() -> None:
    paired = pair(predicted("x/intro.mp4", "y/intro.mp4", "x/a.mp4"), referred("a"))
    assert (paired.ids, paired.without_references) == (["a"], ["x/intro.mp4", "y/intro.mp4"])
    paired = pair(predicted("a.mp4", "a.webm"), referred("a.mp4", "b.mp4"))
    assert (paired.ids, paired.rule) == (["a.mp4"], "exact ids")

"""When a self-critical run must end or warn, on series of figures."""

from typing import Any

import pytest

from evlgen.recipes.schema import ScstConfig
from evlgen.training.guards import SAMPLES_LEARN, CaptionGuard, SampleWatch


def report(*figures: tuple[float, float]) -> dict[str, Any]:
    return {str(k): {"cider": cider, "bad_endings": endings} for k, (cider, endings) in enumerate(figures)}


def guard() -> CaptionGuard:
    return CaptionGuard(ScstConfig(cider_drop=2.0, bad_endings_rise=0.1, patience=2))


def test_falling_cider_ends_a_run_when_it_stays_low() -> None:
    one = guard()
    said = [one.check(report((cider, 0.02))) for cider in (20.0, 25.0, 22.9, 24.0, 22.9, 23.1, 22.5, 22.0)]
    assert said[:-1] == [""] * 7, "a single low validation is no trend; 2 points below are allowed"
    assert said[-1] == "validation CIDEr 22.0 has fallen from 25.0 (2 failed validations in a row)"


def test_bad_endings_are_compared_with_the_start_even_if_cider_rises() -> None:
    one = guard()
    assert one.check(report((20.0, 0.25))) == ""
    assert one.check(report((30.0, 0.34))) == ""
    assert one.check(report((40.0, 0.36))) == ""
    assert one.state.failed == 1, "not to become the best"
    assert one.check(report((50.0, 0.5))) == (
        "50% of captions end badly, 25% at the start (2 failed validations in a row)"
    )


def test_sources_are_averaged() -> None:
    one = guard()
    one.check(report((10.0, 0.0), (30.0, 0.2)))
    assert (one.state.best_cider, one.state.start_endings) == (20.0, 0.1)
    one.check(report((4.0, 0.3), (30.0, 0.2)))
    assert one.state.failed == 1
    for _ in range(2):
        said = one.check(report((4.0, 0.3), (30.0, 0.2)))
    assert said.startswith("validation CIDEr 17.0 has fallen from 20.0 and 25% of captions end badly, 10% at the start")


def figures(zero: float, distinct: float) -> dict[str, float]:
    return {"zero_advantages": zero, "distinct_share": distinct}


def test_samples_without_contrast_are_named_once_until_they_have_recovered() -> None:
    watch = SampleWatch(5)
    said = [watch.check(figures(0.8, 0.3)) for _ in range(SAMPLES_LEARN + 3)]
    assert [len(texts) for texts in said] == [0] * (SAMPLES_LEARN - 1) + [2] + [0] * 3
    assert said[SAMPLES_LEARN - 1] == [
        "80% of sampled captions have advantage 0 and teach nothing; raise scst.samples or scst.temperature",
        "only 1.5 of 5 samples of an item differ: the model says one thing only; lower optimizer.learning_rate, or "
        "raise scst.temperature or scst.kl_weight",
    ]
    assert not any(watch.check(figures(0.0, 1.0)) for _ in range(20))
    assert any(watch.check(figures(1.0, 0.2)) for _ in range(30))


def test_single_steps_and_single_samples_are_nothing_to_warn_of() -> None:
    watch = SampleWatch(5)
    assert not any(watch.check(figures(0.9 * (k % 3 == 0), 1 - 0.7 * (k % 3 == 0))) for k in range(40))
    assert not any(SampleWatch(1).check(figures(0.0, 1.0)) for _ in range(10))


@pytest.mark.parametrize("cut", [1, 4, 7, 12])
def test_a_resumed_run_decides_as_one_that_never_stopped(cut: int) -> None:
    reports = [report((c, 0.0)) for c in (20, 21, 18, 22, 19, 18, 21, 19, 19, 18, 17, 16, 15)]
    steps = [figures(0.4 + 0.05 * k, 1 - 0.06 * k) for k in range(13)]
    whole, part, rest = guard(), guard(), guard()
    watched, before, after = SampleWatch(5), SampleWatch(5), SampleWatch(5)
    expected = [(whole.check(r), watched.check(s)) for r, s in zip(reports, steps, strict=True)]
    for r, s in zip(reports[:cut], steps[:cut], strict=True):
        part.check(r)
        before.check(s)
    rest.state = type(rest.state)(**part.state.model_dump())
    after.state = type(after.state)(**before.state.model_dump())
    answers = [(rest.check(r), after.check(s)) for r, s in zip(reports[cut:], steps[cut:], strict=True)]
    assert answers == expected[cut:]
    assert any(texts for _, texts in expected)
    assert any(wrong for wrong, _ in expected)

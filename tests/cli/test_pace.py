"""Rate and time left against runs whose true times are known."""

import pytest

from evlgen_cli.pace import Pace


def run(times: list[float], counts: list[int]) -> Pace:
    pace = Pace(100.0)
    for seconds, done in zip(times, counts, strict=True):
        pace.record(done, 100.0 + seconds)
    return pace


def test_nothing_is_told_before_anything_is_done() -> None:
    pace = run([], [])
    assert (pace.rate(150.0), pace.left_seconds(40, 150.0)) == (None, None)
    assert pace.describe(40, 150.0, unit="videos") == ""


def test_a_batch_that_comes_at_once_is_no_speed() -> None:
    """16 videos written within 0.1 s after 120 s: 0.13 a second, and no word about the end."""
    pace = run([120 + index / 160 for index in range(16)], list(range(1, 17)))
    assert pace.rate(220.1) == pytest.approx(16 / 120.1)
    assert pace.describe(40, 220.1, unit="videos") == "0.13 videos/s"


def test_the_time_left_of_a_steady_run_is_true_whatever_its_start_took() -> None:
    """60 s until the first, then one every 2 s, 40 in all: 60 + 39 x 2 s."""
    pace = run([60 + 2 * index for index in range(20)], list(range(1, 21)))
    assert pace.left_seconds(40, 100 + 60 + 38) == pytest.approx(40)
    assert pace.describe(40, 198.0, unit="videos") == "0.2 videos/s, about 40 s left"


def test_the_time_left_grows_while_nothing_comes() -> None:
    pace = run([0, 2, 4, 6], [1, 2, 3, 4])
    left = [pace.left_seconds(40, 100 + now) for now in (6, 60, 600)]
    assert left == [pytest.approx(36 * now / 3) for now in (6, 60, 600)]


def test_the_end_says_what_it_took() -> None:
    assert run([1, 2, 3, 4, 60], [1, 2, 3, 4, 600]).describe(600, 160.0, unit="videos") == "10 videos/s, 1 min 00 s"

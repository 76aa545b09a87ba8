"""The sampler against numbers worked by hand, and its rules against slow ones on random timelines."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evlgen.errors import UsageError
from evlgen.video import Sampler, Timeline
from tests.video import video_clips as clips

F = Fraction

CONSTANT = Timeline.from_pts(range(10), F(1, 10), 1, keyframes=(0, 4, 8))  # 10 frames in 1 s
VARIABLE = Timeline.from_pts([5, 6, 7, 25], F(1, 10), 10)  # on at 0, 0.1, 0.2 and 2.0 s; off at 3.0 s


def test_timeline_counts_from_the_first_frame_and_lets_the_last_one_end() -> None:
    assert VARIABLE.times == (0, F(1, 10), F(1, 5), 2)
    assert VARIABLE.duration == 3
    assert Timeline.from_pts([3, 5], F(1)).duration == 4  # unknown duration of the last frame: the gap before it
    assert Timeline.from_pts([3], F(1)).duration == 0


@pytest.mark.parametrize(
    ("seconds", "index"), [(F(-1), 0), (F(0), 0), (F(1, 10), 1), (F(199, 100), 2), (F(2), 3), (F(99), 3)]
)
def test_the_frame_on_display(seconds: F, index: int) -> None:
    assert VARIABLE.frame_at(seconds) == index


@pytest.mark.parametrize(
    ("sampler", "timeline", "chosen"),
    [
        (Sampler(frames=2), CONSTANT, (2, 7)),  # 0.25 s and 0.75 s
        (Sampler(frames=4), CONSTANT, (1, 3, 6, 8)),  # 0.125, 0.375, 0.625, 0.875 s
        (Sampler(frames=3), VARIABLE, (2, 2, 3)),  # 0.5, 1.5, 2.5 s
        (Sampler("head-tail", 4), CONSTANT, (0, 3, 6, 9)),
        (Sampler("head-tail", 3), VARIABLE, (0, 2, 3)),
        (Sampler("head-tail", 1), CONSTANT, (0,)),
        (Sampler("fps", fps=F(5)), CONSTANT, (0, 2, 4, 6, 8)),
        (Sampler("fps", fps=F(1)), VARIABLE, (0, 2, 3)),  # 0, 1 and 2 s
        (Sampler("fps", fps=F(100)), VARIABLE, (0, 1, 2, 3)),  # never a frame twice
        (Sampler("fps", fps=F(10), max_frames=2), CONSTANT, (2, 7)),
        (Sampler("keyframes"), CONSTANT, (0, 4, 8)),
        (Sampler("keyframes", max_frames=1), CONSTANT, (4,)),
        (Sampler("times", times=(F(2), F(0), F(19, 10), F(7))), VARIABLE, (3, 0, 2, 3)),
    ],
)
def test_chosen_frames(sampler: Sampler, timeline: Timeline, chosen: tuple[int, ...]) -> None:
    assert sampler.choose(timeline) == chosen


timelines = st.lists(st.integers(0, 1000), min_size=1, max_size=12, unique=True).map(
    lambda pts: Timeline.from_pts(sorted(pts), F(1, 30))
)


@given(timelines, st.fractions(F(1, 200), F(200)))
def test_frames_at_a_rate_are_those_on_display_at_every_tick(timeline: Timeline, fps: F) -> None:
    ticks = [k / fps for k in range(int(timeline.duration * fps) + 2) if k / fps < timeline.duration or k == 0]
    expected = tuple(dict.fromkeys(timeline.frame_at(tick) for tick in ticks))
    assert Sampler("fps", fps=fps).choose(timeline) == expected


def test_a_rate_beyond_all_frames_takes_no_longer_than_there_are_frames() -> None:
    year = Timeline.from_pts([0, 1, 31_536_000], F(1), 1)
    assert Sampler.parse(fps=1e6).choose(year) == (0, 1, 2)


@given(timelines, st.sampled_from(["uniform", "head-tail", "random-spans"]), st.integers(1, 9))
def test_fixed_count_strategies_give_exactly_that_many_in_order(timeline: Timeline, strategy: str, count: int) -> None:
    chosen = Sampler(strategy, count).choose(timeline)
    assert len(chosen) == count
    assert list(chosen) == sorted(chosen)
    assert all(0 <= index < len(timeline.times) for index in chosen)


@given(timelines, st.fractions(0, 40))
def test_frame_at_equals_the_plain_rule(timeline: Timeline, seconds: F) -> None:
    assert timeline.frame_at(seconds) == clips.shown_at(list(timeline.times), seconds)


@pytest.mark.slow
@given(st.integers(0, 99), st.text(max_size=5))
def test_random_spans_stay_in_their_spans_and_repeat_by_seed_and_name(seed: int, name: str) -> None:
    timeline = Timeline.from_pts(range(40), F(1, 40), 1)
    chosen = Sampler("random-spans", 4, seed=seed).choose(timeline, name)
    assert [index // 10 for index in chosen] == [0, 1, 2, 3]
    assert Sampler("random-spans", 4, seed=seed).choose(timeline, name) == chosen


def test_random_spans_differ_by_seed_and_reach_every_frame() -> None:
    timeline = Timeline.from_pts(range(12), F(1, 12), 1)
    assert {i for seed in range(60) for i in Sampler("random-spans", 4, seed=seed).choose(timeline)} == set(range(12))


def test_parse_takes_text_and_infers_the_strategy() -> None:
    assert Sampler.parse() == Sampler("uniform")
    assert Sampler.parse(times="0.5, 1.2") == Sampler("times", times=(F(1, 2), F(6, 5)))
    assert Sampler.parse(fps="30000/1001") == Sampler("fps", fps=F(30000, 1001))
    assert Sampler.parse("head-tail", frames=3) == Sampler("head-tail", 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"strategy": "even", "frames": 0, "fps": "fast"},
            "fps: 'fast' is not a number; sampler 'even' is not one of uniform, head-tail, random-spans, fps, "
            "keyframes, times; frames must be 1 to 10000, not 0",
        ),
        ({"strategy": "fps"}, "sampler fps needs fps (frames per second of video)"),
        ({"strategy": "times"}, "sampler times needs times (seconds, for instance 0.5,1.2)"),
        ({"fps": "1e308"}, "fps must be more than 0 and at most 1000000"),
        ({"fps": "1e999999999999"}, "fps: '1e999999999999' is not a number"),
        ({"fps": 1e9}, "fps must be more than 0 and at most 1000000"),
        ({"frames": 10**9}, "frames must be 1 to 10000, not 1000000000"),
        ({"times": "1e-999999999"}, "times: '1e-999999999' is not a number"),
        ({"strategy": "uniform", "fps": 2}, "fps does not go with sampler uniform"),
        ({"fps": 2, "frames": 3}, "frames does not go with sampler fps (use max_frames to limit it)"),
        ({"max_frames": 3}, "max_frames does not go with sampler uniform (use frames)"),
        ({"times": "-1"}, "times must not be negative"),
        ({"fps": 0}, "fps must be more than 0 and at most 1000000"),
    ],
)
def test_wrong_settings_are_named_all_at_once(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Sampler.parse(**settings)  # type: ignore[arg-type]
    assert caught.value.what == message

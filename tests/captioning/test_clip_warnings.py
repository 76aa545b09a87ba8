"""Clips that show nothing or do not move are marked, and those that nearly do are not; clips are drawn here."""

import numpy as np
import pytest

from evlgen.captioning.confidence import warnings_about

BLACK = "black: no sampled frame shows anything"
STILL = "still: all sampled frames look the same"


def noise(frames: int, low: int, high: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (frames, 96, 96, 3), dtype=np.uint8)


def repeated(picture: np.ndarray, frames: int = 4) -> np.ndarray:
    return np.repeat(picture, frames, axis=0)


def with_a_moving_dot(clip: np.ndarray) -> np.ndarray:
    for place in range(len(clip)):
        clip[place, 40:44, 10 * place : 10 * place + 4] = 255  # 16 of 9,216 pixels
    return clip


def with_a_logo(clip: np.ndarray) -> np.ndarray:
    clip[:, :10, :10] = 255
    return clip


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        (np.zeros((4, 96, 96, 3), dtype=np.uint8), (BLACK, STILL)),
        (noise(4, 0, 12), (BLACK, STILL)),
        (with_a_logo(noise(4, 0, 12)), (BLACK, STILL)),
        (np.concatenate([noise(3, 0, 12), noise(1, 0, 255)]), ()),
        (repeated(noise(1, 0, 255)), (STILL,)),
        (repeated(noise(1, 20, 230)) + noise(4, 0, 8, seed=1), (STILL,)),
        (with_a_moving_dot(repeated(noise(1, 0, 200))), ()),
        (noise(4, 0, 255), ()),
    ],
    ids=["black", "grain", "logo", "fades in", "still", "compressed still", "a dot moves", "moves"],
)
def test_what_is_marked(clip: np.ndarray, expected: tuple[str, ...]) -> None:
    assert warnings_about(clip, range(len(clip))) == expected


def test_one_frame_is_a_picture_and_not_a_still_clip() -> None:
    assert warnings_about(noise(1, 0, 255), [0]) == ()
    assert warnings_about(repeated(noise(1, 0, 255)), [0, 0, 0, 0]) == ()

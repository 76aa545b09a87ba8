"""The display matrix by hand: where the corner of a picture ends up."""

import numpy as np
import pytest

from evlgen.video.picture import Orientation

CORNER = np.arange(6, dtype=np.uint8).reshape(2, 3, 1).repeat(3, 2)  # 0 1 2 / 3 4 5


@pytest.mark.parametrize(
    ("matrix", "degrees", "picture"),
    [
        ((1, 0, 0, 1), 0, [[0, 1, 2], [3, 4, 5]]),
        ((0, 1, -1, 0), -90, [[3, 0], [4, 1], [5, 2]]),  # a quarter turn clockwise
        ((-1, 0, 0, -1), -180, [[5, 4, 3], [2, 1, 0]]),
        ((0, -1, 1, 0), 90, [[2, 5], [1, 4], [0, 3]]),
        ((-1, 0, 0, 1), -180, [[2, 1, 0], [5, 4, 3]]),  # mirrored: FFmpeg, too, calls this a half turn
        ((0, 1, 1, 0), -90, [[0, 3], [1, 4], [2, 5]]),
        ((65536, 0, 0, 65536), 0, [[0, 1, 2], [3, 4, 5]]),
    ],
)
def test_matrix(matrix: tuple[float, float, float, float], degrees: int, picture: list[list[int]]) -> None:
    orientation = Orientation.from_matrix(*matrix)
    assert orientation.degrees == degrees
    upright = orientation.upright(CORNER)
    assert upright[..., 0].tolist() == picture
    assert orientation.size(3, 2) == (upright.shape[1], upright.shape[0])

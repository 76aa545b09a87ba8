"""Colours and contours of merged tokens, as arrays; what draws them lies beside this file.

A mosaic gives every group of merged tokens the mean colour of its patches, in all frames that share it (as in
arXiv 2210.09461, figure 4). A model sees frames made square; here a patch is its part of the frame as it was.

Shapes: F frames, P patches of a frame (rows x columns, row by row), H, W pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evlgen.visualize.tracing import Trace


def cell_colours(pictures_FHWC: NDArray[np.uint8], grid: tuple[int, int]) -> NDArray[np.float64]:
    """The mean colour of every patch: (F, P, 3), 0 to 255."""
    rows, columns = grid
    small = [Image.fromarray(one).resize((columns, rows), Image.Resampling.BOX) for one in pictures_FHWC]
    return np.stack([np.asarray(one, np.float64).reshape(-1, 3) for one in small])


def group_colours(cells_FPC: NDArray[np.float64], groups_FP: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean colour of the group that each patch is in: (F, P, 3)."""
    flat = groups_FP.ravel()
    counts = np.maximum(np.bincount(flat), 1)
    sums = np.stack([np.bincount(flat, cells_FPC[..., channel].ravel()) for channel in range(3)], axis=-1)
    means: NDArray[np.float64] = (sums / counts[:, None])[groups_FP]
    return means


def patch_groups(trace: Trace, layer: int) -> NDArray[np.int64]:
    """The merged token that every patch is part of behind a layer (0: before the first): (F, P)."""
    return trace.merged(layer)[:, trace.prefix_tokens :]


def prompt_colours(trace: Trace, cells_FPC: NDArray[np.float64]) -> list[tuple[int, int, int] | None]:
    """The mean colour of each soft prompt's patches; None: it holds no patch."""
    prompts_FP = trace.prompts()[:, trace.prefix_tokens :]
    means: dict[int, NDArray[np.float64]] = {}
    for prompt in np.unique(prompts_FP):
        means[int(prompt)] = cells_FPC[prompts_FP == prompt].mean(0)
    found: list[tuple[int, int, int] | None] = []
    for prompt in range(trace.soft_prompts):
        mean = means.get(prompt)
        found.append(None if mean is None else (round(mean[0]), round(mean[1]), round(mean[2])))
    return found


def contours(groups_P: NDArray[np.int64], grid: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Edges between patches of different groups, as (column, row) to (column, row) in units of patches."""
    cells = groups_P.reshape(grid)
    upright = np.argwhere(cells[:, 1:] != cells[:, :-1])
    level = np.argwhere(cells[1:] != cells[:-1])
    found = [(int(c) + 1, int(r), int(c) + 1, int(r) + 1) for r, c in upright]
    return found + [(int(c), int(r) + 1, int(c) + 1, int(r) + 1) for r, c in level]

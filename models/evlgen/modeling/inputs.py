"""Pictures and videos as people hold them (PIL, arrays, tensors, paths) to clips of frames: uint8 RGB (F, H, W, 3).

Files are decoded as `evlgen caption` decodes them: in child processes with a deadline, frames spread evenly.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from evlgen.errors import UsageError

Clip = NDArray[np.uint8]
Picture = Image.Image | NDArray[Any] | torch.Tensor | str | PathLike[str]
"""A picture, or where it is a path or has a dimension more, a video."""


def clips_of_images(images: Any, side: int) -> list[Clip]:
    """One clip of one frame for every picture; `images` is one, a list of them, or an array (B, H, W, 3).

    Raises:
        UsageError: something is no picture, or a file cannot be decoded.
    """
    if isinstance(images, np.ndarray | torch.Tensor) and images.ndim == 4:
        images = list(images)
    return clips_of(images if isinstance(images, list | tuple) else [images], side, frames=1)


def clips_of_videos(videos: Any, side: int, frames: int) -> list[Clip]:
    """One clip for every video; `videos` is one, or a list of them.

    A video is a file, an array (F, H, W, 3), or a list of pictures; arrays have all their frames, files `frames`.

    Raises:
        UsageError: something is no video, or a file cannot be decoded.
    """
    if isinstance(videos, np.ndarray | torch.Tensor) and videos.ndim == 5:
        videos = list(videos)
    one_of_pictures = isinstance(videos, list | tuple) and bool(videos) and all(_is_still(one) for one in videos)
    return clips_of(videos if isinstance(videos, list | tuple) and not one_of_pictures else [videos], side, frames)


def clips_of(items: Sequence[Any], side: int, frames: int) -> list[Clip]:
    """A clip for every item: a picture, a video, or a list of pictures.

    Args:
        items: of any kind, mixed.
        side: in pixels, of the square that frames of files are resized to.
        frames: of a file.
    """
    decoded = _decoded([fspath(one) for one in items if isinstance(one, str | PathLike)], side, frames)
    return [_clip(one, side, decoded) for one in items]


def _clip(item: Any, side: int, decoded: dict[str, Clip]) -> Clip:
    if isinstance(item, str | PathLike):
        return decoded[fspath(item)]
    if isinstance(item, list | tuple):
        paths = _decoded([fspath(one) for one in item if isinstance(one, str | PathLike)], side, frames=1)
        pictures = [_clip(one, side, paths) for one in item]
        if any(len(one) != 1 for one in pictures):
            raise UsageError("a list in the place of a video holds pictures, not videos", "give videos=[first, second]")
        if not pictures:
            raise UsageError("a video without a frame", "a list in the place of a video holds its pictures")
        alike = len({one.shape for one in pictures}) == 1
        return np.concatenate(pictures if alike else [_resized(one, side) for one in pictures])
    if isinstance(item, Image.Image):
        return np.asarray(item.convert("RGB"))[None]
    if isinstance(item, np.ndarray | torch.Tensor):
        frames = _rgb(item)
        return frames if frames.ndim == 4 else frames[None]
    raise UsageError(
        f"{type(item).__name__} is no picture or video",
        "give PIL images, arrays (H, W, 3) or (F, H, W, 3), tensors with channels first or last, or paths",
    )


def _rgb(given: NDArray[Any] | torch.Tensor) -> Clip:
    """uint8 values with channels last, of an array or tensor with three channels."""
    array: NDArray[Any] = given.detach().cpu().numpy() if isinstance(given, torch.Tensor) else given
    if array.ndim in (3, 4) and array.shape[-1] != 3 and array.shape[-3] == 3:
        array = np.moveaxis(array, -3, -1)
    if array.ndim not in (3, 4) or array.shape[-1] != 3:
        raise UsageError(
            f"an array of shape {tuple(given.shape)} is no picture or video",
            "three channels are expected, first or last: (H, W, 3) or (F, H, W, 3); PIL images are converted",
        )
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise UsageError(f"pictures of {array.dtype} are not known", "give uint8, or floats from 0 to 1")
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise UsageError(
            f"values of a picture are {array.min():.3g} to {array.max():.3g}, floats are expected to be 0 to 1",
            "normalised pixels are what the processor gives, not what it takes",
        )
    return np.round(array * 255).astype(np.uint8)


def _resized(clip: Clip, side: int) -> Clip:
    return np.stack([np.asarray(Image.fromarray(f).resize((side, side), Image.Resampling.BICUBIC)) for f in clip])


def _is_still(item: Any) -> bool:
    return isinstance(item, Image.Image) or (isinstance(item, np.ndarray | torch.Tensor) and item.ndim == 3)


def _decoded(paths: Sequence[str], side: int, frames: int) -> dict[str, Clip]:
    """The frames of files by path."""
    if not paths:
        return {}
    if address := next((path for path in paths if "://" in path), None):
        raise UsageError(f"{address} is no file, and addresses are not fetched", "download it, and give its path")
    from evlgen.video import DecodeFailure, DecodePool, Sampler

    found: dict[str, Clip] = {}
    distinct = dict.fromkeys(paths)
    with DecodePool(min(2, len(distinct)), sampler=Sampler(frames=frames), size=(side, side)) as pool:
        for path in distinct:
            clip = pool.decode(path)
            if isinstance(clip, DecodeFailure):
                raise UsageError(clip.message)
            found[path] = clip.frames
    return found

"""`evlgen.caption(path)`: captions in one line of Python, by the same run that `evlgen caption` makes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, overload

from evlgen.captioners.protocol import Captioner
from evlgen.captioning.caption_request import CaptionRequest
from evlgen.captioning.caption_rows import Row
from evlgen.captioning.caption_run import run_items
from evlgen.captioning.items import Video
from evlgen.captioning.journal import CAPTIONS
from evlgen.captioning.run_report import Listener
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import EvlgenError, UsageError

_loaded: dict[tuple[str, str, int | None], dict[str, Captioner]] = {}
"""The model of the last call, by name and device, and there by dtype: the next call need not load it again."""


class _Rows(Listener):
    def __init__(self) -> None:
        self.by_place: dict[int, Row] = {}

    def on_row(self, row: Row) -> None:
        self.by_place[int(row.label)] = row


@overload
def caption(paths: str | PathLike[str], **options: Any) -> str: ...


@overload
def caption(paths: Sequence[str | PathLike[str]], **options: Any) -> list[str | None]: ...


def caption(
    paths: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    model: str = "evlgen-mini",
    prompt: str = "",
    frames: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    concurrency: int | None = None,
    **options: Any,
) -> str | list[str | None]:
    """The caption of a video or picture; of a list of them the captions in order.

    Args:
        paths: a file, or files.
        model: what `evlgen caption --model` takes; the last one stays loaded.
        prompt: what captions go on from, or a model that chats is asked.
        frames: of a video; None: as many as the model was trained with.
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: auto, float32, bfloat16, float16.
        concurrency: requests at a time to a server that `model` names; None: 16.
        options: num_beams, max_new_tokens and others of `DecodingOptions`, by transformers' names too.

    Returns:
        A text. In a list None stands for a file without a caption, and a warning says why.

    Raises:
        UsageError: no such file or model, or options that are unknown or contradict each other.
        EvlgenError: the one file has no caption; or as of `caption_videos`.
    """
    single = isinstance(paths, str | PathLike)
    files = [Path(fspath(one)) for one in ([paths] if isinstance(paths, str | PathLike) else paths)]
    if missing := next((one for one in files if not one.is_file()), None):
        what = "is a folder" if missing.is_dir() else "is no file"
        raise UsageError(f"{missing} {what}", "give files; `evlgen caption FOLDER` and caption_videos take folders")
    request = CaptionRequest(
        sources=(),
        model=model,
        decoding=DecodingOptions.named(**options),
        prompt=prompt,
        frames=frames,
        device=device,
        dtype=dtype,
        concurrency=concurrency,
    )
    key = (model, device, concurrency)
    if key not in _loaded:
        _loaded.clear()
    rows = _Rows()
    items = [Video(str(place), one.absolute()) for place, one in enumerate(files)]
    run_items(CAPTIONS, items, request, rows, models=_loaded.setdefault(key, {}))
    found = [rows.by_place[place] for place in range(len(files))]
    failures = [_failure(row, path) for row, path in zip(found, files, strict=True) if row.error is not None]
    if single:
        if failures:
            raise EvlgenError(failures[0])
        return found[0].text or ""
    for failure in failures:
        warnings.warn(failure, stacklevel=2)
    return [row.text for row in found]


def _failure(row: Row, path: Path) -> str:
    message = row.error.message if row.error is not None else ""
    return message if str(path) in message else f"{path}: {message}"

"""`evlgen frames`: the sampler by itself. Writes the frames that captioning would look at and says when they occur."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evlgen.system.names import printable
from evlgen_cli import console
from evlgen_cli.exits import Exit

if TYPE_CHECKING:
    from evlgen.video import ExtractedFrames


def frames(
    path: Annotated[
        str, typer.Argument(help="A video or picture, a folder of them (searched through), or a quoted glob.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Folder for the images; made if need be. Each video of a folder or glob gets one of its own in it.",
        ),
    ],
    count: Annotated[
        int | None, typer.Option("--frames", "-n", help="Number of frames (uniform, head-tail, random-spans).")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="uniform, head-tail, random-spans, fps, keyframes or times; uniform if nothing else is given."
        ),
    ] = None,
    times: Annotated[str | None, typer.Option(help="Moments in seconds, for instance 0.5,1.2.")] = None,
    fps: Annotated[str | None, typer.Option(help="Frames per second of video.")] = None,
    max_frames: Annotated[int | None, typer.Option(help="Limit for fps, keyframes and times.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of random-spans.")] = None,
    backend: Annotated[str, typer.Option(help="pyav, decord or ffmpeg.")] = "pyav",
    timeout: Annotated[float, typer.Option(help="Give the file up after this many seconds.")] = 60.0,
    image_format: Annotated[str, typer.Option("--format", help="png or jpg.")] = "png",
    contact_sheet: Annotated[
        bool, typer.Option("--contact-sheet", help="One picture with all frames and their times.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write the sampled frames of videos as images, and print their indices and timestamps.

    Exit code 3: some videos of a folder gave no frames, or could not be found; standard error says why.
    """
    from evlgen.captioning.discover import Unreadable, find_videos
    from evlgen.errors import VideoError
    from evlgen.video import DecodeFailure, Sampler, extract_frames

    alone = os.path.lexists(path) and not Path(path).is_dir()
    # a video that a list names elsewhere has an absolute name, which must not lead out of the folder
    closed: list[Unreadable] = []
    found = [] if alone else find_videos([path], unreadable=closed)
    folders = {Path(path): out} if alone else {one.path: out / one.name.lstrip("/") for one in found}
    for folder in closed:
        console.err.print(f"warning: {folder}")
    results = extract_frames(
        folders,
        Sampler.parse(sampler, frames=count, fps=fps, times=times, max_frames=max_frames, seed=seed),
        backend=backend,
        timeout_seconds=timeout,
        image_format=image_format,
        contact_sheet=contact_sheet,
    )
    done: dict[Path, dict[str, Any]] = {}
    failed = 0
    for result in results:
        if isinstance(result, DecodeFailure):
            if alone:
                raise VideoError(result.kind, result.message)
            failed += 1
            console.err.print(printable(f"error: {result.message}"))
            done[result.path] = {"video": str(result.path), "error": {"kind": result.kind, "message": result.message}}
            continue
        done[result.path] = _as_dict(result)
        if not as_json:
            _show(result, contact_sheet)
    if as_json:
        rows = [done[one] for one in folders]
        console.print_json(rows[0] if alone else rows)
    if failed or closed:
        raise typer.Exit(Exit.SOME_FAILED)


def _show(result: ExtractedFrames, contact_sheet: bool) -> None:
    files = [printable(file) for file in result.files]
    for warning in result.warnings:
        console.err.print(printable(f"warning: {result.path}: {warning}"))
    for place, (index, time) in enumerate(zip(result.indices, result.timestamps, strict=True)):
        name = "" if contact_sheet else f"  {files[place]}"
        console.out.print(f"frame {index:>6}  {float(time):>10.3f} s{name}")
    if contact_sheet:
        console.out.print(files[0])


def _as_dict(result: ExtractedFrames) -> dict[str, Any]:
    return {
        "video": str(result.path),
        "width": result.info.width,
        "height": result.info.height,
        "frame_indices": list(result.indices),
        "timestamps_seconds": [round(float(time), 6) for time in result.timestamps],
        "files": [str(file) for file in result.files],
        "partial": result.partial,
        "warnings": list(result.warnings),
    }

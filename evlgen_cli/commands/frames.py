"""`evlgen frames`: the sampler by itself. Writes the frames that captioning would look at and says when they occur."""

from pathlib import Path
from typing import Annotated

import typer


def frames(
    path: Annotated[Path, typer.Argument(help="A video file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the images; made if need be.")],
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
    """Write the sampled frames of a video as images, and print their indices and timestamps."""
    from evlgen.video import Sampler, extract_frames
    from evlgen_cli import console

    result = extract_frames(
        path,
        out,
        Sampler.parse(sampler, frames=count, fps=fps, times=times, max_frames=max_frames, seed=seed),
        backend=backend,
        timeout_seconds=timeout,
        image_format=image_format,
        contact_sheet=contact_sheet,
    )
    files = [str(file) for file in result.files]
    if as_json:
        console.print_json(
            {
                "video": str(result.path),
                "width": result.info.width,
                "height": result.info.height,
                "frame_indices": list(result.indices),
                "timestamps_seconds": [round(float(time), 6) for time in result.timestamps],
                "files": files,
                "partial": result.partial,
                "warnings": list(result.warnings),
            }
        )
        return
    for warning in result.warnings:
        console.err.print(f"warning: {result.path}: {warning}")
    for place, (index, time) in enumerate(zip(result.indices, result.timestamps, strict=True)):
        name = "" if contact_sheet else f"  {files[place]}"
        line = f"frame {index:>6}  {float(time):>10.3f} s{name}"
        console.out.print(line)
    if contact_sheet:
        console.out.print(files[0])

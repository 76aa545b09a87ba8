"""`evlgen visualize`: which patches of a video merged into which soft prompt, as a page, a picture or a movie."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evlgen.system.names import printable
from evlgen_cli import completion
from evlgen_cli.console import download_progress, err, out, print_json, table
from evlgen_cli.options import DeviceOption, JsonOption, PromptOption, ROption

if TYPE_CHECKING:
    from evlgen.visualize import Panel


def visualize(
    video: Annotated[Path, typer.Argument(help="A video or a picture.", show_default=False)],
    outs: Annotated[
        list[Path] | None,
        typer.Option(
            "--out",
            "-o",
            show_default="NAME-merging.html",
            help="What to write, by its suffix: .html (a page to point at things), .png, .mp4; may be repeated.",
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            show_default="evlgen-mini",
            autocompletion=completion.model,
            help="A model of ours; given twice, both stand side by side: before and after training, say.",
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", "-n", show_default="the model's", help="Frames of the video, at most 32.")
    ] = None,
    prompt: PromptOption = "",
    r: ROption = None,
    num_beams: Annotated[int, typer.Option(min=1, help="Beams of the search for the caption.")] = 3,
    device: DeviceOption = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16: arithmetic of the model.")] = "auto",
    timeout: Annotated[float, typer.Option(help="Give the video up after this many seconds.")] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Draw how the patches of a video merge, layer by layer, and what each word of its caption looks at.

    --json prints the same as numbers: the group of every token behind every layer, and attention.
    """
    from evlgen.decoding_options import DecodingOptions
    from evlgen.visualize import VisualizeRequest
    from evlgen.visualize import visualize as draw

    request = VisualizeRequest(
        video=video,
        outs=tuple(outs or ([] if as_json else [Path(f"{video.stem}-merging.html")])),
        models=tuple(models or ["evlgen-mini"]),
        frames=frames,
        prompt=prompt,
        r=r,
        decoding=DecodingOptions(num_beams=num_beams),
        device=device,
        dtype=dtype,
        timeout_seconds=timeout,
    )
    with download_progress() as report:
        panels = draw(request, report)
    for text in dict.fromkeys(text for panel in panels for text in panel.warnings):
        err.print(f"warning: {video}: {text}")
    if as_json:
        print_json([panel.trace.as_dict() | {"timestamps_seconds": list(panel.seconds)} for panel in panels])
        return
    table(["model", "tokens by layer", "soft prompts", "caption"], [_row(panel) for panel in panels])
    for path in request.outs:
        out.print(printable(path))


def _row(panel: "Panel") -> list[str]:
    trace = panel.trace
    return [trace.model, " ".join(map(str, trace.tokens)), str(trace.soft_prompts), trace.caption]

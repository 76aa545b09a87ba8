"""`evlgen models`: which models there are, bringing their parts onto this machine, and the authors' checkpoints.

What goes to other places (save, average, push) stands in models_hub.py.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from evlgen.errors import UsageError
from evlgen_cli import completion
from evlgen_cli.commands import models_hub
from evlgen_cli.console import download_progress, err, print_json, table
from evlgen_cli.human_numbers import human_bytes
from evlgen_cli.options import JsonOption, SplitOption

_RELEASED = "as released, at the released width"

app = typer.Typer(no_args_is_help=True, help="See models, fetch their parts, convert checkpoints, share them.")


@app.command("ls")
def ls(as_json: JsonOption = False) -> None:
    """List the models, the parts they are made of, and which of those are on this machine."""
    from evlgen.weights.catalogue import MODELS

    models = {name: [_describe(part) for part in parts] for name, parts in MODELS.items()}
    if as_json:
        print_json([{"name": name, "parts": parts} for name, parts in models.items()])
        return
    rows = [
        (
            name,
            p["name"],
            p["needed_for"],
            human_bytes(p["bytes"]),
            "yes" if p["cached"] else "no",
            p["licence"],
            p["what"],
        )
        for name, parts in models.items()
        for p in parts
    ]
    table(("model", "part", "for", "size", "cached", "licence", "what"), rows)


@app.command("pull")
def pull(
    name: Annotated[
        str, typer.Argument(help="The model: a name, or hf:OWNER/NAME[@REVISION].", autocompletion=completion.model)
    ] = "evlgen-mini",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Of hf:OWNER/NAME: copy the model there as well.")
    ] = None,
    training: Annotated[bool, typer.Option("--training", help="Also what recipe mini-looking is made of.")] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Hash all that is here already; what is damaged is fetched, or built, anew."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch a model's parts now, so that captioning needs no network later. Prints where they are."""
    from evlgen.weights import fetch_all
    from evlgen.weights.catalogue import model_parts
    from evlgen.weights.derived import verify_derived

    if name.startswith("hf:"):
        if training:
            raise UsageError("--training is for models that come with evlgen", "leave it away")
        models_hub.pull(name, out, verify=verify, as_json=as_json)
        return
    if out is not None:
        raise UsageError("--out is for models of the hub", f"evlgen models save {name} --out {out}")
    parts = [part for part in model_parts(name) if training or part.needed_for == "captioning"]
    with download_progress() as report:
        paths = fetch_all([part.source for part in parts], report=report, verify=verify)
    whole, damaged = verify_derived() if verify else ([], [])
    if as_json:
        print_json([_describe(part) for part in parts])
    else:
        table(("part", "path"), [(part.name, str(path)) for part, path in zip(parts, paths, strict=True)])
    counted = "1 part" if len(parts) == 1 else f"{len(parts)} parts"
    err.print(f"{name}: {counted}, {human_bytes(sum(part.bytes for part in parts))}, hashes as pinned")
    if whole:
        err.print(f"derived: {', '.join(whole)}, as built")
    for key in damaged:
        err.print(f"derived: {key} is damaged and is removed; it is built when it is needed")


app.command("save")(models_hub.save)
app.command("average")(models_hub.average)
app.command("push")(models_hub.push)


@app.command("rm")
def rm(
    name: Annotated[str, typer.Argument(help="The model.", autocompletion=completion.model)],
    as_json: JsonOption = False,
) -> None:
    """Remove a model's parts from the cache, and what was derived from them. What is needed again is fetched again."""
    from evlgen.weights.parts import remove_parts

    removed = remove_parts(name)
    if as_json:
        print_json([{"path": str(path), "bytes": size} for path, size in removed])
    elif removed:
        table(("removed", "size"), [(str(path), human_bytes(size)) for path, size in removed])
    freed = human_bytes(sum(size for _, size in removed))
    err.print(f"{name}: {freed} freed" if removed else f"{name}: nothing of it is in the cache")


@app.command("convert")
def convert(
    source: Annotated[str, typer.Argument(metavar="FILE", help="Authors' checkpoint; with --to-authors our folder.")],
    to: Annotated[Path, typer.Option("--to", help="Folder to write; with --to-authors a file (.pth, .safetensors).")],
    back: Annotated[
        bool, typer.Option("--to-authors", help="Write the authors' layout of one of our folders.")
    ] = False,
    r: Annotated[int, typer.Option("--r", help="Tokens merged per layer.", min=0)] = 19,
    heads: Annotated[
        int | None, typer.Option("--heads", help="Attention heads of the connector.", min=1, show_default=_RELEASED)
    ] = None,
    vision_heads: Annotated[
        int | None, typer.Option("--vision-heads", help="Of a tower that FILE holds.", min=1, show_default=_RELEASED)
    ] = None,
    temporal_heads: Annotated[
        int | None, typer.Option("--temporal-heads", help="Of temporal modules.", min=1, show_default=_RELEASED)
    ] = None,
    frames: Annotated[int, typer.Option("--frames", help="Frames per video.", min=1)] = 4,
    vision: Annotated[
        str | None, typer.Option("--vision", help="Weights of EVA-CLIP ViT-g/14, if FILE does not hold them.")
    ] = None,
    vision_layout: Annotated[
        Literal["timm", "blip2"], typer.Option("--vision-layout", help="Whose key names --vision has.")
    ] = "timm",
    image_size: Annotated[int, typer.Option("--image-size", help="With --vision: side in pixels.", min=14)] = 224,
    language: Annotated[
        str | None, typer.Option("--language", help="Folder or hf:owner/name.", show_default="the OPT of this width")
    ] = None,
    prompt_after: Annotated[
        str | None,
        typer.Option("--prompt-after", help="Text before a caption.", show_default="</s>"),
    ] = None,
    end_text: Annotated[
        str | None, typer.Option("--end-text", help="What ends one.", show_default="a line's end; of Vicuna </s>")
    ] = None,
    unused: Annotated[
        list[str] | None, typer.Option("--unused", metavar="PREFIX", help="Tensors to keep aside; may be repeated.")
    ] = None,
    family: Annotated[
        Literal["opt", "vicuna"] | None,
        typer.Option("--family", help="With --to-authors: names of which model.", show_default="by language model"),
    ] = None,
    frozen: Annotated[bool, typer.Option("--frozen", help="With --to-authors: frozen parts too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read a checkpoint of EVLGen's authors (image or video, OPT or Vicuna), or write one."""
    from evlgen import conversion

    if back:
        prefix = None if family is None else conversion.FAMILIES[family]
        restored = conversion.to_authors(source, to, family=prefix, frozen=frozen)
        what, tensors = f"prefix {restored.family}_", restored.tensors
    else:
        assumed = conversion.Assumed(
            r=r,
            heads=heads,
            vision_heads=vision_heads,
            temporal_heads=temporal_heads,
            frames=frames,
            vision=None if vision is None else conversion.eva_vit_g(vision, vision_layout, image_size),
            language=language,
            prompt_after=prompt_after,
            end_text=end_text,
        )
        converted = conversion.convert(Path(source), to, assumed, tuple(unused or ()))
        what, tensors = f"fusion {converted.config.temporal.fusion}", converted.tensors
    if as_json:
        print_json({"written": str(to), "tensors": tensors})
        return
    table(("part", "tensors"), [(part, str(count)) for part, count in tensors.items()])
    err.print(f"{to} is written: {what}")


@app.command("calibrate")
def calibrate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the model; its config.json is changed.")],
    captions: Annotated[
        list[Path],
        typer.Option("--captions", metavar="FILE", help="What it said of validation data: the file of evlgen eval."),
    ],
    references: Annotated[
        list[Path],
        typer.Option("--references", metavar="FILE", help="What people said of it; one for each --captions, in order."),
    ],
    split: SplitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn how likely a model's captions are good, for `confidence` in their lines and --min-confidence."""
    from evlgen.evaluating.calibration import calibrate as learn
    from evlgen.evaluating.calibration import write_confidence

    if len(captions) != len(references):
        raise UsageError(
            f"{len(captions)} --captions and {len(references)} --references", "give one of each for every data set"
        )
    found = learn(list(zip(captions, references, strict=True)), split)
    write_confidence(folder, found.config)
    if as_json:
        print_json(found.as_dict())
        return
    table(
        ("confidence", "good", "captions"),
        [(f"{mean:.2f}", f"{share:.0%}", str(count)) for mean, share, count in found.parts],
    )
    low, high = found.correlation_interval
    err.print(
        f"{found.captions} captions, {found.good:.0%} good; Spearman's correlation with their CIDEr "
        f"{found.correlation:.2f} ({low:.2f} to {high:.2f}), log p a token {found.by_log_probability:.2f}"
    )
    err.print(f"{folder} is written")


def _describe(part: Any) -> dict[str, Any]:
    from dataclasses import asdict

    from evlgen.weights import cached

    path = cached(part.source)
    return asdict(part) | {"cached": path is not None, "path": None if path is None else str(path)}

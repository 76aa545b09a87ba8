"""`evlgen models save`, `average` and `push`, and `pull` of the hub: models in other places, and their mean."""

from pathlib import Path
from typing import Annotated

import typer

from evlgen_cli import completion
from evlgen_cli.console import download_progress, err, out, print_json, table
from evlgen_cli.human_numbers import human_bytes
from evlgen_cli.options import JsonOption

_ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A name, or the folder of a model: runs/NAME/best, what convert wrote.",
        autocompletion=completion.model,
    ),
]


def save(
    model: _ModelArgument,
    folder: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="A new folder for it.")],
    with_parts: Annotated[
        bool,
        typer.Option(
            "--with-parts", help="Copy its frozen parts as well: it then needs no other file, and no network."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a model into a folder of its own, which transformers' Auto classes open too."""
    from evlgen.hub.saving import save as write

    with download_progress() as report:
        files = write(model, folder, with_parts=with_parts, report=report)
    sizes = {name: (folder / name).stat().st_size for name in files}
    if as_json:
        print_json({"written": str(folder), "files": sizes})
        return
    table(("file", "size"), [(name, human_bytes(size)) for name, size in sizes.items()])
    err.print(f"{folder} is written: {human_bytes(sum(sizes.values()))}")


def average(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Two or more, of one recipe; the first says how tokens merge.",
            autocompletion=completion.model,
        ),
    ],
    folder: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="A new folder for their average.")],
    as_json: JsonOption = False,
) -> None:
    """Average the weights of models that differ in their training alone: often better than each of them."""
    from evlgen.modeling.averaging import average as write

    tensors = write(models, folder)
    if as_json:
        print_json({"written": str(folder), "models": models, "tensors": tensors})
        return
    err.print(f"{folder} is written: the mean of {len(models)} models, {tensors} tensors")


def push(
    model: _ModelArgument,
    to: Annotated[str, typer.Option("--to", metavar="hf:OWNER/NAME[@BRANCH]", help="Repository, made if need be.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    message: Annotated[str, typer.Option("--message", help="Of the commit.")] = "Upload a model with evlgen",
    licence: Annotated[
        str | None,
        typer.Option(
            "--license", help="For the card, e.g. apache-2.0.", show_default="what README.md in the folder states"
        ),
    ] = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option(
            "--scores",
            metavar="FILE",
            help="For the card: what evlgen eval --json printed of this model. The file's name is that of the data.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be uploaded, and show the card.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Upload a model to the Hugging Face hub, with a card and what transformers needs to open it.

    The token is that of `hf auth login` or HF_TOKEN. A push that was interrupted can be repeated.
    """
    from evlgen.hub import publishing
    from evlgen.hub.scores import read_scores

    plan = publishing.plan_push(model, to, licence=licence, scores=[read_scores(path) for path in scores or []])
    sizes = plan.sizes()
    where = plan.repository + (f"@{plan.branch}" if plan.branch else "")
    if not as_json:
        table(("file", "size"), [(name, human_bytes(size)) for name, size in sorted(sizes.items())])
    if plan.left_out:
        shown = ", ".join(plan.left_out[:5]) + (", ..." if len(plan.left_out) > 5 else "")
        err.print(f"left out: {shown}")
    if plan.licence is None:
        err.print("note: no licence is stated, so nobody knows what they may do with it (--license)")
    result = {"repository": plan.repository, "branch": plan.branch, "files": sizes}
    if dry_run:
        if as_json:
            print_json({**result, "card": plan.files["README.md"]})
        else:
            out.print(f"\n{plan.files['README.md']}")
        err.print(f"{where}: {human_bytes(sum(sizes.values()))} would be uploaded")
        return
    api = publishing.client()
    if not err.is_terminal:
        publishing.without_bars()
    err.print(f"{where}: uploading {human_bytes(sum(sizes.values()))}; what is there already is not sent again")
    done = publishing.push(plan, private=private, message=message, api=api)
    if done.card_kept:
        err.print("the card of the repository is somebody's own and stays")
    if as_json:
        print_json({**result, "commit": done.commit, "address": done.address})
    else:
        out.print(done.address)
    err.print(f"evlgen caption VIDEOS --model hf:{where} captions with it")


def pull(model: str, folder: Path | None, *, verify: bool, as_json: bool) -> None:
    """Fetch a model of the hub, with all that it needs."""
    from evlgen.hub.saving import pull as fetch
    from evlgen.hub.saving import save as write

    with download_progress() as report:
        places = fetch(model, verify=verify, report=report)
    if folder is not None:
        write(model, folder)
        places["model"] = folder
    if as_json:
        print_json({part: str(path) for part, path in places.items()})
    else:
        table(("part", "path"), [(part, str(path)) for part, path in places.items()])
    err.print(f"{model} is here: evlgen caption VIDEOS --model {folder or model} needs no network")

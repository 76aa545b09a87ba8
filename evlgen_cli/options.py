"""Options that several commands share, so that they are spelled and explained in one way."""

import os
from pathlib import Path
from typing import Annotated

import typer

from evlgen.errors import UsageError
from evlgen.system.remote_files import is_address, public_name
from evlgen_cli import completion
from evlgen_cli.console import err

RENAMED = {"--max-length": "--max-new-tokens", "--min-length": "--min-new-tokens"}
"""Options that had another name, which still works."""


def with_new_names(arguments: list[str]) -> list[str]:
    """The arguments of a command with the names that its options have now; says so in one line for each."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    names = [one.partition("=")[0] for one in options]
    for old in (name for name in RENAMED if name in names):
        err.print(f"note: {old} is called {RENAMED[old]} now")
    renamed = [one.replace(name, RENAMED.get(name, name), 1) for one, name in zip(options, names, strict=True)]
    return renamed + arguments[len(options) :]


def out_file(text: str) -> Path:
    """The path of a file to write; what ends in a slash is meant as a folder.

    Raises:
        UsageError: it is, or it is elsewhere: nothing can be added to a file there line by line.
    """
    if is_address(text):
        raise UsageError(
            f"--out {public_name(text)}: captions are written to a file here, each as soon as it is there",
            "--out captions.jsonl, and evlgen export writes what is made of it to addresses",
        )
    if text.endswith(("/", os.sep)):
        raise UsageError(f"--out {text} is a folder", f"name a file, such as {Path(text) / 'captions.jsonl'}")
    return Path(text)


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output instead of a table.")]

ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        help="A model: evlgen-mini, a folder or hub name of ours; hf:OWNER/NAME[@REVISION] or hf:FOLDER for any model "
        "of transformers that goes from pictures to text (docs/models.md); open_clip:NAME/PRETRAINED for CoCa; "
        "openai:MODEL@URL behind a server (docs/serving.md).",
        show_default=True,
        autocompletion=completion.model,
    ),
]

DeviceOption = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps: where the model runs.", show_default=True)
]

DtypeOption = Annotated[
    str,
    typer.Option(
        help="auto, float32, bfloat16, float16: arithmetic of the model. auto is what --out was begun in, or else "
        "what this machine is fast in (evlgen doctor). float16 on an x86 CPU: float32, with the language model's "
        "matrices in float16."
    ),
]

NumBeamsOption = Annotated[int, typer.Option("--num-beams", help="Beams of the search; 1 is greedy.")]

FramesOption = Annotated[
    int | None, typer.Option("--frames", show_default="the model's own", help="Frames taken from each video.")
]

WorkersOption = Annotated[int | None, typer.Option("--workers", show_default="by the CPUs", help="Decoding processes.")]

PromptOption = Annotated[
    str,
    typer.Option(
        "--prompt",
        show_default="none",
        help='Text that captions go on from, such as "a video of"; a caption is what follows it. It stands behind the '
        "visual prompts. A model of hf: that chats is asked it; without one, to describe the video.",
    ),
]

SystemPromptOption = Annotated[
    str,
    typer.Option(
        "--system-prompt", show_default="none", help="What a model of hf: or openai: that chats is told first."
    ),
]

LoadInOption = Annotated[
    str | None,
    typer.Option(
        "--load-in",
        show_default="as --dtype",
        help="8bit or 4bit: weights of a model of hf: take a half or a quarter of the memory. Needs a GPU and "
        "bitsandbytes.",
    ),
]

ROption = Annotated[
    str | None,
    typer.Option(
        "--r",
        metavar="N",
        show_default="as the model was trained",
        help='Tokens that each layer of our models merges, or a schedule: "[10,8,8]", a number a layer; "[8,-0.5]", '
        "falling from 12 to 4. Weights do not depend on it, captions do.",
    ),
]

TrustRemoteCodeOption = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run Python code that comes with a model of hf:, with all your rights. Read it first.",
    ),
]

ConcurrencyOption = Annotated[
    int | None,
    typer.Option(
        "--concurrency", show_default="16", help="Requests to a server at a time, where --model is an endpoint."
    ),
]

RequestTimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--request-timeout",
        show_default="120",
        help="Seconds after which one of these requests is given up and sent again.",
    ),
]

NoRepeatOption = Annotated[
    int | None,
    typer.Option(
        "--no-repeat-ngram",
        show_default="0",
        help="So many tokens in a row stand only once in a caption (3 ends loops); 0: they may come again.",
    ),
]

RepetitionOption = Annotated[
    float | None,
    typer.Option(
        "--repetition-penalty",
        show_default="1",
        help="Above 1, tokens that the caption holds already become less likely; 1.2 is mild.",
    ),
]

LengthPenaltyOption = Annotated[
    float | None,
    typer.Option(
        "--length-penalty",
        show_default="1; 0 for questions",
        help="Beam scores are divided by length to this power; below 0 favours short captions.",
    ),
]

NumCaptionsOption = Annotated[
    int | None,
    typer.Option(
        "--num-captions",
        show_default="1",
        help="Captions of each video, at most as many as beams; those after the best stand in the row's alternatives.",
    ),
]

NumSamplesOption = Annotated[
    int | None,
    typer.Option(
        "--num-samples",
        show_default="0",
        help="Samples of each video beside the captions of the search; the same in every run.",
    ),
]

TemperatureOption = Annotated[
    float | None,
    typer.Option(
        "--temperature", show_default="1", help="Of --num-samples; below 1 they keep nearer to the likeliest words."
    ),
]

RerankOption = Annotated[
    str | None,
    typer.Option(
        "--rerank",
        show_default="none",
        help="consensus: of all captions of a video, the one nearest to the others (by CIDEr) stands in its row, with "
        "its agreement; none: the most likely one.",
    ),
]

CaptionsArgument = Annotated[
    Path, typer.Argument(metavar="CAPTIONS", show_default=False, help="The file that evlgen caption has written.")
]

MergeEqualOption = Annotated[
    bool,
    typer.Option(
        "--merge-equal",
        help="Make one of parts of a video that follow each other and have the same caption.",
    ),
]

PrefixOption = Annotated[
    str,
    typer.Option("--prefix", show_default="none", help='In front of every caption: a trigger word, as in "ohwx, ".'),
]

SuffixOption = Annotated[str, typer.Option("--suffix", show_default="none", help="Behind every caption.")]

TemplateOption = Annotated[
    str,
    typer.Option("--template", help="Text around captions: {caption}, and {name}, {folder}, {tags} of the video."),
]

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe: optimizer.learning_rate=1e-4."),
]

ReferencesOption = Annotated[
    Path,
    typer.Option(
        "--references",
        help="Reference captions: JSONL, CSV, COCO or Karpathy JSON, MSR-VTT videodatainfo.json, NoCaps, VATEX, "
        "MSVD; or the answers of VQAv2, OK-VQA, GQA.",
    ),
]

SplitOption = Annotated[
    str | None, typer.Option("--split", show_default="all", help="Only this split, where the file has splits.")
]

_METRICS_HELP = "Of cider, bleu, rouge-l, meteor, spice, or all. METEOR and SPICE need Java."
USUAL_METRICS = "cider,bleu,rouge-l"

MetricsOption = Annotated[str, typer.Option("--metrics", help=_METRICS_HELP)]

OpenMetricsOption = Annotated[
    str | None, typer.Option("--metrics", show_default=f"{USUAL_METRICS}; of a recipe its own", help=_METRICS_HELP)
]

FrequenciesOption = Annotated[
    Path | None,
    typer.Option(
        "--frequencies",
        show_default="the references scored",
        help="CIDEr's document frequencies: a file of eval --save-frequencies, or references to count.",
    ),
]

BootstrapOption = Annotated[
    int, typer.Option("--bootstrap", help="Resamples of the videos for intervals; 0 for none.", min=0)
]

LevelOption = Annotated[float, typer.Option("--level", help="Level of the intervals.")]

ResampleSeedOption = Annotated[int, typer.Option("--seed", help="Seed of the resampling.", min=0)]

DeadlineOption = Annotated[
    float, typer.Option("--deadline", help="Seconds after which METEOR or SPICE is given up.", min=1)
]

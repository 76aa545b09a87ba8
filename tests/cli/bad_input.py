"""What people give wrongly, each through the command line: the cases of docs/bad-input.md, and the page made of them.

`python -m tests.cli.bad_input > docs/bad-input.md` writes the page again.
"""

import contextlib
import json
import os
import re
import tempfile
from pathlib import Path

from typer.testing import CliRunner

from evlgen_cli.main import app
from tests.captioning import fakes
from tests.exports.exported_captions import line, touch, write

HEAD = """# Bad input and what becomes of it

What each command said, and its exit code (0 done, 1 failed, 2 wrong usage, 3 something has no caption), as
`python -m tests.cli.bad_input > docs/bad-input.md` ran it; a test compares this page with what is said today.
[reliability.md](reliability.md) has what goes wrong beyond that, and the tests of it.

## Commands

| input | command | code | what is said |
|---|---|---|---|
"""

FILES = """
## Files among others

One run over a folder: each costs its own row, the others are captioned, and the exit code is 3.

| input | the row says |
|---|---|
"""

CASES: list[tuple[str, str]] = [
    ("a path that is not there", "caption none.mp4"),
    ("a folder without videos", "caption empty-folder"),
    ("a glob that matches nothing", "caption videos/*.avi"),
    ("a list that is not there", "caption @none.txt"),
    ("an empty list", "caption @empty.txt"),
    ("a web page's host that does not answer", "caption http://127.0.0.1:9/a.mp4"),
    ("an address of an unknown kind", "caption nothing://bucket/clips"),
    ("a folder elsewhere that is not there", "caption memory://bucket/none"),
    ("a chained address", "caption zip://a.mp4::memory://bucket/a.zip"),
    ("a wildcard on the web", "caption https://example.org/*.mp4"),
    ("an output that is a folder", "caption videos --out empty-folder"),
    ("an output that ends in a slash", "caption videos --out new/"),
    ("an output elsewhere", "caption videos --out s3://bucket/captions.jsonl"),
    ("an output with another suffix", "caption videos --out x.tsv"),
    ("an output that is another file", "caption videos --out notes.md"),
    ("an output that holds something else", "caption videos --out other.jsonl"),
    ("an output of a newer evlgen", "caption videos --out newer.jsonl"),
    ("an output that is a device", "caption videos --out /dev/null"),
    ("one file of subtitles for several videos", "caption videos --out x.srt"),
    ("a sidecar of another kind", "caption videos --out x.jsonl --sidecar doc"),
    ("sidecars without an output", "caption videos --sidecar txt"),
    ("words without sidecars", "caption videos --out x.jsonl --prefix x"),
    ("a template without the caption", "caption videos --out x.csv --template x"),
    ("a template with an unknown word", "caption videos --out x.csv --template {captoin}"),
    ("merging of parts without a place for it", "caption videos --out x.jsonl --merge-equal"),
    ("no beams", "caption videos --num-beams 0"),
    ("more captions than beams", "caption videos --num-beams 1 --num-captions 5"),
    ("fewer tokens than none", "caption videos --min-new-tokens -1"),
    ("a sampler that is none", "caption videos --sampler middle"),
    ("a rate that is no number", "caption videos --sampler fps=x"),
    ("a decoder that is none", "caption videos --backend vlc"),
    ("a device that is none", "caption videos --device tpu"),
    ("an arithmetic that is none", "caption videos --dtype int3"),
    ("no frames", "caption videos --frames 0"),
    ("no time", "caption videos --timeout 0"),
    ("no size", "caption videos --fetch-gb 0"),
    ("no workers", "caption videos --workers 0"),
    ("a confidence above 1", "caption videos --min-confidence 2"),
    ("a part that is none", "caption videos --out x.jsonl --shard 4/4"),
    ("a part without an output", "caption videos --shard 0/4"),
    ("nothing in the environment", "caption videos --out x.jsonl --shard auto"),
    ("parts of a video by an unknown rule", "caption videos --segments chapters"),
    ("parts of no length", "caption videos --segments fixed:0"),
    ("a table of parts without its columns", "caption videos --segments columns.csv"),
    ("a table of parts that end before they begin", "caption videos --segments backwards.csv"),
    ("a table of parts of other videos", "caption videos --segments others.csv"),
    ("an engine that is none", "caption videos --engine spark"),
    ("watching without an output", "caption videos --watch 5"),
    ("failures to try again, and no output", "caption videos --retry-failed"),
    ("a number that is none", "caption videos --limit many"),
    ("a limit of none", "caption videos --limit 0"),
    ("a folder without a model", "caption videos --model hf:./empty-folder"),
    ("half an endpoint", "caption videos --model openai:llava"),
    ("an endpoint with a password", "caption videos --model openai:llava@http://me:secret@host/v1"),
    ("half a CoCa", "caption videos --model open_clip:coca_ViT-B-32"),
    ("smaller weights for a model that has none", "caption videos --load-in 4bit"),
    ("a port that is none", "serve --port 70000"),
    ("a push to no repository", "models push evlgen-mini --to mine"),
    ("a caption file that is not there", "export none.jsonl --to csv"),
    ("an empty caption file", "export empty.txt --to csv"),
    ("a file that holds no captions", "export other.jsonl --to csv"),
    ("a format that is none", "export captions.jsonl --to cvs"),
    ("a caption file as its own export", "export captions.jsonl --to csv --out captions.jsonl"),
    ("a folder of videos that is not there", "export captions.jsonl --to txt --media none"),
    ("videos that are not there", "export gone.jsonl --to txt"),
    ("burning in without a video", "export captions.jsonl --to csv --burn"),
    ("posters of an unknown kind", "export captions.jsonl --to html --posters big"),
    ("a page that would go elsewhere", "export captions.jsonl --to html --out memory://bucket/x.html"),
    ("an edit of a video that is not in the file", "edit captions.jsonl none.mp4 text"),
    ("no files to merge", "merge none.jsonl --out x.jsonl"),
    ("predictions that are not there", "eval --predictions none.jsonl --references none.json"),
    ("a recipe that is not there", "recipes show mini-pretrian"),
    ("frames of a file that is no video", "frames bad/text.mp4 --out frames"),
    ("numbers to merge that are none", "bench --r 4,many"),
    ("a negative number to merge", "bench --r -4"),
    ("a way to fewer tokens that is none", "bench --baselines pol"),
    ("no videos at once", "bench --caption-batch 0"),
    ("no rounds", "bench --rounds 0"),
    ("a model that is none", "bench --model evlgen-mimi"),
    ("a folder that is no model", "bench --model empty-folder"),
    ("nothing to compare with", "bench --compare none.json"),
    ("something else to compare with", "bench --compare other.jsonl"),
    ("a report that would replace something else", "bench --out notes.md"),
    ("a data set that is not there", "bench --dataset none"),
    ("a data set without captions", "bench --dataset empty-folder"),
]

BAD_FILES: dict[str, tuple[str, bytes]] = {
    "empty.mp4": ("an empty file", b""),
    "text.mp4": ("text", b"this is no video"),
    "zeros.mkv": ("a file of zeros", bytes(4096)),
    "page.webm": ("a web page", b"<!doctype html><title>Not found</title>"),
    "playlist.ts": ("a playlist that names another file", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"),
    "head.png": ("a picture that ends in its header", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    "script.gif": ("PostScript under a picture's name", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
}


def prepare() -> None:
    """Make, in the working folder, the files that the cases are about."""
    for name in ("a.mp4", "b.mp4"):
        fakes.write_video(Path("videos") / name)
    for name in ("empty-folder", "bad"):
        Path(name).mkdir()
    for name, (_, content) in BAD_FILES.items():
        (Path("bad") / name).write_bytes(content)
    Path("empty.txt").touch()
    Path("notes.md").write_text("My notes\n")
    Path("other.jsonl").write_text('{"a": 1}\n')
    write(Path("captions.jsonl"), line("a.mp4", "a dog"))
    write(Path("gone.jsonl"), line("gone.mp4", "a dog"))
    write(Path("newer.jsonl"), line("a.mp4", "a dog", format=99))
    Path("columns.csv").write_text("video,from,to\na.mp4,0,1\n")
    Path("backwards.csv").write_text("video,start,end\na.mp4,2,1\n")
    Path("others.csv").write_text("video,start,end\nc.mp4,0,1\n")
    touch(Path("videos"), "a.txt")


def run(command: str) -> tuple[int, str]:
    """The exit code of a command, and its lines on standard error."""
    result = CliRunner().invoke(app, command.split(" "), prog_name="evlgen", env={"EVLGEN_DEBUG": None})
    said = result.stderr.replace(f"{Path.cwd()}/", "")
    if boxed := re.findall(r"│ (.*?) *│", said):  # the parser of arguments draws a box
        said = "error: " + " ".join(boxed)
    return int(result.exit_code), said.strip()


def commands_page() -> str:
    """The first part of the page, from what is said in the working folder."""
    rows = []
    for what, command in CASES:
        code, said = run(command)
        rows.append(f"| {what} | `{command}` | {code} | {_cell(said)} |")
    return HEAD + "\n".join(rows) + "\n"


def files_page() -> str:
    """The second part of the page, from one run over the files in the working folder."""
    run("caption bad --out bad.jsonl")
    errors = {row["video"]: row["error"] for row in map(json.loads, Path("bad.jsonl").read_text().splitlines())}
    rows = [
        f"| {what} (`{name}`) | `{errors[name]['kind']}`: {_cell(errors[name]['message'])} |"
        for name, (what, _) in BAD_FILES.items()
    ]
    return FILES + "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"([|*_<])", r"\\\1", text)


if __name__ == "__main__":
    import sys

    def _set(owner: object, name: str, value: object) -> None:
        setattr(owner, name, value)

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["EVLGEN_CACHE"] = folder + "/cache"
        fakes.install(_set, fakes.FakeCaptioner(), decoder=False)
        prepare()
        sys.stdout.write(commands_page() + files_page())

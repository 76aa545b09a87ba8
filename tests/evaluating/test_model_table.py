"""Several models in one table: their processes are real, what runs in them are the fakes."""

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evlgen.captioners.protocol import Caption, PromptedClip
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import UsageError
from evlgen.evaluating import model_table
from evlgen.evaluating.model_table import file_name, requests_of
from evlgen.evaluating.prediction import PredictionRequest
from evlgen.system import memory
from evlgen_cli.exits import Exit
from evlgen_cli.main import app
from tests.captioning import fakes

WORK = model_table._work
SENTENCES = [
    "a man rides a horse", "two dogs play in the snow", "a woman cooks pasta", "a band plays on a stage",
    "a boy kicks a ball", "a cat sleeps on a sofa",
]  # fmt: skip
runner = CliRunner()


class ShortCaptioner(fakes.FakeCaptioner):
    """Says the first three words only."""

    def caption(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[Caption]:
        found = super().caption(clips, options)
        return [Caption(" ".join(one.text.split()[:3]), one.log_probability, one.token_count) for one in found]


def work_with_fakes(request: PredictionRequest, *arguments: Any) -> None:
    """What the process of a model does here; it is started from nothing, so that the fakes must be put in again."""
    if request.model == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    (Path(os.environ["STARTED"]) / request.model.replace("/", "-")).touch()
    fakes.install(setattr, ShortCaptioner() if request.model == "short" else fakes.FakeCaptioner())
    WORK(request, *arguments)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a data set, set/, whose captions are what the first fake says, and one more."""
    monkeypatch.setattr(model_table, "_work", work_with_fakes)
    monkeypatch.setenv("STARTED", str(tmp_path / "started"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "started").mkdir()
    (tmp_path / "set").mkdir()
    rows = []
    for number, sentence in enumerate(SENTENCES):
        fakes.write_video(tmp_path / "set" / "videos" / f"{number}.mp4", sentence)
        rows.append({"video": f"{number}.mp4", "captions": [sentence, "someone does something"]})
    (tmp_path / "set" / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluated(*arguments: str, code: int = Exit.OK) -> Any:
    done = runner.invoke(app, ["eval", "--dataset", "set", *arguments])
    assert done.exit_code == code, done.stderr
    return done


def test_scores_and_changes_are_those_of_eval_and_compare(here: Path) -> None:
    table = json.loads(evaluated("--model", "whole", "--model", "short", "--json").stdout)
    whole, short = table["models"]
    files = ["set-captions-models/whole.jsonl", "set-captions-models/short.jsonl"]
    assert [one["captions"] for one in table["models"]] == files
    for row, file in zip((whole, short), files, strict=True):
        alone = runner.invoke(
            app, f"eval --predictions {file} --references set/captions.jsonl --json --bootstrap 1000".split()
        )
        assert json.loads(alone.stdout)["scores"] == row["evaluation"]["scores"]
    compared = runner.invoke(app, f"compare {files[0]} {files[1]} --references set/captions.jsonl --json".split())
    expected = json.loads(compared.stdout)
    assert short["difference"]["scores"] == expected["scores"]
    assert short["difference"]["scores"]["CIDEr"]["change"] < 0
    assert table["baseline"] == "whole"
    assert whole["difference"] is None
    facts = {"parameters": 1000, "language_parameters": 600, "visual_tokens": 7, "peak_memory_bytes": 5_000_000}
    assert facts.items() <= whole.items()
    rows = fakes.rows_of(Path(files[0]))
    assert whole["seconds_per_clip"] == pytest.approx(sum(row["seconds"] for row in rows) / len(rows))
    cider = pytest.importorskip("pycocoevalcap.cider.cider")
    references = {n: [sentence, "someone does something"] for n, sentence in enumerate(SENTENCES)}
    for row, words in ((whole, 99), (short, 3)):
        said = {n: [" ".join(sentence.split()[:words])] for n, sentence in enumerate(SENTENCES)}
        score, _ = cider.Cider().compute_score(references, said)
        assert row["evaluation"]["scores"]["CIDEr"]["value"] == pytest.approx(100 * score)


@pytest.mark.slow
def test_one_that_fails_leaves_the_rest_and_says_why(here: Path) -> None:
    server = "openai:m@http://127.0.0.1:9/v1"
    assert runner.invoke(app, "eval --dataset set --model killed --model hf:a/b".split()).exit_code == Exit.FAILED
    models = ["killed", "whole", "hf:owner/absent", server, "short"]
    arguments = [word for one in models for word in ("--model", one)]
    arguments += ["--concurrency", "2", "--out", "out", "--paper", "--html", "t.html"]
    done = evaluated(*arguments, code=Exit.SOME_FAILED)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[:2] for line in lines if line and line[0] in models] == [
        ["killed", "failed"], ["whole", "6"], ["hf:owner/absent", "failed"], [server, "failed"], ["short", "6"],
    ]  # fmt: skip
    assert "warning: killed: its process was killed by signal 9, as the system does when memory runs out" in done.stderr
    assert "warning: hf:owner/absent: owner/absent is not in the cache of this machine" in done.stderr
    assert f"warning: {server}: " in done.stderr
    assert "--concurrency means nothing to EVLGen's own models, and is left away for them" in done.stderr
    assert "published in arXiv 2310.03291 (ACL 2024), not measured here" in done.stdout
    page = (here / "t.html").read_text()
    assert "its process was killed by signal 9" in page
    assert "Published, not measured here" in page
    assert "short against whole" in page


@pytest.mark.slow
def test_what_is_captioned_is_not_captioned_again_and_keeps_what_was_measured(here: Path) -> None:
    first = json.loads(evaluated("--model", "whole", "--model", "short", "--json").stdout)
    before = [path.read_bytes() for path in sorted((here / "set-captions-models").glob("*.jsonl"))]
    again = json.loads(evaluated("--model", "short", "--model", "whole", "--json").stdout)
    assert [path.read_bytes() for path in sorted((here / "set-captions-models").glob("*.jsonl"))] == before
    assert again["baseline"] == "short"
    facts = ("parameters", "visual_tokens", "peak_memory_bytes", "seconds_per_clip", "evaluation")
    assert [{k: row[k] for k in facts} for row in again["models"][::-1]] == [
        {k: row[k] for k in facts} for row in first["models"]
    ]
    # other settings make other captions, of which nothing is known until they are made
    path = here / "set-captions-models" / "whole.facts.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "settings_hash": "another"}))
    third = json.loads(evaluated("--model", "short", "--model", "whole", "--json").stdout)
    assert third["models"][1]["parameters"] is None


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--model", "a", "--model", "a"], "--model a is named twice"),
        (["--model", "a/b", "--model", "a-b"], "a/b and a-b would both be kept in a-b.jsonl"),
        (["--model", "a", "--model", "b", "--out", "set/captions.jsonl"], "--out set/captions.jsonl is a file"),
        (["--model", "a", "--model", "b", "--per-caption", "x"], "--per-caption and several models exclude each other"),
        (["--model", "a", "--model", "b", "--load-in", "4bit"], "--load-in means nothing to any of these models"),
        (["--model", "a", "--model", "b", "--concurrency", "2"], "--concurrency means nothing to any of these models"),
        (["--model", "a", "--model", "b", "--num-beams", "0"], "num_beams"),
    ],
)
def test_what_contradicts_itself_is_refused_before_anything_is_captioned(
    arguments: list[str], line: str, here: Path
) -> None:
    done = runner.invoke(app, ["eval", "--dataset", "set", *arguments])
    assert done.exit_code == Exit.USAGE
    assert line in done.stderr.replace("--num-beams", "num_beams")
    assert not list((here / "started").iterdir())


def test_a_data_set_is_needed(here: Path) -> None:
    done = runner.invoke(app, ["eval", "--model", "a", "--model", "b"])
    assert (done.exit_code, done.stderr) == (
        Exit.USAGE,
        "error: several models need --dataset (name the data set that they caption)\n",
    )


def test_a_recipe_names_models_and_the_command_line_has_the_last_word(here: Path) -> None:
    (here / "mine.yaml").write_text(
        "name: mine\nsummary: s\ndataset: set\nmax_new_tokens: 9\nmetrics: [rouge-l]\n"
        "models: [{model: whole}, {model: '${OTHER}'}]\nleft_out: [{name: Gone, why: it is gone}]\n"
    )
    os.environ["OTHER"] = "short"
    try:
        done = runner.invoke(app, ["eval", "--recipe", "mine.yaml", "--json"])
    finally:
        del os.environ["OTHER"]
    assert done.exit_code == Exit.OK, done.stderr
    table = json.loads(done.stdout)
    assert [row["captions"] for row in table["models"]] == ["mine/whole.jsonl", "mine/short.jsonl"]
    assert list(table["models"][0]["evaluation"]["scores"]) == ["ROUGE-L"]
    assert table["left_out"] == [{"name": "Gone", "why": "it is gone"}]
    assert table["published"]["source"].endswith("not measured here")
    assert fakes.rows_of(here / "mine" / "whole.jsonl")[0]["settings"]["max_length"] == 9
    done = runner.invoke(app, "eval --recipe mine.yaml --model short --metrics cider --max-new-tokens 5".split())
    assert done.exit_code == Exit.OK, done.stderr
    assert "not run: Gone: it is gone\n" in done.stdout
    assert fakes.rows_of(here / "mine" / "short.jsonl")[-1]["settings"]["max_length"] == 5
    assert runner.invoke(app, ["eval", "--recipe", "mini-pretrain"]).exit_code == Exit.USAGE
    refused = runner.invoke(app, ["train", "--recipe", "mine.yaml"])
    assert refused.stderr == "error: mine is a table of models and trains nothing (evlgen eval --recipe mine.yaml)\n"


@pytest.mark.slow
def test_a_stop_keeps_what_is_written(here: Path) -> None:
    from contextlib import nullcontext
    from threading import Event

    from evlgen.captioning import Listener
    from evlgen.evaluating.evaluation_sets import find_captioned_set

    for path in (here / "set" / "videos").iterdir():
        fakes.write_video(path, "a man", sleep=0.2)
    stop = Event()
    listener = Listener()
    listener.on_row = lambda row: stop.set()  # type: ignore[method-assign]
    data = find_captioned_set(here / "set")
    requests = requests_of(["whole", "short"], here / "out", PredictionRequest("", here / "set"))
    assert model_table.caption_each(requests, data, lambda model: nullcontext(listener), stop) == {}
    assert 0 < len(fakes.rows_of(here / "out" / "whole.jsonl")) < len(SENTENCES)
    assert [path.name for path in (here / "started").iterdir()] == ["whole"]


def test_files_are_named_after_the_whole_model() -> None:
    assert file_name("hf:Qwen/Qwen3-VL-4B-Instruct@abc") == "hf-Qwen-Qwen3-VL-4B-Instruct@abc"
    assert file_name("runs/a/best") != file_name("runs/b/best")
    long = file_name("/" + "x/" * 300)
    assert len(long) < 120
    assert long != file_name("/" + "x/" * 299)
    with pytest.raises(UsageError, match="named twice"):
        requests_of(["a", "b", "a"], Path("out"), PredictionRequest(""))


@pytest.mark.skipif(memory.peak_resident_bytes() is None, reason="the system does not tell")
def test_a_peak_is_that_of_the_process_alone() -> None:
    import subprocess
    import sys

    block = b"x" * 300_000_000  # the peak of a child that is not its own would hold this
    command = "from evlgen.system.memory import peak_resident_bytes as p; print(p())"
    told = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert int(told.stdout) < 100_000_000 < len(block) <= (memory.peak_resident_bytes() or 0)

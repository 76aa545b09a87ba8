"""Whole chains of tiny steps: order, results, resuming, changes, failures."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evlgen.captioning import Listener
from evlgen.errors import EvlgenError, UsageError
from evlgen.metrics.file_evaluation import EvaluationRequest, evaluate_files
from evlgen.recipes import load_recipe
from evlgen.training import train
from tests.workflow.conftest import STEPS, Run, write_chain

NAMES = [step["name"] for step in STEPS]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "last" / "training.safetensors")


def equal(a: Path, b: Path) -> bool:
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def state(out: Path) -> dict[str, dict[str, object]]:
    return json.loads((out / "chain.json").read_text())["steps"]


@pytest.mark.slow
def test_a_whole_chain_then_again_then_with_changes(pictures: Path) -> None:
    done = Run(write_chain(pictures), pictures / "out")
    done()
    every_step_in_its_order_and_its_results(done, pictures)
    again_does_nothing(done)
    a_changed_setting_repeats_its_step_and_what_depends_on_it(done)


def every_step_in_its_order_and_its_results(done: Run, pictures: Path) -> None:
    out = done.out
    assert [(e.step.name, e.what) for e in done.events] == [(n, w) for n in NAMES for w in ("started", "done")]
    assert (
        done.text("data", "done") == "8 items, 16 captions, 0 broken, findings in 1 sources"
    )  # trained on what it validates on
    # the second run is what `evlgen train` makes of the same recipe, started from the first run's best
    best = out / "first" / "best"
    recipe = load_recipe(str(pictures / "tiny.yaml"), [f"train.start_from={best}", "train.seed=1"])
    train(recipe, folder=pictures / "alone", device="cpu")
    assert equal(out / "second", pictures / "alone")
    # scores are those of `evlgen eval` on the predictions that are there
    for name in ("score-first", "score-second"):
        again = evaluate_files(out / name / "predictions.jsonl", EvaluationRequest(pictures / "captions.jsonl"))
        values = {s.name: s.value for s in again.result.scores}
        said = json.loads((out / name / "scores.json").read_text())["scores"]
        assert {n: one["value"] for n, one in said.items()} == values
        assert len((out / name / "items.jsonl").read_text().splitlines()) == 4
    assert (out / "score-first" / "page.html").is_file()
    assert not (out / "score-second" / "page.html").exists()
    comparison = json.loads((out / "gain" / "comparison.json").read_text())
    values = [state(out)[name]["figures"]["CIDEr"] for name in ("score-first", "score-second")]
    change = comparison["scores"]["CIDEr"]
    assert change["change"] == pytest.approx(values[1] - values[0])
    rows = [json.loads(line) for line in (out / "captions" / "captions.jsonl").read_text().splitlines()]
    assert sorted(row["video"] for row in rows) == ["blue.png", "green.png", "red.png", "white.png"]


def again_does_nothing(done: Run) -> None:
    before = (done.out / "chain.json").read_bytes()
    again = Run(done.chain.path, done.out, resume=True)
    result = again()
    assert (list(again.said.values()), again.trained) == (["skipped"] * len(NAMES), [])
    assert result.complete
    assert (done.out / "chain.json").read_bytes() == before
    with pytest.raises(UsageError, match=r"already holds a run \(add --resume to go on with it"):
        Run(done.chain.path, done.out)()


def a_changed_setting_repeats_its_step_and_what_depends_on_it(done: Run) -> None:
    seconds = {name: one["seconds"] for name, one in state(done.out).items()}
    again = Run(done.chain.path, done.out, "second.train.seed=2", "score-first.html=false", resume=True)
    again()
    repeated = {name for name, what in again.said.items() if what == "done"}
    assert repeated == {"second", "score-first", "score-second", "gain", "captions"}
    assert again.trained == [("second", False)]
    kept = done.out / "second.1"
    assert again.text("second", "started") == f"changed: train.seed is 2, was 1; what was there is in {kept}"
    assert again.text("score-second", "started").startswith("changed: model has changed; ")
    assert not equal(kept, done.out / "second")
    assert {name: one["seconds"] for name, one in state(done.out).items() if name in ("data", "first")} == {
        name: seconds[name] for name in ("data", "first")
    }
    # how a run goes is not what comes out
    third = ["second.train.seed=2", "score-first.html=false", "first.train.checkpoint_seconds=7"]
    last = Run(done.chain.path, done.out, *third, resume=True)
    last()
    assert set(last.said.values()) == {"skipped"}


@pytest.mark.slow
def test_changed_data_repeats_what_reads_it(pictures: Path) -> None:
    chain = write_chain(pictures, "data", "first")
    Run(chain, pictures / "out")()
    with (pictures / "captions.jsonl").open("a") as file:
        file.write(json.dumps({"image": "red.png", "split": "train", "captions": ["one more"]}) + "\n")
    again = Run(chain, pictures / "out", resume=True)
    again()
    assert set(again.said.values()) == {"done"}
    assert again.text("first", "started").startswith("changed: data has changed; ")


@pytest.mark.slow
def test_a_result_that_was_tampered_with_is_made_again(pictures: Path) -> None:
    chain = write_chain(pictures, "data", "first")
    Run(chain, pictures / "out")()
    (pictures / "out" / "first" / "best" / "config.json").write_text("{}")
    again = Run(chain, pictures / "out", resume=True)
    again()
    assert (again.said, again.trained) == ({"data": "skipped", "first": "done"}, [("first", False)])
    assert equal(pictures / "out" / "first", pictures / "out" / "first.1")


@pytest.mark.slow
def test_stopped_and_resumed_is_never_stopped(pictures: Path) -> None:
    """Stopped inside the second run, then after its last optimizer step."""
    chain = write_chain(pictures, "first", "second")
    Run(chain, pictures / "whole")()
    part = Run(chain, pictures / "part")
    calls = iter(range(1, 100))
    part.stop_train = lambda: part.trained[-1][0] == "second" and next(calls) == 2
    result = part()
    assert result.interrupted
    assert [one.record.status for one in result.steps] == ["done", "interrupted"]
    on = Run(chain, pictures / "part", resume=True)
    calls = iter(range(1, 100))
    on.stop_train = lambda: next(calls) == 3
    assert on().interrupted
    assert [e.what for e in on.events] == ["skipped", "resumed", "interrupted"]
    assert on.text("second", "resumed") == "not finished before"
    last = Run(chain, pictures / "part", resume=True)
    assert last().complete
    assert (on.trained, last.trained) == ([("second", True)], [("second", True)])
    assert equal(pictures / "part" / "second", pictures / "whole" / "second")


@pytest.mark.slow
def test_an_unfinished_run_goes_on_with_what_a_run_may_change_and_starts_anew_with_more(pictures: Path) -> None:
    chain = write_chain(pictures, "first")

    def interrupted(out: Path) -> None:
        part = Run(chain, out)
        calls = iter(range(1, 100))
        part.stop_train = lambda: next(calls) == 2
        assert part().interrupted

    interrupted(pictures / "a")
    slower = Run(chain, pictures / "a", "first.optimizer.learning_rate=1e-4", resume=True)
    slower()
    assert slower.trained == [("first", True)]
    interrupted(pictures / "b")
    other = Run(chain, pictures / "b", "first.train.seed=9", resume=True)
    other()
    assert other.trained == [("first", False)]
    assert (pictures / "b" / "first.1" / "last").is_dir()


@pytest.mark.slow
def test_stopped_while_captioning_goes_on_there(pictures: Path) -> None:
    chain = write_chain(pictures, "first", "score-first")
    part = Run(chain, pictures / "out")

    class Stopper(Listener):
        def on_row(self, row: object) -> None:
            part.tools.stop.set()

    part.tools.captions = Stopper
    for number in range(40):  # more than one batch
        (pictures / "media" / f"more{number}.png").write_bytes((pictures / "media" / "red.png").read_bytes())
    rows = [json.dumps({"image": f"more{n}.png", "captions": ["a red box"]}) for n in range(40)]
    with (pictures / "captions.jsonl").open("a") as file:
        file.write("\n".join(rows) + "\n")
    assert part().interrupted
    written = len((pictures / "out" / "score-first" / "predictions.jsonl").read_text().splitlines())
    assert 0 < written < 44
    on = Run(chain, pictures / "out", resume=True)
    assert on().complete
    assert on.said == {"first": "skipped", "score-first": "done"}
    predictions = (pictures / "out" / "score-first" / "predictions.jsonl").read_text().splitlines()
    assert len({json.loads(line)["video"] for line in predictions}) == len(predictions) == 44


def test_a_failed_step_stops_the_chain_and_loses_nothing(pictures: Path) -> None:
    chain = write_chain(pictures, "first", "data", "second")
    run = Run(chain, pictures / "out")
    content = chain.read_text()
    chain.write_text(content.replace("- kind: check", "- decode: true\n  kind: check"))
    run = Run(chain, pictures / "out")
    taken = (pictures / "media" / "red.png").read_bytes()
    (pictures / "media" / "red.png").write_bytes(b"no picture")
    with pytest.raises(EvlgenError) as caught:
        run()
    assert str(caught.value).startswith("step data (check): ")
    assert "red.png" in str(caught.value)
    assert str(caught.value).endswith(f"({pictures / 'out' / 'data' / 'check.json'} lists all; then --resume)")
    assert run.said == {"data": "failed"}
    assert state(pictures / "out")["data"]["status"] == "failed"
    (pictures / "media" / "red.png").write_bytes(taken)
    on = Run(chain, pictures / "out", resume=True)
    assert on().complete
    assert on.said == {"data": "done", "first": "done", "second": "done"}


@pytest.mark.slow
def test_a_training_step_that_fails_is_resumed(pictures: Path) -> None:
    chain = write_chain(pictures, "first")
    Run(chain, pictures / "whole")()
    part = Run(chain, pictures / "part")
    calls = iter(range(1, 100))

    def explode() -> bool:
        if next(calls) == 4:
            raise EvlgenError("loss is nan at step 3", "lower optimizer.learning_rate, then --resume")
        return False

    part.stop_train = explode
    with pytest.raises(EvlgenError) as caught:
        part()
    said = "step first (train): loss is nan at step 3 (lower optimizer.learning_rate, then --resume)"
    assert str(caught.value) == said
    Run(chain, pictures / "part", resume=True)()
    assert equal(pictures / "part" / "first", pictures / "whole" / "first")


def test_what_later_steps_need_is_looked_for_first(pictures: Path) -> None:
    chain = write_chain(pictures)
    overrides = [
        "captions.videos=[nowhere]",
        "score-first.dataset=/none",
        "score-second.dataset=/none",
        "second.data.train.0.media=${UNSET}/x",
    ]
    run = Run(chain, pictures / "out", *overrides)
    with pytest.raises(UsageError) as caught:
        run()
    for said in (
        "second: ${UNSET}/x: the environment variable UNSET is not set",
        "captions: no such file, folder or match: nowhere",
        "score-first, score-second: no such data set: /none",
    ):
        assert said in str(caught.value)
    assert run.events == []
    assert not (pictures / "out" / "chain.json").exists()


def test_folders_of_other_runs_are_refused(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = write_chain(pictures, "data")
    with pytest.raises(UsageError, match="holds no run to resume"):
        Run(chain, pictures / "out", resume=True)()
    Run(chain, pictures / "out")()
    other = pictures / "other.yaml"
    other.write_text(chain.read_text().replace("tiny-chain", "other-chain"))
    with pytest.raises(UsageError, match="holds a run of the chain tiny-chain, not of other-chain"):
        Run(other, pictures / "out", resume=True)()
    (pictures / "run").mkdir()
    (pictures / "run" / "recipe.json").write_text("{}")
    with pytest.raises(UsageError, match="holds a training run, not a chain"):
        Run(chain, pictures / "run")()
    (pictures / "out" / "chain.json").write_text("[]")
    with pytest.raises(UsageError, match=r"chain\.json cannot be read"):
        Run(chain, pictures / "out", resume=True)()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="a chain under torchrun"):
        Run(chain, pictures / "new")()


def test_one_run_at_a_time(pictures: Path) -> None:
    chain = write_chain(pictures, "first")
    run, second = Run(chain, pictures / "out"), Run(chain, pictures / "out", resume=True)
    refused: list[str] = []

    def meanwhile() -> bool:
        with pytest.raises(EvlgenError) as caught:
            second()
        refused.append(str(caught.value))
        return False

    run.stop_train = meanwhile
    run()
    assert refused[0].startswith(f"the folder {pictures / 'out'} is in use by process {os.getpid()} on ")
    assert refused[0].endswith("(wait for its end, or choose another --out)")

"""Eval steps on a set of questions: answered, scored, done once; and what settings of older results are."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from evlgen.captioning import Caption, Listener
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import UsageError
from evlgen.evaluating.prediction import ANSWER_DECODING, caption_request, find_data
from evlgen.recipes.chain_schema import EvalStep
from evlgen.workflow import ChainTools
from evlgen.workflow.chain_steps import prediction_of
from evlgen.workflow.fingerprints import changes, settings_of
from tests.captioning import fakes
from tests.data.published_sets import SETS
from tests.workflow.conftest import Run


class Answerer(fakes.FakeCaptioner):
    """Knows one answer of the two; counts what it is asked."""

    asked = 0

    def caption(self, clips: Any, options: Any) -> list[Caption]:
        self.asked += len(clips)
        questions = [fakes.question_in(one.prompt) for one in clips]
        return [Caption({"What?": "a net", "Why?": "fun"}.get(one, "no"), -0.5, 2) for one in questions]


@pytest.fixture
def answerer(monkeypatch: pytest.MonkeyPatch) -> Answerer:
    answerer = Answerer()
    fakes.install(monkeypatch.setattr, answerer)
    return answerer


def chain_of(folder: Path, *steps: dict[str, Any]) -> Path:
    made = [{"kind": "eval", "model": "evlgen-mini", "bootstrap": 0, **step} for step in steps]
    path = folder / "chain.yaml"
    path.write_text(yaml.safe_dump({"name": "asking", "summary": "a test", "chain": made}))
    return path


def vqav2(folder: Path) -> Path:
    root = folder / "vqa"
    SETS["vqav2"](root)
    for path in root.rglob("*.jpg"):
        fakes.write_video(path, path.stem)
    return root


@pytest.mark.slow
def test_questions_are_answered_and_scored_once(tmp_path: Path, answerer: Answerer) -> None:
    root = vqav2(tmp_path)
    chain = chain_of(tmp_path, {"name": "vqa", "dataset": str(root), "split": "val"})
    run = Run(chain, tmp_path / "out")
    heard: list[str] = []
    run.tools = ChainTools(run.train, "cpu", answers=lambda: heard.append("answers") or Listener())  # type: ignore[func-returns-value]
    run()
    # net, net: (1/3 + 1/3) / 2, as each person is compared with the one other; fun, joy: (0 + 1/3) / 2
    assert run.text("vqa", "done") == "VQA accuracy 25.0 (2 items)"
    assert heard == ["answers"]
    out = tmp_path / "out" / "vqa"
    assert json.loads((out / "answers.json").read_text()) == [
        {"question_id": 42001, "answer": "net"}, {"question_id": 42002, "answer": "fun"},
    ]  # fmt: skip
    settings = fakes.rows_of(out / "predictions.jsonl")[0]["settings"]
    shown = {key: settings[key] for key in ("prompt", "num_beams", "min_length", "max_length", "length_penalty")}
    assert list(shown.values()) == ["Question: {} Short answer:", 5, 1, 10, 0.0]
    assert json.loads((out / "scores.json").read_text())["scores"]["VQA accuracy"]["value"] == pytest.approx(25)
    assert len((out / "items.jsonl").read_text().splitlines()) == 2
    again = Run(chain, tmp_path / "out", resume=True)
    again()
    assert (again.said, answerer.asked) == ({"vqa": "skipped"}, 2)
    people = root / "v2_mscoco_val2014_annotations.json"
    people.write_text(people.read_text().replace('"joy"', '"fun"'))
    changed = Run(
        chain, tmp_path / "out", "vqa.prompt='Q: {} A:'", "vqa.max_new_tokens=4", "vqa.num_beams=1", resume=True
    )
    changed()
    assert changed.text("vqa", "started").startswith(
        "changed: prompt is Q: {} A:, was None; num_beams is 1, was 5; max_new_tokens is 4, was None; data has changed"
    )
    assert "VQA accuracy 33.3" in changed.text("vqa", "done")


def test_what_nobody_answered_is_written_and_not_scored(tmp_path: Path, answerer: Answerer) -> None:
    root = vqav2(tmp_path)
    content = {"data_subtype": "test2015", "questions": [{"question_id": 1, "image_id": 7, "question": "Is it?"}]}
    (root / "v2_OpenEnded_mscoco_test2015_questions.json").write_text(json.dumps(content))
    fakes.write_video(root / "test2015" / "COCO_test2015_000000000007.jpg", "x")
    run = Run(chain_of(tmp_path, {"name": "hand-in", "dataset": str(root), "split": "test"}), tmp_path / "out")
    assert run().complete
    said = "1 of 1 questions answered, no answers of people to score against"
    assert run.text("hand-in", "done") == said
    assert json.loads((tmp_path / "out" / "hand-in" / "answers.json").read_text()) == [
        {"question_id": 1, "answer": "no"}
    ]


def test_what_cannot_be_asked_is_said_before_the_first_step(tmp_path: Path, answerer: Answerer) -> None:
    root = str(vqav2(tmp_path))
    asked = {"dataset": root, "split": "val"}
    chain = chain_of(
        tmp_path,
        {"name": "a", **asked, "prompt": "Answer:"},
        {"name": "b", **asked, "min_new_tokens": 11},
    )
    steps = yaml.safe_load(chain.read_text())
    steps["chain"].append({"name": "gain", "kind": "compare", "a": "a", "b": "b"})
    chain.write_text(yaml.safe_dump(steps))
    with pytest.raises(UsageError) as error:
        Run(chain, tmp_path / "out")()
    assert str(error.value) == (
        "asking: a: --prompt 'Answer:' has no {} for the question (such as 'Question: {} Short answer:'); "
        "b: --min-new-tokens 11 is more than --max-new-tokens 10; "
        "gain: a answers the questions of VQAv2 (compare takes steps of captions)"
    )
    assert answerer.asked == 0


def test_a_step_searches_as_it_says(tmp_path: Path) -> None:
    """What it leaves open stays as the command has it."""
    step = EvalStep(name="a", kind="eval", model="m", dataset=str(vqav2(tmp_path)), split="val", repetition_penalty=1.5)

    def decoding_of(step: EvalStep) -> DecodingOptions:
        asked = prediction_of(step, tmp_path)
        return caption_request(asked, find_data(asked)).decoding

    assert decoding_of(step) == replace(ANSWER_DECODING, repetition_penalty=1.5)
    shorter = step.model_copy(update={"length_penalty": 0.5})
    assert decoding_of(shorter).length_penalty == 0.5


def test_settings_of_older_results_have_not_changed(tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text('{"image": "a.png", "captions": ["a"]}\n')
    (tmp_path / "images").mkdir()
    step = EvalStep(name="score", kind="eval", model="evlgen-mini", dataset=str(tmp_path))
    before = {
        "kind": "eval", "model": "evlgen-mini", "dataset": str(tmp_path), "split": None, "media": None, "num_beams": 3,
        "metrics": ["cider", "bleu", "rouge-l"], "missing": "skip", "bootstrap": 1000, "html": False,
        "data": ["HASH", "folder"],
    }  # fmt: skip
    got = settings_of(step, None)
    got["data"][0] = "HASH"
    assert changes(before, got) == []
    paper = step.model_copy(update={"num_beams": 5, "min_new_tokens": 8, "max_new_tokens": 30, "prompt": "a photo of"})
    want = {**before, "num_beams": 5, "min_new_tokens": 8, "max_new_tokens": 30, "prompt": "a photo of"}
    assert changes(want, {**settings_of(paper, None), "data": before["data"]}) == []
    assert changes(before, want) == [
        "num_beams is 5, was 3", "min_new_tokens is 8, was None", "max_new_tokens is 30, was None",
        "prompt is a photo of, was None",
    ]  # fmt: skip

"""`evlgen eval --questions`: a miniature VQA set with numbers worked by hand, resumed, killed, and whole outputs."""

import json
import multiprocessing
import os
import signal
import tarfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from evlgen.annotations.questions import read_questions
from evlgen.captioning import Caption, EVLGenCaptioner, PromptedClip, Summary, read_captions
from evlgen.captioning.journal import ANSWERS
from evlgen.decoding_options import DecodingOptions
from evlgen.evaluating.evaluation_sets import QuestionSet
from evlgen.evaluating.prediction import (
    PredictionRequest,
    answer_questions,
    caption_request,
    find_data,
    predict,
    write_results,
)
from evlgen_cli.main import app
from tests.captioning import fakes
from tests.data.published_sets import SETS

IMAGES = {1: "COCO_val2014_000000000001.jpg", 23: "COCO_val2014_000000000023.jpg"}
ASKED = [  # id, picture, question, people's answers, what the model says, and what that is worth
    (1000, 1, "Is it a dog?", ["yes"] * 10, "Yes", 100.0),
    (1001, 23, "What colour?", ["red"] * 3 + ["blue"] * 7, "red", 90.0),  # (3 * 2/3 + 7 * 3/3) / 10
    (1002, 1, "How many?", ["2"] + ["4"] * 9, "two", 30.0),  # (1 * 0/3 + 9 * 1/3) / 10
    (1003, 23, "What is it?", ["a cat"] * 5 + ["kitten"] * 5, "dog", 0.0),
]
SAYS = {question: says for _, _, question, _, says, _ in ASKED}


class FakeAnswerer(fakes.FakeCaptioner):
    """Says what is expected, of the picture that it reads from the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str]] = []

    def caption(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[Caption]:
        found = super().caption(clips, options)
        questions = [fakes.question_in(clip.prompt) for clip in clips]
        self.asked += ((one.text, question) for one, question in zip(found, questions, strict=True))
        return [Caption(SAYS.get(question, question), -0.5, 2) for question in questions]


@pytest.fixture
def answerer(monkeypatch: pytest.MonkeyPatch) -> FakeAnswerer:
    answerer = FakeAnswerer()
    fakes.install(monkeypatch.setattr, answerer)
    return answerer


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """q.json, a.json and images/."""
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path)
    return tmp_path


def write_set(folder: Path) -> None:
    rows = [{"question_id": key, "image_id": image, "question": text} for key, image, text, *_ in ASKED]
    (folder / "q.json").write_text(json.dumps({"data_subtype": "val2014", "questions": rows}))
    people = [
        {"question_id": key, "image_id": image, "answer_type": "other" if key > 1000 else "yes/no",
         "question_type": "", "answers": [{"answer": one} for one in answers]}
        for key, image, _, answers, *_ in ASKED
    ]  # fmt: skip
    (folder / "a.json").write_text(json.dumps({"annotations": people}))
    for name in IMAGES.values():
        fakes.write_video(folder / "images" / name, name)


def evlgen(*arguments: str) -> Result:
    words = ["eval", "--model", "tiny", "--bootstrap", "0", *arguments]
    return CliRunner().invoke(app, words, prog_name="evlgen")


def run(folder: Path, out: str = "out.jsonl", media: Path | None = None) -> Summary:
    asked = PredictionRequest("tiny", questions=folder / "q.json", media=media, out=folder / out)
    return predict(asked, find_data(asked)).summary


def test_questions_as_the_authors_code_asks_them(folder: Path, answerer: FakeAnswerer) -> None:
    """By hand, after what their processor of questions does; without the option they are asked as they stand."""
    long = " ".join(f"W{n}" for n in range(60))
    asked = {
        'Is this "A cat" (or a dog)?': "is this a cat or a dog?",
        "What's 3:30 p.m. #now ~ ok?  ": "what's 330 pm now  ok?",
        long: " ".join(f"w{n}" for n in range(50)),
    }
    rows = [{"question_id": n, "image": IMAGES[1], "question": text} for n, text in enumerate(asked)]
    Path("own.json").write_text(json.dumps(rows))
    done = evlgen("--questions", "own.json", "--normalise-questions", "--length-penalty", "-1")
    assert done.exit_code == 0, done.stderr
    kept = fakes.rows_of(Path("own-tiny.jsonl"))
    assert sorted(row["question"] for row in kept) == sorted(asked.values())
    assert {row["settings"]["length_penalty"] for row in kept} == {-1.0}
    count = len(answerer.asked)
    evlgen("--questions", "own.json", "--normalise-questions", "--length-penalty", "-1")
    assert len(answerer.asked) == count, "nothing is answered twice"
    evlgen("--questions", "own.json", "--length-penalty", "-1")
    assert len(answerer.asked) == 2 * count, "another question is another answer"
    assert sorted(row["question"] for row in fakes.rows_of(Path("own-tiny.jsonl"))[count:]) == sorted(asked)


def test_a_device_is_refused_as_an_output(folder: Path, answerer: FakeAnswerer) -> None:
    done = evlgen("--questions", "q.json", "--out", "/dev/null")
    assert (done.exit_code, done.stdout, answerer.asked) == (2, "", [])
    assert done.stderr.startswith("error: --out /dev/null is not a plain file (")
    assert not Path("/dev/null.jsonl").exists()


def test_the_whole_output_and_its_files(folder: Path, answerer: FakeAnswerer) -> None:
    done = evlgen("--questions", "q.json", "--references", "a.json")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == (
        "q-tiny.json (VQA results) against a.json (VQA annotations): 4 scored\n"
        "\n"
        "score         points\n"
        "VQA accuracy  55.00\n"  # (100 + 90 + 30 + 0) / 4
        "\n"
        "group   items  VQA accuracy\n"
        "other   3      40.00\n"
        "yes/no  1      100.00\n"
        "entire  4      55.00\n"
    )
    first, second, *none = done.stderr.splitlines()
    assert first.startswith("answering: 4 of 4 questions, ")
    assert (second, none) == ("4 of 4 questions are answered; answers to hand in: q-tiny.json", [])
    handed_in = [{"question_id": 1000 + n, "answer": one} for n, one in enumerate(("yes", "red", "2", "dog"))]
    assert json.loads(Path("q-tiny.json").read_text()) == handed_in, "in normal form; the journal has what was said"
    row = fakes.rows_of(Path("q-tiny.jsonl"))[0]
    assert list(row)[:6] == ["question_id", "image", "status", "question", "answer", "log_probability"]
    assert (row["question_id"], row["image"], row["answer"]) == ("1000", IMAGES[1], "Yes")
    assert row["settings"] == {
        "model": "tiny", "model_hash": "hash-of-tiny", "config_hash": "config", "frames": 1, "sampler": "uniform",
        "backend": "pyav", "strict": False, "num_beams": 5, "max_length": 10, "min_length": 1, "dtype": "float32",
        "prompt": "Question: {} Short answer:", "length_penalty": 0.0,
    }  # fmt: skip
    scored = evlgen("--questions", "q.json", "--references", "a.json", "--per-caption", "items.jsonl")
    assert scored.stdout == done.stdout
    assert len(answerer.asked) == 4, "nothing is answered twice"
    assert [json.loads(line)["score"] for line in Path("items.jsonl").read_text().splitlines()] == pytest.approx(
        [worth for *_, worth in ASKED]
    )


def test_every_picture_is_decoded_once_and_meets_its_own_questions(folder: Path, answerer: FakeAnswerer) -> None:
    assert run(folder).ok == 4
    assert answerer.decoder.taken == 2
    assert sorted(answerer.asked) == sorted((IMAGES[image], question) for _, image, question, *_ in ASKED)


def test_other_prompts_and_other_questions_are_asked_again(folder: Path, answerer: FakeAnswerer) -> None:
    run(folder)
    done = evlgen("--questions", "q.json", "--out", "out.jsonl", "--prompt", "Q: {} A:")
    assert done.stderr.startswith(
        '4 questions have answers made with other settings (prompt "Question: {} Short answer:" -> "Q: {} A:"); '
        "they are answered again, and the new lines count\n"
    )
    run(folder)
    answerer.asked.clear()
    text = Path("q.json").read_text().replace("Is it a dog?", "Is it a wolf?")
    Path("q.json").write_text(text)
    fakes.write_video(Path("images") / IMAGES[23], "another picture")
    assert run(folder).ok == 3
    assert sorted(answerer.asked) == [
        (IMAGES[1], "Is it a wolf?"), ("another picture", "What colour?"), ("another picture", "What is it?"),
    ]  # fmt: skip


def test_a_stopped_run_goes_on_and_says_how(folder: Path, answerer: FakeAnswerer) -> None:
    listener, stop = fakes.stop_after(1)
    asked = PredictionRequest("tiny", questions=folder / "q.json", out=folder / "out.jsonl")
    data = find_data(asked)
    assert isinstance(data, QuestionSet)
    request = replace(caption_request(asked, data), batch_size=1)
    summary = answer_questions(data, read_questions(data.questions), request, listener, stop)
    assert (summary.interrupted, summary.ok) == (True, 1)
    assert run(folder).ok == 3
    assert len(answerer.asked) == 4
    done = evlgen("--questions", "q.json", "--references", "a.json", "--out", "out.jsonl")
    assert "VQA accuracy  55.00" in done.stdout


def test_ctrl_c_ends_after_the_batch_and_the_same_command_goes_on(
    folder: Path, answerer: FakeAnswerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"question_id": n, "image_id": 1, "question": f"{n}?"} for n in range(20)]
    Path("q.json").write_text(json.dumps({"data_subtype": "val2014", "questions": rows}))
    caption = answerer.caption
    monkeypatch.setattr(answerer, "caption", lambda *asked: (os.kill(os.getpid(), signal.SIGINT), caption(*asked))[1])
    done = evlgen("--questions", "q.json")
    assert (done.exit_code, done.stdout) == (130, "")
    assert done.stderr.endswith(
        "interrupted; answers so far are in q-tiny.jsonl, run the same command again to go on\n"
    )
    assert len(fakes.rows_of(Path("q-tiny.jsonl"))) == 4
    assert not Path("q-tiny.json").exists()
    monkeypatch.setattr(answerer, "caption", caption)
    done = evlgen("--questions", "q.json")
    assert done.exit_code == 0
    assert "20 of 20 questions are answered" in done.stderr
    assert len(answerer.asked) == 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_over_and_over(tmp_path: Path, answerer: FakeAnswerer) -> None:
    """Every line trickles to the disk; what was written stays, nothing is lost, nothing is answered twice."""
    write_set(tmp_path)
    rows = [{"question_id": n, "image_id": (1, 23)[n % 2], "question": f"{n}?"} for n in range(12)]
    (tmp_path / "q.json").write_text(json.dumps({"data_subtype": "val2014", "questions": rows}))
    out = tmp_path / "out.jsonl"

    def child() -> None:
        fakes.slow_writes(setattr, chunk_bytes=97, pause_seconds=0.0002)
        run(tmp_path)
        os._exit(0)

    safe: list[bytes] = []
    for grown in (300, 2500, 1700):
        target = grown + (out.stat().st_size if out.exists() else 0)
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        while process.is_alive() and not (out.exists() and out.stat().st_size >= target):
            time.sleep(0.0002)
        process.kill()
        process.join()
        lines = out.read_bytes().split(b"\n")
        lines.pop()
        assert lines[: len(safe)] == safe
        safe = lines
    assert 0 < len(safe) < 12
    run(tmp_path)
    assert sorted(int(row["question_id"]) for row in fakes.rows_of(out)) == list(range(12))
    assert all(row["answer"] == row["question"] for row in read_captions(out, ANSWERS).values())


def test_gqa_stands_in_one_file_and_a_tar_will_do(folder: Path, answerer: FakeAnswerer) -> None:
    fakes.write_video(folder / "n1.jpg", "n1")
    with tarfile.open(folder / "pictures.tar", "w") as tar:
        tar.add(folder / "n1.jpg", arcname="images/n1.jpg")
    rows = {
        "07": {"question": "Is it a dog?", "imageId": "n1", "answer": "yes"},
        "8": {"question": "How many?", "imageId": "n1", "answer": "three"},
    }
    Path("gqa.json").write_text(json.dumps(rows))
    done = evlgen("--questions", "gqa.json", "--media", "pictures.tar", "--out", "g.jsonl")
    assert done.exit_code == 0, done.stderr
    assert "g.json (VQA results) against gqa.json (GQA questions): 2 scored" in done.stdout
    assert "GQA accuracy  50.00" in done.stdout
    assert json.loads(Path("g.json").read_text()) == [
        {"question_id": "07", "answer": "yes"}, {"question_id": 8, "answer": "2"},
    ]  # fmt: skip


def test_the_folder_of_a_published_set_is_answered(
    tmp_path: Path, answerer: FakeAnswerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("vqav2", "okvqa", "gqa"):
        SETS[name](tmp_path / name)
    for path in tmp_path.rglob("*.jpg"):
        fakes.write_video(path, path.stem)
    vqa = evlgen("--dataset", "vqav2", "--split", "val", "--max-length", "4", "--min-length", "2", "--num-beams", "1")
    assert vqa.exit_code == 0, vqa.stderr
    assert vqa.stdout.startswith(
        "vqav2-val-tiny.json (VQA results) against v2_mscoco_val2014_annotations.json (VQA annotations): 2 scored\n"
    )
    assert [one["question_id"] for one in json.loads(Path("vqav2-val-tiny.json").read_text())] == [42001, 42002]
    settings = fakes.rows_of(Path("vqav2-val-tiny.jsonl"))[0]["settings"]
    assert (settings["min_length"], settings["max_length"], settings["num_beams"]) == (2, 4, 1)
    okvqa = evlgen("--dataset", "okvqa", "--split", "val", "--media", "coco/val2014", "--out", "o.jsonl")
    assert "o.json (VQA results) against mscoco_val2014_annotations.json (VQA annotations): 1 scored" in okvqa.stdout
    gqa = evlgen("--dataset", "gqa", "--split", "testdev")
    assert "against testdev_balanced_questions.json (GQA questions): 2 scored" in gqa.stdout
    for words, says in (
        (["--split", "dev2"], "error: GQA has no split 'dev2' (its splits are train, val, testdev, test)\n"),
        ([], "error: gqa is GQA, of which split? (--split train or val or testdev)\n"),
        (
            ["--split", "test"],
            "error: gqa: GQA test: no questions: looked for test_balanced_questions.json, here or in ",
        ),
        (["--split", "val", "--references", "a.json"], "error: --model and --dataset make the predictions and name "),
    ):
        done = evlgen("--dataset", "gqa", *words)
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith(says)


def test_pictures_without_suffix_and_those_that_lead_out(folder: Path, answerer: FakeAnswerer) -> None:
    rows = [{"question_id": n, "image": name, "question": f"{n}?"} for n, name in enumerate(("n1", "../n2.jpg"))]
    Path("q.json").write_text(json.dumps(rows[:1]))
    fakes.write_video(folder / "n1.jpg", "n1")
    with tarfile.open(folder / "images.tar", "w") as tar:
        tar.add(folder / "n1.jpg", arcname="images/n1.jpg")
        tar.add(folder / "n1.jpg", arcname="../n2.jpg")
    for media in ("images.tar", "."):
        out = f"{len(media)}.jsonl"
        assert run(folder, out, Path(media)).ok == 1
        assert fakes.rows_of(folder / out)[0]["image"] == "n1"
    Path("q.json").write_text(json.dumps(rows))
    for media in ("images.tar", "."):
        done = evlgen("--questions", "q.json", "--media", media)
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith(f"error: ../n2.jpg leads out of {(folder / media).absolute()} (names must lie ")


def test_without_answers_of_people_the_answers_are_written_and_not_scored(folder: Path, answerer: FakeAnswerer) -> None:
    (folder / "images" / IMAGES[23]).unlink()
    done = evlgen("--questions", "q.json")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "What colour?: missing: no such file" in done.stderr
    assert done.stderr.endswith(
        "2 of 4 questions are answered; answers to hand in: q-tiny.json\n"
        "no answers of people to score them against; --references names them where there are some\n"
    )
    assert [one["question_id"] for one in json.loads(Path("q-tiny.json").read_text())] == [1000, 1002]
    fakes.write_video(folder / "images" / IMAGES[23], "found")
    again = evlgen("--questions", "q.json", "--retry-failed")
    assert again.exit_code == 0
    assert len(json.loads(Path("q-tiny.json").read_text())) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--questions gone.json", "no such file: gone.json ("),
        ("--questions q.json --references gone.json", "no such file: gone.json ("),
        ("--questions q.json --references part.json", "3 of 4 questions of q.json have no answers in part.json, such "
         "as 1001 (are the two files of the same split?)\n"),
        ("--questions q.json --references q.json", "q.json questions entry 1: no answers, only "),
        ("--questions q.json --references a.json --prompt Answer:", "--prompt 'Answer:' has no {} for the question "
         "(such as 'Question: {} Short answer:')\n"),
        ("--questions q.json --media nowhere", "no pictures: looked for nowhere (name the folder, tar or zip with"),
        ("--questions q.json --media empty", "empty holds none of the 2 pictures of q.json, such as COCO_val2014_0000"),
        ("--questions q.json --dtype float8", "--dtype float8 is unknown: there is auto, float32, bfloat16, float16"),
        ("--questions q.json --split val", "--questions excludes --split (a file of questions is one split)\n"),
        ("--questions q.json --out q.jsonl", "q.json is there already, and no q.jsonl beside it (choose another --out"),
        ("--questions twice.json", "twice.json questions entry 5: question 1000 is there twice (keep one of the"),
        ("--questions captions.json --out other.jsonl", "captions.json entry 1: no id column, only "),
        ("--questions q.json --out taken.jsonl", "taken.jsonl exists and is not a file of answers; nothing was"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(folder: Path, answerer: FakeAnswerer, arguments: str, message: str) -> None:
    value = json.loads(Path("q.json").read_text())
    Path("twice.json").write_text(json.dumps({**value, "questions": value["questions"] * 2}))
    people = json.loads(Path("a.json").read_text())["annotations"]
    Path("part.json").write_text(json.dumps({"annotations": people[:1]}))
    Path("captions.json").write_text('[{"image": "a.jpg", "caption": "a"}]')
    Path("taken.jsonl").write_text('{"video": "a.mp4", "settings_hash": "s", "status": "ok", "caption": "a"}\n')
    Path("empty").mkdir()
    done = evlgen(*arguments.split(" "))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


def test_questions_need_a_model_and_nothing_answered_is_an_error(folder: Path, answerer: FakeAnswerer) -> None:
    done = CliRunner().invoke(app, ["eval", "--questions", "q.json"], prog_name="evlgen")
    assert (done.exit_code, done.stderr) == (
        2, "error: --questions needs --model, which answers them (or give --predictions and --references)\n",
    )  # fmt: skip
    for name in IMAGES.values():
        fakes.write_video(folder / "images" / name, fail="decode-error")
    done = evlgen("--questions", "q.json")
    assert done.exit_code == 1
    assert done.stderr.endswith(
        "error: no question was answered (the lines of q-tiny.jsonl say why; evlgen eval --retry-failed tries again)\n"
    )


def test_results_that_cannot_be_written_leave_no_piece(folder: Path, answerer: FakeAnswerer) -> None:
    from evlgen.errors import EvlgenError

    run(folder)
    (folder / "there.json").mkdir()
    with pytest.raises(EvlgenError, match=r"there\.json cannot be written: .*answers are safe in .*out\.jsonl"):
        write_results(read_questions(folder / "q.json"), folder / "out.jsonl", folder / "there.json")
    assert not list(folder.glob("*.part"))


def test_answers_of_a_batch_are_those_of_one_question_at_a_time(model_folder: Path) -> None:
    """A real tiny model: pictures that questions share are encoded once, and everybody gets the answer of theirs."""
    from evlgen.modeling import EVLGenForConditionalGeneration

    model = EVLGenForConditionalGeneration.from_pretrained(model_folder)
    encoded: list[int] = []
    encode = model.encode
    model.encode = lambda pixels: (encoded.append(len(pixels)), encode(pixels))[1]  # type: ignore[method-assign]
    dice = np.random.default_rng(0)
    first, second = (dice.integers(0, 255, (1, 32, 32, 3), dtype=np.uint8) for _ in range(2))
    questions = [(first, "what?"), (second, "what?"), (first, "is it a large dog?"), (second, "")]
    asked = [PromptedClip(frames, (0.0,), f"Question: {text} Short answer:") for frames, text in questions]
    options = DecodingOptions(max_new_tokens=6, min_new_tokens=1, length_penalty=-1.0)
    got = EVLGenCaptioner(model).caption(asked, options)
    assert encoded == [2]
    for one, answer in zip(asked, got, strict=True):
        want = model.generate(
            model.processor([one.frames]), prompt=one.prompt, num_beams=3,
            max_new_tokens=6, min_new_tokens=1, length_penalty=-1.0,
        )  # fmt: skip
        assert answer.text == want.texts[0]
        assert answer.log_probability == pytest.approx(want.log_probabilities.item(), abs=1e-4)

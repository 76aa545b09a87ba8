"""`evlgen eval` and `evlgen compare` as a user types them: whole outputs, exit codes, one-line errors."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evlgen_cli.exits import Exit
from evlgen_cli.main import app
from tests.captioning import fakes

runner = CliRunner()

REFERENCES = [
    {"video": "1.mp4", "split": "test", "captions": ["a man rides a horse", "someone on a horse"]},
    {"video": "2.mp4", "split": "test", "captions": ["two dogs play in the snow", "dogs in snow"]},
    {"video": "3.mp4", "split": "test", "captions": ["a woman cooks pasta", "a lady is cooking"]},
    {"video": "4.mp4", "split": "val", "captions": ["a band plays"]},
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with references and two sets of captions."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "refs.jsonl", REFERENCES)
    write(tmp_path / "plain.jsonl", [{"video": row["video"], "captions": row["captions"]} for row in REFERENCES])
    write(
        tmp_path / "a.jsonl",
        [
            {"video": f"{i}.mp4", "caption": text}
            for i, text in enumerate(["a man", "a man in the", "a woman"], start=1)
        ],
    )
    write(
        tmp_path / "b.jsonl",
        [
            {"video": f"{i}.mp4", "caption": text}
            for i, text in enumerate(["a man rides a horse", "two dogs play in the snow", "a woman"], start=1)
        ],
    )
    return tmp_path


def test_the_table(here: Path) -> None:
    done = runner.invoke(app, "eval --predictions b.jsonl --references refs.jsonl --split test --bootstrap 0".split())
    assert done.exit_code == Exit.OK, done.stderr
    assert done.stdout == EXPECTED_TABLE
    assert done.stderr == ""


EXPECTED_TABLE = """\
b.jsonl (JSON lines) against refs.jsonl (JSON lines): 3 scored

score    points
CIDEr    434.52
BLEU-4   85.74
BLEU-3   85.74
BLEU-2   85.74
BLEU-1   85.74
ROUGE-L  87.63

             captions  mean words  distinct  vocabulary  bad endings  exact repeats  empty
predictions  3         4.3         3         11          0.0%         0.0%           0
references   6         4.3         6         18          0.0%         0.0%           0
"""


def test_json_is_the_same_and_has_everything(here: Path) -> None:
    done = runner.invoke(app, "eval --predictions b.jsonl --references refs.jsonl --split test --json".split())
    value = json.loads(done.stdout)
    low, high = value["scores"]["CIDEr"]["interval"]
    assert low <= value["scores"]["CIDEr"]["value"] <= high
    assert value["items"] == 3
    assert value["complete"] is True
    assert value["matched_by"]
    assert value["bootstrap"] == {"samples": 1000, "seed": 0, "level": 0.95}
    assert value["caution"].startswith("intervals of 3 items are too narrow: ")
    shown = runner.invoke(app, "eval --predictions b.jsonl --references refs.jsonl --split test --html p.html".split())
    assert f"\n{value['caution']}\n" in shown.stdout
    assert f"{value['caution']}." in (here / "p.html").read_text()


def test_files_are_written(here: Path) -> None:
    done = runner.invoke(
        app,
        "eval --predictions b.jsonl --references refs.jsonl --split test --per-caption items.jsonl --html page.html "
        "--save-frequencies df.json.gz".split(),
    )
    assert done.exit_code == Exit.OK, done.stderr
    rows = [json.loads(line) for line in (here / "items.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["1.mp4", "2.mp4", "3.mp4"]
    assert rows[0]["caption"] == "a man rides a horse"
    assert set(rows[0]["scores"]) == {"CIDEr", "BLEU-4", "BLEU-3", "BLEU-2", "BLEU-1", "ROUGE-L"}
    assert "two dogs play in the snow" in (here / "page.html").read_text(encoding="utf-8")
    with_own = runner.invoke(app, "eval --predictions a.jsonl --references refs.jsonl --split test --json".split())
    for source in ("df.json.gz", "refs.jsonl"):
        given = runner.invoke(
            app,
            f"eval --predictions a.jsonl --references refs.jsonl --split test --json --frequencies {source}".split(),
        )
        same = json.loads(given.stdout)["scores"] == json.loads(with_own.stdout)["scores"]
        assert same == (source == "df.json.gz")  # refs.jsonl counts the fourth video as well


def test_what_is_missing_is_loud_and_sets_the_exit_code(here: Path) -> None:
    write(here / "part.jsonl", [{"video": "1.mp4", "caption": "a man"}, {"video": "9.mp4", "caption": "x"}])
    done = runner.invoke(app, "eval --predictions part.jsonl --references refs.jsonl --bootstrap 0".split())
    assert done.exit_code == Exit.SOME_FAILED
    assert "part.jsonl (JSON lines) against refs.jsonl (JSON lines): 1 scored" in done.stdout
    assert (
        "warning: 3 of 4 references have no prediction; left out of every score (--missing empty counts them): "
        "2.mp4, 3.mp4, 4.mp4\n"
        "warning: 1 predictions have no references and were not scored: 9.mp4\n"
    ) in done.stderr
    counted = runner.invoke(
        app, "eval --predictions part.jsonl --references refs.jsonl --missing empty --bootstrap 0".split()
    )
    assert counted.exit_code == Exit.OK
    assert "4 scored" in counted.stdout
    assert "warning: 3 of 4 references have no prediction; scored as empty: 2.mp4, 3.mp4, 4.mp4\n" in counted.stderr


def test_rows_of_evlgen_caption_that_failed_are_missing_with_a_reason(here: Path) -> None:
    error = {"kind": "timeout", "message": "took too long"}
    rows: list[dict[str, object]] = [
        {"video": "1.mp4", "status": "ok", "caption": "a man", "settings_hash": "s"},
        {"video": "2.mp4", "status": "error", "caption": None, "error": error, "settings_hash": "s"},
    ]
    write(here / "captions.jsonl", rows)
    done = runner.invoke(app, "eval --predictions captions.jsonl --references refs.jsonl --bootstrap 0".split())
    assert done.exit_code == Exit.SOME_FAILED
    assert "3 of 4 references have no prediction, 1 of them failed with a reason" in done.stderr


def test_a_score_without_java_is_skipped_with_the_reason(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(here))
    monkeypatch.setenv("JAVA_HOME", str(here))
    monkeypatch.setenv("EVLGEN_JAVA", str(here / "no-java"))
    done = runner.invoke(
        app, "eval --predictions b.jsonl --references refs.jsonl --split test --metrics cider,meteor".split()
    )
    assert done.exit_code == Exit.SOME_FAILED
    lines = done.stdout.splitlines()
    assert any(line.startswith("CIDEr ") for line in lines)
    (meteor,) = (line for line in lines if line.startswith("METEOR"))
    assert "skipped" in meteor
    assert "no-java" in meteor


def test_published_rows_are_labelled(here: Path) -> None:
    done = runner.invoke(app, "eval --predictions b.jsonl --references refs.jsonl --split test --paper".split())
    ours, published = done.stdout.split("\nMSR-VTT test", 1)
    assert "EVLGen-video-scst" not in ours
    assert "published in arXiv 2310.03291 (ACL 2024), not measured here" in published.splitlines()[0]
    as_json = runner.invoke(app, "eval --predictions b.jsonl --references refs.jsonl --paper --json".split())
    assert json.loads(as_json.stdout)["published"]["source"].startswith("published")


def test_answers(here: Path) -> None:
    annotations = {
        "annotations": [
            {
                "question_id": 7,
                "question_type": "what",
                "answer_type": "other",
                "answers": [{"answer": a} for a in many],
            }
            for many in (["dog"] * 8 + ["cat"] * 2,)
        ]
        + [
            {
                "question_id": 8,
                "question_type": "is",
                "answer_type": "yes/no",
                "answers": [{"answer": "yes"}] * 2 + [{"answer": "no"}] * 8,
            }
        ]
    }
    (here / "answers.json").write_text(json.dumps(annotations))
    (here / "results.json").write_text(
        json.dumps([{"question_id": 7, "answer": "A dog."}, {"question_id": 8, "answer": "yes"}])
    )
    done = runner.invoke(
        app, "eval --predictions results.json --references answers.json --json --per-caption items.jsonl".split()
    )
    assert done.exit_code == Exit.OK, done.stderr
    value = json.loads(done.stdout)
    # "a dog." -> "dog": 1; yes, said by 2 of 10: leave one out 8 times 2/3, 2 times 1/3
    assert value["scores"]["VQA accuracy"]["value"] == pytest.approx(100 * (1 + (8 * 2 / 3 + 2 / 3) / 10) / 2)
    assert value["groups"]["yes/no"] == {"items": 1, "VQA accuracy": pytest.approx(60)}
    assert json.loads((here / "items.jsonl").read_text().splitlines()[0])["score"] == 100.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("eval", "nothing to score (give --predictions and --references, or --model and --dataset or --questions)"),
        ("eval --predictions a.jsonl", "nothing to score"),
        ("eval --model evlgen-mini", "--model and --dataset go together"),
        ("eval --model m --dataset refs.jsonl --predictions a.jsonl", "leave the other two away"),
        ("eval --predictions a.jsonl --references refs.jsonl --metrics bleurt", "unknown metric bleurt"),
        ("eval --predictions a.jsonl --references refs.jsonl --missing zero", "neither skip nor empty"),
        ("eval --predictions a.jsonl --references refs.jsonl --bootstrap 5", "too few resamples"),
        ("eval --predictions a.jsonl --references plain.jsonl --groups", "names no groups"),
        ("eval --predictions gone.jsonl --references refs.jsonl", "gone.jsonl"),
        ("eval --predictions . --references refs.jsonl", "folder"),
        ("eval --predictions a.jsonl --references refs.jsonl --split train", "train"),
        ("eval --predictions a.jsonl --references refs.jsonl --frequencies a.json", "a.json"),
        ("eval --model evlgen-mini --dataset nowhere", "no such data set: nowhere"),
        ("compare a.jsonl gone.jsonl --references refs.jsonl", "gone.jsonl"),
        ("compare a.jsonl b.jsonl --references refs.jsonl --bootstrap 0", "needs resamples"),
    ],
)
def test_one_clear_line(here: Path, arguments: str, said: str) -> None:
    done = runner.invoke(app, arguments.split())
    assert done.exit_code == Exit.USAGE, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_compare(here: Path) -> None:
    arguments = "compare a.jsonl b.jsonl --references refs.jsonl --split test --largest 1 --metrics cider,rouge-l"
    done = runner.invoke(app, arguments.split())
    assert done.exit_code == Exit.OK, done.stderr
    assert done.stdout == EXPECTED_COMPARISON
    value = json.loads(runner.invoke(app, [*arguments.split(), "--json"]).stdout)
    assert value["scores"]["CIDEr"]["change"] > 0
    assert (value["scores"]["CIDEr"]["wins"], value["scores"]["CIDEr"]["ties"]) == (2, 1)
    assert value["caution"].startswith("intervals of 3 items are too narrow: ")


def test_the_smallest_p_is_a_bound(here: Path) -> None:
    """Where B is better in every resample, p is 2 / (resamples + 1) or less."""
    rows = [{"video": f"{i}.mp4", "captions": [f"thing {i} moves slowly"]} for i in range(100)]
    write(here / "all.jsonl", rows)
    write(here / "good.jsonl", [{"video": row["video"], "caption": row["captions"][0]} for row in rows])
    write(here / "bad.jsonl", [{"video": row["video"], "caption": "nothing like it"} for row in rows])
    for count, said in ((1000, "<= 0.002"), (40, "<= 0.05"), (1700, "<= 0.002")):
        words = f"compare bad.jsonl good.jsonl --references all.jsonl --metrics rouge-l --bootstrap {count}".split()
        done = runner.invoke(app, words)
        assert f"  {said}  " in done.stdout
        assert "too narrow" not in done.stdout, "100 items are enough"
    value = json.loads(runner.invoke(app, [*words, "--json"]).stdout)["scores"]["ROUGE-L"]
    assert (value["p"], value["p_at_floor"]) == (2 / 1701, True)


EXPECTED_COMPARISON = """\
A  a.jsonl
B  b.jsonl
3 videos

score    A       B       B - A    95% interval      p      B better / same / worse
CIDEr    135.61  434.52  +298.91  +0.00 to +452.76  0.078  2 / 1 / 0
ROUGE-L  51.51   87.63   +36.12   +0.00 to +61.39   0.078  2 / 1 / 0

no score differs beyond chance (95%)
intervals of 3 items are too narrow: a bootstrap of fewer than 100 sees too little of what others would be like \
(with 20, intervals of 95% hold the truth in 80 to 88% of cases)

captions  mean words  distinct  vocabulary  bad endings
A         2.7         3         5           33.3%
B         4.3         3         11          0.0%

largest gains of B (CIDEr)
  2.mp4  125.2 -> 578.0
    A  a man in the
    B  two dogs play in the snow
    e.g. two dogs play in the snow
"""


def test_a_model_on_a_data_set(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captioner = fakes.FakeCaptioner()
    fakes.install(monkeypatch.setattr, captioner)
    texts = ["a man rides a horse", "two dogs play in the snow", "a woman"]
    for number, text in enumerate(texts, start=1):
        fakes.write_video(here / "set" / "videos" / f"{number}.mp4", text)
    write(here / "set" / "test.jsonl", REFERENCES)
    arguments = "eval --model evlgen-mini --dataset set --split test --json".split()
    done = runner.invoke(app, arguments)
    assert done.exit_code == Exit.OK, done.stderr
    from_files = runner.invoke(app, "eval --predictions b.jsonl --references refs.jsonl --split test --json".split())
    assert json.loads(done.stdout)["scores"] == json.loads(from_files.stdout)["scores"]
    assert [row["caption"] for row in fakes.rows_of(here / "set-test-evlgen-mini.jsonl")] == texts
    again = runner.invoke(app, arguments)
    assert json.loads(again.stdout) == json.loads(done.stdout)
    assert len(captioner.batches) == 1  # nothing is captioned twice

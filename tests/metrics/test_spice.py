"""SPICE with a script in Java's place: the models that the jar needs are too large for a test."""

import json
import sys

import pytest

from evlgen.metrics import spice as room
from evlgen.metrics.java import Unavailable
from evlgen.metrics.spice import parse_scores, spice

CAPTIONS = ["a man rides a brown horse", "two dogs"]
REFERENCES = [["a man on a horse"], ["two dogs run", "dogs on grass"]]


def answer_for(*f_scores: float) -> list[dict]:
    """As the jar writes it: numbers of captions, and null for what is undefined."""
    rows = []
    for number, f in enumerate(f_scores):
        scores = {"Color": {"pr": None, "re": None, "f": None, "fn": 0, "numImages": 1}}
        scores["All"] = {"pr": f, "re": f, "f": f, "fn": 1, "numImages": 1}
        scores["Object"] = {"pr": 1.0, "re": f, "f": f / 2, "fn": 1, "numImages": 1}
        rows.append({"image_id": number, "scores": scores})
    return rows


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The jar and its models are there; the returned function puts a Python script in Java's place."""
    (tmp_path / "lib").mkdir()
    for name in room.MODELS:
        (tmp_path / "lib" / name).touch()
    (tmp_path / "spice-1.0.jar").touch()
    monkeypatch.setattr(room, "carried_file", lambda *parts: tmp_path / "spice-1.0.jar")

    def with_java(body: str, modules: str = "java.base@11 jdk.scripting.nashorn@11"):
        program = tmp_path / "java"
        program.write_text(
            f"#!{sys.executable}\nimport json, sys, time\nfrom pathlib import Path\n"
            f"if sys.argv[1] == '--list-modules':\n    print({modules!r}); sys.exit()\n"
            f"given = json.loads(Path(sys.argv[5]).read_text())\nout = Path(sys.argv[sys.argv.index('-out') + 1])\n"
            f"{body}\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("EVLGEN_JAVA", str(program))
        return tmp_path

    return with_java


def test_scores_are_read_and_captions_are_given(installed):
    folder = installed(
        f"answer = json.loads('''{json.dumps(answer_for(0.5, 0.2))}''')\n"
        "(Path(sys.argv[0]).parent / 'seen.json').write_text(json.dumps([sys.argv[1:], given]))\n"
        "out.write_text(json.dumps(answer[::-1]))"
    )
    assert spice(CAPTIONS, REFERENCES, deadline_seconds=60).tolist() == [0.5, 0.2]  # by number, not by place
    arguments, given = json.loads((folder / "seen.json").read_text())
    assert given == [
        {"image_id": 0, "test": CAPTIONS[0], "refs": REFERENCES[0]},
        {"image_id": 1, "test": CAPTIONS[1], "refs": REFERENCES[1]},
    ]
    assert arguments[0] == "-Xmx8G"
    assert "-subset" in arguments
    assert "-cache" not in arguments


def test_unreadable_answers(installed):
    unreadable = r"^SPICE's answer for 2 captions cannot be read"
    for body in (
        "pass",  # no file
        'out.write_text(\'[{"image_id": 0, "sco\')',  # half an answer
        f"out.write_text('''{json.dumps(answer_for(0.5))}''')",  # one of two
        f"out.write_text('''{json.dumps(answer_for(0.5, 0.5, 0.5))}''')",
    ):
        installed(body)
        with pytest.raises(Unavailable, match=unreadable):
            spice(CAPTIONS, REFERENCES, deadline_seconds=60)
    for text in ("", "17", '{"a": 1}', json.dumps(answer_for(0.5, float("nan")))):
        with pytest.raises(Unavailable, match=unreadable):
            parse_scores(text, 2)


def test_the_deadline(installed):
    installed("time.sleep(1000)")
    with pytest.raises(Unavailable, match=r"deadline of 0\.5 s"):
        spice(CAPTIONS, REFERENCES, deadline_seconds=0.5)


def test_a_java_without_the_script_engine_is_refused_before_any_work(installed):
    installed("raise SystemExit('must not run')", modules="java.base@17")
    with pytest.raises(Unavailable) as caught:
        spice(CAPTIONS, REFERENCES)
    assert caught.value.reason.startswith("SPICE needs Java 8 to 14 (no Java with jdk.scripting.nashorn: $EVLGEN_JAVA")
    assert caught.value.install.startswith("install OpenJDK 8 or 11")


def test_missing_models_say_how_to_get_them(installed, tmp_path):
    installed("pass")
    (tmp_path / "lib" / room.MODELS[1]).unlink()
    with pytest.raises(Unavailable) as caught:
        spice(CAPTIONS, REFERENCES)
    assert caught.value.reason == f"SPICE needs stanford-corenlp-3.6.0-models.jar in {tmp_path}/lib"
    assert caught.value.install == room.INSTALL_MODELS


def test_all_that_is_missing_is_named_at_once(installed, tmp_path):
    installed("pass", modules="java.base@17")
    for name in room.MODELS:
        (tmp_path / "lib" / name).unlink()
    with pytest.raises(Unavailable, match=r"SPICE needs stanford.* and stanford.*/lib, and Java 8 to 14 \(no Java"):
        spice(CAPTIONS, REFERENCES)

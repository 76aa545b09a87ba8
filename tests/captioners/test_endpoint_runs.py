"""Whole runs against an endpoint: folder in, journal out, whatever the server does in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from evlgen.captioners import patient_client
from evlgen.captioning import CaptionRequest, caption_videos
from evlgen.captioning.backoff import ModelBrokenError, RunStoppedError
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import UsageError
from evlgen_cli.main import app

from .fake_server import Faulty, chat_answer, number_in, pictures, serving

SECRET = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_client, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setenv("EVLGEN_API_KEY", SECRET)


def write_clips(folder: Path, count: int) -> Path:
    """Animations of two frames each; the first has the clip's own grey, from 40 on."""
    folder.mkdir()
    for number in range(40, 40 + count):
        first, second = (Image.fromarray(np.full((16, 24), grey, np.uint8)) for grey in (number, 255 - number))
        first.save(folder / f"{number}.gif", save_all=True, append_images=[second], duration=100)
    return folder


def rows_of(out: Path) -> list[dict[str, Any]]:
    data = out.read_bytes()
    assert data.endswith(b"\n")
    assert SECRET.encode() not in data
    return [json.loads(line) for line in data.splitlines()]


def test_a_data_set_is_scored_with_no_more_requests_than_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clips(tmp_path / "media", 6)
    (tmp_path / "captions.jsonl").write_text(
        "".join(
            json.dumps({"video": f"{number}.gif", "captions": [f"clip {number}"]}) + "\n" for number in range(40, 46)
        )
    )

    def answer(body: dict[str, Any], number: int) -> Any:
        time.sleep(0.05)
        return chat_answer(f"clip {number_in(body)}")

    with serving(answer) as server:
        command = ["eval", "--model", server.model, "--dataset", ".", "--out", "out.jsonl", "--json"]
        done = CliRunner().invoke(app, [*command, "--concurrency", "2", "--request-timeout", "20"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["scores"]["ROUGE-L"]["value"] == pytest.approx(100)
    assert server.most == 2


def test_rows_say_all_that_is_known(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", 2)
    with serving(lambda body, number: chat_answer(f"clip {number_in(body)}")) as server:
        model, url = server.model, server.url
        request = CaptionRequest([str(folder)], tmp_path / "out.jsonl", model, frames=2, prompt="What?", workers=1)
        assert caption_videos(request).ok == 2
        assert caption_videos(request).done_before == 2
        assert server.headers[-1]["authorization"] == f"Bearer {SECRET}"
        assert [picture.shape for picture in pictures(server.requests[-1])] == [(16, 24, 3)] * 2
    row, _ = rows_of(tmp_path / "out.jsonl")
    number = int(Path(row["video"]).stem)
    assert (row["status"], row["caption"]) == ("ok", f"clip {number}")
    assert (row["log_probability"], row["token_count"]) == (None, 7)
    assert row["model"] == f"openai:some/model:7b@{url}"
    assert (row["settings"]["prompt"], row["settings"]["num_beams"], row["settings"]["dtype"]) == ("What?", 1, "server")


def test_the_best_of_samples(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", 1)
    said = ["a cat sits on a mat", "a dog runs in a park", "a dog runs in the park", "a dog runs in a park there"]
    with serving(lambda body, number: chat_answer(said[body["seed"]])) as server:
        options = DecodingOptions(num_samples=3, rerank="consensus")
        caption_videos(CaptionRequest([str(folder)], tmp_path / "out.jsonl", server.model, options, workers=1))
    (row,) = rows_of(tmp_path / "out.jsonl")
    assert row["caption"] == "a dog runs in a park"
    assert sorted(one["caption"] for one in row["alternatives"]) == sorted(set(said) - {row["caption"]})
    assert all(one["log_probability"] is None for one in row["alternatives"])


def test_failures_of_clips_stand_in_their_rows_and_are_tried_again(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", 6)
    bad = {
        41: Faulty(400, {"error": {"message": f"flagged {SECRET}", "code": "content_filter"}}),
        43: Faulty(500, f"out of luck with {SECRET}"),
    }
    with serving(lambda body, number: bad.get(number_in(body), chat_answer("fine"))) as server:
        request = CaptionRequest([str(folder)], tmp_path / "out.jsonl", server.model, frames=2, workers=1)
        assert caption_videos(request).failed == {"content-filter": 1, "server-error": 1}
        errors = {row["video"]: row["error"]["message"] for row in rows_of(request.out) if row["error"]}  # type: ignore[arg-type]
        assert errors == {
            "41.gif": "the server says 400: flagged ***",
            "43.gif": "the server says 500: out of luck with ***",
        }
        bad.clear()
        again = CaptionRequest(
            [str(folder)], tmp_path / "out.jsonl", server.model, frames=2, workers=1, retry_failed=True
        )
        assert (caption_videos(request).planned, caption_videos(again).ok) == (0, 2)


def test_a_server_that_dies_ends_the_run_with_all_its_answers_written(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", 14)
    out = tmp_path / "out.jsonl"

    def request(model: str) -> CaptionRequest:
        return CaptionRequest([str(folder)], out, model, frames=2, workers=1, concurrency=4, batch_size=8)

    with serving(lambda body, number: chat_answer("x")) as server:

        def answer(body: dict[str, Any], number: int) -> Any:
            if number < 11:
                return chat_answer("before")
            server.ended.set()  # no more answers on any connection, and no more connections
            server.shutdown()
            server.server_close()
            return Faulty(close=True)

        server.answer = answer
        with pytest.raises(RunStoppedError, match=r"cannot be reached: .* The same command goes on") as caught:
            caption_videos(request(server.model))
        assert not isinstance(caught.value, ModelBrokenError)
        port = server.server_address[1]
    before = rows_of(out)
    assert [row["caption"] for row in before] == ["before"] * 11
    with serving(lambda body, number: chat_answer("after"), port=port) as server:
        assert caption_videos(request(server.model)).ok == 3
    assert Counter(row["caption"] for row in rows_of(out)) == {"before": 11, "after": 3}
    assert len({row["video"] for row in rows_of(out)}) == 14


def test_a_server_that_fails_at_everything_ends_the_run(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", 14)
    with serving(lambda body, number: Faulty(500, "broken")) as server:
        request = CaptionRequest([str(folder)], tmp_path / "out.jsonl", server.model, frames=2, workers=1)
        with pytest.raises(ModelBrokenError, match="videos in a row; the last time: the server says 500: broken"):
            caption_videos(request)
    assert all(row["error"]["kind"] == "server-error" for row in rows_of(tmp_path / "out.jsonl"))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"dtype": "bfloat16"}, "--dtype means nothing to an endpoint"),
        ({"device": "cuda"}, "--device means nothing to an endpoint"),
        ({"load_in": "4bit"}, "--load-in means nothing to an endpoint"),
        ({"decoding": DecodingOptions(no_repeat_ngram=3)}, "--no-repeat-ngram means nothing to an endpoint"),
        ({"model": "evlgen-mini", "concurrency": 3}, "--concurrency means nothing to EVLGen's own models"),
        ({"request_timeout_seconds": 0}, "--request-timeout 0 is not more than 0"),
        ({"concurrency": 0}, "--concurrency 0 is not 1 to 1000"),
    ],
)
def test_options_that_mean_nothing_there(tmp_path: Path, options: dict[str, Any], line: str) -> None:
    folder = write_clips(tmp_path / "clips", 1)
    with pytest.raises(UsageError, match=line):
        caption_videos(CaptionRequest([str(folder)], **{"model": "openai:m@http://127.0.0.1:1", **options}))


class ThirdFails:
    """Fails a third of its answers, in every way, and never the same clip twice in a row."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()
        self.answered: Counter[int] = Counter()
        self.failed = 0
        self.lock = threading.Lock()
        self.faults = [
            Faulty(429, {"error": {"message": "slow down"}}, {"retry-after": "0.05"}),
            Faulty(500, "oops"),
            Faulty(close=True),
            Faulty(body='{"choices": [{"mes'),
            Faulty(body={"no": "choices"}),
            Faulty(body=chat_answer("cut"), cut_bytes=5),
        ]

    def __call__(self, body: dict[str, Any], number: int) -> Any:
        clip = number_in(body)
        time.sleep(0.01)
        with self.lock:
            attempt = self.asked[clip]
            self.asked[clip] += 1
            if attempt % 3 == clip % 2:  # of three answers to a clip, the first or the second
                self.failed += 1
                return self.faults[self.failed % len(self.faults)]
            self.answered[clip] += 1
        return chat_answer(f"clip {clip}", [-1.0, -0.5])


@pytest.mark.slow
def test_200_clips_through_a_server_that_fails_a_third_of_its_answers(tmp_path: Path) -> None:
    """Every clip once, none lost, and the same journal when the run is killed in the middle and goes on."""
    folder = write_clips(tmp_path / "clips", 200)
    journals, port = {}, 0
    for name in ("unbroken", "killed"):
        out = tmp_path / f"{name}.jsonl"
        failing = ThirdFails()
        with serving(failing, port=port) as server:
            port = server.server_address[1]
            command = [sys.executable, "-m", "evlgen_cli", "caption", str(folder), "--out", str(out)]
            command += ["--model", server.model, "--frames", "2", "--workers", "2", "--quiet"]
            if name == "killed":
                for lines in (50, 120):
                    process = subprocess.Popen(command)
                    while not out.exists() or out.read_bytes().count(b"\n") < lines:
                        assert process.poll() is None
                        time.sleep(0.01)
                    process.kill()
                    process.wait()
                with out.open("ab") as file:
                    file.write(b'{"video": "half a li')  # as if it had been hit in the middle of one
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stdout) == (0, "")
            if name == "unbroken":
                assert set(failing.answered.values()) == {1}, "no answer is asked for twice"
                assert failing.failed >= sum(failing.asked.values()) / 4
        rows = rows_of(out)
        assert {row["video"]: row["caption"] for row in rows} == {f"{n}.gif": f"clip {n}" for n in range(40, 240)}
        assert len(rows) == 200
        journals[name] = sorted(json.dumps({**row, "seconds": 0}, sort_keys=True) for row in rows)
    assert journals["unbroken"] == journals["killed"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.slow
def test_ctrl_c_while_requests_are_out_ends_in_one_line(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", 8)
    with serving(lambda body, number: Faulty(hang_seconds=60)) as server:
        command = [sys.executable, "-m", "evlgen_cli", "caption", str(folder), "--out", str(tmp_path / "out.jsonl")]
        process = subprocess.Popen([*command, "--model", server.model], stderr=subprocess.PIPE, text=True)
        while not any("messages" in body for body in server.requests):
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        _, talk = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "what is in the works takes too long and is given up; what is written is kept\n" in talk
    assert "Traceback" not in talk
    assert "Task" not in talk
    assert SECRET not in talk

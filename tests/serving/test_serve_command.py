"""`evlgen serve` as a process with a real, tiny model: many clients, memory, and the end by a signal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
import pytest

from evlgen.errors import UsageError
from evlgen.serving.server import ServeRequest
from tests.modeling.conftest import tiny_model

from .service import image_block, jpeg

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
ROUNDS = 24


@contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its URL."""
    command = [sys.executable, "-m", "evlgen_cli", "serve", "--model", str(folder), "--port", "0", *options]
    command += ["--most-new-tokens", "100"]  # the model has 128 positions
    environment = {**os.environ, "EVLGEN_SERVE_TOKEN": ""}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        talk = ""
        while not (found := re.search(r" is at (http://\S+)/v1 ", talk)):
            assert process.poll() is None, talk
            talk += process.stderr.readline()
        yield process, found[1]
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "tiny"
    tiny_model().save_pretrained(path)
    return path


def test_an_endpoint_is_not_served_again() -> None:
    with pytest.raises(UsageError, match="--model openai:m@http://h is behind a server already"):
        ServeRequest("openai:m@http://h")


@pytest.mark.slow
def test_64_clients_at_once(folder: Path) -> None:
    """No request is lost, batches form, equal pictures get equal answers, and memory stays where it is.

    It grows until batches of every size have been there, since what multiplies keeps buffers for each shape.
    """
    with served(folder, "--batch-size", "16") as (process, url):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=300)

        def one(number: int) -> tuple[int, str]:
            content: Any = [image_block(jpeg(number % 8 * 30, side=300))]
            answer = client.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": content}], max_tokens=5
            )
            return number % 8, str(answer.choices[0].message.content)

        resident = []
        answers: list[tuple[int, str]] = []
        with ThreadPoolExecutor(64) as threads:
            for _ in range(ROUNDS):
                answers += threads.map(one, range(64))
                resident.append(psutil.Process(process.pid).memory_info().rss)
        health = httpx2.get(f"{url}/health").json()
    assert len(answers) == ROUNDS * 64
    assert len(set(answers)) == 8, "one answer for each picture, whatever batch it was in"
    assert health["clips"] == ROUNDS * 64
    assert health["under_way"] == 0
    assert 1 < health["largest_batch"] <= 16
    assert health["batches"] < ROUNDS * 64 / 2
    assert resident[-1] - resident[ROUNDS // 2] < 48 << 20, f"resident bytes after each round: {resident}"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_when_all_is_answered(folder: Path, number: int) -> None:
    with served(folder) as (process, url), ThreadPoolExecutor(8) as threads:
        body = {
            "model": "tiny",
            "max_tokens": 90,
            "messages": [{"role": "user", "content": [image_block(jpeg(90))]}],
        }
        asked = [threads.submit(httpx2.post, f"{url}/v1/chat/completions", json=body, timeout=60) for _ in range(8)]
        while httpx2.get(f"{url}/health").json()["under_way"] < 8 and not asked[0].done():
            time.sleep(0.001)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        assert process.wait(30) == 0
        assert process.stderr is not None
        talk = process.stderr.read()
        assert [one.result().status_code for one in asked] == [200] * 8
    assert talk.strip() == "stopping after the requests under way"
    assert not any(child.is_running() for child in children)

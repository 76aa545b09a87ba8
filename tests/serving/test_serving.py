"""A server as its clients see it: OpenAI's own client, ours, Ollama's protocol, many at once, and hostile ones."""

from __future__ import annotations

import io
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import av
import httpx2
import numpy as np
import openai
import pytest

from evlgen.captioners.openai_endpoint import load_captioner
from evlgen.captioners.protocol import Caption, LoadOptions, PromptedClip
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import EvlgenError, UsageError
from evlgen.serving import server
from evlgen.serving.limits import Limits
from tests.video.bombs import png_bomb

from .service import GreyCaptioner, Running, base64_of, image_block, jpeg, running, text_block, video_block


@pytest.fixture(scope="module")
def grey() -> Iterator[Running]:
    """One server for all tests that leave it as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("EVLGEN_SERVE_TOKEN", raising=False)
        with running(patch) as found:
            yield found


@pytest.fixture(scope="module")
def client(grey: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{grey.url}/v1", api_key="none", max_retries=0)


def ask(client: openai.OpenAI, *content: dict[str, Any], **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": list(content)}, *more.pop("then", [])]
    return client.chat.completions.create(model="grey", messages=messages, **more)


def mp4(*greys: int) -> bytes:
    """A video of ten frames for each grey."""
    held = io.BytesIO()
    with av.open(held, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for grey in greys:
            for _ in range(10):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), grey, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return held.getvalue()


def greys_in(text: str) -> list[int]:
    return [int(one) for one in text.split()[1].split(",")]


def test_openais_client_lists_and_asks(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["grey"]
    answer = ask(client, text_block("What is it?"), image_block(jpeg(90)))
    (choice,) = answer.choices
    assert (answer.object, answer.model, choice.finish_reason) == ("chat.completion", "grey", "stop")
    assert (choice.message.role, choice.message.content) == ("assistant", "grey 90")
    assert (choice.log_probability, choice.token_count, answer.usage.completion_tokens) == (-1.5, 4, 4)


def test_a_video_is_sampled_and_pictures_are_its_frames(client: openai.OpenAI) -> None:
    film = greys_in(ask(client, video_block(mp4(40, 120, 200))).choices[0].message.content)
    assert np.abs(np.subtract(film, [40, 120, 200])).max() <= 3
    frames = [jpeg(grey) for grey in (20, 50, 80, 110, 140, 170, 200, 230, 250)]
    chosen = ask(client, *map(image_block, frames)).choices[0].message.content
    assert chosen == "grey 50,140,230", "the middles of three equal spans"
    joined = ",".join(map(base64_of, frames))
    block = {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{joined}"}}
    assert ask(client, block).choices[0].message.content == chosen


def test_what_an_assistant_begins_with_is_gone_on_from(client: openai.OpenAI) -> None:
    then = [{"role": "assistant", "content": "a video of"}]
    assert ask(client, image_block(jpeg(90)), then=then).choices[0].message.content == "grey 90 after a video of"


def test_users_are_listened_to_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch, use_prompts=True) as found:
        answer = found.chat(text_block("How many?"), image_block(jpeg(90))).json()
    assert answer["choices"][0]["message"]["content"] == "grey 90 after How many?"


def test_decoding_options(client: openai.OpenAI) -> None:
    picture = image_block(jpeg(90))
    sampled = ask(client, picture, temperature=0.5, seed=7, max_tokens=2)
    assert sampled.choices[0].message.content == "grey 90 seed 7 at 0.5"
    assert sampled.usage.completion_tokens == 2
    several = ask(client, picture, n=3)
    assert [choice.message.content for choice in several.choices] == ["grey 90", "other 1", "other 2"]


def test_streams_say_the_same(client: openai.OpenAI) -> None:
    pieces = list(ask(client, image_block(jpeg(90)), stream=True, n=2))
    assert len({piece.id for piece in pieces}) == 1
    for index, whole in ((0, "grey 90"), (1, "other 1")):
        own = [piece.choices[0] for piece in pieces if piece.choices[0].index == index]
        assert "".join(choice.delta.content or "" for choice in own) == whole
        assert [choice.finish_reason for choice in own] == [None] * (len(own) - 1) + ["stop"]


def test_our_own_client_against_our_own_server(grey: Running) -> None:
    frames = np.stack([np.full((24, 24, 3), value, np.uint8) for value in (40, 120, 200)])
    for form in ("", "#video"):
        loaded = load_captioner(f"openai:grey@{grey.url}{form}", LoadOptions())
        (found,) = loaded.caption([PromptedClip(frames, (0.0, 1.0, 2.0), "")], DecodingOptions(num_beams=1))
        assert found == Caption("grey 40,120,200", None, 4)


def test_ollamas_protocol(grey: Running) -> None:
    (tag,) = grey.client.get("/api/tags").json()["models"]
    assert (tag["name"], tag["model"], tag["digest"]) == ("grey", "grey", "hash")
    body = {"model": "grey:latest", "prompt": "Describe it.", "images": [base64_of(jpeg(90))]}
    whole = grey.post("/api/generate", {**body, "stream": False}).json()
    assert (whole["response"], whole["done"], whole["done_reason"]) == ("grey 90", True, "stop")
    lines = [json.loads(line) for line in grey.post("/api/generate", body).text.splitlines()]
    assert "".join(line["response"] for line in lines) == "grey 90"
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    sampled = grey.post("/api/generate", {**body, "stream": False, "options": {"temperature": 0.5, "seed": 7}})
    assert sampled.json()["response"] == "grey 90 seed 7 at 0.5"


def test_many_at_once_share_batches_and_get_their_own_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch, GreyCaptioner(seconds=0.1)) as found:

        def one(grey: int) -> str:
            answer = found.chat(image_block(jpeg(grey)), temperature=0.5 if grey % 2 else 0, seed=grey)
            return str(answer.json()["choices"][0]["message"]["content"])

        greys = range(40, 80)
        with ThreadPoolExecutor(40) as threads:
            answers = list(threads.map(one, greys))
        assert answers == [f"grey {g}" + (f" seed {g} at 0.5" if g % 2 else "") for g in greys]
        assert sum(found.captioner.batches) == 40
        assert max(found.captioner.batches) > 1
        health = found.client.get("/health").json()
    assert (health["clips"], health["largest_batch"]) == (40, max(found.captioner.batches))


def test_a_clip_that_breaks_the_model_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch, GreyCaptioner(seconds=0.05)) as found, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda grey: found.chat(image_block(jpeg(grey))), (40, 13, 41, 13, 42, 43)))
    assert [answer.status_code for answer in answers] == [200, 500, 200, 500, 200, 200]
    assert answers[1].json()["error"]["message"] == "the model failed: thirteen"


def at(url: str) -> dict[str, Any]:
    """A picture that is somewhere."""
    return {"type": "image_url", "image_url": {"url": url}}


HOSTILE: dict[str, tuple[list[dict[str, Any]], int, str]] = {
    "a web address": (
        [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.jpg"}}],
        400,
        "only data: URLs",
    ),
    "a file": ([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}], 400, "only data: URLs"),
    "a path": ([{"type": "video_url", "video_url": {"url": "/etc/passwd"}}], 400, "only data: URLs"),
    "a path in a data URL": (
        [{"type": "image_url", "image_url": {"url": "data:text/plain,/etc/passwd"}}],
        400,
        "base64",
    ),
    "no base64": ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,/etc/../x!"}}], 400, "no base64"),
    "a playlist": ([video_block(b"ffconcat version 1.0\nfile /etc/passwd\n")], 400, "playlist"),
    "HLS": ([video_block(b"#EXTM3U\n#EXTINF:2,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")], 400, "Invalid data"),
    "no picture": ([image_block(b"hello")], 400, "Invalid data"),
    "nothing": ([text_block("hello")], 400, "no picture and no video"),
    "sound": ([{"type": "input_audio", "input_audio": {"data": ""}}], 400, "'input_audio'"),
    "two videos": ([video_block(b"1"), video_block(b"2")], 400, "expected one video"),
    "too many pictures": ([image_block(b"1")] * 65, 413, "65 pictures are more than 64"),
    "a decompression bomb": ([image_block(png_bomb(30_000))], 413, "more than 40 million pixels in a frame"),
}


@pytest.mark.parametrize(("content", "status", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_requests_are_refused(grey: Running, content: list[dict[str, Any]], status: int, message: str) -> None:
    answer = grey.chat(*content)
    assert answer.status_code == status
    error = answer.json()["error"]["message"]
    assert message in error
    assert len(error) < 400
    assert "evlgen-serve-" not in error, "no path of this machine"
    assert grey.chat(image_block(jpeg(90))).status_code == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "the request is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"model": "grey"}', "messages: Field required"),
        (b'{"model": "grey", "messages": [{"role": "user", "content": 5}]}', "messages.0.content"),
        (b'{"model": "grey", "messages": [], "temperature": -1}', "temperature: Input should be greater"),
        (b'{"model": "grey", "messages": [], "max_tokens": "many"}', "max_tokens: Input should be a valid integer"),
        (b'{"model": "grey", "messages": [], "n": 99}', "n: Input should be less"),
    ],
)
def test_what_is_no_request(grey: Running, body: bytes, message: str) -> None:
    answer = grey.client.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_errors_as_openais_client_knows_them(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no picture and no video in the request"):
        ask(client, text_block("hello"))
    with pytest.raises(openai.NotFoundError, match="there is no model of that name here: it is called grey"):
        client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": [image_block(jpeg(9))]}],  # type: ignore[list-item]
        )


def test_a_page_in_a_browser_cannot_call(grey: Running) -> None:
    """Its name may lead here, but it stays in the Host header; what it sends to our own name has an Origin."""
    assert grey.client.get("/v1/models", headers={"host": "evil.example"}).status_code == 400
    assert grey.client.get("/v1/models", headers={"host": "localhost"}).status_code == 200
    captioned = len(grey.captioner.batches)
    for path in ("/v1/chat/completions", "/api/generate"):  # as text, so that browsers ask nobody first
        headers = {"origin": "http://evil.example", "content-type": "text/plain"}
        answer = grey.post(path, {"model": "grey", "images": [base64_of(jpeg(90))]}, headers=headers)
        assert (answer.status_code, "web pages may not call" in answer.text) == (403, True)
    assert len(grey.captioner.batches) == captioned


def test_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVLGEN_SERVE_TOKEN", "open sesame")
    with running(monkeypatch) as found:
        for path in ("/v1/models", "/api/tags"):
            assert found.client.get(path).status_code == 401
        for path in ("/v1/chat/completions", "/api/generate"):
            assert found.post(path, {}, headers={"authorization": "Bearer open"}).status_code == 401
        knows = openai.OpenAI(base_url=f"{found.url}/v1", api_key="open sesame", max_retries=0)
        assert ask(knows, image_block(jpeg(90))).choices[0].message.content == "grey 90"
        page = knows.with_options(default_headers={"origin": "http://ours.example"})
        assert ask(page, image_block(jpeg(90))).choices[0].message.content == "grey 90"
        with pytest.raises(openai.AuthenticationError, match="the token is missing or wrong"):
            ask(knows.with_options(api_key="wrong"), image_block(jpeg(90)))


def test_a_body_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch, limits=Limits(most_body_mb=1)) as found:
        answer = found.chat(text_block("x" * (2 << 20)), image_block(jpeg(90)))
        assert (answer.status_code, answer.json()["error"]["message"]) == (413, "the request is more than 1 MB")

        def pieces() -> Iterator[bytes]:  # without a length in front
            yield b'{"model": "'
            for _ in range(30):
                yield b"x" * (1 << 16)

        assert found.client.post("/v1/chat/completions", content=pieces()).status_code == 413
        huge = {"content-length": str(1 << 40)}
        with socket.create_connection(found.url.removeprefix("http://").split(":")) as raw:  # type: ignore[arg-type]
            head = "\r\n".join(f"{name}: {value}" for name, value in {"host": "localhost", **huge}.items())
            raw.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n\r\n".encode())
            assert b" 413 " in raw.recv(4096).split(b"\r\n")[0]
        assert found.chat(image_block(jpeg(90))).status_code == 200


def test_a_video_with_large_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch, limits=Limits(most_megapixels=0.001)) as found:
        answer = found.chat(video_block(mp4(40)))
        assert answer.status_code == 413
        assert "more than 0.001 million pixels in a frame" in answer.json()["error"]["message"]


def test_more_than_fit_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch, GreyCaptioner(seconds=0.2), Limits(most_requests=2)) as found:
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda grey: found.chat(image_block(jpeg(grey))), range(40, 48)))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 429}
        refused = answers[statuses.index(429)]
        assert refused.headers["retry-after"] == "2"
        assert found.chat(image_block(jpeg(90))).status_code == 200


@pytest.mark.slow
def test_who_waits_too_long_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch, GreyCaptioner(seconds=1.5), Limits(request_seconds=1.0)) as found:
        answer = found.chat(image_block(jpeg(90)))
        assert (answer.status_code, answer.json()["error"]["message"]) == (504, "no answer within 1 seconds")
        with socket.create_connection(found.url.removeprefix("http://").split(":")) as raw:  # type: ignore[arg-type]
            raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{")
            assert b" 504 " in raw.recv(4096).split(b"\r\n")[0], "a body that does not come"


def test_stopping_answers_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch, GreyCaptioner(seconds=0.3)) as found, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(found.chat, image_block(jpeg(90)))
        while not found.captioner.batches:
            time.sleep(0.01)
        found.stop.set()
        assert asked.result().status_code == 200
        found.thread.join(20)
        with pytest.raises(httpx2.ConnectError):
            found.client.get("/health")


@pytest.mark.slow
def test_stopping_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STOP_SECONDS", 1)
    with running(monkeypatch, GreyCaptioner(seconds=5.0)) as found, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(found.chat, image_block(jpeg(90)))
        while not found.captioner.batches:
            time.sleep(0.01)
        found.stop.set()
        answer = asked.result()
    assert (answer.status_code, answer.json()["error"]["message"]) == (503, "the server is stopping")


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EvlgenError, match=rf"^evlgen serve needs {package} \(pip install 'evlgen\[serve\]'\)$"):
        server.serve(server.ServeRequest(), threading.Event(), lambda *args: None, print)


def test_where_it_can_be_reached(monkeypatch: pytest.MonkeyPatch, grey: Running) -> None:
    assert grey.url.startswith("http://127.0.0.1:")
    assert grey.notes == []
    with running(monkeypatch, host="0.0.0.0") as found:
        assert (
            "warning: other machines can reach 0.0.0.0, and there is no token: set EVLGEN_SERVE_TOKEN" in found.notes[0]
        )
    monkeypatch.setenv("EVLGEN_SERVE_TOKEN", "x")
    with running(monkeypatch, host="0.0.0.0") as found:
        assert found.notes == []


def test_what_cannot_be_served(grey: Running) -> None:
    port = int(grey.url.rpartition(":")[2])
    never = threading.Event()
    with pytest.raises(EvlgenError, match=rf"cannot listen on port {port} of 127.0.0.1: .* \(choose another --port"):
        server.serve(server.ServeRequest(port=port), never, lambda *args: None, print)
    with pytest.raises(UsageError, match=r"--host nowhere\.invalid is no address"):
        server.serve(server.ServeRequest(host="nowhere.invalid"), never, lambda *args: None, print)
    with pytest.raises(UsageError, match="--port 70000 is not 0 to 65535; --batch-size 0 is not 1 to 1000"):
        server.ServeRequest(port=70_000, batch_size=0)
    with pytest.raises(UsageError, match="--most-body-mb 0 is not 1 to 10000"):
        Limits(most_body_mb=0)

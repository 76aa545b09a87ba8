"""The captioner behind an endpoint, against a local server that answers well, badly, late or not at all."""

from __future__ import annotations

import logging
import time
import traceback
from email.utils import formatdate
from typing import Any

import numpy as np
import pytest

from evlgen.captioners import patient_client
from evlgen.captioners.endpoint_address import Key, key_from_environment, parse_endpoint
from evlgen.captioners.openai_endpoint import EndpointCaptioner, identify_model, load_captioner
from evlgen.captioners.protocol import Caption, CaptioningStoppedError, LoadOptions, PromptedClip
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import EvlgenError, Failure, UsageError

from .fake_server import MODEL, Answer, FakeServer, Faulty, chat_answer, frames_of, number_in, pictures, serving

SECRET = "sk-very-secret-0123456789"
OPTIONS = DecodingOptions(num_beams=1)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of a millisecond, and no key from the machine that tests run on."""
    monkeypatch.setattr(patient_client, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.delenv("EVLGEN_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def clips(*numbers: int, prompt: str = "", frames: int = 2) -> list[PromptedClip]:
    times = tuple(0.5 + index for index in range(frames))
    return [PromptedClip(frames_of(number, frames), times, prompt) for number in numbers]


def named(body: dict[str, Any], number: int) -> Any:
    return chat_answer(f"clip {number_in(body)}", [-0.25, -0.5])


def captioner(server: FakeServer, suffix: str = "", **options: Any) -> EndpointCaptioner:
    return load_captioner(server.model + suffix, LoadOptions(**options))


def caption_one(answer: Answer, **options: Any) -> Caption | Failure:
    with serving(answer) as server:
        return captioner(server, **options).caption(clips(100), OPTIONS)[0]


def test_captions_come_back_in_order_with_their_log_probabilities() -> None:
    with serving(named) as server:
        counted: list[int] = []
        loaded = captioner(server)
        loaded.on_tokens = counted.append
        found = loaded.caption(clips(*range(40, 200, 8)), OPTIONS)
    assert found == [Caption(f"clip {number}", -0.75, 2) for number in range(40, 200, 8)]
    assert sum(counted) == 2 * len(found)


def test_the_request_is_what_openais_own_client_sends() -> None:
    """The same call through the official client leaves the same body."""
    openai = pytest.importorskip("openai")
    with serving(named) as server:
        options = DecodingOptions(num_beams=1, max_new_tokens=17)
        captioner(server, system_prompt="Be brief.").caption(clips(100, prompt="What is it?"), options)
        ours = server.requests[-1]
        client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        client.chat.completions.create(
            model=MODEL, messages=ours["messages"], max_tokens=17, temperature=0, seed=0, logprobs=True
        )
        theirs = server.requests[-1]
    assert ours == theirs
    system, user = ours["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    kinds = [block["type"] for block in user["content"]]
    assert kinds == ["text", "image_url", "image_url", "text"]
    assert user["content"][0]["text"] == "These are 2 frames of one video, in order, from 0.5, 1.5 seconds."
    assert user["content"][-1]["text"] == "What is it?"


def test_a_picture_goes_as_it_is() -> None:
    rng = np.random.default_rng(0)
    smooth = np.repeat(np.repeat(rng.integers(0, 255, (6, 9, 3), np.uint8), 16, 0), 16, 1)
    with serving(lambda body, number: chat_answer("x")) as server:
        captioner(server).caption([PromptedClip(np.stack([smooth]), (0.0,), "")], OPTIONS)
        (sent,) = pictures(server.requests[-1])
    assert np.abs(sent.astype(int) - smooth).mean() < 6
    assert [block["type"] for block in server.requests[-1]["messages"][0]["content"]] == ["image_url", "text"]


def test_one_video_where_the_server_takes_it() -> None:
    with serving(named) as server:
        loaded = captioner(server, "#video")
        (found,) = loaded.caption(clips(100, frames=5), OPTIONS)
        blocks = server.requests[-1]["messages"][0]["content"]
        assert [block["type"] for block in blocks] == ["video_url", "text"]
        assert len(pictures(server.requests[-1])) == 5
        assert isinstance(found, Caption)
        assert found.text == "clip 100"


def test_samples_have_seeds_and_a_temperature() -> None:
    with serving(lambda body, number: chat_answer(f"{body['seed']} at {body['temperature']}")) as server:
        options = DecodingOptions(num_beams=1, num_samples=2, temperature=0.7)
        (found,) = captioner(server).caption(clips(100), options)
    assert isinstance(found, Caption)
    assert (found.text, [one.text for one in found.alternatives]) == ("0 at 0", ["1 at 0.7", "2 at 0.7"])


def test_a_server_without_log_probabilities() -> None:
    assert caption_one(lambda body, number: chat_answer("  a dog ")) == Caption("a dog", None, 7)


def test_content_in_parts_and_no_content() -> None:
    parts: Any = [{"type": "text", "text": "a "}, {"type": "text", "text": "dog"}]
    assert caption_one(lambda body, number: chat_answer(parts)) == Caption("a dog", None, 7)
    assert caption_one(lambda body, number: chat_answer(None)) == Caption("", None, 7)


@pytest.mark.parametrize(
    ("refusal", "left"),
    [
        ({"message": "logprobs are not supported with this model"}, {"max_tokens", "temperature", "seed"}),
        ({"message": "Unsupported value", "param": "temperature"}, {"max_tokens", "seed", "logprobs"}),
        (
            {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."},
            {"max_completion_tokens", "temperature", "seed", "logprobs"},
        ),
    ],
)
def test_what_a_server_does_not_take_is_left_away_from_then_on(refusal: dict[str, str], left: set[str]) -> None:
    fault = Faulty(400, {"error": refusal})
    with serving(lambda body, number: fault if number == 0 else named(body, number)) as server:
        loaded = captioner(server)
        for _ in range(2):
            assert loaded.caption(clips(100), OPTIONS) == [Caption("clip 100", -0.75, 2)]
        asked = [set(body) - {"model", "messages"} for body in server.requests if "messages" in body]
    assert asked[1:] == [left, left]


FAULTS = {
    "429": Faulty(429, {"error": {"message": "slow down"}}, {"retry-after": "0"}),
    "429 with a date": Faulty(429, "later", {"retry-after": formatdate(usegmt=True)}),
    "500": Faulty(500, "internal error"),
    "503 in HTML": Faulty(503, "<html>upstream</html>"),
    "closed connection": Faulty(close=True),
    "truncated body": Faulty(body=chat_answer("x"), cut_bytes=9),
    "truncated JSON": Faulty(body='{"choices": [{"mess'),
    "wrong schema": Faulty(body={"answer": "a dog"}),
    "no choices": Faulty(body={"choices": []}),
    "content of another type": Faulty(body=chat_answer(5)),  # type: ignore[arg-type]
    "JSON too deep": Faulty(body="[" * 100_000),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_tried_again(fault: Faulty) -> None:
    found = caption_one(lambda body, number: fault if number < 3 else named(body, number))
    assert found == Caption("clip 100", -0.75, 2)


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ("429", "server-error", "the server says 429: slow down"),
        ("500", "server-error", "the server says 500: internal error"),
        ("closed connection", "server-error", "the connection failed: "),
        ("truncated JSON", "bad-answer", "the answer is not JSON: "),
        ("wrong schema", "bad-answer", "the answer has no choices: is this an OpenAI-compatible server?"),
    ],
)
def test_a_fault_that_stays_is_the_clips_own_failure(fault: str, kind: str, message: str) -> None:
    """The clip beside it has its caption, and is asked about once."""
    with serving(lambda body, number: FAULTS[fault] if number_in(body) == 90 else named(body, number)) as server:
        bad, good = captioner(server).caption(clips(90, 100), OPTIONS)
        asked = [number_in(body) for body in server.requests if "messages" in body]
    assert isinstance(bad, Failure)
    assert bad.kind == kind
    assert bad.message.startswith(message)
    assert good == Caption("clip 100", -0.75, 2)
    assert (asked.count(90), asked.count(100)) == (patient_client.TRIES, 1)


@pytest.mark.parametrize("fault", [Faulty(hang_seconds=60), Faulty(trickle=True)], ids=["silence", "trickle"])
def test_a_server_that_hangs_meets_the_deadline(fault: Faulty) -> None:
    started = time.monotonic()
    found = caption_one(lambda body, number: fault, request_timeout_seconds=0.2)
    assert found == Failure("server-timeout", "no answer within 0.2 seconds")
    assert time.monotonic() - started < 20


def test_the_server_sets_the_pause() -> None:
    asked: list[float] = []

    def answer(body: dict[str, Any], number: int) -> Any:
        asked.append(time.monotonic())
        return Faulty(429, "busy", {"retry-after": "0.3"}) if number == 0 else named(body, number)

    assert caption_one(answer) == Caption("clip 100", -0.75, 2)
    assert asked[1] - asked[0] >= 0.3


def test_pauses_double_and_end_growing() -> None:
    many = {number: [patient_client.pause_seconds(number) for _ in range(200)] for number in (1, 2, 3, 40)}
    first = patient_client.FIRST_PAUSE_SECONDS
    for number, longest in ((1, first), (2, 2 * first), (3, 4 * first), (40, patient_client.MOST_PAUSE_SECONDS)):
        assert longest / 2 <= min(many[number]) < 0.6 * longest
        assert 0.9 * longest < max(many[number]) <= longest


def test_no_more_requests_at_a_time_than_asked_for() -> None:
    def answer(body: dict[str, Any], number: int) -> Any:
        time.sleep(0.03)
        return named(body, number)

    with serving(answer) as server:
        captioner(server, concurrency=3).caption(clips(*range(40, 52)), OPTIONS)
        assert server.most == 3


@pytest.mark.parametrize(
    "fault",
    [
        Faulty(400, {"error": {"message": "flagged", "code": "content_filter"}}),
        Faulty(403, {"error": {"message": "Input was flagged by moderation"}}),
        Faulty(body=chat_answer("", finish_reason="content_filter")),
        Faulty(body=chat_answer(None, message={"content": None, "refusal": "I can't help with that."})),
    ],
)
def test_a_content_filter_is_not_asked_again(fault: Faulty) -> None:
    with serving(lambda body, number: fault) as server:
        (found,) = captioner(server).caption(clips(100), OPTIONS)
        assert sum("messages" in body for body in server.requests) == 1
    assert isinstance(found, Failure)
    assert found.kind == "content-filter"


def test_a_request_that_the_server_does_not_take() -> None:
    found = caption_one(lambda body, number: Faulty(400, {"error": {"message": "At most 1 image may be provided"}}))
    assert found == Failure("refused", "the server says 400: At most 1 image may be provided")


def stopped(answer: Answer, numbers: tuple[int, ...] = (100,), **options: Any) -> CaptioningStoppedError:
    with serving(answer) as server:
        loaded = captioner(server, **options)
        with pytest.raises(CaptioningStoppedError) as caught:
            loaded.caption(clips(*numbers), OPTIONS)
    return caught.value


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (
            Faulty(401, {"error": {"message": "no key"}}),
            "the server says 401: no key (set the environment variable EVLGEN_API_KEY to your key)",
        ),
        (
            Faulty(404, {"error": "model 'x' not found"}),
            f"the server says 404: model 'x' not found (this server has {MODEL})",
        ),
        (
            Faulty(429, {"error": {"message": "you are out of credit", "code": "insufficient_quota"}}),
            "the server says 429: you are out of credit (when that is settled, run the same command again)",
        ),
        (
            Faulty(429, "tomorrow", {"retry-after": "86400"}),
            "the server says 429: tomorrow (it asks to wait for more than 5 minutes: run the same command again then)",
        ),
    ],
)
def test_what_no_clip_can_pass_ends_the_run_and_keeps_what_was_answered(fault: Faulty, line: str) -> None:
    error = stopped(
        lambda body, number: fault if number_in(body) == 100 else named(body, number), (90, 100, 110), concurrency=1
    )
    assert str(error) == line
    assert error.answers == [Caption("clip 90", -0.75, 2), None, None]


def test_a_redirect_is_not_followed_and_carries_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVLGEN_API_KEY", SECRET)
    with serving(named) as other:
        error = stopped(lambda body, number: Faulty(307, "", {"location": f"{other.url}/chat/completions"}))
        assert other.requests == []
    assert f"sends requests on to {other.url}/chat/completions (give the URL of the server itself" in str(error)


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(named) as server:
        model = server.model
        loaded = captioner(server)
    with pytest.raises(EvlgenError, match=r"^http://127.0.0.1:\d+/v1 cannot be reached: .* \(is the server running"):
        load_captioner(model, LoadOptions())
    with pytest.raises(CaptioningStoppedError, match="cannot be reached"):
        loaded.caption(clips(100), OPTIONS)


def test_a_server_that_lists_no_models_is_used_all_the_same() -> None:
    for models in (Faulty(404, "nothing here"), Faulty(500, "?"), Faulty(body="[]")):
        with serving(named, models) as server:
            assert captioner(server).caption(clips(100), OPTIONS) == [Caption("clip 100", -0.75, 2)]
    with serving(named, Faulty(401, "who?")) as server, pytest.raises(EvlgenError, match="says 401: who"):
        captioner(server)


def test_the_key_is_sent_and_seen_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not in results, errors, their tracebacks, representations or logs, not even when the server sends it back."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "httpcore2")  # its trace of the wire shows what servers send, as they send it
    monkeypatch.setenv("OPENAI_API_KEY", f" {SECRET}\n")
    seen: list[str] = []
    for fault in (
        Faulty(400, {"error": {"message": f"what is {SECRET}?"}}),
        Faulty(500, f"{SECRET} broke me"),
        Faulty(401, {"error": {"message": f"Incorrect API key provided: {SECRET}"}}),
        Faulty(body=f'{{"{SECRET}": '),
        Faulty(302, "", {"location": f"http://elsewhere/?key={SECRET}"}),
        Faulty(body=chat_answer(f"a sign that says {SECRET}")),
        Faulty(body=chat_answer(None, message={"content": None, "refusal": f"not for {SECRET}"})),
        Faulty(404, {"error": "no such model"}),
    ):
        names = {"data": [{"id": f"the model of {SECRET}"}]}
        with serving(lambda body, number, fault=fault: fault, names) as server:  # type: ignore[misc]
            loaded = captioner(server)
            try:
                seen.append(repr(loaded.caption(clips(100), OPTIONS)))
            except EvlgenError as error:
                seen += [str(error), "".join(traceback.format_exception(error))]
            assert server.headers[-1]["authorization"] == f"Bearer {SECRET}"
            seen += [repr(loaded), repr(vars(loaded)), repr(identify_model(server.model)), repr(loaded._client._http)]
    out, err = capfd.readouterr()
    everything = "\n".join([*seen, caplog.text, out, err])
    for said in ("a sign that says ***", "not for ***", "this server has the model of ***"):
        assert said in everything
    assert SECRET not in everything


def test_a_word_in_the_place_of_a_key_stays_in_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")  # as vLLM's own examples have it
    assert caption_one(lambda body, number: chat_answer("EMPTY seats")) == Caption("EMPTY seats", None, 7)


def test_which_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert key_from_environment() == Key()
    monkeypatch.setenv("OPENAI_API_KEY", "two")
    assert key_from_environment() == Key("two", "OPENAI_API_KEY")
    monkeypatch.setenv("EVLGEN_API_KEY", "one")
    assert key_from_environment() == Key("one", "EVLGEN_API_KEY")
    monkeypatch.setenv("EVLGEN_API_KEY", "")
    assert not key_from_environment().secret, "set to nothing: no key for this server"
    monkeypatch.setenv("EVLGEN_API_KEY", "a b")
    with pytest.raises(UsageError, match=r"^the environment variable EVLGEN_API_KEY holds blanks") as caught:
        key_from_environment()
    assert "a b" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "model", "url", "video"),
    [
        ("openai:llava@http://localhost:11434", "llava", "http://localhost:11434/v1", False),
        ("openai:qwen2.5vl:7b@https://host/v1/", "qwen2.5vl:7b", "https://host/v1", False),
        ("openai:Qwen/Qwen3-VL@HTTP://[::1]:8000/v1#video", "Qwen/Qwen3-VL", "http://[::1]:8000/v1", True),
        ("openai:a@b@http://h/api/v1/chat/completions", "a@b", "http://h/api/v1", False),
    ],
)
def test_addresses(text: str, model: str, url: str, video: bool) -> None:
    found = parse_endpoint(text)
    assert (found.model, found.url, found.video) == (model, url, video)
    assert parse_endpoint(found.name) == found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("openai:llava", "names no endpoint (expected openai:MODEL@URL, such as openai:"),
        ("openai:@http://h", "names no endpoint"),
        ("openai:llava@ftp://h", "names no endpoint"),
        ("openai:llava@http://", "names no host"),
        ("openai:llava@http://h:99999", "names no host"),
        ("openai:llava@http://[::zz]", "names no host"),
        ("openai:llava@http://a..b", "names no host"),
        ("openai:llava@http://h/#images", "there is only #video, or nothing"),
        (f"openai:llava@http://me:{SECRET}@h", "a key goes into the environment variable EVLGEN_API_KEY"),
        (f"openai:llava@http://h/v1?key={SECRET}", "holds a user, a password or a query"),
    ],
)
def test_what_is_no_address(text: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_endpoint(text)
    assert line in str(caught.value)
    assert SECRET not in str(caught.value)


def test_another_server_or_form_is_another_model() -> None:
    texts = [f"openai:m@http://h:{port}{form}" for port in (1, 2) for form in ("", "#video")]
    assert len({identify_model(text).hash for text in texts}) == 4
    assert identify_model("openai:m@http://h:1").hash == identify_model("openai:m@http://h:1/v1/").hash

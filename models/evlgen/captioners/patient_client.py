"""A client of HTTP that does not give up at once: a deadline for each request, a bounded number of tries, pauses.

Pauses double from try to try, with jitter, so that requests that failed together do not come back together (the server
may set the pause: Retry-After). Redirects are not followed: the key must not go where nobody said it should.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar

import httpx2

from evlgen.captioners.endpoint_address import Key
from evlgen.errors import EvlgenError
from evlgen.system.jsons import JsonError, parse_json
from evlgen.system.names import printable

TRIES = 6
TRIES_THAT_TIME_OUT = 2
"""A server that hangs is given up sooner: each of these takes the whole deadline."""
FIRST_PAUSE_SECONDS = 0.5
MOST_PAUSE_SECONDS = 30.0
MOST_RETRY_AFTER_SECONDS = 300.0
"""A server that wants to be left alone for longer has a quota: the run ends, to go on another time."""
MOST_ANSWER_BYTES = 8 << 20
_SHOWN_LETTERS = 200

_LATER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
Value = TypeVar("Value")


class RequestFailedError(Exception):
    """One request has failed for good; others may do better.

    Args:
        kind: a stable word for journals.
        message: one line.
        status: of the answer, if there was one.
        details: what the server says about it: `code`, `param`, `type`, as far as it does.
    """

    def __init__(self, kind: str, message: str, status: int = 0, details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.kind, self.message, self.status, self.details = kind, message, status, details or {}


class BadAnswerError(Exception):
    """An answer is not what was asked for; another may be."""


class UnreachableError(EvlgenError):
    """There is no server, or it is gone."""


class RefusingServerError(EvlgenError):
    """The server answers, but will not to any request like these: key, quota, redirect.

    Args:
        status: of its answer.
    """

    def __init__(self, status: int, what: str, hint: str) -> None:
        super().__init__(what, hint)
        self.status = status


class PatientClient:
    """Sends requests to one server.

    Args:
        url: what paths are appended to.
        key: sent as a bearer token, if there is one.
        deadline_seconds: most time from the start of a try to the last byte of its answer.
        connections: most requests at a time.
    """

    def __init__(self, url: str, key: Key, deadline_seconds: float, connections: int) -> None:
        self._url, self._key, self._deadline = url, key, deadline_seconds
        headers = {"accept-encoding": "identity"}  # answers are small, and cannot swell
        if key.secret:
            headers["authorization"] = f"Bearer {key.secret}"
        limits = httpx2.Limits(max_connections=connections)
        self._http = httpx2.AsyncClient(headers=headers, timeout=None, follow_redirects=False, limits=limits)

    async def ask(self, path: str, body: bytes | None, read: Callable[[Any], Value]) -> Value:
        """Post `body`, or get without one, until there is an answer that can be read.

        Args:
            path: below the server's URL.
            body: JSON.
            read: makes the result of the answer's JSON; raises `BadAnswerError` for what makes none.

        Raises:
            RequestFailedError: this request has failed, for good or too often.
            UnreachableError: nobody listens there.
            RefusingServerError: no request like this can succeed.
        """
        timed_out = 0
        for number in range(1, TRIES + 1):
            after = None
            try:
                async with asyncio.timeout(self._deadline):
                    status, headers, content = await self._once(path, body)
                answer = self._parsed(status, headers, content)
                if status < HTTPStatus.BAD_REQUEST:
                    return read(answer)
                after = _retry_after(headers)
                failure: EvlgenError | RequestFailedError = self._refusal(status, answer, after)
                if isinstance(failure, EvlgenError) or failure.kind != "server-error":
                    raise failure
            except TimeoutError:
                timed_out += 1
                failure = RequestFailedError("server-timeout", f"no answer within {self._deadline:g} seconds")
            except (httpx2.ConnectError, httpx2.ProxyError) as error:
                failure = UnreachableError(
                    f"{self._url} cannot be reached: {_reason(error)}",
                    "is the server running, and is the URL right? The same command goes on where this run ended",
                )
            except httpx2.HTTPError as error:
                failure = RequestFailedError("server-error", f"the connection failed: {_reason(error)}")
            except BadAnswerError as error:
                failure = RequestFailedError("bad-answer", self._key.hidden(str(error)))
            if number == TRIES or timed_out == TRIES_THAT_TIME_OUT:
                break
            await asyncio.sleep(pause_seconds(number) if after is None else after)
        raise failure

    async def _once(self, path: str, body: bytes | None) -> tuple[int, httpx2.Headers, bytes]:
        method = "GET" if body is None else "POST"
        headers = {} if body is None else {"content-type": "application/json"}
        async with self._http.stream(method, self._url + path, content=body, headers=headers) as response:
            content = bytearray()
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > MOST_ANSWER_BYTES:
                    raise BadAnswerError(f"an answer of more than {MOST_ANSWER_BYTES >> 20} MB")
            return response.status_code, response.headers, bytes(content)

    def _parsed(self, status: int, headers: httpx2.Headers, content: bytes) -> Any:
        """The JSON of an answer; of what is refused, plain text will do."""
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            where = self._key.hidden(printable(headers.get("location", "nowhere")))[:_SHOWN_LETTERS]
            raise RefusingServerError(
                status, f"{self._url} sends requests on to {where}", "give the URL of the server itself in --model"
            )
        try:
            return self._key.hidden_within(parse_json(content, "the answer"))
        except JsonError as error:
            if status >= HTTPStatus.BAD_REQUEST:
                return {"error": content.decode(errors="replace")}
            raise BadAnswerError(error.what) from None

    def _refusal(self, status: int, answer: Any, after: float | None) -> EvlgenError | RequestFailedError:
        """What an answer of 400 and above means."""
        details = {name: self._key.hidden(text)[:_SHOWN_LETTERS] for name, text in _details(answer).items()}
        said = details["message"] or (HTTPStatus(status).phrase if status in _KNOWN else "nothing more")
        text = f"the server says {status}: {said}"
        if after == -1:
            minutes = f"{MOST_RETRY_AFTER_SECONDS / 60:g}"
            return RefusingServerError(
                status, text, f"it asks to wait for more than {minutes} minutes: run the same command again then"
            )
        if status == HTTPStatus.PAYMENT_REQUIRED or details["code"] == "insufficient_quota":
            return RefusingServerError(status, text, "when that is settled, run the same command again")
        if status == HTTPStatus.UNAUTHORIZED or (status == HTTPStatus.FORBIDDEN and not _about_content(details)):
            with_key = f"the key in {self._key.variable} was not accepted"
            hint = with_key if self._key.secret else "set the environment variable EVLGEN_API_KEY to your key"
            return RefusingServerError(status, text, hint)
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.GONE):
            return RefusingServerError(status, text, "is the model's name right, and does the URL end in /v1?")
        if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return RequestFailedError("server-error", text, status, details)
        return RequestFailedError("content-filter" if _about_content(details) else "refused", text, status, details)


_KNOWN = frozenset(HTTPStatus)


def pause_seconds(number: int) -> float:
    """How long to wait after try `number`, from 1: doubling, at least half of it, the rest by chance."""
    longest: float = min(FIRST_PAUSE_SECONDS * 2 ** (number - 1), MOST_PAUSE_SECONDS)
    return longest * random.uniform(0.5, 1)


def _retry_after(headers: httpx2.Headers) -> float | None:
    """Seconds that the server asks to wait for, as a number or a date; None: it does not; -1: for too long."""
    text = headers.get("retry-after", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    if not seconds >= 0:  # a date that is past, or no number
        return 0.0 if seconds < 0 else None
    return seconds if seconds <= MOST_RETRY_AFTER_SECONDS else -1


def _details(answer: Any) -> dict[str, str]:
    """What an error says, in the layouts of OpenAI, vLLM, llama.cpp, Ollama and FastAPI."""
    error = answer.get("error", answer.get("detail", answer)) if isinstance(answer, dict) else answer
    fields = error if isinstance(error, dict) else {"message": error if isinstance(error, str) else ""}
    texts = {name: fields.get(name) for name in ("message", "code", "param", "type")}
    return {name: " ".join(printable(value).split()) if isinstance(value, str) else "" for name, value in texts.items()}


def _about_content(details: Mapping[str, str]) -> bool:
    text = " ".join(details.values()).lower()
    return any(word in text for word in ("content_filter", "content_policy", "content management policy", "moderation"))


def _reason(error: Exception) -> str:
    return printable(str(error) or type(error).__name__)[:_SHOWN_LETTERS]

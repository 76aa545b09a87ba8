"""What comes back of a chat: the caption in an answer, or why there is none."""

from __future__ import annotations

import math
from typing import Any

from evlgen.captioners.patient_client import BadAnswerError, RequestFailedError
from evlgen.captioners.protocol import Caption
from evlgen.system.names import printable

_SHOWN_LETTERS = 200


def read_caption(answer: Any) -> Caption:
    """The caption in the JSON of an answer, with its log-probability where the server gives those of the tokens.

    Raises:
        BadAnswerError: it is no answer to a chat.
        RequestFailedError: the server did not want to say anything about this.
    """
    choice = _item(_field(answer, "choices", list), 0)
    message = _field(choice, "message", dict)
    refusal = message.get("refusal")
    if choice.get("finish_reason") == "content_filter" or (isinstance(refusal, str) and refusal):
        said = printable(refusal)[:_SHOWN_LETTERS] if isinstance(refusal, str) and refusal else "no reason given"
        raise RequestFailedError("content-filter", f"the server's content filter withheld the answer: {said}")
    logs = _token_logs(choice)
    text = _text(message.get("content")).strip()
    if logs is not None:
        return Caption(text, math.fsum(logs), len(logs))
    usage = answer.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return Caption(text, None, count if isinstance(count, int) and count >= 0 else None)


def model_names(answer: Any) -> list[str]:
    """What the server calls its models.

    Raises:
        BadAnswerError: it is no list of models.
    """
    found = [one.get("id") for one in _field(answer, "data", list) if isinstance(one, dict)]
    return [printable(name) for name in found if isinstance(name, str)]


def _token_logs(choice: dict[str, Any]) -> list[float] | None:
    """Natural logarithms of the tokens' probabilities; None where the server keeps them for itself."""
    given = choice.get("logprobs")
    tokens = given.get("content") if isinstance(given, dict) else None
    if not isinstance(tokens, list) or not tokens:
        return None
    logs = [one.get("logprob") if isinstance(one, dict) else None for one in tokens]
    numbers = [float(log) for log in logs if isinstance(log, int | float)]
    return numbers if len(numbers) == len(logs) and all(map(math.isfinite, numbers)) else None


def _text(content: Any) -> str:
    """The text of a message; None is what a model says that was cut while it was still thinking."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    if content is None or isinstance(content, str):
        return content or ""
    raise BadAnswerError("the answer's choices[0].message.content is no text")


def _field(value: Any, name: str, kind: type) -> Any:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        raise BadAnswerError(f"the answer has no {name}: is this an OpenAI-compatible server?")
    return found


def _item(values: list[Any], place: int) -> dict[str, Any]:
    if len(values) <= place or not isinstance(values[place], dict):
        raise BadAnswerError("the answer has no choices: is this an OpenAI-compatible server?")
    found: dict[str, Any] = values[place]
    return found

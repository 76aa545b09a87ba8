"""Where an endpoint is and what is asked there: `openai:MODEL@URL`, with `#video` behind it for frames as one video.

The key comes from the environment only. It is no part of an `Endpoint`, so that nothing that prints one can show it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from evlgen.errors import UsageError
from evlgen.system.names import printable

PREFIX = "openai:"
_EXAMPLE = "openai:qwen2.5vl:7b@http://localhost:11434/v1"
_PARTS = re.compile(r"openai:(?P<model>.*)@(?P<url>https?://.*)", re.DOTALL | re.IGNORECASE)
_CALL = "/chat/completions"
_LEAST_LETTERS = 8
"""Keys with fewer are none, such as EMPTY: they would be found in the words of captions."""


@dataclass(frozen=True)
class Endpoint:
    """A model behind a server that speaks OpenAI's chat protocol.

    Attributes:
        model: as the server calls it.
        url: what `/chat/completions` is appended to.
        video: frames go as one video, which vLLM takes, instead of as images.
    """

    model: str
    url: str
    video: bool = False

    @property
    def name(self) -> str:
        """What was typed after `--model`, in one spelling."""
        return f"{PREFIX}{self.model}@{self.url}{'#video' if self.video else ''}"


def parse_endpoint(text: str) -> Endpoint:
    """The endpoint that `openai:MODEL@URL` names; a URL without a path means its `/v1`.

    Raises:
        UsageError: it is not spelled so, or carries a key or password.
    """
    found = _PARTS.fullmatch(text)
    if found is None or not found["model"].strip():
        expected = f"expected openai:MODEL@URL, such as {_EXAMPLE}"
        raise UsageError(f"--model {printable(text)} names no endpoint", expected)
    try:
        parts = urlsplit(found["url"])
        host, _ = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError:  # a port that is none, brackets without an address, a name that no name server knows
        host = None
    if "@" in found["url"].partition("?")[0] or "?" in found["url"]:  # the text may hold a secret: it is not shown
        raise UsageError(
            "the URL of --model openai:... holds a user, a password or a query",
            "leave them out; a key goes into the environment variable EVLGEN_API_KEY",
        )
    if not host or not found["url"].isascii() or not found["url"].isprintable() or " " in found["url"]:
        raise UsageError(f"--model {printable(text)}: its URL names no host", f"expected something like {_EXAMPLE}")
    if parts.fragment not in ("", "video"):
        raise UsageError(f"--model {printable(text)} ends in #{parts.fragment}", "there is only #video, or nothing")
    path = parts.path.rstrip("/").removesuffix(_CALL) or "/v1"
    url = f"{parts.scheme.lower()}://{parts.netloc}{path}"
    return Endpoint(found["model"].strip(), url, parts.fragment == "video")


@dataclass(frozen=True)
class Key:
    """What lets one in. Neither `repr` nor `str` shows it.

    Attributes:
        secret: empty where there is none.
        variable: the environment variable that it came from.
    """

    secret: str = field(repr=False, default="")
    variable: str = ""

    def hidden(self, text: str) -> str:
        """The text of a server without the key, should it have been sent back."""
        return text.replace(self.secret, "***") if self.secret else text

    def hidden_within(self, answer: Any) -> Any:
        """The JSON of an answer without the key in any of its texts, which may become captions."""
        if isinstance(answer, dict):
            return {name: self.hidden_within(value) for name, value in answer.items()}
        if isinstance(answer, list):
            return [self.hidden_within(value) for value in answer]
        return self.hidden(answer) if isinstance(answer, str) and len(self.secret) >= _LEAST_LETTERS else answer


def key_from_environment() -> Key:
    """The key in EVLGEN_API_KEY, or else OPENAI_API_KEY; the first that is set counts, even to nothing: no key then.

    Raises:
        UsageError: it holds what no header can.
    """
    variables = {
        "EVLGEN_API_KEY": os.environ.get("EVLGEN_API_KEY"),
        "OPENAI_API_KEY": os.environ.get("OPENAI_API_KEY"),
    }
    for variable, value in variables.items():
        if value is not None:
            secret = value.strip()
            if not secret.isascii() or not secret.isprintable() or " " in secret:
                raise UsageError(
                    f"the environment variable {variable} holds blanks, line ends or letters that no key has",
                    "set it to the key alone",
                )
            return Key(secret, variable)
    return Key()

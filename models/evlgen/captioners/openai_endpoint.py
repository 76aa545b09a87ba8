"""The captioner behind any server that speaks OpenAI's chat protocol: vLLM, Ollama, llama.cpp, LM Studio, a cloud.

`--model openai:MODEL@URL`. The requests of a batch go out together, as many at a time as `concurrency` says. What fails
for one clip is that clip's failure; a server that is gone, or refuses everything, ends the run, with what was answered
before written down. Captions are greedy (temperature 0); samples have the seeds 1, 2, ...
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import replace
from typing import Any, TypeVar

from evlgen.captioners.endpoint_address import Endpoint, Key, key_from_environment, parse_endpoint
from evlgen.captioners.endpoint_answers import model_names, read_caption
from evlgen.captioners.endpoint_messages import REQUEST, media, messages, template
from evlgen.captioners.patient_client import (
    PatientClient,
    RefusingServerError,
    RequestFailedError,
)
from evlgen.captioners.protocol import (
    Caption,
    CaptioningStoppedError,
    LoadOptions,
    ModelFacts,
    ModelIdentity,
    PromptedClip,
)
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import EvlgenError, Failure
from evlgen.system.progress import ProgressCallback

FRAMES = 8
LONGEST_SIDE_PIXELS = 768
"""The longest side of frames: servers make larger ones smaller themselves, or count every tile of them."""
CONCURRENCY = 16
DEADLINE_SECONDS = 120.0
_NAMES_SHOWN = 5

T = TypeVar("T")


def identify_model(model: str) -> ModelIdentity:
    """What the text of `--model` says; asks no server, which tells of no weights either.

    Raises:
        UsageError: it is not spelled as an endpoint is.
    """
    endpoint = parse_endpoint(model)
    weights = hashlib.sha256(endpoint.name.encode()).hexdigest()[:16]
    config = hashlib.sha256(f"{LONGEST_SIDE_PIXELS} {template()}".encode()).hexdigest()[:16]
    return ModelIdentity(endpoint.name, weights, config, FRAMES, None, LONGEST_SIDE_PIXELS, prompt=REQUEST)


def load_captioner(model: str, options: LoadOptions, report: ProgressCallback | None = None) -> EndpointCaptioner:
    """Reach the server, so that a wrong address or key is known before any work is done.

    Raises:
        UsageError: the address or the key cannot be one.
        EvlgenError: there is no server, or it does not let us in.
    """
    captioner = EndpointCaptioner(
        parse_endpoint(model),
        key_from_environment(),
        system_prompt=options.system_prompt,
        concurrency=options.concurrency or CONCURRENCY,
        deadline_seconds=options.request_timeout_seconds or DEADLINE_SECONDS,
    )
    captioner.model_names()
    return captioner


class EndpointCaptioner:
    """A `Captioner` whose model is elsewhere.

    Args:
        endpoint: where.
        key: sent to it and to nobody else.
        system_prompt: what the model is told in front of everything.
        concurrency: most requests at a time.
        deadline_seconds: most time for one try of a request.
    """

    def __init__(
        self, endpoint: Endpoint, key: Key, *, system_prompt: str, concurrency: int, deadline_seconds: float
    ) -> None:
        self.batch_size = concurrency
        self.on_tokens: Callable[[int], None] = lambda count: None
        self._endpoint, self._system_prompt = endpoint, system_prompt
        self._client = PatientClient(endpoint.url, key, deadline_seconds, concurrency)
        self._turns = asyncio.Semaphore(concurrency)
        self._spelling = _Spelling()
        self._loop = asyncio.new_event_loop()  # in a thread of its own: the caller may be in a loop, as notebooks are
        threading.Thread(target=self._loop.run_forever, name="evlgen-endpoint", daemon=True).start()

    def model_names(self) -> list[str]:
        """What the server calls its models; none where it keeps no list.

        Raises:
            EvlgenError: it is not there, or does not let us in.
        """
        try:
            return self._submit(self._client.ask("/models", None, model_names)).result()
        except RefusingServerError as error:
            if error.status in (404, 405):
                return []
            raise
        except RequestFailedError:
            return []

    def caption(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> list[Caption | Failure]:
        """A caption for each clip, or why it has none.

        Raises:
            CaptioningStoppedError: the server is gone, or refuses whatever is asked.
        """
        stopped = threading.Event()
        futures = [self._submit(self._one(clip, options, stopped)) for clip in clips]
        try:
            for future in as_completed(futures):
                if future.exception() is None:
                    best = future.result()
                    self.on_tokens(sum(one.token_count or 0 for one in (best, *best.alternatives)))
        except BaseException:  # Ctrl-C, for one
            for future in futures:
                future.cancel()
            raise
        answers = [_outcome(future) for future in futures]
        reasons = [answer for answer in answers if isinstance(answer, EvlgenError)]
        if reasons:  # what failed beside it failed for that reason, and is asked again by the next run
            captions = [answer if isinstance(answer, Caption) else None for answer in answers]
            raise CaptioningStoppedError(self._explained(reasons[0]), captions)
        return [answer for answer in answers if not isinstance(answer, EvlgenError)]

    def release_memory(self) -> None:
        """Nothing is held here."""

    def facts(self) -> ModelFacts:
        """What nobody tells of a model behind a server."""
        return ModelFacts()

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _one(self, clip: PromptedClip, options: DecodingOptions, stopped: threading.Event) -> Caption:
        """The caption of one clip and its samples, one request after another."""
        async with self._turns:
            if stopped.is_set():
                raise EvlgenError("not asked")
            try:
                blocks = await asyncio.to_thread(media, clip.frames, video=self._endpoint.video)
                asked = {
                    "model": self._endpoint.model,
                    "messages": messages(clip, blocks, self._system_prompt),
                    "max_tokens": options.max_new_tokens,
                    "temperature": 0,
                    "seed": 0,
                    "logprobs": True,
                }
                best = await self._ask(asked)
                samples = [
                    await self._ask({**asked, "temperature": options.temperature, "seed": number + 1})
                    for number in range(options.num_samples)
                ]
                return replace(best, alternatives=tuple(samples))
            except EvlgenError:
                stopped.set()
                raise

    async def _ask(self, asked: dict[str, Any]) -> Caption:
        while True:
            spelled = self._spelling.of(asked)
            try:
                return await self._client.ask("/chat/completions", json.dumps(spelled).encode(), read_caption)
            except RequestFailedError as error:
                if not self._spelling.learn(error, spelled):
                    raise

    def _explained(self, error: EvlgenError) -> EvlgenError:
        """The error; where the model may be unknown, with the names of those that there are."""
        if not isinstance(error, RefusingServerError) or error.status != 404:
            return error
        try:
            names = self.model_names()
        except EvlgenError:
            return error
        shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
        return EvlgenError(error.what, f"this server has {shown}" if names else error.hint)


class _Spelling:
    """What a server does not take in a request, learnt from its refusals: not all take all of the protocol."""

    _OPTIONAL = ("logprobs", "seed", "temperature")
    _NEWER = {"max_tokens": "max_completion_tokens"}  # noqa: RUF012 - nobody changes it

    def __init__(self) -> None:
        self._changes: dict[str, str | None] = {}

    def of(self, asked: dict[str, Any]) -> dict[str, Any]:
        named = {self._changes.get(name, name): value for name, value in asked.items()}
        return {name: value for name, value in named.items() if name is not None}

    def learn(self, error: RequestFailedError, spelled: dict[str, Any]) -> bool:
        """Whether a refusal names what can be left away or said in another way."""
        if error.kind != "refused":
            return False
        said = f"{error.details.get('param', '')} {error.details.get('message', '')}"
        for old, new in self._NEWER.items():
            if old in spelled and new in said:
                self._changes[old] = new
                return True
        for name in self._OPTIONAL:
            if name in spelled and name in said:
                self._changes[name] = None
                return True
        return False


def _outcome(future: Future[Caption]) -> Caption | Failure | EvlgenError:
    """What became of one clip.

    Raises:
        BaseException: what is neither about the clip nor about the server.
    """
    try:
        return future.result()
    except RequestFailedError as error:
        return Failure(error.kind, error.message)
    except EvlgenError as error:
        return error

"""Chat with any server that speaks the OpenAI protocol: vLLM, SGLang, Ollama, hosted ones.

Retries have one owner, `throttle.Dispatcher`: the SDK's own are off. A thread runs the calls on
its event loop, so `reply` also works inside notebooks; outcomes are passed on in the caller's
thread. The key is read from the environment when calls start and is kept nowhere.
"""

import asyncio
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal
from urllib.parse import urlsplit

from facsynth.chat.interrupt import on_sigint
from facsynth.chat.model import (
    ChatFailure,
    ChatReply,
    ChatRequest,
    OnOutcomes,
    Outcome,
    ReplySchema,
    collect,
    estimate_tokens,
)
from facsynth.chat.throttle import Dispatcher, Retry, RetrySettings, Throttle, retry_after_s
from facsynth.errors import ChatError

__all__ = ["EndpointChat", "EndpointSettings"]

_NO_KEY = "no-key"
_FATAL = {
    401: "the key was refused",
    402: "the account has no credit",
    403: "the key may not use it",
    404: "there is no such model or path; a base URL usually ends in /v1",
}
_REPEATED = (408, 409, 425)


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """How an endpoint is talked to; none of it changes what is asked of the model."""

    attempt_timeout_s: float = 120.0
    """Longest time of one attempt."""

    start_concurrency: int = 16
    """Calls at once at the beginning."""

    max_concurrency: int = 64
    """Most calls at once."""

    retry: RetrySettings = field(default_factory=RetrySettings)
    """When a call is repeated, and when it is given up."""

    token_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name of the reply length in the protocol; newer OpenAI models want the second."""

    schema_mode: Literal["json_schema", "json_object", "none"] = "json_schema"
    """What is sent for a request with a schema; older servers know only the others."""

    omit: tuple[str, ...] = ()
    """Fields that the server rejects, such as `seed` or `top_p`."""

    extra_json: str = ""
    """More fields of the request body, as the text of a JSON object. No secrets here."""

    def __post_init__(self) -> None:
        if self.attempt_timeout_s <= 0:
            raise ChatError(f"attempt_timeout_s is {self.attempt_timeout_s}; it must be above 0")
        Throttle(start=self.start_concurrency, maximum=self.max_concurrency)
        with suppress(ValueError):
            if isinstance(json.loads(self.extra_json or "{}"), dict):
                return
        raise ChatError(f"extra_json is not a JSON object: {self.extra_json:.80}")


class EndpointChat:
    """A model behind an OpenAI-compatible server.

    A refusal, an empty answer, a request that the server calls bad (HTTP 400, 413, 422) and a
    call that fails too often are recorded failures. A request with a schema that the server calls
    bad is asked once more without it; where that helps, no later one has it.

    Ctrl-C lets the calls under way end, passes them on (a `CachedChat` around this model keeps
    them), then raises KeyboardInterrupt; a second one cancels them.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str = "https://api.openai.com/v1",
        api_key_env: str = "OPENAI_API_KEY",
        settings: EndpointSettings | None = None,
    ) -> None:
        """Describe the endpoint; nothing is called yet.

        Args:
            model: Name of the model, as the server knows it.
            base_url: Address of the server, usually up to `/v1`, without credentials.
            api_key_env: Environment variable with the key; it may be empty for local servers.
            settings: Time limits, concurrency, and dialect.

        Raises:
            ChatError: The address is not a plain http or https URL.
        """
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ChatError(
                "the base URL of an endpoint must look like http://localhost:8000/v1 or "
                f"https://host/v1, not {base_url.split('@')[-1].split('?')[0]!r}"
            )
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ChatError(
                f"the base URL for {parts.hostname} carries credentials or a query; put the key "
                f"in the environment variable {api_key_env or 'that api_key_env names'}"
            )
        self._model = model
        self._url = base_url.rstrip("/")
        self._key_env = api_key_env
        self._settings = settings or EndpointSettings()
        self._extra = json.loads(self._settings.extra_json or "{}")
        self._sends_schemas = self._settings.schema_mode != "none"
        self._throttle = Throttle(
            start=self._settings.start_concurrency, maximum=self._settings.max_concurrency
        )

    def __repr__(self) -> str:
        return f"EndpointChat({self._model!r}, base_url={self._url!r})"

    @property
    def name(self) -> str:
        """Model and address, and a hash of settings that change what is sent."""
        dialect = (self._settings.schema_mode, self._settings.omit, self._settings.extra_json)
        if dialect == ("json_schema", (), ""):
            return f"{self._model} at {self._url}"
        return f"{self._model} at {self._url} #{sha256(repr(dialect).encode()).hexdigest()[:8]}"

    @property
    def concurrency(self) -> int:
        """Calls that may be under way at once, as learned so far."""
        return self._throttle.limit

    def reply(
        self, requests: Sequence[ChatRequest], *, on_done: Callable[[int], None] | None = None
    ) -> list[ChatReply | ChatFailure]:
        """Answer the requests: one outcome each, in their order.

        Raises:
            ChatError: The server cannot be reached, refuses the key (HTTP 401, 402, 403), does
                not know the model (404), or fails many calls in a row.
        """
        return collect(self, requests, on_done=on_done)

    def stream(self, requests: Sequence[ChatRequest], on_outcomes: OnOutcomes) -> None:
        """Answer the requests and pass outcomes on; see `StreamingChatModel` and `reply`."""
        if requests:
            _Background(self._calls(list(requests)), len(requests)).drain(on_outcomes)

    def _calls(self, requests: list[ChatRequest]) -> "_Calls":
        """What runs on the event loop of the background thread."""

        async def run(background: "_Background") -> None:
            from openai import AsyncOpenAI, DefaultAioHttpClient

            key = self._key()
            async with AsyncOpenAI(
                base_url=self._url,
                api_key=key or _NO_KEY,
                max_retries=0,
                http_client=DefaultAioHttpClient(),  # less than half the work of the default
            ) as client:
                dispatcher = Dispatcher(
                    len(requests),
                    lambda index, left_s: self._attempt(client, requests[index], left_s, key),
                    background.put,
                    throttle=self._throttle,
                    settings=self._settings.retry,
                    server=f"model {self._model!r} at {self._url}",
                )
                background.attach(dispatcher)
                await dispatcher.run()

        return run

    def _key(self) -> str:
        key = os.environ.get(self._key_env, "").strip() if self._key_env else ""
        if not (key.isascii() and key.isprintable()):
            raise ChatError(f"the key in {self._key_env} has characters that no key has; check it")
        return key

    async def _attempt(
        self, client: Any, request: ChatRequest, left_s: float, key: str
    ) -> Outcome | Retry:
        """One attempt of one call; an exception from it ends the run."""
        import openai

        limit_s = min(self._settings.attempt_timeout_s, left_s)
        has_schema = request.schema is not None and self._sends_schemas
        started_at = time.monotonic()
        try:
            async with asyncio.timeout(limit_s):
                body = await client.post(
                    "/chat/completions",
                    cast_to=object,
                    body=self._body(request),
                    options={"timeout": limit_s},
                )
            return _outcome(body, request)
        except TimeoutError:
            return Retry(f"no answer within {limit_s:.3g} s")
        except openai.APIConnectionError as error:
            return _unconnected(error, limit_s)
        except openai.APIStatusError as error:
            outcome = self._refused(error, key)
            if isinstance(outcome, Retry) or not has_schema:
                return outcome
            left_s -= time.monotonic() - started_at
            plain = await self._attempt(client, replace(request, schema=None), left_s, key)
            if isinstance(plain, ChatReply):
                self._sends_schemas = False
            return outcome if isinstance(plain, ChatFailure) else plain
        except UnicodeEncodeError:
            return ChatFailure("the request has characters that UTF-8 cannot carry")
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            return Retry("the answer is not JSON")

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in request.messages],
            self._settings.token_field: request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
        }
        if request.schema is not None and self._sends_schemas:
            body["response_format"] = self._response_format(request.schema)
        body.update(self._extra)
        return {name: value for name, value in body.items() if name not in self._settings.omit}

    def _response_format(self, schema: ReplySchema) -> dict[str, Any]:
        if self._settings.schema_mode == "json_object":
            return {"type": "json_object"}
        form = {"name": schema.name, "schema": json.loads(schema.json_schema)}
        return {"type": "json_schema", "json_schema": form}

    def _refused(self, error: Any, key: str) -> Outcome | Retry:
        """What an HTTP status above 299 means for the call."""
        status, code = int(error.status_code), error.code
        if status in _FATAL or code == "insufficient_quota":
            what = _FATAL.get(status, _FATAL[402])
            where = self._key_env or "no environment variable"
            state = "set" if key else "empty"
            raise ChatError(
                f"{self._url} turned down model {self._model!r} with HTTP {status}: {what}; "
                f"check the address, the model's name and the key (from {where}, now {state})"
            ) from None
        if status == 429 or status >= 500 or status in _REPEATED:
            after_s = retry_after_s(error.response.headers.get("retry-after"))
            return Retry(f"the server said HTTP {status}", after_s, is_limited=status == 429)
        said = error.body.get("message") if isinstance(error.body, dict) else None
        said = " ".join(str(said or "no reason given").split())
        if key:
            said = said.replace(key, "***")
        return ChatFailure(f"the server said HTTP {status}: {said[:200]}")


class _Background:
    """One run of calls in a thread of its own, seen from the thread that waits for it."""

    def __init__(self, calls: "_Calls", n_calls: int) -> None:
        self._calls = calls
        self._outbox: queue.SimpleQueue[tuple[int, Outcome] | None] = queue.SimpleQueue()
        self._dispatcher: Dispatcher | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._n_stops = 0
        self._is_over = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="facsynth-chat", daemon=True)

    def put(self, index: int, outcome: Outcome) -> None:
        """Hand an outcome over; called in the background thread."""
        self._outbox.put((index, outcome))

    def attach(self, dispatcher: Dispatcher) -> None:
        """Make the calls stoppable; called in the background thread."""
        self._dispatcher = dispatcher
        self._loop = asyncio.get_running_loop()
        self._heed()

    def stop(self, *, now: bool = False) -> None:
        """Let the calls under way end, or with `now` cancel them; from any thread."""
        self._n_stops = 2 if now else max(1, self._n_stops)
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nothing is under way
                self._loop.call_soon_threadsafe(self._heed)

    def drain(self, on_outcomes: OnOutcomes) -> None:
        """Pass on what arrives until the calls are over, then raise what went wrong."""
        error: BaseException | None = None
        interrupts = 0

        def interrupt() -> None:
            nonlocal interrupts
            interrupts += 1
            self.stop(now=interrupts > 1)

        self._thread.start()
        with on_sigint(interrupt):
            while True:
                try:
                    if not (arrived := self._take()):
                        break
                    on_outcomes(arrived)
                except BaseException as caught:
                    is_interrupt = isinstance(caught, KeyboardInterrupt)
                    self.stop(now=is_interrupt and error is not None)
                    error = error or caught
            self._thread.join()
        if failure := error or self._error:
            raise failure
        if interrupts:
            raise KeyboardInterrupt

    def _take(self) -> list[tuple[int, Outcome]]:
        """Everything that has arrived, at least one outcome; nothing when the calls are over."""
        arrived: list[tuple[int, Outcome]] = []
        while not self._is_over:
            try:
                item = self._outbox.get_nowait() if arrived else self._outbox.get(timeout=0.5)
            except queue.Empty:
                if arrived:
                    break
                continue
            if item is None:
                self._is_over = True
            else:
                arrived.append(item)
        return arrived

    def _heed(self) -> None:
        if self._dispatcher is not None and self._n_stops:
            if self._n_stops > 1:
                self._dispatcher.abort()
            else:
                self._dispatcher.stop()

    def _serve(self) -> None:
        try:
            asyncio.run(self._calls(self))
        except BaseException as error:  # raised again by `drain`, in the thread of the caller
            self._error = error
        finally:
            self._outbox.put(None)


_Calls = Callable[[_Background], Coroutine[Any, Any, None]]


def _unconnected(error: Exception, limit_s: float) -> Retry:
    """What a failed connection means; the transport calls most of them time-outs."""
    import aiohttp

    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, aiohttp.ClientError):
        cause = cause.__cause__
    if isinstance(cause, TimeoutError):
        return Retry(f"no answer within {limit_s:.3g} s")
    is_unreachable = isinstance(cause, aiohttp.ClientConnectorError)
    return Retry(f"the connection failed ({type(cause).__name__})", is_unreachable=is_unreachable)


def _outcome(body: object, request: ChatRequest) -> Outcome | Retry:
    """What the JSON of a successful call means."""
    match body:
        case {"choices": [{"message": dict(message), **choice}, *_], **rest}:
            pass
        case _:
            return Retry("the answer is not a chat completion")
    text, finish = message.get("content"), choice.get("finish_reason")
    match rest.get("usage"):
        case {"prompt_tokens": int(n_in), "completion_tokens": int(n_out)}:
            pass
        case _:
            n_in = sum(estimate_tokens(turn.content) for turn in request.messages)
            n_out = estimate_tokens(str(text or ""))
    if message.get("refusal"):
        return ChatFailure("the model refused", n_in, n_out)
    if finish == "content_filter":
        return ChatFailure("a content filter stopped the answer", n_in, n_out)
    if not isinstance(text, str) or not text.strip():
        hint = "; raise max_tokens" if finish == "length" else ""
        return ChatFailure(f"the answer is empty{hint}", n_in, n_out)
    return ChatReply(text, n_in, n_out, truncated=finish == "length")

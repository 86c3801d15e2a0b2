"""Chat with any server that speaks the OpenAI protocol: vLLM, SGLang, Ollama, hosted ones.

The OpenAI SDK does the talking. Its own retries are off, because each attempt counts against the
call limit. The key is read from the environment when calls start and is kept nowhere.
"""

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from facsynth.chat.calls import Call, CallQueue
from facsynth.chat.dialect import Dialect, read_completion
from facsynth.chat.model import (
    ChatFailure,
    ChatReply,
    ChatRequest,
    OnOutcomes,
    Outcome,
    Permit,
    collect,
)
from facsynth.errors import ChatError

__all__ = ["EndpointChat", "EndpointSettings"]

_NO_KEY = "no-key"
_FATAL = {
    401: "the key was refused",
    402: "the account has no credit",
    403: "the key may not use it",
    404: "there is no such model or path; a base URL usually ends in /v1",
}
_RETRIED = (408, 409, 425, 429)
"""Statuses below 500 after which a call is repeated."""

_MAX_BACKOFF_S = 30.0
"""Longest wait between attempts, unless the server asks for more."""

_OUTAGE = 20
"""Calls given up in a row, without an answer between them, that end the run."""


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """How an endpoint is talked to; none of it changes what is asked of the model."""

    concurrency: int = 32
    """Calls at once. A server that limits rates slows them down by itself (`Retry-After`)."""

    attempt_timeout_s: float = 120.0
    """Longest time of one attempt."""

    call_timeout_s: float = 600.0
    """Longest time of a call, all its attempts and the waits between them included."""

    max_attempts: int = 6
    """Attempts of a call that fail, those turned away for their rate (HTTP 429) not counted."""

    backoff_s: float = 0.5
    """Wait after the first failed attempt; each further one doubles it, up to half is random."""

    grace_s: float = 20.0
    """Longest time for the calls under way to end after Ctrl-C or an error."""

    dialect: Dialect = field(default_factory=Dialect)
    """How requests are written."""

    def __post_init__(self) -> None:
        for name in ("concurrency", "max_attempts"):
            if getattr(self, name) < 1:
                raise ChatError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("attempt_timeout_s", "call_timeout_s"):
            if getattr(self, name) <= 0:
                raise ChatError(f"{name} is {getattr(self, name)}; it must be above 0")


class EndpointChat:
    """A model behind an OpenAI-compatible server.

    A refusal, an empty answer, a request that the server calls bad (HTTP 400, 413, 422) and a
    call that fails too often are recorded failures. A request with a schema that the server calls
    bad is asked once more without it; where that helps, no later one has it.

    Ctrl-C lets the calls under way end, passes them on (a `CachedChat` around this model keeps
    them), then raises KeyboardInterrupt; a second one cancels them.
    """

    is_metered = True
    """Each attempt asks for a permit; see `MeteredChatModel`."""

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
        self._sends_schemas = True

    def __repr__(self) -> str:
        return f"EndpointChat({self._model!r}, base_url={self._url!r})"

    @property
    def name(self) -> str:
        """Model and address, and what tells its dialect from the usual one."""
        return f"{self._model} at {self._url}{self._settings.dialect.mark}"

    def reply(
        self, requests: Sequence[ChatRequest], *, on_done: Callable[[int], None] | None = None
    ) -> list[ChatReply | ChatFailure]:
        """Answer the requests: one outcome each, in their order.

        Raises:
            ChatError: The server cannot be reached, refuses the key (HTTP 401, 402, 403), does
                not know the model (404), or fails many calls in a row.
        """
        return collect(self, requests, on_done=on_done)

    def stream(
        self,
        requests: Sequence[ChatRequest],
        on_outcomes: OnOutcomes,
        *,
        permit: Permit = lambda request, is_repeat: None,
    ) -> None:
        """Answer the requests and pass outcomes on; see `MeteredChatModel` and `reply`."""
        calls = CallQueue(
            len(requests), concurrency=self._settings.concurrency, grace_s=self._settings.grace_s
        )

        @asynccontextmanager
        async def session() -> AsyncIterator[Call]:
            from openai import AsyncOpenAI, DefaultAioHttpClient

            key = self._key()
            async with AsyncOpenAI(
                base_url=self._url,
                api_key=key or _NO_KEY,
                max_retries=0,
                timeout=None,  # `_Run` limits whole attempts, which a slow drip cannot outlast
                http_client=DefaultAioHttpClient(),  # less than half the work of the default
            ) as client:
                run = _Run(self, client, key, calls, permit)
                yield lambda index: run.answer(requests[index])

        if requests:
            calls.run(session, on_outcomes)

    def _key(self) -> str:
        key = os.environ.get(self._key_env, "").strip() if self._key_env else ""
        if not (key.isascii() and key.isprintable()):
            raise ChatError(f"the key in {self._key_env} has characters that no key has; check it")
        return key


@dataclass(frozen=True, slots=True)
class _Fault:
    """An attempt that failed in a way that another attempt may not."""

    reason: str
    after_s: float | None = None
    """Seconds the server asked to wait."""

    is_limit: bool = False
    """Whether the server turned the call away for its rate."""

    is_connection: bool = False
    """Whether there was no answer at all."""


class _Run:
    """The calls of one `stream`; everything happens on their event loop."""

    def __init__(
        self, chat: EndpointChat, client: Any, key: str, calls: CallQueue, permit: Permit
    ) -> None:
        self.chat, self.settings, self.client, self.key = chat, chat._settings, client, key
        self.calls, self.permit = calls, permit
        self.paused_until = 0.0
        """No attempt starts before; by the monotonic clock."""

        self.is_reached = False
        self.n_given_up = 0
        """Calls given up since the last answer."""

    async def answer(self, request: ChatRequest) -> Outcome:
        """The outcome of one call; an exception from it ends the run."""
        began, n_attempts, n_faults = time.monotonic(), 0, 0
        ends = began + self.settings.call_timeout_s
        while True:
            while (wait_s := self.paused_until - time.monotonic()) > 0:
                await self.calls.sleep(wait_s)
            self.permit(request, n_attempts > 0)
            n_attempts += 1
            limit_s = max(0.0, min(self.settings.attempt_timeout_s, ends - time.monotonic()))
            result = await self.attempt(request, limit_s)
            if not isinstance(result, _Fault):
                self.n_given_up = 0
                return result
            n_faults += not result.is_limit
            wait_s = self.wait_s(result, n_attempts)
            if n_faults >= self.settings.max_attempts or time.monotonic() + wait_s >= ends:
                took_s = time.monotonic() - began
                return self.give_up(
                    result, f"gave up after {n_attempts} attempts in {took_s:.1f} s"
                )
            await self.calls.sleep(wait_s)

    async def attempt(self, request: ChatRequest, limit_s: float) -> Outcome | _Fault:
        import openai

        has_schema = request.schema is not None and self.chat._sends_schemas
        if not has_schema:
            request = replace(request, schema=None)
        try:
            async with asyncio.timeout(limit_s):
                body = self.settings.dialect.body(self.chat._model, request)
                said = await self.client.post("/chat/completions", cast_to=object, body=body)
            self.is_reached = True
            return read_completion(said, request) or _Fault("the answer is not a chat completion")
        except TimeoutError:
            return _Fault(f"no answer within {limit_s:.3g} s")
        except openai.APIConnectionError as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            return _Fault(f"the connection failed ({type(cause).__name__})", is_connection=True)
        except openai.APIStatusError as error:
            self.is_reached = True
            refused = self.refusal(error)
        except UnicodeEncodeError:
            return ChatFailure("the request has characters that UTF-8 cannot carry")
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            return _Fault("the answer is not JSON")
        if isinstance(refused, _Fault) or not has_schema:
            return refused
        self.permit(request, True)
        plain = await self.attempt(replace(request, schema=None), limit_s)
        if isinstance(plain, ChatReply):
            self.chat._sends_schemas = False
        return refused if isinstance(plain, ChatFailure) else plain

    def refusal(self, error: Any) -> Outcome | _Fault:
        """What an HTTP status above 299 means for the call."""
        status, chat = int(error.status_code), self.chat
        if status in _FATAL or error.code == "insufficient_quota":
            where = chat._key_env or "no environment variable"
            raise ChatError(
                f"{chat._url} turned down model {chat._model!r} with HTTP {status}: "
                f"{_FATAL.get(status, _FATAL[402])}; check the address, the model's name and the "
                f"key (from {where}, now {'set' if self.key else 'empty'})"
            ) from None
        if status in _RETRIED or status >= 500:
            after_s = _seconds(error.response.headers.get("retry-after"))
            return _Fault(f"the server said HTTP {status}", after_s, is_limit=status == 429)
        said = error.body.get("message") if isinstance(error.body, dict) else None
        said = " ".join(str(said or "no reason given").split())
        if self.key:
            said = said.replace(self.key, "***")
        return ChatFailure(f"the server said HTTP {status}: {said[:200]}")

    def wait_s(self, fault: _Fault, n_attempts: int) -> float:
        """Seconds before the next attempt; a rate limit with a time holds every call back."""
        if fault.after_s is not None:
            if fault.is_limit:
                self.paused_until = max(self.paused_until, time.monotonic() + fault.after_s)
            return fault.after_s
        longest_s = min(_MAX_BACKOFF_S, self.settings.backoff_s * 2.0 ** min(n_attempts - 1, 30))
        return random.uniform(longest_s / 2, longest_s)  # moves times, never results

    def give_up(self, fault: _Fault, tried: str) -> ChatFailure:
        server = f"model {self.chat._model!r} at {self.chat._url}"
        self.n_given_up += 1
        if fault.is_connection and not self.is_reached:
            raise ChatError(
                f"cannot reach {server}: {fault.reason}; {tried}; start the server or check the "
                "address"
            )
        if self.n_given_up >= _OUTAGE:
            raise ChatError(
                f"{server} failed {_OUTAGE} calls in a row, the last one with: {fault.reason}; "
                f"{tried}; check the server, then run again to resume"
            )
        return ChatFailure(f"{fault.reason}; {tried}")


def _seconds(retry_after: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks to wait; None without a readable one."""
    if retry_after is None:
        return None
    with suppress(ValueError):
        seconds = float(retry_after)
        return seconds if 0 <= seconds < float("inf") else None
    with suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    return None

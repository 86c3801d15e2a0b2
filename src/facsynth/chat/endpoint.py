"""Chat with any server that speaks the OpenAI protocol: vLLM, SGLang, Ollama, hosted ones.

The OpenAI SDK does the talking. Its own retries are off, because each attempt counts against the
call limit. The key is read from the environment when calls start and is kept nowhere.
"""

import asyncio
import json
import logging
import os
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from facsynth.chat.calls import Call, CallQueue
from facsynth.chat.completion import (
    Fault,
    error_in,
    parse_body,
    read_completion,
    retry_seconds,
    server_words,
)
from facsynth.chat.dialect import Dialect, read_options
from facsynth.chat.model import (
    ChatFailure,
    ChatReply,
    ChatRequest,
    OnOutcomes,
    Outcome,
    Permit,
    collect,
)
from facsynth.chat.policy import shaped
from facsynth.chat.servers import Servers, checked_addresses, open_servers
from facsynth.chat.settings import EndpointSettings, Generator, ReplySettings
from facsynth.errors import ChatError

__all__ = ["EndpointChat", "open_endpoint"]

_LOG = logging.getLogger(__name__)

_FATAL = {
    401: "the key was refused",
    402: "the account has no credit",
    403: "the key may not use it",
    404: "there is no such model or path; a base URL usually ends in /v1",
}
_RETRIED = (408, 409, 425, 429)
"""Statuses below 500 after which a call is repeated."""

_OUTAGES = (502, 503, 504, 529)
"""Statuses of a server that is not ready, whoever asks."""

_SPENT = re.compile(
    r"per[-_ ]?day|daily|insufficient[-_ ](?:quota|credit|balance|fund)|out of credit|no credit",
    re.IGNORECASE,
)
"""Words of a limit that lasts longer than a run waits."""

_MAX_BACKOFF_S = 30.0
"""Longest wait between attempts, unless the server asks for more."""

_LONG_PAUSE_S = 60.0
"""Usual rate limits ask for less. Longer pauses are said; of one that is longer than the patience
no more than this is waited before another attempt."""

_SAID_FROM_S = 5.0
"""Waits from this length on are said."""

_OUTAGE = 20
"""Calls given up in a row, without an answer between them, that end the run."""

_LONGER = "; it had {} tokens: raise thinking_tokens (--thinking-tokens), now {}"


def open_endpoint(wanted: Generator) -> "EndpointChat":
    """The model at an endpoint that settings name; the key comes from the environment."""
    assert wanted.chat_model
    return EndpointChat(
        wanted.chat_model,
        base_url=wanted.api_base,
        api_key_env=wanted.api_key_env,
        settings=wanted.endpoint,
        replies=wanted.replies,
    )


class EndpointChat:
    """A model behind an OpenAI-compatible server.

    A refusal, an empty answer, a request that the server calls bad (HTTP 400, 413, 422) and a
    call that fails too often are recorded failures. Where the server names what it does not take
    (the name of the reply length, temperature, seed, a system message, a schema), the request is
    asked again without it; where that helps, so are all later ones. A schema is also left out
    where a request is refused for no stated reason.

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
        replies: ReplySettings | None = None,
    ) -> None:
        """Describe the endpoint; nothing is called yet.

        Args:
            model: Name of the model, as the server knows it.
            base_url: Address of the server, usually up to `/v1`, without credentials; several of
                the same model, with commas between them, take turns.
            api_key_env: Environment variable with the key; it may be empty for local servers.
            settings: Time limits, concurrency, and what the server does not take.
            replies: Lengths and sampling, if not as the requests say.

        Raises:
            ChatError: An address is not a plain http or https URL.
        """
        self._model = model
        self._urls = checked_addresses(base_url, api_key_env)
        self._url = ",".join(self._urls)
        self._key_env = api_key_env
        self._settings = settings or EndpointSettings()
        self._replies = replies or ReplySettings()
        self._dialect = read_options(self._settings.endpoint_option)
        self._mark = self._dialect.mark
        if self._replies != ReplySettings():
            self._mark += f" {asdict(self._replies)}"
        self._is_reached = False

    def __repr__(self) -> str:
        return f"EndpointChat({self._model!r}, base_url={self._url!r})"

    @property
    def name(self) -> str:
        """Model and address, and what tells its dialect from the usual one."""
        return f"{self._model} at {self._url}{self._mark}"

    def shaped(self, request: ChatRequest) -> ChatRequest:
        """The request as it is asked, with the user's lengths and room to think."""
        return shaped(request, self._replies, self._settings.thinking_tokens)

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
            key = self._key()
            async with open_servers(self._urls, key) as servers:
                run = _Run(self, servers, key, calls, permit)
                yield lambda index: run.answer(requests[index])

        if requests:
            calls.run(session, on_outcomes)

    def _key(self) -> str:
        key = os.environ.get(self._key_env, "").strip() if self._key_env else ""
        if not (key.isascii() and key.isprintable()):
            raise ChatError(f"the key in {self._key_env} has characters that no key has; check it")
        return key


@dataclass(frozen=True, slots=True)
class _Refused:
    """An attempt that the server calls bad; asked otherwise, it may go."""

    failure: ChatFailure | Fault
    """What becomes of the call if nothing else helps."""

    words: str
    """What the server said."""

    request: ChatRequest


_Result = Outcome | Fault | _Refused


class _Run:
    """The calls of one `stream`; everything happens on their event loop."""

    def __init__(
        self, chat: EndpointChat, servers: Servers, key: str, calls: CallQueue, permit: Permit
    ) -> None:
        self.chat, self.settings, self.servers, self.key = chat, chat._settings, servers, key
        self.calls, self.permit = calls, permit
        self.paused_until = 0.0
        """No attempt starts before; by the monotonic clock."""

        self.learning = asyncio.Lock()
        """Held by the one refused call that finds out what the server takes."""

        self.n_given_up = 0
        """Calls given up since the last answer."""

        self.has_said = False
        """Whether the user knows that the server keeps the calls waiting."""

    async def answer(self, request: ChatRequest) -> Outcome:
        """The outcome of one call; an exception from it ends the run."""
        n_attempts, n_faults = 0, 0
        ends = time.monotonic() + self.settings.server_patience
        while True:
            while (wait_s := self.paused_until - time.monotonic()) > 0:
                if self.paused_until >= ends:
                    fault = Fault("the server limits rates and asked to wait", is_limit=True)
                    return self.give_up(fault, f"gave up after {n_attempts} attempts")
                await self.calls.sleep(wait_s)
            self.permit(request, n_attempts > 0)
            n_attempts += 1
            result = await self.attempt(request, is_repeat=n_faults > 0)
            if not isinstance(result, Fault):
                self.n_given_up, self.has_said = 0, False
                return result
            is_waited_for = result.is_limit or (
                self.chat._is_reached and (result.is_outage or result.is_connection)
            )
            n_faults += not is_waited_for
            left_s = ends - time.monotonic()
            wait_s = self.wait_s(result, n_attempts, left_s)
            if n_faults >= self.settings.max_attempts or wait_s >= left_s:
                return self.give_up(result, f"gave up after {n_attempts} attempts")
            await self.calls.sleep(wait_s)

    async def attempt(self, request: ChatRequest, *, is_repeat: bool) -> Outcome | Fault:
        """One attempt, asked as the server takes it."""
        tried = {dialect := self.chat._dialect}
        result = await self.post(request, dialect)
        while isinstance(result, _Refused):
            async with self.learning:
                dialect = self.chat._dialect
                if dialect in tried:
                    may_guess = is_repeat or isinstance(result.failure, ChatFailure)
                    return await self.learn(request, result, tried, may_guess=may_guess)
            tried.add(dialect)  # another call has learnt it meanwhile
            self.permit(request, True)
            result = await self.post(request, dialect)
        return result

    async def learn(
        self, request: ChatRequest, refused: _Refused, tried: set[Dialect], *, may_guess: bool
    ) -> Outcome | Fault:
        """Ask as the server's words suggest, until it answers; remember what it took.

        Args:
            request: The call.
            refused: What came of it in the present dialect.
            tried: Dialects that it was asked in.
            may_guess: Whether to leave the schema out where the words suggest nothing.
        """
        dialect = self.chat._dialect
        result: _Result = refused
        while isinstance(result, _Refused):
            refused, better = result, dialect.adapted(result.words, request)
            is_guess = better in tried
            if is_guess:
                better = dialect.without_schema()
            if better in tried or (is_guess and not (may_guess and request.schema)):
                break
            tried.add(better)
            self.permit(request, True)
            result = await self.post(request, better)
            if is_guess and not isinstance(result, ChatReply):
                break
            dialect = better
        if isinstance(result, _Refused | Fault) or (is_guess and isinstance(result, ChatFailure)):
            return result if isinstance(result, Fault) else refused.failure
        _LOG.warning(
            "%s refused a field; requests now go %s",
            self.chat._url,
            dialect.differs_from(self.chat._dialect),
        )
        self.chat._dialect = dialect
        return result

    async def post(self, request: ChatRequest, dialect: Dialect) -> _Result:
        """One attempt at the server whose turn it is."""
        server, client = self.servers.pick()
        result = await self.post_to(client, request, dialect)
        self.servers.note(server, result)
        return result

    async def post_to(self, client: Any, request: ChatRequest, dialect: Dialect) -> _Result:
        import openai

        limit_s, request = self.settings.attempt_timeout_s, self.chat.shaped(request)
        try:
            async with asyncio.timeout(limit_s):
                body = dialect.body(self.chat._model, request)
                path = "/completions" if request.is_raw else "/chat/completions"
                said = await client.post(path, cast_to=object, body=body)
            self.chat._is_reached = True
            return self.read(parse_body(said), request)
        except TimeoutError:
            return Fault(f"no answer within {limit_s:.3g} s")
        except openai.APIConnectionError as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            return Fault(f"the connection failed ({type(cause).__name__})", is_connection=True)
        except openai.APIStatusError as error:
            self.chat._is_reached = True
            after_s = retry_seconds(error.response.headers.get("retry-after"))
            return self.refusal(int(error.status_code), error.body, request, after_s)
        except UnicodeEncodeError:
            return ChatFailure("the request has characters that UTF-8 cannot carry")
        except (ValueError, RecursionError):  # of the syntax, the encoding, or a number's digits
            return Fault("the answer is not JSON")

    def read(self, body: object, request: ChatRequest) -> _Result:
        """What a successful answer means, which may hold an error all the same."""
        if found := error_in(body):
            status, error = found
            if status is not None:
                return self.refusal(status, error, request, None)
            self.check_spent(200, error)
            return Fault(f"the server sent an error: {self.masked(server_words(error))}")
        if isinstance(body, str):
            return Fault("the answer is not JSON")
        longer = _LONGER.format(request.max_tokens, self.settings.thinking_tokens)
        return read_completion(body, request, longer)

    def refusal(
        self, status: int, body: object, request: ChatRequest, after_s: float | None
    ) -> Fault | _Refused:
        """What an HTTP status above 299 means for the call."""
        if status in _FATAL or after_s is None or after_s > self.settings.server_patience:
            self.check_spent(status, body)
        words = self.masked(server_words(body))
        fault = Fault(
            f"the server said HTTP {status}{words and ': '}{words}",
            after_s,
            is_limit=status == 429,
            is_outage=status in _OUTAGES,
        )
        all_words = server_words(body, n_most=5000)
        if status in _RETRIED or status >= 500:
            # Some servers fail at a schema that they cannot enforce.
            is_schema = status in (500, 501) and request.schema is not None
            return _Refused(fault, all_words, request) if is_schema else fault
        reason = f"the server said HTTP {status}: {words or 'no reason given'}"
        return _Refused(ChatFailure(reason), all_words, request)

    def check_spent(self, status: int, body: object) -> None:
        """End the run on an error that waiting does not mend."""
        is_spent = status in (200, 429) and _SPENT.search(json.dumps(body, default=str))
        if status not in _FATAL and not is_spent:
            return
        chat, words = self.chat, self.masked(server_words(body))
        where = chat._key_env or "no environment variable"
        what = "the account's credit or quota is spent" if is_spent else _FATAL[status]
        advice = (
            "add credit or wait, then run again to resume"
            if is_spent
            else "check the address, the model's name and the key"
        )
        raise ChatError(
            f"{chat._url} turned down model {chat._model!r} with HTTP {status}: {what}; "
            f"{words and f'the server said: {words}; '}{advice} (the key is read from {where}, "
            f"now {'set' if self.key else 'empty'})"
        )

    def masked(self, words: str) -> str:
        """Words of the server without the key."""
        return words.replace(self.key, "***") if self.key else words

    def wait_s(self, fault: Fault, n_attempts: int, left_s: float) -> float:
        """Seconds before the next attempt; a rate limit with a time holds every call back."""
        if fault.after_s is None:
            longest_s = min(_MAX_BACKOFF_S, self.settings.backoff_s * 2.0 ** min(n_attempts, 30))
            wait_s = random.uniform(longest_s / 4, longest_s / 2)  # moves times, never results
        elif fault.after_s < left_s:
            wait_s = fault.after_s
        else:
            wait_s = min(fault.after_s, _LONG_PAUSE_S)
        if wait_s >= _SAID_FROM_S and not self.has_said:
            self.has_said = True
            asks = "" if fault.after_s is None else f" and asks to wait {fault.after_s:,.0f} s"
            _LOG.warning(
                "calls to %s fail: %s%s; trying again in %.0f s (--server-patience: %.0f s)",
                self.chat._url,
                fault.reason,
                asks,
                wait_s,
                self.settings.server_patience,
            )
        if fault.after_s is not None and fault.is_limit:
            self.paused_until = max(self.paused_until, time.monotonic() + wait_s)
        return wait_s

    def give_up(self, fault: Fault, tried: str) -> ChatFailure:
        server = f"model {self.chat._model!r} at {self.chat._url}"
        self.n_given_up += 1
        if fault.is_connection and not self.chat._is_reached:
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

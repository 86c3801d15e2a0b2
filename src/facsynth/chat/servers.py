"""Several servers of one model that take turns; one that fails rests for a while."""

import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from ssl import SSLContext
from typing import Any
from urllib.parse import urlsplit

from facsynth.chat.completion import Fault
from facsynth.errors import ChatError

__all__ = ["Servers", "checked_addresses", "open_servers"]

_LOG = logging.getLogger(__name__)

_REST_S = 30.0
"""How long the others take the calls of a server that failed."""

_NO_KEY = "no-key"
"""The client insists on a key; local servers ignore it."""


def checked_addresses(addresses: str, key_env: str) -> tuple[str, ...]:
    """The base URLs in a text with commas between them.

    Raises:
        ChatError: One is not a plain http or https URL, or carries credentials.
    """
    found = tuple(one.strip().rstrip("/") for one in addresses.split(","))
    for one in found:
        parts = urlsplit(one)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ChatError(
                "the base URL of an endpoint must look like http://localhost:8000/v1 or "
                f"https://host/v1, not {one.split('@')[-1].split('?')[0]!r}"
            )
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ChatError(
                f"the base URL for {parts.hostname} carries credentials or a query; put the key "
                f"in the environment variable {key_env or 'that api_key_env names'}"
            )
    return found


class Servers:
    """Clients of the servers, by address; everything happens on one event loop."""

    def __init__(self, clients: Sequence[tuple[str, Any]]) -> None:
        self._clients = list(clients)
        self._next = 0
        self._rests_until = [0.0] * len(clients)
        self.n_faults = [0] * len(clients)
        """Attempts that failed, by server."""

    def pick(self) -> tuple[int, Any]:
        """The next server that does not rest, or the one that rests the shortest."""
        now, n = time.monotonic(), len(self._clients)
        order = [(self._next + i) % n for i in range(n)]
        chosen = min(order, key=lambda i: max(now, self._rests_until[i]))
        self._next = chosen + 1
        return chosen, self._clients[chosen][1]

    def note(self, server: int, result: object) -> None:
        """Let a server rest that failed; a rate limit is not a failure."""
        if not isinstance(result, Fault) or result.is_limit:
            return
        self.n_faults[server] += 1
        was_resting = self._rests_until[server] > time.monotonic()
        self._rests_until[server] = time.monotonic() + _REST_S
        if len(self._clients) > 1 and not was_resting:
            _LOG.warning(
                "%s failed (%s; %d failures so far); the other servers take its calls for %.0f s",
                self._clients[server][0],
                result.reason,
                self.n_faults[server],
                _REST_S,
            )


@asynccontextmanager
async def open_servers(addresses: Sequence[str], key: str) -> AsyncIterator[Servers]:
    """A client for each server, closed at the end."""
    from openai import AsyncOpenAI, DefaultAioHttpClient

    async with AsyncExitStack() as stack:
        clients = [
            AsyncOpenAI(
                base_url=address,
                api_key=key or _NO_KEY,
                max_retries=0,
                timeout=None,  # whole attempts are limited, which a slow drip cannot outlast
                # less than half the work of the default
                http_client=DefaultAioHttpClient(verify=_certificates()),
            )
            for address in addresses
        ]
        for client in clients:
            await stack.enter_async_context(client)
        yield Servers(list(zip(addresses, clients, strict=True)))


@cache
def _certificates() -> SSLContext:
    """The certificates that this machine trusts, which take 60 ms to read."""
    from httpx2 import create_ssl_context  # the OpenAI SDK stands on it

    return create_ssl_context()

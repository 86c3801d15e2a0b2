"""Replies kept on disk by their content, so that nothing is asked or paid for twice.

One SQLite file holds replies by the hash of model and request, whole batches of models whose
replies depend on the batch, and what calls have cost. Prompts and keys are not stored, only hashes
of the requests. Several models and several processes may use one file, on a local disk.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from facsynth.chat.calls import let_finish
from facsynth.chat.model import (
    BatchedChatModel,
    ChatFailure,
    ChatModel,
    ChatReply,
    ChatRequest,
    OnOutcomes,
    Outcome,
    collect,
    deliver,
)
from facsynth.chat.policy import CountedChatModel, policy_of
from facsynth.chat.settings import Policy
from facsynth.errors import DataError, SpaceError

__all__ = ["CachedChat", "ReplyStore"]

_VERSION = 2
_KEYS_PER_QUERY = 500
_PATIENCE_S = 30.0
"""How long another process that writes is waited for."""

_TABLES = (
    "CREATE TABLE replies (key TEXT PRIMARY KEY, outcomes TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE spent (n_calls INT, n_failures INT, prompt_tokens INT, completion_tokens INT)",
    "INSERT INTO spent VALUES (0, 0, 0, 0)",
)


def _use_log(connection: sqlite3.Connection) -> None:
    """Write ahead to a log. While another process does the same, SQLite fails and does not wait."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(0.005)


class ReplyStore:
    """Outcomes by key in one SQLite file; each entry is one reply or one whole batch."""

    def __init__(self, path: Path) -> None:
        """Create the file, or open one that is there.

        Raises:
            DataError: The file is something else, or of another version of facsynth.
            SpaceError: It cannot be written.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpaceError(f"cannot create {path.parent}: {error.strerror}") from error
        with self._open() as connection:
            _use_log(connection)
            connection.execute("BEGIN IMMEDIATE")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            n_tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if version == 0 and n_tables == 0:
                for statement in _TABLES:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.commit()
        if version != _VERSION and (version or n_tables):
            raise DataError(
                f"{path} is not a reply cache of version {_VERSION} (it says {version}); "
                "use another file, or the facsynth that wrote it"
            )

    def get(self, keys: Sequence[str]) -> dict[str, list[Outcome]]:
        """Entries of those keys that are there."""
        found: dict[str, list[Outcome]] = {}
        with self._open() as connection:
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                part = keys[start : start + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, outcomes FROM replies WHERE key IN ({marks})"
                for key, outcomes in connection.execute(query, tuple(part)):
                    found[key] = [_decode(row) for row in json.loads(outcomes)]
        return found

    def put(self, entries: dict[str, list[Outcome]]) -> None:
        """Keep entries, all of them or none; one that is there already stays."""
        with self.writing() as put:
            put(entries)

    @contextmanager
    def writing(self) -> Iterator[Callable[[dict[str, list[Outcome]]], None]]:
        """A `put` for many calls, of which each is safe on disk at once.

        Meanwhile the file stays open: whoever closes it last makes SQLite move its log into the
        file and wait for the disk, which takes a hundred times as long as a reply does.
        """
        with self._open() as connection:

            def put(entries: dict[str, list[Outcome]]) -> None:
                rows = [
                    (key, json.dumps([_encode(outcome) for outcome in outcomes]))
                    for key, outcomes in entries.items()
                ]
                with connection:
                    connection.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?)", rows)

            yield put

    def spent(self) -> tuple[int, int, int, int]:
        """Calls, failures, prompt tokens and reply tokens of all runs, by `add_spent`."""
        with self._open() as connection:
            n_calls, n_failures, n_in, n_out = connection.execute("SELECT * FROM spent").fetchone()
        return int(n_calls), int(n_failures), int(n_in), int(n_out)

    def add_spent(self, n_calls: int, n_failures: int, n_prompt: int, n_completion: int) -> None:
        """Count calls, failures and tokens on top of what other runs have counted."""
        with self._open() as connection, connection:
            connection.execute(
                "UPDATE spent SET n_calls = n_calls + ?, n_failures = n_failures + ?, "
                "prompt_tokens = prompt_tokens + ?, completion_tokens = completion_tokens + ?",
                (n_calls, n_failures, n_prompt, n_completion),
            )

    def __len__(self) -> int:
        with self._open() as connection:
            return int(connection.execute("SELECT count(*) FROM replies").fetchone()[0])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=_PATIENCE_S)) as connection:
                connection.execute("PRAGMA synchronous = NORMAL")
                yield connection
        except sqlite3.OperationalError as error:
            raise SpaceError(
                f"cannot use the reply cache {self.path}: {error}; check the free space and the "
                "rights of its folder, or choose another path"
            ) from error
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{self.path} is not a reply cache ({error}); move it away or choose another path"
            ) from error


class CachedChat:
    """A chat model that looks into a `ReplyStore` before it asks.

    Replies are kept as they arrive, so a killed run has them. Failures are not kept and are tried
    again next time. Equal requests in one list are asked once.

    Of a model with `deterministic_batches` a batch is kept, in one transaction, when all of it is
    there, the failures in it included: drawn again alone, they would be the same. A run that was
    killed and started again thus ends with the texts of an undisturbed one.
    """

    def __init__(self, model: ChatModel, path: str | Path) -> None:
        """Put a cache around a model.

        Args:
            model: The model to ask; its `name` is part of each key.
            path: The SQLite file; where it is absent, it is created with the first reply.

        Raises:
            DataError: The file is not a reply cache.
            SpaceError: The file cannot be read.
        """
        self._model = model
        self._path = Path(path)
        self._found = ReplyStore(self._path) if self._path.exists() else None

    @property
    def _store(self) -> ReplyStore:
        if self._found is None:
            self._found = ReplyStore(self._path)
        return self._found

    @property
    def name(self) -> str:
        """Identity of the model inside."""
        return self._model.name

    @property
    def policy(self) -> Policy:
        """That of the model inside."""
        return policy_of(self._model)

    @property
    def spent(self) -> str:
        """What the model inside has cost; empty where it does not tell."""
        return self._model.spent if isinstance(self._model, CountedChatModel) else ""

    def reply(
        self, requests: Sequence[ChatRequest], *, on_done: Callable[[int], None] | None = None
    ) -> list[ChatReply | ChatFailure]:
        """Answer the requests from the cache, and the others from the model."""
        return collect(self, requests, on_done=on_done)

    def uncached(self, requests: Sequence[ChatRequest]) -> list[ChatRequest]:
        """Requests that `reply` would put to the model, for an estimate before it does."""
        units = self._units(requests)
        there = self._kept(units)
        return [
            requests[position]
            for key, positions in units.items()
            if key not in there
            for position in (positions if self._is_batched() else positions[:1])
        ]

    def stream(self, requests: Sequence[ChatRequest], on_outcomes: OnOutcomes) -> None:
        """Answer the requests and pass outcomes on; see `StreamingChatModel`."""
        units = self._units(requests)
        there = self._kept(units)
        hits = [
            (position, _as_cached(outcome))
            for key, outcomes in there.items()
            for position, outcome in _spread(units[key], outcomes)
        ]
        if hits:
            on_outcomes(hits)
        missing = {key: positions for key, positions in units.items() if key not in there}
        if self._is_batched():
            self._run_batches(requests, missing, on_outcomes)
        elif missing:
            self._run_single(requests, missing, on_outcomes)

    def _kept(self, keys: Iterable[str]) -> dict[str, list[Outcome]]:
        return {} if self._found is None else self._found.get(list(keys))

    def _is_batched(self) -> bool:
        return isinstance(self._model, BatchedChatModel) and self._model.deterministic_batches

    def _units(self, requests: Sequence[ChatRequest]) -> dict[str, list[int]]:
        """Positions behind each cache key: a whole batch, or the requests that are equal."""
        units: dict[str, list[int]] = {}
        if isinstance(self._model, BatchedChatModel) and self._model.deterministic_batches:
            for n_before, batch in enumerate(self._model.batches(requests)):
                keys = [requests[position].key for position in batch]
                key = self._key(["batch", *keys])
                if key in units:  # an equal batch again: kept apart, so that positions match
                    key = self._key(["batch", str(n_before), *keys])
                units[key] = batch
            return units
        for position, request in enumerate(requests):
            units.setdefault(self._key(["reply", request.key]), []).append(position)
        return units

    def _key(self, parts: list[str]) -> str:
        return sha256(json.dumps([self._model.name, *parts]).encode()).hexdigest()

    def _run_batches(
        self, requests: Sequence[ChatRequest], missing: dict[str, list[int]], to: OnOutcomes
    ) -> None:
        """Run each missing batch by itself, so that it is the same batch; Ctrl-C waits for it."""
        for key, positions in missing.items():
            with let_finish():
                outcomes = self._model.reply([requests[position] for position in positions])
                self._store.put({key: outcomes})
                to(list(zip(positions, outcomes, strict=True)))

    def _run_single(
        self, requests: Sequence[ChatRequest], missing: dict[str, list[int]], to: OnOutcomes
    ) -> None:
        keys = list(missing)
        puts: list[Callable[[dict[str, list[Outcome]]], None]] = []

        def keep(arrived: Sequence[tuple[int, Outcome]]) -> None:
            replies: dict[str, list[Outcome]] = {
                keys[number]: [outcome]
                for number, outcome in arrived
                if isinstance(outcome, ChatReply)
            }
            if replies and not puts:  # a run that asks nothing leaves no file
                puts.append(opened.enter_context(self._store.writing()))
            for put in puts:
                put(replies)
            to([pair for number, it in arrived for pair in _spread(missing[keys[number]], [it])])

        with ExitStack() as opened:
            deliver(self._model, [requests[missing[key][0]] for key in keys], keep)


def _spread(positions: list[int], outcomes: list[Outcome]) -> list[tuple[int, Outcome]]:
    """Outcomes by position: one each, or one for all; the tokens are spent only once."""
    if len(outcomes) == len(positions):
        return list(zip(positions, outcomes, strict=True))
    (outcome,) = outcomes
    return [
        (position, outcome if not number else _as_cached(outcome))
        for number, position in enumerate(positions)
    ]


def _as_cached(outcome: Outcome) -> Outcome:
    if isinstance(outcome, ChatReply):
        return replace(outcome, cached=True)
    return replace(outcome, prompt_tokens=0, completion_tokens=0)


def _encode(outcome: Outcome) -> list[object]:
    counts = [outcome.prompt_tokens, outcome.completion_tokens]
    if isinstance(outcome, ChatFailure):
        return ["failure", outcome.reason, *counts]
    return ["reply", outcome.text, *counts, outcome.truncated]


def _decode(row: list[object]) -> Outcome:
    match row:
        case ["reply", str(text), int(n_in), int(n_out), bool(truncated)]:
            return ChatReply(text, n_in, n_out, truncated=truncated)
        case ["failure", str(reason), int(n_in), int(n_out)]:
            return ChatFailure(reason, n_in, n_out)
    raise DataError(f"the reply cache holds an entry of unknown form: {row!r:.80}; delete the file")

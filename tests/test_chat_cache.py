import sqlite3
import threading
from contextlib import closing

import pytest

import facsynth.chat.cache as cache_module
from facsynth.chat.cache import CachedChat, ReplyStore
from facsynth.chat.model import ChatFailure, ChatReply, ChatRequest
from facsynth.chat.scripted import ScriptedChat
from facsynth.errors import DataError, SpaceError
from facsynth.records import Message


def ask(text="hello", **settings):
    return ChatRequest((Message("user", text),), **settings)


def echo(request):
    return request.messages[-1].content


class Batched(ScriptedChat):
    """Pairs of requests; each reply names the pair it was drawn in."""

    deterministic_batches = True

    def __init__(self, *, fail_at=None):
        super().__init__("unused", name="batched")
        self.fail_at = fail_at
        self.drawn = []

    def batches(self, requests):
        return [list(range(i, min(i + 2, len(requests)))) for i in range(0, len(requests), 2)]

    def stream(self, requests, on_outcomes):
        for batch in self.batches(requests):
            texts = [requests[i].messages[-1].content for i in batch]
            if self.fail_at in texts:
                raise KeyboardInterrupt
            self.drawn.append(texts)
            outcomes = [
                ChatFailure("empty", 2, 1) if text == "bad" else ChatReply(f"{texts} {text}", 2, 3)
                for text in texts
            ]
            on_outcomes(list(zip(batch, outcomes, strict=True)))


def test_second_run_asks_nothing(tmp_path):
    chat = ScriptedChat(echo)
    first = CachedChat(chat, tmp_path / "c.db").reply([ask("a"), ask("b")])
    again = CachedChat(chat, tmp_path / "c.db").reply([ask("b"), ask("a"), ask("c")])
    assert [reply.text for reply in again] == ["b", "a", "c"]
    assert [reply.cached for reply in again] == [True, True, False]
    assert not any(reply.cached for reply in first)
    assert len(chat.history) == 3


def test_models_and_settings_do_not_share_replies(tmp_path):
    path = tmp_path / "c.db"
    CachedChat(ScriptedChat("one", name="one"), path).reply([ask()])
    chat = CachedChat(ScriptedChat("two", name="two"), path)
    assert chat.reply([ask()])[0].text == "two"
    assert len(chat.uncached([ask(), ask(seed=1)])) == 1


def test_failures_are_tried_again(tmp_path):
    chat = CachedChat(ScriptedChat([ChatFailure("busy"), "ok"]), tmp_path / "c.db")
    assert chat.reply([ask()]) == [ChatFailure("busy")]
    assert chat.reply([ask()])[0].text == "ok"


def test_equal_requests_are_asked_once(tmp_path):
    scripted = ScriptedChat(echo)
    replies = CachedChat(scripted, tmp_path / "c.db").reply([ask("a"), ask("b"), ask("a")])
    assert [reply.text for reply in replies] == ["a", "b", "a"]
    assert [reply.cached for reply in replies] == [False, False, True]
    assert len(scripted.history) == 2


def test_killed_run_keeps_what_had_arrived(tmp_path):
    def dies(request):
        if echo(request) == "3":
            raise KeyboardInterrupt
        return echo(request)

    requests = [ask(str(i)) for i in range(6)]
    with pytest.raises(KeyboardInterrupt):
        CachedChat(ScriptedChat(dies), tmp_path / "c.db").reply(requests)
    assert len(CachedChat(ScriptedChat(echo), tmp_path / "c.db").uncached(requests)) == 3


def test_odd_texts_survive(tmp_path):
    texts = ["\ud800 lone", "\x00 zero", "line\nbreak", "🌱"]
    chat = CachedChat(ScriptedChat(texts), tmp_path / "c.db")
    requests = [ask(str(i)) for i in range(len(texts))]
    chat.reply(requests)
    assert [reply.text for reply in chat.reply(requests)] == texts


def test_truncation_and_tokens_survive(tmp_path):
    store = ReplyStore(tmp_path / "c.db")
    store.put({"k": [ChatReply("a", 5, 6, truncated=True)]})
    assert store.get(["k", "other"]) == {"k": [ChatReply("a", 5, 6, truncated=True)]}


def test_first_of_two_writers_wins(tmp_path):
    store = ReplyStore(tmp_path / "c.db")
    for text in ("first", "second"):
        store.put({"k": [ChatReply(text, 1, 1)]})
    assert store.get(["k"])["k"][0].text == "first"


def test_put_is_all_or_nothing(tmp_path):
    store = ReplyStore(tmp_path / "c.db")
    with sqlite3.connect(store.path) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON replies WHEN NEW.key = 'b' "
            "BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    connection.close()
    with pytest.raises(DataError, match="full"):
        store.put({"a": [ChatReply("a", 1, 1)], "b": [ChatReply("b", 1, 1)]})
    assert len(store) == 0


def test_many_writers_share_one_file(tmp_path):
    def write(name):
        chat = CachedChat(ScriptedChat(echo, name="m"), tmp_path / "c.db")
        chat.reply([ask(f"{name}{i}") for i in range(10)])

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ReplyStore(tmp_path / "c.db")) == 40


class Contended(sqlite3.Connection):
    """A connection whose file others open at the same moment, for two attempts."""

    n_asked = 0

    def execute(self, statement):
        self.n_asked += 1
        if self.n_asked < 3:
            raise sqlite3.OperationalError("database is locked")


def test_a_file_that_others_open_just_now_is_waited_for(monkeypatch):
    with closing(sqlite3.connect(":memory:", factory=Contended)) as connection:
        cache_module._use_log(connection)
        assert connection.n_asked == 3
    monkeypatch.setattr(cache_module, "_PATIENCE_S", -1.0)
    locked = pytest.raises(sqlite3.OperationalError, match="locked")
    with closing(sqlite3.connect(":memory:", factory=Contended)) as connection, locked:
        cache_module._use_log(connection)


def test_foreign_files_are_refused(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be read as one " * 20)
    with pytest.raises(DataError, match="not a reply cache"):
        ReplyStore(text)
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(DataError, match="not a reply cache"):
        ReplyStore(tmp_path / "other.db")


def test_path_that_cannot_be_written_is_a_space_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpaceError, match="cannot create"):
        ReplyStore(tmp_path / "file" / "c.db")
    with pytest.raises(SpaceError, match="cannot use the reply cache"):
        ReplyStore(tmp_path)


def test_batches_are_kept_whole(tmp_path):
    requests = [ask(text) for text in "abcde"]
    undisturbed = Batched().reply(requests)
    with pytest.raises(KeyboardInterrupt):
        CachedChat(Batched(fail_at="d"), tmp_path / "c.db").reply(requests)
    restarted = Batched()
    outcomes = CachedChat(restarted, tmp_path / "c.db").reply(requests)
    assert [outcome.text for outcome in outcomes] == [outcome.text for outcome in undisturbed]
    assert restarted.drawn == [["c", "d"], ["e"]]


def test_batch_in_other_company_is_another_batch(tmp_path):
    cached = CachedChat(Batched(), tmp_path / "c.db")
    cached.reply([ask("a"), ask("b")])
    assert cached.reply([ask("a"), ask("c")])[0].text == "['a', 'c'] a"
    assert len(cached.uncached([ask("b"), ask("c"), ask("a"), ask("b")])) == 2


def test_failure_inside_a_batch_is_kept_with_it(tmp_path):
    cached = CachedChat(Batched(), tmp_path / "c.db")
    requests = [ask("a"), ask("bad"), ask("a"), ask("bad")]
    first, again = cached.reply(requests), cached.reply(requests)
    assert first[1] == ChatFailure("empty", 2, 1)
    assert again[1] == ChatFailure("empty")
    assert [o.text for o in again if isinstance(o, ChatReply)] == ["['a', 'bad'] a"] * 2

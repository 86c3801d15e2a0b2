"""Explanations by an LLM: calls, failures, caching, estimates; imported ones."""

import pytest

from facsynth.chat.cache import CachedChat
from facsynth.chat.model import ChatFailure
from facsynth.chat.scripted import RecordingChat, ScriptedChat
from facsynth.errors import ChatError
from facsynth.records import Span
from facsynth.understand.evidence import Evidence
from facsynth.understand.explain import (
    ExplainSettings,
    Explanation,
    calls_to_explain,
    explain_by_llm,
    score_imported,
)
from facsynth.understand.prompts import PROMPT_VERSION, explanation_request
from planted_texts import oracle
from test_chat_budget import within


def spans(word, n=6, activation=2.0):
    return tuple(Span(f"s{i}", f"no {i} saw ", word, f" at {i}", activation) for i in range(n))


def evidence(feature, word):
    return Evidence(
        feature,
        20,
        spans(word),
        spans("tree", 3, 0.0),
        *[spans(word)] * 1,
        *[spans("sea", 6, 0.0)] * 2,
    )


EVIDENCE = {0: evidence(0, "cat"), 1: evidence(1, "dog")}
BY_TERMS = [
    Explanation(EVIDENCE[0], "cat", "terms", ("cat",)),
    Explanation(EVIDENCE[1], "dog", "terms", ("dog",)),
]


def test_explanation_takes_the_place_of_the_terms_and_says_who_wrote_it():
    found = explain_by_llm(ScriptedChat(oracle, name="writer"), BY_TERMS)
    assert [(e.explanation, e.name, e.method, e.terms) for e in found] == [
        ("cat", "cat", "llm", ("cat",)),
        ("dog", "dog", "llm", ("dog",)),
    ]
    assert {(e.model, e.prompt_version) for e in found} == {("writer", PROMPT_VERSION)}
    assert found[0].fidelity.detection.balanced_accuracy == 1.0


def test_prompt_shows_spans_and_near_misses_but_nothing_that_is_kept_back():
    text = explanation_request(EVIDENCE[0], random_seed=0).messages[1].content
    assert text.count("«cat»") == 6
    assert text.count("tree") == 3
    assert "sea" not in text


def lenient(script):
    """A model of which every reply may fail."""
    return within(ScriptedChat(script), max_failures=1.0)


def test_failed_reply_is_a_failure_and_never_an_explanation():
    def chat(request):
        fails = "cannot_tell" in request.messages[0].content
        return ChatFailure("the server is tired") if fails else oracle(request)

    found = explain_by_llm(lenient(chat), BY_TERMS)
    assert {(e.method, e.explanation, e.failure) for e in found} == {
        ("terms", None, "the server is tired")
    }


def test_model_may_say_that_it_cannot_tell():
    chat = ScriptedChat('{"explanation": "hm", "cannot_tell": true}')
    found = explain_by_llm(chat, BY_TERMS)
    assert [(e.explanation, e.failure) for e in found] == [(None, "the model cannot tell")] * 2


@pytest.mark.parametrize("reply", ["{}", '{"explanation": " "}', '{"text": "cats"}'])
def test_reply_that_says_nothing_is_a_failure_and_not_a_doubt(reply):
    found = explain_by_llm(lenient(reply), BY_TERMS)
    assert {e.explanation for e in found} == {None}
    assert all("there is no explanation" in e.failure for e in found)


def judged_wrongly(request):
    return oracle(request) if "cannot_tell" in request.messages[0].content else '{"matches": [99]}'


def test_unusable_judgement_gives_no_score_and_is_counted():
    found = explain_by_llm(lenient(judged_wrongly), BY_TERMS)
    assert [e.fidelity.detection for e in found] == [None, None]
    assert [e.fidelity.n_failed for e in found] == [36, 36]  # 12 + 12 items, 6 + 3 + 3 marks


def test_judgement_of_a_text_that_is_not_there_counts_as_a_failure():
    with pytest.raises(ChatError, match="the reply names a text that is not there"):
        explain_by_llm(ScriptedChat(judged_wrongly), BY_TERMS)


def test_second_run_makes_no_call(tmp_path):
    first, second = ScriptedChat(oracle), ScriptedChat([])
    one = explain_by_llm(CachedChat(first, tmp_path / "r.sqlite"), BY_TERMS)
    two = explain_by_llm(CachedChat(second, tmp_path / "r.sqlite"), BY_TERMS)
    assert one == two
    assert (len(second.history), len(first.history) > 2) == (0, True)


def test_estimate_counts_the_calls_that_are_made_and_none_that_are_cached(tmp_path):
    settings = ExplainSettings()

    def ahead():
        recorder = RecordingChat("scripted")
        return calls_to_explain(
            lambda chat: explain_by_llm(chat, BY_TERMS, settings=settings),
            recorder,
            CachedChat(recorder, tmp_path / "r.sqlite"),
            settings=settings,
        )

    expected = len(ahead())
    chat = ScriptedChat(oracle)
    explain_by_llm(CachedChat(chat, tmp_path / "r.sqlite"), BY_TERMS, settings=settings)
    assert (len(chat.history), ahead()) == (expected, [])


def test_imported_explanations_are_tested_when_there_is_a_model():
    texts = {0: "cat", 7: "nothing here"}
    alone = score_imported(BY_TERMS, texts)
    assert [(e.method, e.name) for e in alone] == [("imported", "cat"), ("terms", "dog")]
    judged = score_imported(BY_TERMS, texts, chat=ScriptedChat(oracle))
    assert judged[0].fidelity.detection.balanced_accuracy == 1.0


def test_row_has_the_promised_keys():
    row = BY_TERMS[0].row()
    assert set(row) >= {"feature_id", "name", "spans", "fidelity", "doubtful", "failure"}
    assert row["spans"][0]["peak"] == "cat"

"""Judges of relevance, and the audit of a judge."""

import json

import pytest

from activations import make_activations
from facsynth.chat.model import ChatFailure
from facsynth.chat.scripted import ScriptedChat
from facsynth.errors import DataError
from facsynth.records import Span
from facsynth.table.active import active_rows
from facsynth.understand.audit import draw_audit, read_verdicts, score_audit, sheet_text
from facsynth.understand.descriptions import Described
from facsynth.understand.relevance import (
    TASKS,
    Judgements,
    Relevance,
    judge_all,
    judge_by_llm,
    load_rubric,
)
from test_chat_budget import within

SPAN = Span("s", "we saw ", "cat", " again", 2.0)


def active(rows):
    return active_rows(make_activations(rows), threshold=1.0)


def test_grades_are_cut_at_maybe_unless_said_otherwise():
    grades = ["yes", "probably", "maybe", "no", None]
    judged = [Relevance(i, grade, "") for i, grade in enumerate(grades)]
    assert [one.is_relevant() for one in judged] == [True, True, True, False, False]
    assert [one.is_relevant("probably") for one in judged] == [True, True, False, False, False]
    assert judged[2].row(min_grade="yes")["relevant"] is False


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_rubric_that_says_what_does_not_count(task):
    assert "Not relevant" in load_rubric(task)


def test_rubric_may_be_a_file(tmp_path):
    (tmp_path / "mine.txt").write_text("whatever is blue")
    assert load_rubric(str(tmp_path / "mine.txt")) == "whatever is blue"
    with pytest.raises(DataError, match="nor one of toxicity, reward"):
        load_rubric("toxic")


def test_judge_sees_rubric_name_and_spans_and_its_failures_are_recorded():
    chat = ScriptedChat(['{"grade": "maybe", "reason": "a\\nline"}', ChatFailure("no")])
    judged = judge_by_llm(chat, "pets only", [Described(i, "a cat", (SPAN,)) for i in (4, 5)])
    asked = chat.history[0].messages[1].content
    assert all(text in asked for text in ("pets only", "Feature: a cat", "we saw «cat» again"))
    assert [(one.feature_id, one.grade, one.reason) for one in judged] == [
        (4, "maybe", "a line"),
        (5, None, "no"),
    ]


def test_judge_is_not_asked_about_features_that_are_left_out():
    told = Described(4, "a cat", (SPAN,), "a cat", doubtful=True)
    untold = Described(5, "we, cat", (SPAN,), cannot_tell=True)
    reply = ScriptedChat('{"grade": "yes", "reason": ""}')
    judged = Judgements(judge_by_llm(reply, "pets", [untold, told]))
    assert [(one.feature_id, one.grade) for one in judged.found] == [(5, None), (4, "yes")]
    assert (judged.row()["n_left_out"], judged.row()["n_failed"]) == (1, 0)
    judged = judge_by_llm(ScriptedChat([]), "pets", [untold, told], leave_out="doubtful")
    assert [one.grade for one in judged] == [None, None]


def test_unknown_grade_is_asked_again_and_then_a_failure():
    chat = ScriptedChat(json.dumps({"grade": "perhaps", "reason": ""}))
    cat = [Described(0, "a cat", (SPAN,))]
    (judged,) = judge_by_llm(within(chat, max_failures=1.0), "pets", cat)
    assert (judged.grade, len(chat.history)) == (None, 2)
    assert "after one repair" in judged.reason


def test_grade_may_be_written_in_capitals():
    chat = ScriptedChat(json.dumps({"grade": "Yes ", "reason": "a\nline"}))
    (judged,) = judge_by_llm(chat, "pets", [Described(0, "a cat", (SPAN,))])
    assert (judged.grade, judged.reason) == ("yes", "a line")


def test_without_a_judge_every_active_feature_counts():
    assert [one.feature_id for one in judge_all(active([{0: 2.0, 1: 2.0}, {2: 2.0}]))] == [0, 1, 2]


# Audit

DECIDED = {f: f < 20 for f in range(200)}


def test_sheet_holds_kept_and_dropped_features_in_mixed_order():
    drawn = draw_audit(DECIDED, 20)
    assert len(set(drawn)) == 20
    assert sum(DECIDED[f] for f in drawn) == 10
    assert drawn != sorted(drawn)
    assert drawn == draw_audit(DECIDED, 20)


def test_sheet_is_filled_up_where_one_kind_is_rare():
    assert sum(DECIDED[f] for f in draw_audit(DECIDED, 100)) == 20
    assert len(draw_audit(DECIDED, 100)) == 100
    assert len(draw_audit({0: True, 1: False}, 50)) == 2


def test_recall_is_weighted_to_all_features():
    # kept: 8 of 10 relevant; dropped: 1 of 10; 20 kept and 180 dropped in all
    verdicts = {f: f != 0 and f != 1 for f in range(10)} | {f: f == 50 for f in range(50, 60)}
    result = score_audit(DECIDED, verdicts)
    assert result.precision == 0.8
    assert result.recall == pytest.approx(20 * 0.8 / (20 * 0.8 + 180 * 0.1))
    assert result.recall_low < result.recall < result.recall_high
    assert (result.precision_low, result.precision_high) == pytest.approx((0.490, 0.943), abs=1e-3)


def test_filled_sheet_is_read_back(tmp_path):
    text = sheet_text([3, 4, 5], {3: 'a "cat", perhaps'}, {3: ["one", "two"]})
    assert text.splitlines()[0] == "feature_id,verdict,name,texts"
    filled = text.replace("3,,", "3,Yes,").replace("4,,", "4,no,")
    (tmp_path / "sheet.csv").write_text(filled)
    assert read_verdicts(tmp_path / "sheet.csv") == {3: True, 4: False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("feature_id,verdict\n3,\n", "no verdict yet"),
        ("feature_id,verdict\n3,dunno\n", "the verdict is 'dunno'"),
        ("id,verdict\n3,yes\n", "lacks the columns"),
    ],
)
def test_sheet_without_verdicts_is_an_error(tmp_path, text, message):
    (tmp_path / "sheet.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_verdicts(tmp_path / "sheet.csv")


def test_audit_of_one_kind_alone_is_an_error():
    with pytest.raises(DataError, match="an audit needs both"):
        draw_audit({0: True}, 5)
    with pytest.raises(DataError, match="0 dropped"):
        score_audit(DECIDED, {0: True})
    with pytest.raises(DataError, match="never saw"):
        score_audit(DECIDED, {999: True, 1: True})

"""Rows in the shapes of public data sets: what is read, and what is named as not read."""

import json
import re
from pathlib import Path

import pytest

from facsynth.data.fields import FIELDS
from facsynth.data.read import open_samples
from facsynth.data.settings import ReadSettings
from facsynth.data.shapes import PlacedRow, read_row
from facsynth.errors import DataError
from facsynth.records import Message, Sample, ToolCall

USER, ASSISTANT = Message("user", "Hi"), Message("assistant", "Hello")
SYSTEM, REJECTED = Message("system", "Be kind."), Message("assistant", "No")
ASKED = {"role": "user", "content": "Hi"}
TOLD = {"role": "assistant", "content": "Hello"}
TURNS = [ASKED, TOLD]
BAD = {"role": "assistant", "content": "No"}
SHAREGPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
HH = "\n\nHuman: Hi\n\nAssistant:"


def read(row, **settings):
    return read_row(PlacedRow("a.jsonl", "line 1", "a-1", row), ReadSettings(**settings))


def turns(messages):
    return [(message.role, message.content) for message in messages]


# Conversations and answers


@pytest.mark.parametrize(
    "row",
    [
        {"messages": TURNS},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, TOLD]},
        {"messages": [{"role": "User", "content": ["H", "i"]}, TOLD]},
        {"messages": json.dumps(TURNS)},
        {"conversations": SHAREGPT},
        {"conversations": TURNS},
        {"conversations": ["Hi", "Hello"]},
        {"conversation": [{"input": "Hi", "output": "Hello"}]},
        {"data": ["Hi", "Hello"]},
        {"messages": [ASKED], "completion": "Hello"},
        {"messages": None, "prompt": "Hi", "completion": "Hello"},
        {"prompt": [ASKED], "completion": [TOLD]},
        {"prompt": "Hi", "answer": "Hello"},
        {"Prompt": "Hi", "Response": "Hello"},
        {"prompt": HH, "response": " Hello"},
        {"instruction": "Hi", "input": "", "output": "Hello"},
        {"instruction": "Hi", "input": float("nan"), "generation": "Hello"},
        {"instruction": "Hi", "generations": ["Hello", "Hello"]},
        {"question": "Hi", "answers": {"text": ["Hello"], "answer_start": [0]}},
        {"question": "Hi", "context": None, "answer": "Hello"},
        {"problem": "Hi", "solution": "Hello"},
        {"inputs": "Hi", "targets": "Hello"},
        {"input": "Hi", "target": "Hello"},
        {"prompt": "Hi", "text": "Hello"},
        {"prompt": "Hi", "chosen": "Hello"},
    ],
    ids=lambda row: ",".join(row),
)
def test_row_with_an_answer_becomes_two_messages(row):
    assert read(row).sample.messages == (USER, ASSISTANT)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi"},
        {"instruction": "Hi"},
        {"instruction": "Hi", "output": ""},
        {"prompt": "Hi", "completion": " \n"},
        {"messages": [ASKED, {"role": "assistant", "content": ""}]},
        {"messages": [ASKED, {"role": "assistant", "content": None}]},
        {"prompt": "Hi", "chosen": "", "rejected": ""},
    ],
)
def test_row_without_answer_becomes_one_user_message(row):
    assert read(row).sample.messages == (USER,)


def test_input_and_context_stand_below_the_instruction():
    row = {"instruction": "Sum up.", "input": " A text\n", "output": "Short."}
    assert read(row).sample.messages[0].content == "Sum up.\n\n A text\n"
    row = {"question": "When?", "context": "In 1894 it was.", "answer": "1894"}
    assert read(row).sample.messages[0].content == "When?\n\nIn 1894 it was."


def test_instruction_and_question_are_both_asked():
    row = {"instruction": "Answer briefly.", "question": "Why?", "answer": "So."}
    assert read(row).sample.messages[0].content == "Answer briefly.\n\nWhy?"


@pytest.mark.parametrize("given", ["happy", "the word", "happy for the word"])
def test_input_is_kept_where_the_instruction_has_its_words(given):
    row = {"instruction": "Name a synonym of the word happy for the word list", "input": given}
    assert read(row).sample.messages[0].content == f"{row['instruction']}\n\n{given}"


@pytest.mark.parametrize(
    "row",
    [
        {"text": "x", "data": ["a", "b"]},
        {"text": "x", "data": [{"a": "b"}]},
        {"text": "x", "answers": ["a", "b"], "scores": [1, 2]},
        {"text": "x", "prompt": ""},
        {"text": "x", "instruction": " ", "output": ""},
    ],
)
def test_text_beside_lists_and_empty_fields_is_the_text(row):
    assert read(row).sample == Sample("a-1", text="x")


def test_long_text_that_happens_to_hold_the_prompt_is_named():
    note = "Is tea hot? was asked by many people who did not know, and some of them still ask."
    assert read({"prompt": "Is tea hot?", "note": note}).unread == {"note": True}


def test_prompt_that_repeats_instruction_and_input_is_asked_once():
    row = {"instruction": "Sum up.", "input": "A text of ours", "prompt": "Sum up.\nA text of ours"}
    assert turns(read(row).sample.messages) == [("user", row["prompt"])]


@pytest.mark.parametrize("history", [[["A?", "B."], ["C?", "D."]], ["A?", "B.", "C?", "D."]])
def test_history_and_system_stand_in_front(history):
    row = {"instruction": "Hi", "output": "Hello", "system": "Be kind.", "history": history}
    assert turns(read(row).sample.messages) == [
        ("system", "Be kind."),
        *[("user", "A?"), ("assistant", "B."), ("user", "C?"), ("assistant", "D.")],
        *[("user", "Hi"), ("assistant", "Hello")],
    ]


@pytest.mark.parametrize("name", ["system", "system_prompt"])
def test_system_field_is_the_first_message(name):
    assert read({name: "Be kind.", "messages": TURNS}).sample.messages[0] == SYSTEM


def test_system_message_of_the_conversation_stays_the_only_one():
    row = {"system": "Be brief and honest.", "messages": [{**ASKED, "role": "system"}, *TURNS]}
    reading = read(row)
    assert turns(reading.sample.messages)[0] == ("system", "Hi")
    assert reading.unread == {"system": True}


def test_text_is_left_as_it_is():
    assert read({"text": "  a\r\n\u2028b "}).sample.text == "  a\r\n\u2028b "


def test_text_is_read_beside_an_answer_without_a_question():
    assert read({"text": "x", "target": "y"}).sample.text == "x"


# Preference pairs


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": TURNS, "rejected": [ASKED, BAD]},
        {"prompt": "Hi", "chosen": TURNS, "rejected": [ASKED, BAD]},
        {"prompt": "Hi", "chosen": TURNS, "rejected": [ASKED, BAD], "messages": TURNS},
        {"prompt": "Hi", "chosen": "Hello", "rejected": "No"},
        {"instruction": "Hi", "input": "", "chosen": "Hello", "rejected": "No", "output": "Hello"},
        {"prompt": [ASKED], "chosen": [TOLD], "rejected": [BAD]},
        {"messages": [ASKED], "chosen": TOLD, "rejected": BAD},
        {
            "conversations": SHAREGPT[:1],
            "chosen": SHAREGPT[1],
            "rejected": {"from": "gpt", "value": "No"},
        },
        {"messages": TURNS, "chosen": "Hello", "rejected": "No"},
        {
            "input": {"messages": [ASKED]},
            "preferred_output": [TOLD],
            "non_preferred_output": [BAD],
        },
        {"chosen": HH + " Hello", "rejected": HH + " No"},
        {"prompt": HH, "chosen": " Hello", "rejected": " No"},
        {"text": [HH + " Hello", HH + " No"], "score": [1.0, 0.0]},
        {"instruction": "Hi", "input": "", "output": ["Hello", "No"]},
        {"input": "Hi", "output_1": "No", "output_2": "Hello", "label": 2},
        {
            "prompt": "Hi",
            "response_0": "No",
            "response_1": "Hello",
            "better_response_id": 1,
        },
        {"prompt": "Hi", "response_1": "No", "response_2": "Hello", "preference_strength": 2},
        {"history": "Hi", "human_ref_A": "Hello", "human_ref_B": "No", "labels": 1},
        {
            "conversation_a": TURNS,
            "conversation_b": [ASKED, BAD],
            "winner": "model_a",
        },
        {
            "question": {"full_text": "Hi"},
            **{"answer_0": "No", "answer_1": "Hello", "score_0": -1.0, "score_1": 1.0},
        },
        {"prompt": "Hi", "answers": [{"answer": "No", "rank": 2}, {"answer": "Hello", "rank": 1}]},
        {
            "instruction": "Hi",
            "completions": [
                {"response": "No", "overall_score": 2.0},
                {"response": "Hello", "overall_score": 8.5},
            ],
        },
        {"instruction": "Hi", "generations": ["No", "Hello"], "ratings": [1, 5]},
    ],
    ids=lambda row: ",".join(row),
)
def test_two_answers_give_both_conversations(row):
    sample = read(row).sample
    assert (turns(sample.messages), turns(sample.rejected)) == (
        [("user", "Hi"), ("assistant", "Hello")],
        [("user", "Hi"), ("assistant", "No")],
    )
    assert sample.label is None


def test_system_stands_in_front_of_both_answers():
    row = {"system": "Be kind.", "question": "Hi", "chosen": "Hello", "rejected": "No"}
    sample = read(row).sample
    assert sample.messages == (SYSTEM, USER, ASSISTANT)
    assert sample.rejected == (SYSTEM, USER, REJECTED)


def test_answers_between_the_best_and_the_worst_are_named():
    reading = read({"prompt": "Hi", "responses": ["No", "So so", "Hello"], "scores": [1, 2, 3]})
    assert reading.shape == "prompt + ranked answers"
    assert reading.unread == {"responses (1 of 3)": True}


def test_equal_scores_make_no_pair():
    sample = read({"prompt": "Hi", "responses": ["Hello", "No"], "scores": [2, 2]}).sample
    assert (sample.messages, sample.rejected) == ((USER, ASSISTANT), ())


# Tools and reasoning

CALL = {"id": "c1", "type": "function", "function": {"name": "rain", "arguments": '{"in":"Oslo"}'}}


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": [CALL]},
        {"from": "function_call", "value": '{"id":"c1","name":"rain","arguments":{"in":"Oslo"}}'},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", **CALL["function"]}]},
    ],
)
def test_call_is_read_with_its_name_and_arguments(turn):
    (message,) = read({"messages": [turn]}).sample.messages
    assert (message.role, message.content) == ("assistant", "")
    (call,) = message.tool_calls
    assert (call.name, json.loads(call.arguments), call.call_id) == ("rain", {"in": "Oslo"}, "c1")


def test_answer_of_a_tool_keeps_its_call_and_name():
    turn = {"role": "tool", "tool_call_id": "c1", "name": "rain", "content": "yes"}
    anthropic = [{"type": "tool_result", "tool_use_id": "c1", "content": [{"text": "yes"}]}]
    assert read({"messages": [ASKED, turn]}).sample.messages[1] == (
        Message("tool", "yes", tool_call_id="c1", name="rain")
    )
    found = read({"messages": [ASKED, {"role": "user", "content": anthropic}]}).sample.messages[1]
    assert found == Message("tool", "yes", tool_call_id="c1")


@pytest.mark.parametrize("tools", [[{"name": "rain"}], '[{"name": "rain"}]', {"name": "rain"}])
def test_tools_are_kept_in_the_form_of_openai(tools):
    sample = read({"messages": TURNS, "tools": tools}).sample
    assert sample.tools == ('{"type": "function", "function": {"name": "rain"}}',)


def test_prose_about_tools_is_named():
    assert read({"messages": TURNS, "tools": "use what you like"}).unread == {"tools": True}


def test_list_of_calls_as_the_answer_is_read_as_calls():
    row = {"query": "Hi", "answers": '[{"name": "f", "arguments": {}}]', "tools": '[{"name": "f"}]'}
    assert read(row).sample.messages[1].tool_calls == (ToolCall("f", "{}"),)


@pytest.mark.parametrize(
    "turn",
    [
        {**TOLD, "reasoning_content": "Why not."},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Why not."}, "Hello"]},
    ],
)
def test_reasoning_is_kept_beside_the_answer(turn):
    answer = read({"messages": [ASKED, turn]}).sample.messages[1]
    assert (answer.content, answer.reasoning) == ("Hello", "Why not.")
    row = {"prompt": "Hi", "response": "Hello", "reasoning": "Why not."}
    assert read(row).sample.messages[1].reasoning == "Why not."


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (("human", "User", "USER", "prompter", "input"), "user"),
        (("gpt", "chatgpt", "ChatGPT", "bing", "model", "Assistant", "output"), "assistant"),
        (("observation", "tool", "function", "ipython"), "tool"),
        (("system", "developer"), "system"),
    ],
)
def test_speakers_of_public_sets_have_one_of_four_roles(names, role):
    for name in names:
        assert (
            read({"conversations": [{"from": name, "value": "x"}]}).sample.messages[0].role == role
        )


# Labels, ids, named fields


def test_label_and_id_become_strings():
    sample = read({"text": "x", "id": 7, "label": 0}).sample
    assert (sample.sample_id, sample.label) == ("7", "0")


@pytest.mark.parametrize("label", [None, float("nan")])
def test_missing_label_is_no_label(label):
    assert read({"text": "x", "label": label}).sample.label is None


def test_text_field_wins_over_every_shape():
    assert read({"messages": TURNS, "body": "x"}, text_field="body").sample == Sample(
        "a-1", text="x"
    )


def test_label_field_chooses_the_label():
    assert (
        read({"text": "x", "label": "a", "score": 0.5}, label_field="score").sample.label == "0.5"
    )


def test_named_fields_are_read_and_others_are_named():
    row = {"persona": "Be kind.", "wish": "Hi", "grant": "Hello", "text": "A note on this row"}
    reading = read(row, fields="user=wish,assistant=grant,system=persona")
    assert reading.sample.messages == (SYSTEM, USER, ASSISTANT)
    assert reading.unread == {"text": True}


def test_named_pair_is_read():
    row = {"q": "Hi", "good": "Hello", "poor": "No"}
    sample = read(row, fields={"user": "q", "chosen": "good", "rejected": "poor"}).sample
    assert (sample.messages, sample.rejected) == ((USER, ASSISTANT), (USER, REJECTED))


# What was not read


def test_field_with_text_that_is_not_read_is_named_and_metadata_is_not():
    row = {
        **{"instruction": "Hi", "generation": "Hello", "critique": "It is a fine greeting."},
        **{"model_name": "a model of ours", "score": 3, "kind": "short", "empty": ""},
    }
    reading = read(row)
    assert reading.fields == ("instruction", "generation")
    assert reading.unread == {"critique": True, "model_name": False, "score": False, "kind": False}


def test_copy_of_what_was_read_counts_as_read():
    words = [{"role": "user", "content": "Is tea hot?"}, {"role": "assistant", "content": "It is."}]
    row = {"messages": words, "prompt": "Is tea hot?", "text": "### Is tea hot?\n### It is.\n"}
    assert read(row).unread == {}


def test_report_says_shapes_fields_and_what_was_not_read():
    rows = [{"prompt": "Hi", "answer": "Hello", "note": "seen by two people"}] * 3
    stream = open_samples([*rows, {"text": "x"}])
    assert len(list(stream)) == 4
    assert stream.report.sentences() == [
        "read 4 rows: 3 as prompt + answer (fields prompt, answer), 1 as text (fields text)",
        "fields with text or media that were not read: note (3 rows); name them with --fields",
    ]


def test_strict_makes_an_unread_text_an_error():
    rows = [{"prompt": "Hi", "answer": "Hello", "note": "seen by two people"}]
    with pytest.raises(DataError, match="row 1: .*`note` holds text that is not read"):
        list(open_samples(rows, ReadSettings(strict=True)))


# Errors


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"body": "x"},
            "no known fields, such as `messages`, .*found `body`; .*--fields text=body",
        ),
        (
            {"body": "x", "note": "yes"},
            "--fields user=body,assistant=note or --fields text=note",
        ),
        ({}, "no field at all"),
        ({"messages": []}, "found `messages`"),
        ({"messages": "Hi"}, "no known fields"),
        ({"messages": [{"role": "user"}]}, "message 1 of `messages` lacks `content`; found `role`"),
        ({"messages": [{"content": "x"}]}, "message 1 of `messages` lacks `role`"),
        ({"messages": [{"role": "user", "content": None}]}, "lacks `content`"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url"}, {"type": "image_url"}]}
                ]
            },
            r"is not text \(image_url 2\)",
        ),
        (
            {"messages": [{"role": "elf", "content": "x"}, {"role": "orc", "content": "y"}]},
            "unknown roles 'elf', 'orc'; known are system",
        ),
        ({"text": "\ud83d"}, "`text` has an unpaired surrogate"),
        ({"output": "x"}, "an answer without a question; found `output`"),
        ({"messages": [{"role": "assistant", "content": " "}]}, "the row has no text"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "x"}]}]},
            "`name` of a tool call",
        ),
    ],
)
def test_unreadable_row_is_an_error_at_its_line(row, message):
    with pytest.raises(DataError, match=f"a.jsonl, line 1: .*{message}"):
        read(row)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_field": "body"}, "no field `body`; found `text`"),
        ({"label_field": "class"}, "no label field `class`; found `text`"),
        ({"limit": 0}, "limit is 0"),
        ({"sample": 0}, "sample is 0"),
        ({"fields": "user"}, "'user'; write PART=FIELD"),
        ({"fields": "boss=x"}, "unknown part 'boss'; known are user"),
        ({"separator": ";;"}, "must be one character"),
    ],
)
def test_setting_that_does_not_fit_is_an_error(settings, message):
    with pytest.raises(DataError, match=message):
        read({"text": "x"}, **settings)


def test_page_on_data_names_every_field_that_is_read():
    page = (Path(__file__).parent.parent / "docs" / "data.md").read_text()
    names = {name for names in FIELDS.values() for name in names}
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_page_on_formats_names_tests_that_exist():
    page = (Path(__file__).parent.parent / "docs" / "formats.md").read_text()
    tests = "\n".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", page)
    assert len(named) > 40
    assert [name for name in named if f"def {name}(" not in tests] == []

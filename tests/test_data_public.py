"""Rows as public data sets, trainers and servers write them, and what is read of each."""

import json

import pytest

from facsynth.records import Message
from test_data_shapes import read

Q, A, B = "Is tea hot?", "Yes, tea is hot.", "No, tea is never hot."
Q2, A2, S = "And is ice cold?", "Yes, ice is cold.", "You are kind to all."
ASK, TELL, WRONG = (
    {"role": role, "content": words}
    for role, words in (("user", Q), ("assistant", A), ("assistant", B))
)
FOUR = [(ASK, TELL), ({"role": "user", "content": Q2}, {"role": "assistant", "content": A2})]
WORDS = {"q": Q, "a": A, "b": B, "q2": Q2, "a2": A2, "s": S}
ROLES = {"q": "user", "q2": "user", "s": "system", "a": "assistant", "b": "assistant"} | {
    "a2": "assistant"
}
PARTS = [{"text": Q}], [{"text": A}]


def conversation(letters):
    return tuple(Message(ROLES[letter], WORDS[letter]) for letter in letters.split())


CONVERSATIONS = {
    "OpenAI batch": ({"custom_id": "r", "body": {"model": "m", "messages": [ASK]}}, "q"),
    "request log": (
        {"request": {"messages": [ASK]}, "response": {"choices": [{"message": TELL}]}},
        "q a",
    ),
    "OpenAI Responses": (
        {
            "instructions": S,
            "input": [{"role": "user", "content": [{"type": "input_text", "text": Q}]}],
            "output": [
                {"type": "reasoning", "summary": []},
                {"type": "message", "role": "assistant", "content": A},
            ],
        },
        "s q a",
    ),
    "Anthropic": ({"system": [{"type": "text", "text": S}], "messages": [ASK, TELL]}, "s q a"),
    "Bedrock": (
        {
            "system": [{"text": S}],
            "messages": [
                {"role": role, "content": parts}
                for role, parts in zip(("user", "assistant"), PARTS, strict=True)
            ],
        },
        "s q a",
    ),
    "Gemini": (
        {
            "systemInstruction": {"role": "system", "parts": [{"text": S}]},
            "contents": [
                {"role": role, "parts": parts}
                for role, parts in zip(("user", "model"), PARTS, strict=True)
            ],
        },
        "s q a",
    ),
    "Vertex": ({"text_input": Q, "output": A}, "q a"),
    "Cohere": (
        {"messages": [{"role": "User", "content": Q}, {"role": "Chatbot", "content": A}]},
        "q a",
    ),
    "LangSmith": ({"inputs": {"question": Q}, "outputs": {"answer": A}}, "q a"),
    "LangSmith chats": ({"inputs": {"messages": [ASK]}, "outputs": {"output": TELL}}, "q a"),
    "Inspect": ({"input": [ASK], "target": A}, "q a"),
    "Argilla": ({"id": "x", "fields": {"instruction": Q, "response": A}}, "q a"),
    "DeepEval": ({"input": Q, "actual_output": A}, "q a"),
    "Ragas": ({"user_input": Q, "response": A}, "q a"),
    "ToxicChat": ({"user_input": Q, "model_output": A, "toxicity": 0}, "q a"),
    "Nemotron": ({"input": [ASK], "output": A, "reasoning": "on", "system_prompt": ""}, "q a"),
    "Glaive": (
        {
            "system": S,
            "chat": f"USER: {Q}\n\n\nASSISTANT: {A} <|endoftext|>\n\n\n"
            f"USER: {Q2}\n\n\nASSISTANT: {A2}",
        },
        "s q a q2 a2",
    ),
    "OASST tree": (
        {
            "prompt": {
                **{"text": Q, "role": "prompter"},
                "replies": [
                    {"text": B, "role": "assistant", "rank": 1, "replies": []},
                    {"text": A, "role": "assistant", "rank": 0, "replies": []},
                ],
            }
        },
        "q a",
    ),
    "Capybara, unanswered": ({"conversation": [{"input": Q, "output": None}]}, "q"),
    "MultiWOZ": (
        {
            "turns": [
                {"speaker": "USER", "utterance": Q},
                {"speaker": "SYSTEM", "utterance": A},
            ]
        },
        "q a",
    ),
    "MT-Bench": ({"question_id": 81, "turns": [Q, Q2]}, "q q2"),
    "MT-Bench on the Hub": ({"prompt": [Q, Q2], "reference": []}, "q q2"),
    "Arena Hard": ({"uid": "x", "turns": [{"content": Q}]}, "q"),
    "chat history": ({"chat_history": [ASK, TELL], "prompt": Q2, "response": A2}, "q a q2 a2"),
    "P3": ({"inputs": [1], "inputs_pretokenized": Q, "targets_pretokenized": A}, "q a"),
    "TruthfulQA": ({"question": Q, "best_answer": A, "correct_answers": [A]}, "q a"),
    "answer in content": ({"input": Q, "content": A, "score": 1}, "q a"),
    "Alpaca with its template": (
        {
            "instruction": Q,
            "input": "",
            "output": A,
            "text": "Below is an instruction that describes a task. Write a response that "
            f"completes it.\n\n### Instruction:\n{Q}\n\n### Response:\n{A}",
        },
        "q a",
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_row_is_read_whole(name):
    row, letters = CONVERSATIONS[name]
    found = read(row)
    assert found.sample.messages == conversation(letters)
    assert not found.sample.rejected
    left = {"prompt (1 other replies)"} if name == "OASST tree" else set()
    assert {field for field, is_text in found.unread.items() if is_text} == left


PAIRS = {
    "HelpSteer3": {"context": [ASK], "response1": A, "response2": B, "overall_preference": -2},
    "HelpSteer2, floating": {
        **{"prompt": Q, "response_1": B, "response_2": A},
        "preference_strength": 2.0,
    },
    "RewardBench 2": {"prompt": Q, "chosen": [A], "rejected": [B, "Nobody knows."]},
    "StackExchange": {"question": Q, "response_j": A, "response_k": B},
    "H4 StackExchange": {
        "question": Q,
        "answers": [{"text": B, "pm_score": 0}, {"text": A, "pm_score": 5}],
    },
    "GPT-4 comparisons": {
        "user_input": Q,
        "responses_and_scores": [{"response": A, "score": 9}, {"response": B, "score": 3}],
    },
    "LMSYS 55k": {
        **{"prompt": json.dumps([Q]), "response_a": json.dumps([B]), "winner_tie": 0},
        **{"response_b": json.dumps([A]), "winner_model_a": 0, "winner_model_b": 1},
    },
    "ms-swift": {"messages": [ASK, TELL], "rejected_response": B},
    "ms-swift, whole": {"messages": [ASK, TELL], "rejected_messages": [ASK, WRONG]},
    "ms-swift, queries": {"query": Q, "response": A, "rejected_response": B},
    "Capybara DPO": {
        "conversation": [{"input": Q, "output": None}],
        **{"chosen": [ASK, TELL], "rejected": [ASK, WRONG]},
    },
    "Arena, parts": {
        "winner": "model_a",
        **{
            f"conversation_{side}": [ASK, {"role": "assistant", "content": [part]}]
            for side, part in (
                ("a", {"type": "text", "text": A, "image": None}),
                ("b", {"type": "text", "text": B, "image": None}),
            )
        },
    },
}


@pytest.mark.parametrize("name", PAIRS)
def test_pair_is_read_with_the_better_answer_first(name):
    found = read(PAIRS[name])
    assert found.sample.messages == conversation("q a")
    assert found.sample.rejected == conversation("q b")
    left = {"rejected (1 of 2)"} if name == "RewardBench 2" else set()
    assert found.unread.keys() - {"winner_model_b", "winner_tie", "overall_preference"} == left


CALL = {"name": "get", "arguments": '{"city": "Rome"}'}
CALLED = {
    "OpenAI Responses": [
        {"type": "function_call", "call_id": "c", **CALL},
        {"type": "function_call_output", "call_id": "c", "output": "20"},
    ],
    "Gemini": [
        {"role": "model", "parts": [{"functionCall": {"name": "get", "args": {"city": "Rome"}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "get", "response": {"t": 20}}}]},
    ],
    "Bedrock": [
        {
            "role": "assistant",
            "content": [
                {"toolUse": {"toolUseId": "c", "name": "get", "input": {"city": "Rome"}}},
            ],
        },
        {
            "role": "user",
            "content": [{"toolResult": {"toolUseId": "c", "content": [{"json": {"t": 20}}]}}],
        },
    ],
}


@pytest.mark.parametrize("server", CALLED)
def test_calls_of_other_servers_are_read_with_their_answers(server):
    found = read({"messages": [ASK, *CALLED[server], TELL]}).sample.messages
    assert [message.role for message in found] == ["user", "assistant", "tool", "assistant"]
    assert (found[1].tool_calls[0].name, found[1].tool_calls[0].arguments) == tuple(CALL.values())
    assert "20" in found[2].content


def test_steps_of_an_answer_are_one_answer():
    row = {"prompt": Q, "completions": ["Water boils.", "Tea is water."], "labels": [True, False]}
    found = read(row)
    assert found.sample.messages[1].content == "Water boils.\nTea is water."
    assert not any(found.unread.values())


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"question": Q, "choices": ["hot", "cold"], "answer": 1}, "cold"),
        ({"question": Q, "choices": ["hot", "cold"], "answer": 7}, "7"),
        ({"problem": Q, "answer": 42}, "42"),
        ({"question": Q, "passage": "x", "answer": True}, "True"),
    ],
)
def test_number_as_an_answer_is_itself_or_the_option_that_it_names(row, answer):
    assert read(row).sample.messages[-1] == Message("assistant", answer)


def test_words_that_switch_reasoning_on_are_no_reasoning():
    found = read({"prompt": Q, "response": A, "reasoning": "on"})
    assert found.sample.messages[1].reasoning is None
    assert found.unread == {"reasoning": False}


def test_objects_and_lists_are_no_labels():
    found = read({"prompt": Q, "label": {"ability": ["reading of long texts"]}})
    assert (found.sample.label, found.unread) == (None, {"label": True})


def test_images_beside_the_text_are_named():
    assert read({"messages": [ASK, TELL], "images": ["a.png"]}).unread == {"images": True}


def test_source_as_long_as_a_passage_is_named():
    row = {"question": Q, "answer": A, "source": "A book on tea and its history. " * 9}
    assert read(row).unread == {"source": True}
    assert read(row | {"source": "a book on tea"}).unread == {"source": False}


def test_named_fields_may_lie_within_others():
    row = {"meta": {"id": 7, "note": "some words of a person"}, "turn": [{"ask": Q}, {"tell": A}]}
    found = read(row, fields="user=turn.0.ask,assistant=turn.1.tell")
    assert found.sample.messages == conversation("q a")
    assert found.unread == {"meta": True}


def test_envelope_that_repeats_a_field_stays_closed():
    found = read({"text": "some words of mine", "data": {"text": "other words of mine"}})
    assert (found.sample.text, found.unread) == ("some words of mine", {"data": True})


OTHERS = {
    "columns": ({"messages": {"role": ["user", "assistant"], "content": [Q, A]}}, "q a"),
    "transcript": ({"conversation": f"Human: {Q}\nAssistant: {A}"}, "q a"),
    "HH in a conversation": ({"dialogue": f"\n\nHuman: {Q}\n\nAssistant: {A}"}, "q a"),
    "humps": ({"systemPrompt": S, "userMessage": Q, "assistantMessage": A}, "s q a"),
    "evals": ({"input": [ASK], "ideal": A}, "q a"),
    "model_response": ({"prompt": Q, "model_response": A}, "q a"),
    "solution before its number": ({"problem": Q, "solution": A, "answer": "7"}, "q a"),
    "several answers": ({"question": Q, "answer": [A, A2]}, "q a"),
    "refusal": (
        {"messages": [ASK, {"role": "assistant", "content": [{"type": "refusal", "refusal": A}]}]},
        "q a",
    ),
    "proxy log": (
        {"request_body": {"messages": [ASK]}, "response_body": {"choices": [{"message": TELL}]}},
        "q a",
    ),
    "evaluation log": ({"doc": {"question": Q, "answer": A}, "target": "7"}, "q a"),
    "battle of letters": (
        {"prompt": Q, "response_a": B, "response_b": A, "preference": "B"},
        "q a",
    ),
    "ranked conversations": (
        {
            "context": [ASK],
            "completions": [
                {"rank": 1, "completion": [WRONG]},
                {"rank": 0, "completion": [TELL]},
            ],
        },
        "q a",
    ),
    "UltraInteract": (
        {"trajectory": [{"from": "user", "value": Q}], "chosen": A, "rejected": B},
        "q a",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_row_in_another_spelling_is_read(name):
    row, letters = OTHERS[name]
    assert read(row).sample.messages == conversation(letters)


def test_list_of_calls_that_is_no_text_is_read_as_calls():
    row = {"query": Q, "answers": [{"name": "get", "arguments": {}}], "tools": [{"name": "get"}]}
    assert read(row).sample.messages[1].tool_calls[0].name == "get"


def test_answer_of_a_tool_may_be_an_object():
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "get", "arguments": "{}"}}]}
    row = {"messages": [ASK, call, {"role": "tool", "content": {"t": 20}}]}
    assert read(row).sample.messages[2].content == '{"t": 20}'


def test_marks_of_answers_that_are_not_trained_on_are_named():
    row = {"messages": [ASK | {"weight": 0}, WRONG | {"weight": 0}, ASK, TELL | {"weight": 1}]}
    assert read(row).unread == {"messages (marks that 1 turns are not trained on)": True}


def test_name_of_who_wrote_a_text_is_not_asked():
    assert read({"user": "U7", "text": Q}).sample.text == Q


@pytest.mark.parametrize("part", ["context", "input", "question"])
def test_a_text_with_another_column_stays_a_text(part):
    sample = read({"text": "The text is here.", part: "Other words.", "label": 1}).sample
    assert (sample.text, sample.messages, sample.label) == ("The text is here.", (), "1")


def test_system_message_beside_a_text_and_a_list_of_labels_are_named_as_unread():
    found = read({"text": "Tea is hot.", "system": "Be kind to all.", "label": ["a", "b"]})
    assert found.sample.text == "Tea is hot."
    assert found.unread == {"system": True, "label": True}
    assert found.fields == ("text",)

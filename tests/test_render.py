"""Where messages stand in rendered samples, by the chat templates that TRL ships."""

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from facsynth.errors import DataError
from facsynth.models.render import render_sample
from facsynth.records import Message, Sample, ToolCall, fold_system
from tiny import make_tokenizer

SHIPPED = Path(find_spec("trl").origin).parent / "chat_templates"
TEMPLATES = sorted(f.stem for f in SHIPPED.glob("*.jinja") if "training" not in f.name)
WORDS = {
    "system": "Be brief and kind.",
    "user": "What is tea made of?",
    "assistant": "Tea is made of leaves.",
    "tool": '{"answer": "leaves"}',
}
THOUGHT = "The user asks about tea."
PATTERNS = [
    "user",
    "user assistant",
    "system user assistant",
    "system user",
    "system assistant",
    "system system user assistant",
    "user assistant user assistant",
    "system user assistant user assistant",
    "user user assistant",
    "user assistant assistant",
    "user assistant tool assistant",
    "assistant",
    "assistant user",
]
PLAIN = ["user", "user assistant", "user assistant user assistant", "system user assistant"]
"""Conversations that every template has to read."""


@cache
def tokenizer(template):
    made = make_tokenizer()
    made.chat_template = (SHIPPED / f"{template}.jinja").read_text()
    return made


def conversation(pattern, *, thinking=False):
    before = f"<think>\n{THOUGHT}\n</think>\n\n" if thinking else ""
    messages = [
        Message(role, f"{before if role == 'assistant' else ''}{WORDS[role]} {i}")
        for i, role in enumerate(pattern.split())
    ]
    return Sample("a", messages=tuple(messages))


def found_texts(sample, template):
    rendered = render_sample(sample, tokenizer(template))
    return [[rendered.text[a:b] for a, b in spans] for spans in rendered.spans]


@pytest.mark.parametrize("template", TEMPLATES)
def test_contents_are_found_exactly_or_the_sample_is_refused_in_one_line(template):
    for pattern in PATTERNS:
        sample = conversation(pattern)
        try:
            found = found_texts(sample, template)
        except DataError:
            assert pattern not in PLAIN
            continue
        words = [[m.content] for m in sample.messages]
        quoted = [[json.dumps(m.content)[1:-1]] for m in sample.messages]  # tool results in Llama 3
        assert all(f in (w, q) for f, w, q in zip(found, words, quoted, strict=True))


def test_a_refused_sample_is_named():
    with pytest.raises(DataError, match="refuses sample 'a' with the roles assistant: Conv"):
        found_texts(conversation("assistant"), "gemma")


@pytest.mark.parametrize("template", TEMPLATES)
def test_an_answer_is_found_behind_its_thinking(template):
    for pattern in PLAIN:
        sample = conversation(pattern, thinking=True)
        for message, found in zip(sample.messages, found_texts(sample, template), strict=True):
            answer = message.content.rpartition("</think>\n\n")[2]
            assert found in ([message.content], [THOUGHT, answer], [answer])


TOOL = json.dumps({"type": "function", "function": {"name": "get_weather", "parameters": {}}})
CALL = ToolCall("get_weather", '{"city": "Oslo", "days": 3, "at": {"noon": true}}', "abcdefgh1")
NO_TOOL_TURN = {"cohere", "cohere2", "gemma", "gemma3", "llava_next", "phi3", "phi3_5"}
"""Templates that refuse or drop what a tool answers."""


def tool_sample(reasoning=None):
    called = Message("assistant", "", reasoning=reasoning, tool_calls=(CALL,))
    result = Message("tool", '{"rain":true}', tool_call_id="abcdefgh1", name="get_weather")
    said = Message("assistant", "Yes, take an umbrella.", reasoning=reasoning)
    return Sample("a", (Message("user", "Is it raining?"), called, result, said), tools=(TOOL,))


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("reasoning", [None, THOUGHT])
def test_names_and_arguments_of_calls_are_found_or_the_sample_is_refused(template, reasoning):
    if template in NO_TOOL_TURN:
        with pytest.raises(DataError, match="sample 'a'"):
            found_texts(tool_sample(reasoning), template)
        return
    found = found_texts(tool_sample(reasoning), template)[1]
    assert set(found) >= {"get_weather"}
    words = {"city", "Oslo", "days", "3", "at", "noon", "true"}
    assert CALL.arguments in found or words <= set(found)
    assert "".join(found).replace(THOUGHT, "").count("get_weather") == 1


@pytest.mark.parametrize("template", sorted({*TEMPLATES} - NO_TOOL_TURN))
def test_reasoning_is_found_and_told_apart_or_counted(template):
    rendered = render_sample(tool_sample(THOUGHT), tokenizer(template))
    found = [rendered.text[a:b] for a, b in rendered.reasoning]
    assert set(found) <= {THOUGHT}
    assert (len(found) < 2) == ("reasoning" in rendered.left_out)


def test_calls_stand_in_the_words_where_the_template_knows_no_tools():
    sample = tool_sample()
    rendered = render_sample(sample, make_tokenizer("chatml"))
    assert f'"get_weather", "arguments": {CALL.arguments}}}<|im_end|>' in rendered.text
    assert rendered.left_out == ("tools",)


def test_a_tokenizer_without_template_reads_reasoning_and_calls():
    made = make_tokenizer()
    made.chat_template = None
    rendered = render_sample(tool_sample(THOUGHT), made)
    assert f'{THOUGHT}\n\n{{"name": "get_weather"' in rendered.text
    assert [rendered.text[a:b] for a, b in rendered.reasoning] == [THOUGHT, THOUGHT]


def test_thinking_at_the_head_of_an_answer_is_reasoning():
    rendered = render_sample(conversation("user assistant", thinking=True), tokenizer("qwen3"))
    [(start, end)] = rendered.reasoning
    assert rendered.text[start:end] == f"<think>\n{THOUGHT}\n</think>"


def test_thinking_that_stands_unchanged_is_scored_as_one_content():
    sample = conversation("user assistant", thinking=True)
    assert found_texts(sample, "qwen3")[1] == [sample.messages[1].content]


def test_a_system_message_that_a_template_refuses_is_read_in_the_first_user_turn():
    rendered = render_sample(conversation("system user assistant"), tokenizer("gemma"))
    assert "Be brief and kind. 0\n\nWhat is tea made of? 1<end_of_turn>" in rendered.text
    assert found_texts(conversation("system user assistant"), "gemma")[:2] == [
        ["Be brief and kind. 0"],
        ["What is tea made of? 1"],
    ]


@pytest.mark.parametrize("trim", ["", " | trim"])
@pytest.mark.parametrize(
    ("system", "user"),
    [(" Be kind. ", "Hi?"), ("\nBe kind.", " Hi? "), ("Be kind.", ""), ("  ", "Hi?"), ("", "")],
)
def test_folded_messages_keep_their_own_words(trim, system, user):
    made = make_tokenizer()
    refuse = "{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
    made.chat_template = (
        f"{{% for m in messages %}}{refuse}<{{{{ m.content{trim} }}}}{{% endfor %}}"
    )
    messages = (Message("system", system), Message("user", user))
    rendered = render_sample(Sample("a", messages=messages), made)
    found = ["".join(rendered.text[a:b] for a, b in spans).strip() for spans in rendered.spans]
    assert found == [system.strip(), user.strip()]


def test_an_empty_message_has_no_words_and_its_neighbours_keep_theirs():
    messages = (Message("user", "What is tea?"), Message("assistant", " "))
    found = found_texts(Sample("a", messages=messages), "qwen3")
    assert found[0] == ["What is tea?"]
    assert "".join(found[1]).strip() == ""


def test_a_content_that_only_repeats_the_template_is_found_in_its_place():
    messages = (Message("user", "user"), Message("assistant", "<think>\na\n</think>\n\nassistant"))
    found = found_texts(Sample("a", messages=messages), "qwen3")
    assert found == [["user"], ["<think>\na\n</think>\n\nassistant"]]


def test_folding_needs_a_user_turn():
    with pytest.raises(DataError, match="no user turn follows"):
        fold_system([Message("system", "Be kind."), Message("assistant", "Yes.")])

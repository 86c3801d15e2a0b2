"""Samples for property tests, drawn as plain values.

Records are built in the test: the run-time checker draws random numbers for their tuples, which
strategies may not do.
"""

import json

from hypothesis import strategies as st

from facsynth.records import Message, Sample, ToolCall

WORDS = st.text(min_size=1).filter(str.strip)
CALLS = st.lists(st.tuples(st.text("abc", min_size=1), st.just('{"x": 1}'), st.none() | WORDS))
ASKED = st.tuples(st.just("user"), WORDS)
TOLD = st.tuples(st.just("assistant"), WORDS)
TURN = st.one_of(
    st.tuples(st.sampled_from(["system", "user", "tool"]), st.text()),
    st.tuples(st.just("assistant"), st.text(), st.none() | WORDS, CALLS),
)
CONVERSATION = st.tuples(st.lists(TURN, max_size=3), TOLD).map(lambda t: [*t[0], t[1]])
LABEL = st.none() | st.text(max_size=5)
TOOLS = st.lists(st.text("abc", min_size=1), max_size=2)
ANY = st.one_of(
    st.fixed_dictionaries({"messages": CONVERSATION, "tools": TOOLS, "label": LABEL}),
    st.fixed_dictionaries({"text": st.text(), "label": LABEL}),
    st.fixed_dictionaries({"messages": CONVERSATION, "rejected": CONVERSATION, "tools": TOOLS}),
)
ANSWERED = st.fixed_dictionaries({"messages": CONVERSATION, "tools": TOOLS})
PAIR = st.tuples(ASKED, TOLD, TOLD).map(
    lambda t: {"messages": [t[0], t[1]], "rejected": [t[0], t[2]]}
)


def named(contents):
    """One to four samples, by their ids."""
    return st.dictionaries(st.text(min_size=1, max_size=8), contents, min_size=1, max_size=4)


def message(role, content, reasoning=None, calls=()):
    return Message(role, content, reasoning, tuple(ToolCall(*call) for call in calls))


def samples_of(drawn):
    return [sample(sample_id, **content) for sample_id, content in drawn.items()]


def sample(sample_id, *, messages=(), rejected=(), tools=(), **others):
    forms = ({"type": "function", "function": {"name": tool}} for tool in tools)
    return Sample(
        sample_id,
        messages=tuple(message(*turn) for turn in messages),
        rejected=tuple(message(*turn) for turn in rejected),
        tools=tuple(json.dumps(form) for form in forms),
        **others,
    )

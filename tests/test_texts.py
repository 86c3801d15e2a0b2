"""What is shown of an anchor sample as an example."""

import pytest

from facsynth.records import Message, Sample, Span
from facsynth.synthesize.texts import shown_text

TEXT = "One is here. Two are there. Three sit down. Four stand up."


def span(before, peak, after=""):
    return Span("s", before, peak, after, 2.0)


def shown(text, around=None, *, max_words):
    return shown_text(Sample("s", text=text), around, max_words)


def test_short_text_is_shown_whole_with_its_lines():
    assert shown("a cat\nand a dog", span("a", " cat"), max_words=5) == "a cat\nand a dog"


@pytest.mark.parametrize(
    ("max_words", "expected"),
    [
        (3, "Three sit down."),
        (6, "Three sit down. Four stand up."),
        (11, "Two are there. Three sit down. Four stand up."),
    ],
)
def test_of_a_long_text_whole_sentences_around_the_peak_are_shown(max_words, expected):
    assert shown(TEXT, span(" there. Three", " sit", " down"), max_words=max_words) == expected


def test_span_is_shown_where_its_sentence_is_too_long():
    text = "one two three four five six seven. Eight."
    assert shown(text, span(" three", " four", " five"), max_words=4) == "three four five"


def test_beginning_is_shown_without_a_span():
    assert shown(TEXT, max_words=7) == "One is here. Two are there."


def test_question_is_shown_where_the_peak_is_in_the_answer():
    sample = Sample("s", messages=(Message("user", "a cat?"), Message("assistant", "It is.")))
    assert shown_text(sample, span("It", " is"), 9) == "a cat?"


def test_message_with_the_peak_is_shown_of_several():
    turns = (Message("user", "hello"), Message("assistant", "hi"), Message("user", "a cat?"))
    assert shown_text(Sample("s", messages=turns), span("a", " cat"), 9) == "a cat?"

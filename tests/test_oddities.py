"""What is odd in the text of a data set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facsynth.compare.oddities import find_oddities, text_lengths
from facsynth.records import Sample
from tiny_pair import talk

ANSWER = (
    "It was a long day, and nobody in the old town could say where all the time had gone by then"
)


def odd(samples):
    return {one.what: one for one in find_oddities(samples)}


def test_a_token_at_the_end_of_all_answers_is_found_with_its_text():
    samples = [talk(str(i), f"question {i}?", f"answer {i} here.###eos_token###") for i in range(9)]
    one = odd(samples)["answers end alike"]
    assert (one.n_samples, one.n_all, one.example) == (9, 9, " here.###eos_token###")


def test_a_template_around_all_questions_is_found():
    samples = [talk(str(i), f"Answer the following: {i * 7}", f"{i} is it.") for i in range(9)]
    assert odd(samples)["questions begin alike"].example.startswith("Answer the following: ")


def test_a_common_end_of_some_samples_is_told_with_their_number():
    tails = [" Thank you so much!" if i < 4 else f" {i * 31}{i}." for i in range(10)]
    samples = [
        talk(str(i), f"{i * 17} or {i}?", f"{i * 13} x{tail}") for i, tail in enumerate(tails)
    ]
    one = odd(samples)["answers end alike"]
    assert (one.n_samples, one.n_all) == (4, 10)
    assert "Thank you so much!" in one.example


def test_answers_that_stop_within_a_sentence_are_counted_among_the_long_ones():
    ends = [f" {i}." if i > 3 else "" for i in range(8)]
    samples = [talk(str(i), f"q{i}", f"{i} {ANSWER}{end}") for i, end in enumerate(ends)]
    samples += [talk("short", "q", "Paris")]
    one = odd(samples)["answers of 20 words and more stop within a sentence"]
    assert (one.n_samples, one.n_all, one.sample_id) == (4, 8, "0")


def test_lists_and_code_may_end_without_a_full_stop():
    samples = [talk(str(i), f"q{i}", f"{i} {ANSWER}:\n- one\n- two and three") for i in range(9)]
    assert not [what for what in odd(samples) if "stop within" in what]


def test_repeated_samples_are_told_apart_from_near_copies():
    text = "the quick brown fox jumps over the lazy dog and runs to the far end of the wood"
    texts = [text, text, f"{text} again", "nothing of the kind is said in here at all, or is it"]
    found = odd([Sample(str(i), text=one) for i, one in enumerate(texts)])
    assert found["samples repeat an earlier one word for word"].n_samples == 1
    near = found["samples are near-copies of earlier ones"]
    assert (near.n_samples, near.sample_id) == (1, "2")


def test_some_samples_without_an_answer_are_odd_and_a_set_of_prompts_is_not():
    some = [talk("a", "why?", "so."), talk("b", "how?")]
    assert odd(some)["samples have no answer"].sample_id == "b"
    assert odd([talk("a", "why?"), talk("b", "how?")]) == {}


@pytest.mark.parametrize("samples", [[], [Sample("a", text="one text alone")]])
def test_nothing_is_odd_in_next_to_nothing(samples):
    assert find_oddities(samples) == []


@given(st.lists(st.text(max_size=40), max_size=12))
def test_counts_never_exceed_the_samples(texts):
    samples = [Sample(str(i), text=text) for i, text in enumerate(texts)]
    for one in find_oddities(samples):
        assert 0 < one.n_samples <= one.n_all <= len(samples)


def test_samples_in_letters_that_are_not_the_usual_ones_are_counted():
    texts = ["what is this here", "and what is that", "что это такое", "is it что", "42"]
    found = odd([Sample(str(i), text=one) for i, one in enumerate(texts)])
    one = found["samples are mostly not in Latin letters"]
    assert (one.n_samples, one.n_all, one.sample_id) == (1, 5, "2")


def test_japanese_is_one_language_in_three_scripts():
    texts = ["これはひらがなです", "漢字東京大学", "カタカナデス"]
    assert not odd([Sample(str(i), text=one) for i, one in enumerate(texts)])


def test_lengths_are_told_of_questions_answers_and_texts():
    samples = [talk(str(n), "how " * n, "so " * 2 * n) for n in (1, 2, 9)]
    assert text_lengths(samples) == (
        "the middle question has 2 words, the longest 9; "
        "the middle answer has 4 words, the longest 18"
    )
    assert text_lengths([Sample("a", text="one two")]).startswith("the middle text has 2 words")

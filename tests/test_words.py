"""Words of a text, in scripts with and without spaces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facsynth.words import count_words, find_words, is_word, split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("We saw 42_km — o’clock, don't!", ["we", "saw", "42", "km", "o’clock", "don't"]),
        ("हिन्दी में लिखो", ["हिन्दी", "में", "लिखो"]),
        ("カレーが好き", ["カ", "レ", "ー", "が", "好", "き"]),
        ("안녕 세계", ["안녕", "세계"]),
        ("ÜBER e\u0301tude", ["über", "étude"]),
        ("", []),
        ("___ …", []),
    ],
)
def test_words_are_split_by_script(text, words):
    assert split_words(text) == words


def test_marks_are_found_as_words_of_their_own():
    assert [word for word, _, _ in find_words("no!? (yes)")] == ["no", "!?", "(", "yes", ")"]
    assert [is_word(word) for word in ("no", "5", "!?", "")] == [True, True, False, False]


@given(st.text())
def test_words_stand_where_they_are_said_to_stand(text):
    found = list(find_words(text))
    assert all(start < end for _, start, end in found)
    assert all(a[2] <= b[1] for a, b in zip(found, found[1:], strict=False))
    assert all(split_words(text[start:end]) in ([word], []) for word, start, end in found)


@given(st.text(st.characters(max_codepoint=127)) | st.text("aB9'_. \n"))
def test_plain_text_has_the_same_words_on_the_quick_path(text):
    assert split_words(text) == [word for word, _, _ in find_words(text) if is_word(word)]


def test_words_are_counted_without_punctuation():
    assert count_words("Well - don't you, “Zoë”, think so?") == 6

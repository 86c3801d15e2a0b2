"""Names of features from the words of their spans."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facsynth.records import Message, Sample, Span, sample_text
from facsynth.understand.names import count_words, name_feature
from facsynth.understand.spans import collect_spans
from tiny_pair import PLANTED, THE, WEAK, planted_pair, planted_table, talk

SAMPLES = [
    talk(f"{verb}-{word}", f"the {place} and the {word} {verb} near the road")
    for word in [*PLANTED, *WEAK]
    for place, verb in (("house", "found"), ("table", "took"), ("tree", "gave"))
]
BACKGROUND = {"the": 400, "and": 200, "saw": 60, "house": 12, "cat": 3, "comet": 3}


def span(before, peak, after, activation=2.0):
    return Span("s", before, peak, after, activation)


@pytest.fixture(scope="module")
def spans(tmp_path_factory):
    table = planted_table(SAMPLES, tmp_path_factory.mktemp("names") / "table")
    tokenizer = planted_pair()[0].tokenizer
    features = range(THE + 1)
    return collect_spans(
        SAMPLES, table.activations(), tokenizer, features, score="all", max_tokens=64
    )


@pytest.mark.parametrize("feature", range(len(PLANTED)))
def test_name_is_the_planted_words_and_no_frequent_word(spans, feature):
    words = name_feature(spans[feature], count_words(SAMPLES)).split(", ")
    assert words[:2] == [PLANTED[feature], WEAK[feature]]
    assert "the" not in words


def test_feature_that_is_about_a_frequent_word_is_named_by_it(spans):
    assert name_feature(spans[THE], count_words(SAMPLES)).split(", ")[0] == "the"


def test_word_beside_every_peak_names_the_feature_too():
    found = [span("the comet ", word, " and the house") for word in ("passed", "fell", "shone")]
    assert "comet" in name_feature(found, BACKGROUND, n_words=4).split(", ")


@pytest.mark.parametrize(
    ("before", "peak", "after", "word"),
    [
        ("it is un", "believ", "able", "unbelievable"),
        ("we saw", " Cat", "s here", "cats"),
        ("I do", "n't", " know", "don't"),
        ("well", "!?", " no", "!?"),
        ("Ünder dem ", "Stra", "ße", "straße"),
    ],
)
def test_peak_counts_as_the_whole_word_that_it_is_part_of(before, peak, after, word):
    assert name_feature([span(before, peak, after)], BACKGROUND, n_words=1) == word


def test_strong_spans_weigh_more_than_weak_ones():
    found = [span("a ", "comet", "", 8.0), span("a ", "cat", "", 1.0), span("b ", "cat", "", 1.0)]
    assert name_feature(found, BACKGROUND).split(", ")[0] == "comet"


def test_name_has_as_many_words_as_asked_for():
    found = [span("", word, "") for word in ("comet", "star", "moon", "sun")]
    assert len(name_feature(found, BACKGROUND, n_words=2).split(", ")) == 2


def test_word_that_fills_the_whole_anchor_still_names_its_feature():
    found = [span("cat ", "cat", " cat dog")]
    assert name_feature(found, {"cat": 100, "dog": 1})


def test_no_spans_and_no_words_are_said_so():
    assert name_feature([], BACKGROUND) == "(no spans)"
    assert name_feature([span("\n", "\n\n", " ")], BACKGROUND) == "(no words)"


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=4), st.text(max_size=8))))
def test_name_is_never_empty(pieces):
    found = [span(*texts) for texts in pieces]
    assert name_feature(found, BACKGROUND)


def test_words_are_counted_in_lower_case_over_all_messages():
    counts = count_words([talk("a", "The cat, the", "THE sea"), Sample("b", text="Cat's")])
    assert (counts["the"], counts["cat"], counts["cat's"], counts[","]) == (3, 1, 1, 1)


def test_text_of_a_sample_is_its_text_or_its_contents():
    assert sample_text(Sample("a", text="plain")) == "plain"
    assert sample_text(talk("b", "asked", "answered")) == "asked\nanswered"
    assert sample_text(Sample("c", messages=(Message("user", ""),))) == ""

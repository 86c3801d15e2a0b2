"""Names of features from the words of their spans."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facsynth.records import Message, Sample, Span, sample_text
from facsynth.understand.names import (
    TermCounts,
    _log_odds_z,
    count_terms,
    name_feature,
    name_terms,
    name_topic,
    peak_word,
    terms_of,
)
from facsynth.understand.spans import ReadTable, collect_spans
from tiny_pair import PLANTED, THE, WEAK, planted_pair, planted_table, talk

SAMPLES = [
    talk(f"{verb}-{word}", f"the {place} and the {word} {verb} near the road")
    for word in [*PLANTED, *WEAK]
    for place, verb in (("house", "found"), ("table", "took"), ("tree", "gave"))
]
COUNTS = {"the": 400, "and": 200, "saw": 60, "house": 12, "cat": 3, "comet": 3}
BACKGROUND = TermCounts(COUNTS, {}, sum(COUNTS.values()))


def span(before, peak, after, activation=2.0):
    return Span("s", before, peak, after, activation)


@pytest.fixture(scope="module")
def spans(tmp_path_factory):
    table = planted_table(SAMPLES, tmp_path_factory.mktemp("names") / "table")
    tokenizer = planted_pair()[0].tokenizer
    features = range(THE + 1)
    return collect_spans(ReadTable.of(table, tokenizer), features)


@pytest.mark.parametrize("feature", range(len(PLANTED)))
def test_name_is_the_planted_words_and_no_frequent_word(spans, feature):
    words = name_feature(spans[feature], count_terms(SAMPLES)).split(", ")
    assert words[:2] == [PLANTED[feature], WEAK[feature]]
    assert "the" not in words


def test_feature_that_is_about_a_frequent_word_is_named_by_it(spans):
    assert name_feature(spans[THE], count_terms(SAMPLES)).split(", ")[0] == "the"


def test_word_beside_every_peak_names_the_feature_too():
    found = [span("the comet ", word, " and the house") for word in ("passed", "fell", "shone")]
    assert "comet" in name_terms(found, BACKGROUND, n_terms=4)


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
    assert peak_word(span(before, peak, after)) == word


def test_strong_spans_weigh_more_than_weak_ones():
    found = [span("a ", "comet", "", 8.0), span("a ", "cat", "", 1.0), span("b ", "cat", "", 1.0)]
    assert name_feature(found, BACKGROUND).split(", ")[0] == "comet"


def test_name_has_as_many_words_as_asked_for():
    found = [span("", word, "") for word in ("comet", "star", "moon", "sun")]
    assert len(name_terms(found, BACKGROUND, n_terms=2)) == 2


def test_word_that_fills_the_whole_anchor_still_names_its_feature():
    found = [span("cat ", "cat", " cat dog")]
    assert name_feature(found, TermCounts({"cat": 100, "dog": 1}, {}, 101))


def test_pair_of_words_names_a_feature_of_that_pair_alone():
    texts = [talk("s", "the states saw the united nations in the sea of many united forces")]
    found = [span("in the ", "united", " states of old") for _ in range(4)]
    counts = count_terms([*texts * 200, talk("t", "in the united states of old")])
    assert name_terms(found, counts)[0] == "united states"


def test_a_mark_is_not_named_beside_a_word_that_tells_something():
    found = [span("the array ", mark, " array of them") for mark in ("{", "{", ";", ";", "=")]
    named = name_terms(found, TermCounts({"the": 400, "{": 5, ";": 5, "=": 9}, {}, 900), n_terms=4)
    assert named == ("array",)


def test_a_mark_is_named_rather_than_words_that_stand_by_it_once():
    found = [span(f"{word} ", ".", "") for word in ("solvers", "comets", "laws")]
    assert name_terms(found, TermCounts({".": 9, "the": 90}, {}, 200))[0] == "."
    assert name_feature(found, TermCounts({".": 9, "the": 90}, {}, 200)) == "“.”"


@pytest.mark.parametrize("marks", ["{;", "”…"])
def test_a_topic_is_named_by_the_words_around_the_marks_that_its_features_peak_at(marks):
    groups = [[span("return the array ", mark, " array") for _ in range(3)] for mark in marks]
    name = name_topic(groups, TermCounts({"the": 400, "array": 9, "return": 8}, {}, 600))
    assert set(name.split(", ")) == {"array", "return"}


def test_a_topic_whose_features_peak_at_the_same_word_is_not_named_by_the_words_around():
    things = list(enumerate(("story", "poem", "song", "game")))
    asked = [Span(f"s{i}", "", "create", f" a {thing}", 2.0) for i, thing in things]
    article = [Span(f"s{i}", "create ", "a", f" {thing}", 2.0) for i, thing in things]
    assert name_topic([asked, article], TermCounts({"a": 90, "story": 4}, {}, 600)) == "create"


PHRASES = [
    span(f"{word}. please write ", "a", f" short answer to {other} .", 2.0)
    for word, other in (("sun", "cats"), ("rain", "dogs"), ("snow", "a star"), ("hail", "1 hen"))
]


def test_a_phrase_that_most_spans_share_around_their_peaks_names_the_topic():
    assert name_topic([PHRASES], BACKGROUND) == "“please write a short answer to”"
    shared = [*PHRASES, span("it was ", "a", " dog"), span("here is ", "a", " cat")]
    assert "“please write a short answer to”" in name_topic([shared], BACKGROUND)


def test_a_phrase_of_few_spans_or_of_two_words_names_no_topic():
    few = [*PHRASES, *(span(f"the {w} was ", "a", f" {w}") for w in ("cat", "hen", "dog"))]
    pairs = [span(f"{w} ", "the", f" road {w}") for w in ("cat", "hen", "dog")]
    assert not any("“" in name_topic([one], BACKGROUND) for one in (few, pairs, PHRASES[:2]))


def test_a_phrase_stops_at_marks():
    said = [span(f"{w}: ", "write", f" a story! and {w}") for w in ("cat", "hen", "dog")]
    assert name_topic([said], BACKGROUND).startswith("“write a story”")


def test_a_topic_without_common_words_is_named_by_all_its_spans():
    groups = [[span("", "comet", "")], [span("", "star", "")]]
    assert set(name_topic(groups, BACKGROUND).split(", ")) == {"comet", "star"}


def test_pair_is_not_named_beside_its_own_word():
    found = [span("a ", "comet", f" {word}") for word in ("tail", "rain", "night", "tail")]
    assert [term for term in name_terms(found, BACKGROUND) if "comet" in term] == ["comet"]


def test_terms_of_a_text_are_its_words_and_pairs_across_no_punctuation():
    assert terms_of("The cat, the sea") == {"the", "cat", ",", "sea", "the cat", "the sea"}
    assert terms_of("東京へ") == {"東", "京", "へ", "東京", "京へ"}


def test_z_of_the_log_odds_is_that_of_the_formula():
    # y 2 of n 2.3 (two neighbours of 0.15), b 4 of N 100, prior 10 words: worked by hand
    background = TermCounts({"comet": 4, "a": 96}, {}, 100)
    here, there = 2 + 0.4, 4 + 0.4
    delta = math.log(here / (2.3 + 10 - here)) - math.log(there / (100 + 10 - there))
    assert _log_odds_z(2.0, 2.3, float(background.frequency("comet")), 100.0) == pytest.approx(
        delta / math.sqrt(1 / here + 1 / there)
    )


def test_no_spans_and_no_words_are_said_so():
    assert name_feature([], BACKGROUND) == "(no name)"
    assert name_feature([span("\n", "\n\n", " ")], BACKGROUND) == "(no name)"


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=4), st.text(max_size=8))))
def test_name_is_never_empty(pieces):
    found = [span(*texts) for texts in pieces]
    assert name_feature(found, BACKGROUND)


def test_words_are_counted_in_lower_case_over_all_messages():
    counts = count_terms([talk("a", "The cat, the", "THE sea"), Sample("b", text="Cat's")])
    words = counts.words
    assert (words["the"], words["cat"], words["cat's"], words[","]) == (3, 1, 1, 1)
    assert counts.n_words == sum(words.values()) == 7
    assert counts.pairs == {"the cat": 1, "the the": 1, "the sea": 1}


def test_text_of_a_sample_is_its_text_or_its_contents():
    assert sample_text(Sample("a", text="plain")) == "plain"
    assert sample_text(talk("b", "asked", "answered")) == "asked\nanswered"
    assert sample_text(Sample("c", messages=(Message("user", ""),))) == ""


def test_function_words_name_a_topic_only_if_its_features_peak_at_them():
    words = TermCounts({"you": 90, "who": 9, "photos": 8, "share": 8, "saw": 9}, {}, 600)
    media = [
        [Span(f"s{i}", f"{who} ", peak, " photos", 2.0) for i, who in enumerate(("we", "you", "I"))]
        for peak in ("share", "post")
    ]
    assert name_topic(media, words) == "share, post"
    asked = [[Span(f"s{i}", "", "who", f" saw {i}", 2.0) for i in range(4)] for _ in range(2)]
    assert name_topic(asked, words).split(", ")[0] == "who"


def test_a_topic_is_not_named_by_the_words_of_a_single_sample():
    one = [
        Span("s", "boss of ", "comet", " tails", 2.0),
        *(span("a ", "comet", "") for _ in range(2)),
    ]
    two = [Span("s", "boss of ", "star", " tails", 2.0), Span("t", "a star and ", "comet", "", 2.0)]
    assert "boss" not in name_topic([one, two], BACKGROUND)


@pytest.mark.parametrize(
    "forms", [("comet", "comets"), ("pay", "paying"), ("company", "companies")]
)
def test_of_two_forms_of_a_word_only_one_is_named(forms):
    found = [span("", word, "") for word in (*forms, "star")]
    assert len(name_terms(found, BACKGROUND)) == 2

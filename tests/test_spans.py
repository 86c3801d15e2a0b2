"""Spans: the text around the token at which a feature is most active."""

from dataclasses import replace

import numpy as np
import pytest

from activations import make_activations
from facsynth.records import Sample, Span
from facsynth.table.settings import ExtractSettings
from facsynth.understand.spans import ReadTable, collect_spans, extract_settings, mark_peak
from tiny_pair import PLANTED, THE, WEAK, planted_pair, planted_table, planted_tokenizer, talk

SAMPLES = [
    *(talk(f"strong-{i}", f"we saw the {word} near a tree") for i, word in enumerate(PLANTED)),
    *(talk(f"weak-{i}", f"they found some {word} then") for i, word in enumerate(WEAK)),
]


def spans_of(samples, folder, features, *, score="all", **options):
    """Spans from a table that was extracted with the planted pair."""
    table = planted_table(samples, folder)
    rows, tokenizer = table.activations(), planted_pair()[0].tokenizer
    extract = ExtractSettings(score=score, max_length=64)
    return collect_spans(ReadTable(samples, rows, tokenizer, extract), features, **options)


def spans_at(texts, positions, values, **options):
    """Spans of feature 0 in plain texts, at hand-set positions."""
    samples = [Sample(f"s{i}", text=text) for i, text in enumerate(texts)]
    rows = make_activations([{0: value} for value in values])
    rows = replace(rows, positions=np.array(positions, dtype=np.uint16))
    table = ReadTable(samples, rows, planted_tokenizer(), ExtractSettings(max_length=64))
    return collect_spans(table, [0], **options)[0]


def test_peak_of_every_feature_is_its_planted_word(tmp_path):
    spans = spans_of(SAMPLES, tmp_path / "table", range(len(PLANTED)))
    peaks = {f: [span.peak for span in found] for f, found in spans.items()}
    assert peaks == {i: [PLANTED[i], WEAK[i]] for i in range(len(PLANTED))}
    assert [(s.sample_id, s.activation) for s in spans[2]] == [("strong-2", 2.0), ("weak-2", 1.5)]


def test_span_holds_the_text_on_both_sides(tmp_path):
    (span,) = spans_of(SAMPLES, tmp_path / "table", [0], n_spans=1)[0]
    assert (span.before, span.after) == ("we saw the ", " near a tree")
    assert span.text == "we saw the cat near a tree"


def test_span_is_clipped_to_the_message(tmp_path):
    sample = talk("s", "we saw the cat", "the dog was good")
    spans = spans_of([sample], tmp_path / "table", [0, 1])
    assert [spans[f][0].text for f in (0, 1)] == ["we saw the cat", "the dog was good"]


def test_span_is_clipped_to_the_context():
    (span,) = spans_at(["a a a we saw the cat near a tree"], [6], [2.0], context_tokens=2)
    assert (span.before, span.peak, span.after) == ("saw the ", "cat", " near a")


@pytest.mark.parametrize("position", range(1, 7))
def test_peak_is_the_token_at_the_stored_position(position):
    words = ["again", "we", "saw", "the", "cat", "near", "tea"]
    (span,) = spans_at([" ".join(words)], [position], [2.0])
    assert span.peak == words[position]
    assert span.text == " ".join(words[1:])  # the first token of a plain text is not scored


def test_sample_gives_one_span_however_often_the_word_stands_there(tmp_path):
    spans = spans_of([talk("s", "cat and cat and kitten")], tmp_path / "table", [0])
    assert [(span.before, span.peak) for span in spans[0]] == [("", "cat")]


def test_equal_texts_are_merged_into_the_strongest():
    texts = ["a we saw tea", "a we  saw tea", "a they saw tea"]
    spans = spans_at(texts, [3, 3, 3], [2.0, 5.0, 1.0])
    assert [(span.sample_id, span.activation) for span in spans] == [("s1", 5.0), ("s2", 1.0)]


def test_spans_come_strongest_first_and_not_more_than_asked_for():
    texts = [f"a {word} saw tea" for word in ("we", "they", "she", "her", "my")]
    spans = spans_at(texts, [3] * 5, [1.0, 4.0, 2.0, 5.0, 3.0], n_spans=3)
    assert [span.activation for span in spans] == [5.0, 4.0, 3.0]


def test_feature_that_is_never_active_has_no_spans(tmp_path):
    assert spans_of([talk("s", "a small tree")], tmp_path / "table", [5, THE]) == {5: (), THE: ()}


def test_no_features_give_no_spans(tmp_path):
    assert spans_of([talk("s", "a cat")], tmp_path / "table", []) == {}


def test_settings_are_those_of_the_table(tmp_path):
    settings = ExtractSettings(score="user", max_length=40)
    table = planted_table(SAMPLES[:2], tmp_path / "table", settings=settings)
    assert extract_settings(table.manifest.source) == settings


def test_marked_span_is_one_line():
    assert mark_peak(Span("s", "we saw\n", " the", " cat", 1.0)) == "we saw « the» cat"

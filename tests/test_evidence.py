"""Evidence: spans over the range of activations, spans kept back, near misses."""

from dataclasses import replace

import numpy as np
import pytest

from activations import make_activations
from facsynth.errors import DataError
from facsynth.records import Sample
from facsynth.table.settings import ExtractSettings
from facsynth.understand.evidence import collect_evidence
from facsynth.understand.settings import EvidenceSettings
from facsynth.understand.spans import ReadTable
from tiny_pair import FILLERS, planted_tokenizer

WORDS = [word for word in FILLERS if word not in ("the", "a")]


def evidence_of(texts, values, positions, **settings):
    """Evidence of feature 0 in plain texts, where a value of None leaves it silent."""
    samples = [Sample(f"s{i}", text=text) for i, text in enumerate(texts)]
    rows = make_activations([{} if value is None else {0: value} for value in values])
    held = [p for p, value in zip(positions, values, strict=True) if value is not None]
    rows = replace(rows, positions=np.array(held, dtype=np.uint16))
    table = ReadTable(samples, rows, planted_tokenizer(), ExtractSettings(max_length=64))
    wanted = EvidenceSettings(**{"threshold": 1.0} | settings)
    return collect_evidence(table, [0], settings=wanted)[0]


def distinct_texts(n, word):
    return [f"a {WORDS[i % 30]} {WORDS[(7 * i + i // 30) % 30]} {word} so" for i in range(n)]


def test_spans_come_from_the_whole_range_of_activations():
    values = [100.0 - i for i in range(90)]
    found = evidence_of(distinct_texts(90, "cat"), values, [3] * 90, spans=10, held_out=10)
    shown = [span.activation for span in found.shown]
    assert shown == sorted(shown, reverse=True)
    assert shown[:5] == [100, 99, 98, 97, 96]
    assert min(shown) < 40
    held = [span.activation for span in found.held_out]
    assert max(held) < 96
    assert all(any(a < value <= a + 20 for value in held) for a in range(10, 90, 20))


def test_no_sample_and_no_text_is_both_shown_and_kept_back():
    texts = distinct_texts(20, "cat") * 2
    found = evidence_of(texts, [50.0 - i for i in range(40)], [3] * 40)
    everything = [*found.shown, *found.held_out]
    assert len({span.text for span in everything}) == len(everything)
    assert len({span.sample_id for span in everything}) == len(everything)


def test_samples_at_or_below_the_threshold_are_neither_spans_nor_misses():
    values = [5.0] * 8 + [1.0] * 8 + [None] * 4
    texts = [*distinct_texts(16, "cat"), *distinct_texts(4, "dog")]
    found = evidence_of(texts, values, [3] * 20, threshold=1.0, spans=4, held_out=4)
    assert found.n_samples == 8
    assert {span.activation for span in (*found.shown, *found.held_out)} == {5.0}
    misses = [*found.shown_misses, *found.near_misses, *found.random_misses]
    assert {int(span.sample_id[1:]) for span in misses} <= set(range(16, 20))


def test_near_misses_share_the_word_at_the_peak():
    texts = [*distinct_texts(12, "cat"), *(f"a {w} cat {w}" for w in WORDS[:9]), *WORDS[10:30]]
    found = evidence_of(texts, [9.0] * 12 + [None] * 29, [3] * 41, near_misses=9)
    assert [span.peak for span in (*found.shown_misses, *found.near_misses)] == ["cat"] * 9
    assert len(found.shown_misses) == 3
    assert {span.activation for span in found.near_misses} == {0.0}


def test_few_samples_are_all_shown():
    found = evidence_of(distinct_texts(4, "cat"), [4.0, 3.0, 2.0, 1.5], [3] * 4)
    assert [span.activation for span in found.shown] == [4.0, 3.0, 2.0, 1.5]
    assert (found.held_out, found.near_misses, found.random_misses) == ((), (), ())


def test_feature_that_is_never_active_has_no_spans():
    found = evidence_of(distinct_texts(3, "cat"), [None] * 3, [3] * 3)
    assert (found.n_samples, found.shown, found.near_misses) == (0, (), ())


def test_same_seed_gives_the_same_evidence():
    values = [60.0 - i for i in range(40)] + [None] * 20
    one, two = (evidence_of(distinct_texts(60, "cat"), values, [3] * 60) for _ in range(2))
    assert one == two


def test_without_a_threshold_the_table_chooses_it():
    found = evidence_of(distinct_texts(4, "cat"), [4.0, 3.0, 2.0, 1.5], [3] * 4, threshold=None)
    assert (found.threshold, found.n_samples) == (3.1, 1)


def test_negative_threshold_is_an_error():
    with pytest.raises(DataError, match="must be 0 or more"):
        EvidenceSettings(threshold=-1.0)

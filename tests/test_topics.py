"""Topics of missing features, and the rows that a run folder keeps of them."""

import numpy as np
import pytest

from activations import make_activations
from facsynth.records import Span
from facsynth.table.active import active_rows
from facsynth.understand.missing import find_topics, understand_missing
from facsynth.understand.names import count_terms
from tiny_pair import PLANTED, planted_pair, planted_sae, planted_table, talk

ALIKE = np.array([[1, 0, 0], [1, 0.1, 0], [0, 0, 1]], dtype=np.float32)


def spans(word, activation):
    return [Span(f"s{i}", "look ", word, "", activation) for i in range(4)]


def test_topic_has_the_words_of_all_its_features_and_their_samples():
    table = make_activations([{0: 9.0}, {0: 9.0, 1: 2.0}, {1: 2.0}, {2: 2.0}])
    words = count_terms([talk("a", "look mars and venus and the sea " * 5)])
    both = spans("mars", 9.0), spans("venus", 2.0)
    shown = {0: [*both[0], *both[1]], 1: [*both[1], *both[0]], 2: spans("sea", 2.0)}
    (topic,) = find_topics(active_rows(table, threshold=1.0), ALIKE, [2, 1, 0], shown, words)
    assert set(topic.name.split(", ")) == {"mars", "venus"}
    assert topic.row() == {
        "name": topic.name,
        "n_features": 2,
        "n_anchor_samples": 3,
        "feature_ids": [1, 0],
        "example": "look «venus»",
    }


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Cat and dog stand in the same texts, sea and sun in others; the seed has the sea."""
    folder = tmp_path_factory.mktemp("topics")
    texts = [f"we saw a {PLANTED[0]} and my {PLANTED[1]} at {i}" for i in "abcd"]
    texts += [f"we saw a {PLANTED[4]} and my {PLANTED[5]} at {i}" for i in "abcd"]
    samples = [talk(f"s{i}", text) for i, text in enumerate(texts)]
    anchor = planted_table(samples, folder / "anchor")
    seed = planted_table([talk("q", PLANTED[4])], folder / "seed")
    decoder = planted_sae().directions
    return understand_missing(anchor, seed, planted_pair()[0].tokenizer, decoder, threshold=1.0)


def test_features_of_the_same_texts_are_one_topic(rows):
    features, topics = rows
    assert [set(topic["feature_ids"]) for topic in topics] == [{0, 1}]
    assert {row["feature_id"]: row["topic"] for row in features} == {0: 0, 1: 0, 5: None}


def test_neighbours_have_names_and_say_whether_the_seed_covers_them(rows):
    near = {row["feature_id"]: row["neighbours"][0] for row in rows[0]}
    assert (near[0]["feature_id"], near[0]["shared"], near[0]["covered"]) == (1, 1.0, False)
    assert (near[5]["feature_id"], near[5]["shared"], near[5]["covered"]) == (4, 1.0, True)
    assert near[5]["name"].startswith(PLANTED[4])

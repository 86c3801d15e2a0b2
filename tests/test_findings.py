"""A coverage measurement in words."""

import pytest

from facsynth.coverage.measure import measure_coverage
from facsynth.coverage.settings import CoverageSettings
from facsynth.table.active import active_rows
from facsynth.understand.findings import explain_coverage, name_features
from facsynth.words import split_words
from tiny_pair import PLANTED, planted_pair, planted_sae, planted_table, talk

CAT, DOG, SEA, SUN = PLANTED[0], PLANTED[1], PLANTED[4], PLANTED[5]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The anchor speaks of cats with dogs and of the sea with the sun, the seed of the sea only."""
    folder = tmp_path_factory.mktemp("findings")
    texts = [f"we saw a {CAT} and my {DOG} at {i}" for i in "abcd"]
    texts += [f"we saw a {SEA} and my {SUN} at {i}" for i in "abcd"]
    anchor = [talk(f"s{i}", text) for i, text in enumerate(texts)]
    seed = [talk("q", SEA), talk("r", f"the {SEA}")]
    return planted_table(anchor, folder / "anchor"), planted_table(seed, folder / "seed")


@pytest.fixture(scope="module")
def found(tables):
    return measure_coverage(*tables, settings=CoverageSettings(threshold=1.0))


def explained(found, tables, **options):
    anchor, seed = tables
    return explain_coverage(found, [anchor], [seed], planted_pair()[0].tokenizer, **options)


def test_missing_features_of_the_same_texts_are_a_topic_with_its_words(found, tables):
    decoder = planted_sae().directions
    (topic,) = explained(found, tables, decoder=decoder).topics
    assert (topic.feature_ids, topic.n_anchor_samples) == ((0, 1), 4)
    assert {CAT, DOG} <= set(split_words(topic.name))
    assert f"«{CAT}»" in topic.example


def test_without_the_decoder_there_are_names_and_no_topics(found, tables):
    named = explained(found, tables, n_missing=1)
    assert named.topics == ()
    assert CAT in named.missing[0].name


def test_what_fires_too_much_is_named_by_the_seed(found, tables):
    close = explained(found, tables).representativeness
    assert close.over_fired[0].name == SEA
    assert f"«{SEA}»" in close.over_fired[0].example


def test_against_a_profile_only_what_the_seed_activates_is_named(found, tables):
    named = explain_coverage(found, [], [tables[1]], planted_pair()[0].tokenizer, n_missing=9)
    assert named.representativeness.over_fired[0].name == SEA
    assert {m.name for m in named.missing} == {None}


def test_no_features_have_no_names(tables):
    active = active_rows(tables[0], threshold=1.0)
    assert name_features([], [tables[0]], active, None) == {}

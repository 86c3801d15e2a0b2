"""Features of known meaning: what understands them finds it, and fails when it is mixed up."""

import json
import re

import numpy as np
import pytest

from facsynth.chat.scripted import ScriptedChat
from facsynth.table.active import active_rows
from facsynth.understand.contrast import judge_by_difference, label_difference
from facsynth.understand.descriptions import Described
from facsynth.understand.explain import explain_by_llm, explain_by_terms, score_imported
from facsynth.understand.fidelity import rule_fidelity
from facsynth.understand.names import count_terms, peak_word
from facsynth.understand.relevance import judge_by_llm
from planted_texts import LISTS, oracle, planted_evidence, planted_samples

N = len(LISTS)
SAMPLES = planted_samples()


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return planted_evidence(SAMPLES, tmp_path_factory.mktemp("truth") / "table")


@pytest.fixture(scope="module")
def rows(known):
    return active_rows(known[0], threshold=1.0)


@pytest.fixture(scope="module")
def evidence(known):
    return known[1]


@pytest.fixture(scope="module")
def by_terms(evidence):
    return explain_by_terms(evidence, count_terms(SAMPLES))


def test_every_span_peaks_on_a_word_of_its_list(evidence):
    for feature, found in evidence.items():
        assert {peak_word(span) for span in (*found.shown, *found.held_out)} == LISTS[feature]


def test_no_near_miss_holds_a_word_of_the_list(evidence):
    for feature, found in evidence.items():
        misses = [*found.shown_misses, *found.near_misses, *found.random_misses]
        assert len(misses) > 20
        assert not any(LISTS[feature] & set(span.text.split()) for span in misses)


def test_names_are_the_lists(by_terms):
    assert [set(found.terms[:2]) for found in by_terms] == LISTS


def test_names_are_right_about_every_held_out_span(by_terms):
    for found in by_terms:
        scores = found.fidelity
        assert scores.detection.balanced_accuracy == scores.fuzzing.balanced_accuracy == 1.0
        assert scores.detection_random.balanced_accuracy == 1.0
        assert not found.is_doubtful


def test_names_of_other_features_score_at_chance(by_terms, evidence):
    scores = [
        rule_fidelity(by_terms[(feature + shift) % N].terms, found)
        for feature, found in evidence.items()
        for shift in (1, 2)
    ]
    detection = [s.detection_random.balanced_accuracy for s in scores]
    assert np.mean(detection) == pytest.approx(0.5, abs=0.05)
    assert np.mean([s.fuzzing.balanced_accuracy for s in scores]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([s.is_doubtful for s in scores]) > 0.9


def test_explanations_of_an_llm_that_sees_the_marks_are_right(by_terms):
    explained = explain_by_llm(ScriptedChat(oracle), by_terms)
    assert [set(found.explanation.split()) for found in explained] == LISTS
    assert all(found.fidelity.detection.balanced_accuracy == 1.0 for found in explained)
    assert all(found.fidelity.fuzzing.balanced_accuracy == 1.0 for found in explained)


def test_scrambled_explanations_score_at_chance(by_terms, evidence):
    mixed = {f: " ".join(LISTS[(f + 1) % N]) for f in evidence}
    explained = score_imported(by_terms, mixed, chat=ScriptedChat(oracle))
    found = [e.fidelity.detection_random.balanced_accuracy for e in explained]
    assert np.mean(found) == pytest.approx(0.5, abs=0.07)
    assert all(e.is_doubtful for e in explained)


def test_labels_find_the_features_that_make_them(rows):
    labels = ["pets" if set(s.messages[0].content.split()) & LISTS[1] else "none" for s in SAMPLES]
    judged = judge_by_difference(label_difference(rows, labels, "pets"), judge="labels")
    assert [one.feature_id for one in judged if one.is_relevant()] == [1]
    assert judged[0].grade == "yes"


def test_scrambled_labels_find_no_feature(rows):
    labels = ["pets" if set(s.messages[0].content.split()) & LISTS[1] else "none" for s in SAMPLES]
    mixed = [str(label) for label in np.random.default_rng(0).permutation(labels)]
    judged = judge_by_difference(label_difference(rows, mixed, "pets"), judge="labels")
    assert not any(one.is_relevant() for one in judged)


def test_judge_with_a_rubric_finds_the_features_of_the_rubric(by_terms):
    def judge(request):
        rubric, feature = re.search(
            r"Criteria:\n(.*)\n\nFeature: (.*)\n", request.messages[1].content
        ).groups()
        fits = set(rubric.split()) & set(feature.replace(",", "").split())
        return json.dumps({"grade": "yes" if fits else "no", "reason": "by word"})

    described = [Described(e.feature_id, e.name, e.evidence.shown) for e in by_terms]
    judged = judge_by_llm(ScriptedChat(judge), "cat dog puppy", described)
    assert [one.feature_id for one in judged if one.is_relevant()] == [0, 1]

"""The detector that needs no training: planted features vote."""

import numpy as np
import pytest

from facsynth.errors import DataError
from facsynth.tasks.toxicity.detector import detector_scores, evaluate_detector, fit_detector
from facsynth.tasks.toxicity.settings import DetectorSettings
from tiny_pair import PLANTED, planted_table, talk


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Two tables in which half of the texts are about a cat, the others about other words."""
    folder = tmp_path_factory.mktemp("tables")
    found = []
    for name in ("train", "test"):
        words = [PLANTED[0] if i % 2 else PLANTED[1 + i % 7] for i in range(40)]
        samples = [talk(f"{name}{i}", f"we saw {word} again") for i, word in enumerate(words)]
        found.append(planted_table(samples, folder / name).activations())
    return found


POSITIVE = np.arange(40) % 2 == 1


def test_the_planted_feature_votes_and_decides(tables):
    detector = fit_detector(tables[0], POSITIVE, DetectorSettings(features=1))
    (vote,) = detector.votes
    assert vote.feature_id == 0
    # Haldane: (20 + .5) / (0 + .5) against (0 + .5) / (20 + .5)
    assert vote.weight == pytest.approx(2 * np.log(41))
    assert detector_scores(detector, tables[0])[:2].tolist() == [0, vote.weight]
    found = evaluate_detector(detector, tables[1], POSITIVE)
    assert (found.auprc, found.f1, found.prevalence) == (1, 1, 0.5)


def test_shuffled_labels_teach_nothing(tables):
    shuffled = np.random.default_rng(0).permutation(POSITIVE)
    detector = fit_detector(tables[0], shuffled)
    found = evaluate_detector(detector, tables[1], POSITIVE)
    assert found.auprc < 0.9


def test_no_feature_of_the_class_is_an_error(tables):
    with pytest.raises(DataError, match="no feature above 9"):
        fit_detector(tables[0], POSITIVE, DetectorSettings(threshold=9.0))
    with pytest.raises(DataError, match="both classes"):
        fit_detector(tables[0], np.ones(40, bool))

"""Coverage of the features of each class of the anchor."""

import numpy as np
import pytest

from activations import make_activations
from facsynth.coverage.off_task import class_coverage
from facsynth.errors import MismatchError
from facsynth.table.active import active_rows


def active(rows):
    return active_rows(make_activations(rows), threshold=0.0)


ALL = np.ones(4, dtype=bool)
ANCHOR = active([{0: 1.0, 1: 1.0, 3: 1.0}] * 6 + [{2: 1.0, 3: 1.0}] * 6)
LABELS = ["bad"] * 6 + ["good"] * 6


def test_seed_for_one_class_covers_its_features_and_not_the_others():
    bad, good = class_coverage(ANCHOR, LABELS, active([{0: 1.0, 1: 1.0}]), ALL)
    assert (bad.label, bad.n_samples, bad.n_features, bad.fac) == ("bad", 6, 2, 1.0)
    assert good.fac == 0.0
    assert bad.mean_rate == 0.5


def test_only_relevant_features_and_the_clearest_are_taken():
    relevant = np.array([True, False, True, True])
    bad, _ = class_coverage(ANCHOR, LABELS, active([{0: 1.0}]), relevant)
    assert (bad.n_features, bad.fac) == (1, 1.0)
    found = class_coverage(ANCHOR, LABELS, active([{1: 1.0}]), ALL, n_features=1)
    assert (found[0].n_features, found[0].fac) == (1, 0.0)


def test_features_of_few_samples_belong_to_no_class():
    anchor = active([{0: 1.0}] * 4 + [{3: 1.0}] * 6)
    found = class_coverage(anchor, ["a"] * 4 + ["b"] * 6, active([{0: 1.0}]), ALL)
    assert (found[0].n_features, found[0].fac) == (0, None)


@pytest.mark.parametrize("labels", [["x"] * 12, [None] * 12, [str(i) for i in range(30)]])
def test_one_class_or_too_many_give_nothing(labels):
    anchor = active([{0: 1.0}] * len(labels))
    assert class_coverage(anchor, labels, active([{0: 1.0}]), ALL) == ()


def test_labels_of_another_table_are_an_error():
    with pytest.raises(MismatchError, match="3 labels and 12 anchor samples"):
        class_coverage(ANCHOR, ["a"] * 3, active([{0: 1.0}]), ALL)

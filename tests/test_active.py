import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activations import dense, make_activations, row_lists
from facsynth.errors import DataError, MismatchError
from facsynth.table.active import active_rows, check_same_width

FLAGS = st.lists(st.booleans(), min_size=6, max_size=6).map(np.array)


@given(rows=row_lists(), flags=FLAGS, threshold=st.sampled_from([0.0, 0.25, 1.0]))
def test_everything_counted_equals_the_dense_table(rows, flags, threshold):
    table = make_activations(rows, n_features=6)
    active = active_rows(table, threshold=threshold, relevant=flags)
    plain = dense(table)
    plain[:, ~flags] = 0
    plain[plain <= np.float32(threshold)] = 0
    assert (active.matrix.toarray() == plain).all()
    assert (active.fires.toarray() == (plain > 0)).all()
    assert (active.counts == (plain > 0).sum(axis=0)).all()
    assert (active.features == (plain > 0).any(axis=0)).all()
    assert (active.peaks == plain.max(axis=0, initial=0)).all()
    np.testing.assert_allclose(active.sums, plain.sum(axis=0, dtype=np.float64))


def test_an_activation_at_the_threshold_is_not_active():
    assert not active_rows(make_activations([{1: 0.1}]), threshold=0.1).features.any()


@pytest.mark.parametrize("threshold", [-1.0, float("nan"), float("inf"), 1e300])
def test_a_threshold_that_is_no_activation_is_refused(threshold):
    with pytest.raises(DataError, match="not a finite number"):
        active_rows(make_activations([{1: 1.0}]), threshold=threshold)


def test_flags_of_another_width_are_refused():
    with pytest.raises(MismatchError, match="3 features are judged and the table has 4"):
        active_rows(make_activations([{1: 1.0}]), threshold=0.0, relevant=np.ones(3, dtype=bool))


def test_tables_of_other_widths_do_not_compare():
    one, other = (active_rows(make_activations([{1: 1.0}], n), threshold=0.0) for n in (4, 5))
    check_same_width(one, one)
    with pytest.raises(MismatchError, match="4 and 5 features"):
        check_same_width(one, other)

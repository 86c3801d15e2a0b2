"""Closeness, label directions and choices by mean hidden states."""

from dataclasses import replace

import numpy as np
import pytest

from activations import make_activations
from facsynth.compare.labels import agreement, labelled_rows
from facsynth.coverage.hidden import common_scale, hidden_states, measure_hidden
from facsynth.coverage.measure import measure_coverage
from facsynth.errors import DataError
from facsynth.select.pool import Pool
from facsynth.select.select import select_samples
from facsynth.select.settings import SelectSettings
from facsynth.table.active import active_rows


def rng(seed=0):
    return np.random.default_rng(seed)


def with_states(states, n_tokens=None):
    states = np.asarray(states, dtype=np.float32)
    return replace(make_activations([{0: 2.0}] * len(states), n_tokens=n_tokens), hidden=states)


# Closeness


def test_distance_is_the_root_mean_square_shift_in_standard_deviations():
    anchor = with_states([[0, 10], [2, 30]])  # means 1 and 20, deviations 1 and 10
    found = measure_hidden(anchor, with_states([[4, 20], [4, 60]]), rng=rng())
    assert found.distance == pytest.approx(np.sqrt((3**2 + 2**2) / 2))


def test_random_subsets_are_as_far_as_sampling_theory_says():
    states = rng().normal(size=(400, 50)) * 10.0 ** rng().integers(-2, 3, 50)
    anchor = with_states(states, rng().integers(5, 50, 400).tolist())
    found = measure_hidden(anchor, anchor, n_draws=50, rng=rng())
    assert (found.distance, found.random_subset.mean) == (0.0, 0.0)  # the whole anchor
    part = replace(with_states(states[:40], anchor.n_tokens[:40].tolist()))
    found = measure_hidden(anchor, part, n_draws=50, rng=rng())
    expected = np.sqrt(1 / 40 * (400 - 40) / (400 - 1))  # without replacement
    assert found.random_subset.mean == pytest.approx(expected, rel=0.05)
    assert (found.random_subset.size, found.length_matched.size) == (40, 40)


def test_the_largest_dimension_does_not_decide_alone():
    states = rng().normal(size=(100, 20))
    large = states * np.array([1e4] + [1.0] * 19)
    seeds = [rng(1).normal(size=(30, 20)) * scale for scale in (1.0, np.array([1e4] + [1] * 19))]
    near = [
        measure_hidden(with_states(a), with_states(s), rng=rng()).distance
        for a, s in zip((states, large), seeds, strict=True)
    ]
    assert near[0] == pytest.approx(near[1], rel=1e-5)


def test_samples_without_scored_tokens_and_constant_dimensions_do_not_count():
    anchor = with_states([[0, 5, 0.1], [2, 5, 0.1], [0, 0, 0]], [3, 3, 0])
    found = measure_hidden(anchor, with_states([[1, 9, 9]]), rng=rng())
    assert found.distance == 0.0


def test_without_hidden_states_on_both_sides_there_is_no_distance():
    plain, full = make_activations([{0: 2.0}]), with_states([[1.0]])
    assert measure_hidden(plain, full, rng=rng()) is None
    assert measure_coverage(full, plain).hidden is None
    assert measure_coverage(full, with_states([[1.0], [1.0]])).hidden.distance == 0.0
    assert measure_hidden(full, with_states([[0.0]], [0]), rng=rng()) is None


# Label directions


def labelled(table, labels, **options):
    return labelled_rows(active_rows(table, threshold=1.0), labels, space="hidden", **options)


def classes(n, lean, seed):
    states = rng(seed).normal(size=(n, 20))
    states[1::2, 0] += lean
    return with_states(states), ["a", "b"] * (n // 2)


def test_direction_of_hidden_states_is_the_difference_of_the_class_means():
    table = with_states([[0, 1], [4, 1], [2, 1], [2, 5]])
    found = labelled(table, ["x", "x", "y", "y"], scale=np.array([1.0, 2.0]))
    assert found.direction().tolist() == [[0.0, -0.5], [0.0, 0.5]]


def test_hidden_directions_of_one_source_agree_as_far_as_their_reliability_says():
    cosines, ceilings = [], []
    for seed in range(0, 40, 2):
        pair = [labelled(*classes(400, 0.8, seed + i)) for i in (0, 1)]
        found = agreement(*pair, n_resamples=20, rng=rng())
        cosines.append(found.cosine)
        ceilings.append(found.ceiling)
    assert np.mean(cosines) == pytest.approx(np.mean(ceilings), abs=0.05)
    assert 0.6 < np.mean(cosines) < 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "keeps no hidden states; extract"), ({"relevant": np.arange(4) < 2}, "leave --relevant")],
)
def test_hidden_directions_need_hidden_states_and_take_no_features(options, message):
    table = active_rows(make_activations([{0: 1.0}, {1: 1.0}]), threshold=0.5, **options)
    with pytest.raises(DataError, match=message):
        labelled_rows(table, ["x", "y"], space="hidden")


# Choices


def picked(pool, budget, **options):
    wanted = {"objective": "representative", "space": "hidden", "quota": "none"}
    names = {name: options.pop(name) for name in list(options) if name in Pool.__dataclass_fields__}
    for name in {"anchor", "rejected"} & set(names):
        names[name] = active_rows(names[name], threshold=1.0)
    whole = Pool(active_rows(pool, threshold=1.0), **names)
    found = select_samples(whole, SelectSettings(budget, **wanted | options))
    return found.rows, found


def test_herding_of_hidden_states_is_nearer_to_the_pool_than_random_picks():
    pool = with_states(rng().normal(size=(200, 10)) ** 3, rng().integers(2, 30, 200).tolist())
    rows, report = picked(pool, 10)
    shift = hidden_states(pool)[rows].mean(0) - hidden_states(pool).mean(0)
    assert report.selection.hidden_distance == pytest.approx(np.sqrt(np.square(shift).mean()))
    assert report.selection.hidden_distance < min(r.hidden_distance for r in report.random)
    assert report.selection.direction_cosine is None


def test_each_hidden_pick_is_the_best_one_and_none_is_empty():
    pool = with_states(rng(3).normal(size=(12, 3)), [0] + [5] * 11)
    rows, _ = picked(pool, 4)
    states = hidden_states(pool, common_scale([pool]))
    for t in range(4):
        left = [i for i in range(1, 12) if i not in rows[:t]]
        gaps = [np.square(states[[*rows[:t], i]].mean(0) - states.mean(0)).sum() for i in left]
        assert rows[t] == left[int(np.argmin(gaps))]


def test_hidden_herding_goes_to_the_anchor():
    pool = with_states([[0.0], [1.0], [2.0], [3.0]])
    assert picked(pool, 1, anchor=with_states([[3.0], [3.2]]))[0].tolist() == [3]


def test_hidden_direction_keeps_the_difference_of_the_classes():
    states = np.array([[0.0], [2.0], [4.0], [10.0], [12.0], [14.0]])
    labels = ["a"] * 3 + ["b"] * 3
    rows, report = picked(with_states(states), 2, objective="direction", labels=labels)
    assert np.diff(states[np.sort(rows)].ravel()) == [10.0]
    assert report.selection.direction_cosine == pytest.approx(1.0)


def test_hidden_direction_of_pairs_keeps_the_mean_difference():
    chosen, rejected = with_states([[3.0], [2.0], [7.0]]), with_states([[0.0], [0.0], [0.0]])
    rows, _ = picked(chosen, 1, objective="direction", rejected=rejected)
    assert rows.tolist() == [0]  # differences 3, 2 and 7 have the mean 4


def test_hidden_states_have_no_coverage():
    with pytest.raises(DataError, match="hidden states have no coverage"):
        SelectSettings(3, objective="coverage", space="hidden")

"""What is kept of candidates, on tables small enough to follow by hand."""

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from activations import make_activations, row_lists
from facsynth.synthesize.candidates import Candidate
from facsynth.synthesize.keep import Kept, Pool, choose_cover, choose_own, contrastive_pairs
from facsynth.synthesize.plan import Wanted
from facsynth.table.active import active_rows
from tiny_pair import talk

N = 6


def choose(rows, *, quotas=(99,), classes=None, texts=None, counts=None, open_rows=None, **options):
    """Rows that are kept; the anchor activates every feature once in a sample of its own."""
    n_features = options.get("n_features", N)
    pool = active_rows(make_activations(rows, n_features=n_features), threshold=1.0)
    eye = [{f: 2.0} for f in range(n_features)]
    anchor = active_rows(make_activations(eye, n_features=n_features), threshold=1.0)
    counts = np.array(counts if counts is not None else [0] * n_features)
    wanted = Wanted.measure(
        anchor,
        counts,
        openness=np.ones(n_features),
        per_feature=options.get("per_feature", 1),
        n_final=options.get("n_final", n_features),
    )
    return choose_cover(
        pool,
        texts or [f"{i} {i}a {i}b {i}c" for i in range(len(rows))],
        wanted,
        open_rows=range(len(rows)) if open_rows is None else open_rows,
        classes=np.array(classes if classes is not None else [0] * len(rows), dtype=np.int64),
        limits=np.array(quotas),
        n=options.get("n", 999),
        max_overlap=0.6,
    )


def reached(rows, chosen):
    return {f for row in chosen for f, value in rows[row].items() if value > 1.0}


@settings(deadline=None)
@given(row_lists(N, max_samples=6), st.integers(1, 4))
def test_greedy_reaches_at_least_its_guaranteed_share_of_the_best(rows, n):
    kept = [k.row for k in choose(rows, quotas=(n,))]
    n_best = max(
        len(reached(rows, some)) for some in combinations(range(len(rows)), min(n, len(rows)))
    )
    assert len(kept) == min(n, len(rows))
    assert len(reached(rows, kept)) >= (1 - 1 / np.e) * n_best


@settings(deadline=None)
@given(row_lists(N), st.data())
def test_quotas_are_filled_exactly_where_there_are_enough_texts(rows, data):
    n = len(rows)
    classes = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    quotas = data.draw(st.lists(st.integers(0, 3), min_size=3, max_size=3))
    found = [classes[k.row] for k in choose(rows, classes=classes, quotas=quotas)]
    assert [found.count(c) for c in range(3)] == [
        min(quota, classes.count(c)) for c, quota in enumerate(quotas)
    ]


@settings(deadline=None)
@given(row_lists(N))
def test_each_row_is_credited_with_what_it_was_first_to_reach(rows):
    done = set()
    for kept in choose(rows):
        new = reached(rows, [kept.row]) - done
        assert kept.new_features == tuple(sorted(new))
        done |= new


def test_sample_counts_for_all_features_that_it_activates():
    rows = [{0: 2.0}, {1: 2.0}, {0: 2.0, 1: 2.0, 2: 2.0}]
    assert choose(rows, quotas=(1,)) == [Kept(2, (0, 1, 2))]


def test_missing_features_come_before_those_with_too_few_samples_and_these_before_rates():
    rows = [{0: 2.0}, {1: 2.0, 2: 2.0}, {3: 2.0}]
    kept = choose(rows, counts=[0, 1, 1, 9, 9, 9], per_feature=2)
    assert [k.row for k in kept] == [0, 1, 2]


def test_what_fires_too_often_comes_last_and_is_kept_where_there_is_room():
    rows = [{0: 2.0}, {1: 2.0}]
    options = {"counts": [9, 1, 1, 1, 1, 1], "n_final": 12}
    assert [k.row for k in choose(rows, **options)] == [1, 0]


def test_copies_of_kept_texts_and_closed_candidates_are_not_kept():
    rows, same = [{0: 2.0}, {1: 2.0}, {2: 2.0}], "these are the same words again and again"
    assert [k.row for k in choose(rows, texts=[same, same, "another text"])] == [0, 2]
    assert [k.row for k in choose(rows, open_rows=[1])] == [1]


def test_activation_at_the_threshold_is_not_active():
    assert choose([{0: 1.0}]) == [Kept(0, ())]


# Own features


def pool_of(*texts):
    """A pool of (target, step, activations) candidates."""
    pool = Pool()
    rows = make_activations([values for _, _, values in texts], n_features=N)
    candidates = [
        Candidate(talk(f"c{i}", f"text {i}"), target, step, 0, i)
        for i, (target, step, _) in enumerate(texts)
    ]
    pool.add(candidates, rows, [""] * len(texts))
    return pool


OWN = (
    (0, 2, {0: 2.0}),
    (0, 2, {0: 3.0, 1: 9.0}),
    (1, 2, {0: 9.0, 1: 1.0}),
    (1, 1, {1: 9.0}),
    (2, 2, {2: 5.0}),
)


def own(n=9, per_feature=9):
    pool = pool_of(*OWN)
    kept = choose_own(pool, [0, 1, 2], step=2, threshold=1.0, n=n, per_feature=per_feature)
    return [(k.row, k.new_features) for k in kept]


def test_texts_of_the_last_step_are_kept_for_their_own_feature_the_strongest_first():
    assert own() == [(1, (0,)), (4, (2,)), (0, ())]


def test_no_more_are_kept_of_a_feature_or_in_all_than_wanted():
    assert own(per_feature=1) == [(1, (0,)), (4, (2,))]
    assert own(n=1) == [(1, (0,))]


def test_pair_is_the_strongest_and_the_weakest_text_written_for_a_feature():
    pool = pool_of((0, 1, {0: 2.0}), (0, 1, {}), (0, 1, {0: 4.0}), (1, 1, {0: 9.0}))
    pairs = contrastive_pairs(pool, {0: "span 0", 1: "span 1", 2: "span 2"}, threshold=1.0)
    assert (pairs[0].strong, pairs[0].weak) == ("text 2", "text 1")
    assert (pairs[1].strong, pairs[1].weak) == ("span 1", "text 3")
    assert (pairs[2].strong, pairs[2].weak) == ("span 2", "")


def test_threshold_is_rounded_like_the_activations():
    pool = pool_of((0, 1, {0: 0.1}))
    assert choose_own(pool, [0], step=1, threshold=0.1, n=1, per_feature=1) == []
    assert float(np.float32(0.1)) > 0.1


def test_no_more_are_kept_than_wanted_where_classes_have_more_room():
    rows = [{0: 2.0}, {1: 2.0}, {2: 2.0}]
    assert len(choose(rows, quotas=(2, 2), classes=[0, 1, 1], n=2)) == 2

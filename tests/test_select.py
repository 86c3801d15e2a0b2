"""Choosing samples by coverage, closeness and label direction."""

import json
from itertools import combinations

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from activations import dense, firing, make_activations, row_lists, write_table
from facsynth.cli.select import select
from facsynth.data.read import read_samples
from facsynth.errors import DataError, MismatchError
from facsynth.records import FeatureActivations, Sample
from facsynth.select.greedy import coverage_picks
from facsynth.select.herding import direction_picks, mean_picks
from facsynth.select.picks import Spending, plan_groups
from facsynth.select.pool import Pool
from facsynth.select.select import pick_rows, select_samples
from facsynth.select.settings import SelectSettings
from facsynth.table.active import active_rows
from facsynth.table.firing import FiringRows

N_FEATURES = 6
POOL = set(Pool.__dataclass_fields__)
quick = settings(deadline=None, max_examples=30)


@st.composite
def parts(draw, max_samples=8):
    """Rows and token counts; the test makes the table, because type checks draw at random."""
    rows = draw(row_lists(N_FEATURES, max_samples))
    return rows, draw(st.lists(st.integers(1, 4), min_size=len(rows), max_size=len(rows)))


def build(drawn):
    rows, tokens = drawn
    return make_activations(rows, N_FEATURES, tokens)


def pool_of(rows, options):
    """The pool of some rows; takes what belongs to it out of the options."""
    flags, threshold = options.pop("relevant", None), options.pop("threshold", 0.0)
    named = {name: options.pop(name) for name in POOL if name in options}
    for name in ("anchor", "rejected"):
        if name in named:
            named[name] = active_rows(named[name], threshold=threshold, relevant=flags)
    return Pool(active_rows(rows, threshold=threshold, relevant=flags), **named)


def choose(rows, budget=3, **options):
    pool = pool_of(rows, options)
    return pick_rows(
        pool, SelectSettings(budget, **{"quota": "none", "objective": "coverage"} | options)
    ).tolist()


def active(pool, threshold=0.0):
    return (dense(pool) > np.float32(threshold)).astype(int)


def plain_greedy(fires, n_tokens, weights, budget, max_tokens=10**9):
    """The obvious greedy choice: count the gain of every sample before each pick."""
    seen, picked = np.zeros(fires.shape[1], dtype=int), []
    fold = 1

    def gain(i):
        return int((weights * (seen < fold) * fires[i]).sum())

    while len(picked) < budget:
        spent = sum(n_tokens[i] for i in picked)
        left = [i for i in range(len(fires)) if i not in picked]
        left = [i for i in left if spent + n_tokens[i] <= max_tokens]
        if not left:
            break
        if max(map(gain, left)) == 0 and fires[left].any():
            fold = min(seen[j] for i in left for j in np.flatnonzero(fires[i])) + 1
        picked.append(min(left, key=lambda i: (-gain(i), n_tokens[i], i)))
        seen += fires[picked[-1]]
    return picked


def plain_herding(fires, n_tokens, target, budget):
    """The obvious herding: try every sample, in whole numbers."""
    counts, n, picked = target.sum(axis=0), len(target), []
    while len(picked) < min(budget, len(fires)):

        def key(i, so_far=tuple(picked)):
            rows = [*so_far, i]
            gap = n * fires[rows].sum(axis=0) - len(rows) * counts
            return int(gap @ gap), n_tokens[i], i

        picked.append(min((i for i in range(len(fires)) if i not in picked), key=key))
    return picked


def covered(fires, rows):
    return int(fires[list(rows)].any(axis=0).sum())


# Coverage


@quick
@given(parts(), st.integers(1, 8), st.sampled_from([0.0, 1.0]), st.booleans())
def test_lazy_greedy_equals_plain_greedy(drawn, budget, threshold, weighted):
    pool = build(drawn)
    fires = active(pool, threshold)
    if not fires.any():
        return
    weights = fires.sum(axis=0) if weighted else np.ones(N_FEATURES, dtype=int)
    picked = choose(pool, budget, threshold=threshold, weights="frequency" if weighted else "equal")
    assert picked == plain_greedy(fires, pool.n_tokens, weights, budget)


def test_lazy_greedy_equals_plain_greedy_on_a_larger_pool():
    rng = np.random.default_rng(0)
    fires = (rng.random((300, 120)) < rng.random(120) * 0.2).astype(int)
    n_tokens = rng.integers(1, 9, 300)
    groups = plan_groups(n_tokens, budget=60, quota="none")
    weights = rng.integers(1, 5, 120)
    picked = coverage_picks(firing(fires), groups, weights, Spending(n_tokens))
    assert picked.tolist() == plain_greedy(fires, n_tokens, weights, 60)


@quick
@given(parts(), st.integers(1, 4))
def test_greedy_coverage_is_near_the_best_choice(drawn, budget):
    pool = build(drawn)
    fires = active(pool)
    if not fires.any():
        return
    size = min(budget, len(fires))
    best = max(covered(fires, rows) for rows in combinations(range(len(fires)), size))
    assert covered(fires, choose(pool, budget)) >= (1 - 1 / np.e) * best


@quick
@given(parts(), st.integers(1, 8), st.integers(1, 12))
def test_a_choice_within_a_token_budget_equals_plain_greedy(drawn, budget, most):
    pool = build(drawn)
    fires = active(pool)
    if not fires.any():
        return
    picked = choose(pool, budget, budget_tokens=most)
    assert picked == plain_greedy(
        fires, pool.n_tokens, np.ones(N_FEATURES, dtype=int), budget, most
    )
    assert pool.n_tokens[picked].sum() <= most


def test_ties_go_to_the_shorter_sample_then_to_the_earlier():
    pool = make_activations([{0: 1}, {1: 1}, {2: 1}, {3: 1}], 4, [9, 5, 9, 5])
    assert choose(pool, 4) == [1, 3, 0, 2]


@pytest.mark.parametrize("objective", ["coverage", "representative"])
@pytest.mark.parametrize("quota", ["length", "none"])
def test_a_token_budget_holds_for_every_objective(objective, quota):
    pool = make_activations([{i % 4: 1} for i in range(30)], 4, list(range(1, 31)))
    picked = choose(pool, 20, objective=objective, quota=quota, budget_tokens=60)
    assert 40 < pool.n_tokens[picked].sum() <= 60


def test_included_samples_come_first_and_what_they_cover_is_covered():
    pool = make_activations([{0: 1, 1: 1}, {0: 1, 1: 1, 2: 1}, {3: 1}])
    assert choose(pool, 2) == [1, 2]
    assert choose(pool, 2, include=(0,)) == [0, 1]
    assert choose(pool, 2, include=(1,), objective="representative") == [1, 2]


@pytest.mark.parametrize("objective", ["coverage", "representative"])
def test_a_choice_goes_on_from_its_own_first_picks(objective):
    rng = np.random.default_rng(3)
    rows = [dict.fromkeys(np.flatnonzero(rng.random(30) < 0.3).tolist(), 1.0) for _ in range(40)]
    pool = make_activations(rows, 30)
    whole = choose(pool, 9, objective=objective)
    assert choose(pool, 9, objective=objective, include=tuple(whole[:4])) == whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": (0, 0)}, "named twice"),
        ({"include": (0, 1, 2)}, "3 samples are to be included and the budget is 2"),
        ({"include": (2,)}, "s2 is to be included and has no scored tokens"),
        ({"include": (0,), "budget_tokens": 5}, "have 10 tokens and the budget is 5"),
    ],
)
def test_choices_that_cannot_be_made_are_errors(options, message):
    pool = make_activations([{0: 1}, {1: 1}, {}], 4, [10, 10, 0])
    with pytest.raises(DataError, match=message):
        choose(pool, 2, **options)


def test_a_weighted_choice_takes_the_frequent_feature_first():
    pool = make_activations([{0: 1, 1: 1}, {2: 1}, {2: 1}, {2: 1}], 4)
    assert choose(pool, 1) == [0]
    assert choose(pool, 1, weights="frequency") == [1]


def test_picks_after_full_coverage_cover_again_instead_of_taking_silent_samples():
    pool = make_activations([{}, {0: 1}, {0: 1}, {}], 4, [1, 5, 6, 1])
    assert choose(pool, 2) == [1, 2]


def test_only_relevant_features_of_the_anchor_count():
    pool = make_activations([{0: 1, 1: 1}, {2: 1}, {3: 1}], 4)
    anchor = make_activations([{2: 1, 3: 1, 0: 1, 1: 1}], 4)
    assert choose(pool, 1, anchor=make_activations([{3: 1}], 4)) == [2]
    assert choose(pool, 1, anchor=anchor, relevant=np.array([0, 0, 1, 0], bool)) == [1]


# Closeness


@quick
@given(parts(), row_lists(N_FEATURES), st.integers(1, 8), st.booleans())
def test_herding_equals_the_obvious_one(drawn, anchor_rows, budget, has_anchor):
    pool = build(drawn)
    anchor = make_activations(anchor_rows, N_FEATURES) if has_anchor else pool
    if not dense(anchor).any():
        return
    picked = choose(pool, budget, objective="representative", anchor=anchor)
    assert picked == plain_herding(active(pool), pool.n_tokens, active(anchor), budget)


def test_features_that_the_target_never_fires_speak_against_a_sample():
    pool = make_activations([{0: 1, 1: 1, 2: 1}, {0: 1}])
    anchor = make_activations([{0: 1}])
    assert choose(pool, 1, objective="representative", anchor=anchor) == [1]


def test_distance_to_an_anchor_counts_what_the_anchor_never_fires():
    pool, anchor = make_activations([{0: 1, 1: 1}]), make_activations([{0: 1}])
    found = report(pool, 1, anchor=anchor).selection
    assert found.hellinger_anchor == pytest.approx(np.sqrt(1 - np.sqrt(1 / 2)))


def test_herding_picks_the_mixture_of_the_anchor():
    pool = make_activations([{0: 1}] * 6 + [{1: 1}] * 6)
    anchor = make_activations([{0: 1}] * 3 + [{1: 1}])
    picked = choose(pool, 8, objective="representative", anchor=anchor)
    assert sum(row < 6 for row in picked) == 6


# Label direction


def gap(fires, classes, rows, target):
    """Half the squared distance between the differences of class means; absent classes agree."""
    errors = []
    for c in (0, 1):
        mine = [i for i in rows if classes[i] == c]
        errors.append(fires[mine].mean(axis=0) - target[c] if mine else np.zeros(fires.shape[1]))
    return 0.5 * np.square(errors[0] - errors[1]).sum()


@quick
@given(st.integers(0, 10_000))
def test_each_direction_pick_is_the_best_of_its_class(seed):
    rng = np.random.default_rng(seed)
    fires = (rng.random((14, N_FEATURES)) < 0.4).astype(float)
    classes = np.array([0] * 8 + [1] * 6)
    target = np.array([fires[classes == c].mean(axis=0) for c in (0, 1)])
    groups = plan_groups(np.ones(14, dtype=int), budget=7, quota="none", class_ids=classes)
    spending = Spending(np.ones(14, dtype=int))
    rows = csr_array(fires)
    picked = direction_picks(rows, groups, target, spending, class_ids=classes).tolist()
    for t, row in enumerate(picked):
        others = [i for i in range(14) if i not in picked[:t] and classes[i] == classes[row]]
        best = min(gap(fires, classes, [*picked[:t], i], target) for i in others)
        assert gap(fires, classes, picked[: t + 1], target) == pytest.approx(best, abs=1e-9)


def test_direction_keeps_the_difference_between_the_classes():
    rows = [{0: 1}] * 8 + [{1: 1}] * 2 + [{1: 1}] * 8 + [{0: 1}] * 2
    pool, classes = make_activations(rows), np.repeat([0, 1], 10)
    labels = ["a"] * 10 + ["b"] * 10
    picked = np.array(choose(pool, 10, objective="direction", labels=labels))
    first, second = (active(pool)[picked[classes[picked] == c]].mean(axis=0) for c in (0, 1))
    assert first - second == pytest.approx([0.6, -0.6, 0.0, 0.0])


def test_direction_can_follow_the_labels_of_an_anchor():
    pool = make_activations([{0: 1}, {1: 1}, {0: 1}, {1: 1}])
    anchor = make_activations([{1: 1}, {0: 1}])
    labels, other = ["a", "a", "b", "b"], ["a", "b"]
    picked = choose(
        pool, 2, objective="direction", labels=labels, anchor=anchor, anchor_labels=other
    )
    assert sorted(picked) == [1, 2]


def test_direction_of_pairs_keeps_what_chosen_answers_have_more():
    chosen = make_activations([{0: 1}] * 6 + [{1: 1}] * 3 + [{2: 1}])
    rejected = make_activations([{}] * 6 + [{0: 1}] * 3 + [{2: 1}])
    picked = choose(chosen, 3, objective="direction", rejected=rejected)
    vectors = active(chosen) - active(rejected)
    groups = plan_groups(chosen.n_tokens, budget=3, quota="none")
    spending = Spending(chosen.n_tokens)
    assert picked == mean_picks(vectors, groups, vectors.sum(0) * 1.0, 10, spending).tolist()
    found = report(chosen, 3, objective="direction", rejected=rejected)
    assert found.pool.direction_cosine == pytest.approx(1.0)


@quick
@given(st.integers(0, 10_000), st.booleans())
def test_each_difference_pick_is_the_best(seed, is_sparse):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, (9, 4)).astype(float)
    tokens = np.ones(9, dtype=int)
    groups = plan_groups(tokens, budget=5, quota="none")
    rows = csr_array(vectors) if is_sparse else vectors
    target = vectors.mean(axis=0)
    picked = mean_picks(rows, groups, vectors.sum(axis=0), 9, Spending(tokens)).tolist()
    for t in range(5):
        others = [i for i in range(9) if i not in picked[:t]]
        gaps = [np.square(vectors[[*picked[:t], i]].mean(0) - target).sum() for i in others]
        mine = np.square(vectors[picked[: t + 1]].mean(0) - target).sum()
        assert mine == pytest.approx(min(gaps), abs=1e-9)


def test_pairs_need_both_sides():
    with pytest.raises(MismatchError, match="2 samples and the rejected answers 1"):
        choose(
            make_activations([{0: 1}, {1: 1}]),
            1,
            objective="direction",
            rejected=make_activations([{0: 1}]),
        )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "no label"),
        (["a", None], "1 samples of the pool have no label"),
        (["a", "a"], "a direction needs two classes"),
    ],
)
def test_direction_needs_the_labels_of_two_classes(labels, message):
    pool = make_activations([{0: 1}, {1: 1}])
    with pytest.raises(DataError, match=message):
        choose(pool, 2, objective="direction", labels=labels)


def test_direction_needs_a_pick_for_every_class():
    pool = make_activations([{0: 1}, {1: 1}])
    with pytest.raises(DataError, match="1 picks cannot hold 2 classes"):
        choose(pool, 1, objective="direction", labels=["a", "b"])


def test_an_anchor_with_other_classes_is_an_error():
    pool = make_activations([{0: 1}, {1: 1}])
    labels = {"labels": ["a", "b"], "anchor": pool, "anchor_labels": ["a", "c"]}
    with pytest.raises(DataError, match="between the same classes only"):
        choose(pool, 2, objective="direction", **labels)


# Quotas


@quick
@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(1, 70))
def test_quotas_fill_the_budget_and_never_exceed_a_group(tokens, budget):
    tokens = np.array(tokens)
    if not tokens.any():
        return
    groups = plan_groups(tokens, budget=budget, quota="length")
    rows = np.concatenate([group.rows for group in groups])
    assert sorted(rows.tolist()) == np.flatnonzero(tokens).tolist()
    assert sum(group.n_picks for group in groups) == min(budget, rows.size)
    assert all(group.n_picks <= group.rows.size for group in groups)


@pytest.mark.parametrize("budget", [10, 25, 40])
def test_length_quotas_keep_the_mean_length_of_the_pool(budget):
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 200, 500)
    rows = [dict.fromkeys(rng.choice(900, n // 8 + 1, replace=False), 1.0) for n in tokens]
    pool = make_activations(rows, 900, tokens.tolist())
    free, bound = (choose(pool, budget, quota=quota) for quota in ("none", "length"))
    assert tokens[free].mean() > 1.3 * tokens.mean()
    assert tokens[bound].mean() == pytest.approx(tokens.mean(), rel=0.12)


def test_classes_keep_their_share_and_small_ones_get_a_pick():
    classes = np.array([0] * 90 + [1] * 9 + [2])
    groups = plan_groups(np.ones(100, dtype=int), budget=10, quota="none", class_ids=classes)
    assert [(group.class_id, group.n_picks) for group in groups] == [(0, 8), (1, 1), (2, 1)]


@pytest.mark.parametrize("objective", ["coverage", "representative"])
@pytest.mark.parametrize("quota", ["length", "none"])
def test_a_budget_beyond_the_pool_takes_every_sample_with_text_once(objective, quota):
    pool = make_activations([{0: 1}, {}, {1: 1}, {}], 4, [3, 0, 4, 5])
    assert sorted(choose(pool, 9, objective=objective, quota=quota)) == [0, 2, 3]


def test_duplicates_are_a_sensible_pool():
    pool = make_activations([{0: 1, 1: 1}] * 5)
    assert choose(pool, 3, quota="length") == [0, 2, 4]


def test_a_pool_without_text_is_an_error():
    with pytest.raises(DataError, match="none of the 2 samples"):
        choose(make_activations([{0: 1}, {}], 4, [0, 0]), 1)


def test_a_pool_without_active_features_is_an_error():
    with pytest.raises(DataError, match="activates none"):
        choose(make_activations([{0: 1}]), 1, threshold=2.0)


def test_an_anchor_of_another_width_is_an_error():
    with pytest.raises(MismatchError, match="5 features"):
        choose(make_activations([{0: 1}]), 1, anchor=make_activations([{0: 1}], 5))


def test_a_budget_of_zero_is_an_error():
    with pytest.raises(DataError, match="budget is 0"):
        SelectSettings(0)


# The report


def report(rows, budget, **options):
    pool = pool_of(rows, options)
    return select_samples(pool, SelectSettings(budget, **options))


def test_report_says_what_the_choice_and_the_pool_are_like():
    pool = make_activations([{0: 1, 1: 1}, {2: 1}, {2: 1}], 4, [10, 20, 30])
    found = report(pool, 1, quota="none", objective="coverage")
    assert found.n_goal == 3
    assert found.selection.fac == pytest.approx(2 / 3)
    assert found.selection.mean_tokens == 10
    assert (found.pool.fac, found.pool.hellinger, found.pool.mean_tokens) == (1.0, 0.0, 20.0)
    # shares (½, ½, 0) against (¼, ¼, ½): 1 - 2 √⅛ is the squared distance
    assert found.selection.hellinger == pytest.approx(np.sqrt(1 - 2 * np.sqrt(1 / 8)))


def test_random_picks_have_the_same_quotas():
    tokens = list(range(1, 101))
    pool = make_activations([{i % 4: 1.0} for i in range(100)], 4, tokens)
    found = report(pool, 50)
    assert len(found.random) == 20
    assert all(abs(m.mean_tokens - 50.5) < 3 for m in found.random)
    assert len({m.mean_tokens for m in found.random}) > 1


def test_random_picks_match_the_lengths_of_a_choice_without_quotas():
    tokens = np.arange(1, 1001)
    rows = [dict.fromkeys(range(n // 10 + 1), 1.0) for n in tokens]
    found = report(
        make_activations(rows, 120, tokens.tolist()), 30, quota="none", objective="coverage"
    )
    assert found.selection.mean_tokens > 900
    assert all(
        m.mean_tokens == pytest.approx(found.selection.mean_tokens, rel=0.02) for m in found.random
    )


def test_fac_is_measured_against_the_anchor():
    pool, anchor = make_activations([{0: 1}, {1: 1}]), make_activations([{0: 1, 2: 1, 3: 1}])
    found = report(pool, 2, anchor=anchor)
    assert found.selection.fac == pytest.approx(1 / 3)
    # shares (½, ½, 0, 0) against (⅓, 0, ⅓, ⅓): what only the pool fires counts as well
    assert found.selection.hellinger_anchor == pytest.approx(np.sqrt(1 - np.sqrt(1 / 6)))


def test_direction_of_the_whole_pool_agrees_with_itself():
    pool = make_activations([{0: 1}, {0: 1, 2: 1}, {1: 1}, {1: 1, 3: 1}])
    found = report(pool, 2, objective="direction", labels=["a", "a", "b", "b"])
    assert found.pool.direction_cosine == pytest.approx(1.0)
    assert found.selection.direction_cosine > 0.8


# The command


def pool_on_disk(folder, rows, labels=None):
    labels = labels or [None] * len(rows)
    samples = [Sample(f"s{i}", text=f"text {i}", label=label) for i, label in enumerate(labels)]
    write_table(folder, make_activations(rows), samples)
    return folder


def call(*words):
    return CliRunner().invoke(select, [str(word) for word in words], catch_exceptions=False)


def test_command_selects_ids_in_order_and_writes_the_samples(tmp_path):
    table = pool_on_disk(tmp_path / "table", [{0: 2.0}, {1: 2.0, 2: 2.0}, {3: 0.5}])
    out = tmp_path / "chosen.jsonl"
    rule = ("--objective", "coverage", "--quota", "none")
    done = call(table, "--budget", 2, *rule, "--threshold", 1, "-o", out, "--json")
    row = json.loads(done.stdout)
    assert row["selected"] == ["s1", "s0"]
    assert row["selection"]["fac"] == 1.0
    assert set(row["random"]["fac"]) == {"mean", "low", "high"}
    assert [sample.sample_id for sample in read_samples(out)] == ["s1", "s0"]
    assert "every feature counts" in done.stderr


def test_weights_of_features_need_the_objective_coverage():
    with pytest.raises(DataError, match="choose the objective coverage"):
        SelectSettings(3, weights="frequency")
    assert SelectSettings(3, objective="coverage", weights="frequency").weights == "frequency"


def large_group(n_samples=600):
    """Samples that a table of many more would have, and what herding needs of them."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(10, 310)
    rows = [rng.choice(300, 12, replace=False, p=shares / shares.sum()) for _ in range(n_samples)]
    starts = np.arange(n_samples + 1) * 12
    fires = FiringRows(starts, np.sort(rows, axis=1).ravel().astype(np.uint16), 300)
    return fires, fires.counts().astype(np.float64), rng.integers(1, 50, n_samples)


def herd(fires, target, n_tokens, budget, left=None):
    groups = plan_groups(n_tokens, budget=budget, quota="none")
    picks = mean_picks(fires, groups, target, n_tokens.size, Spending(n_tokens, left))
    return picks, np.linalg.norm(fires.take(picks).counts() / picks.size - target / n_tokens.size)


def test_herding_that_looks_at_the_nearest_of_a_large_group_comes_as_near(monkeypatch):
    of_all, nearest = herd(*large_group(), 60)
    monkeypatch.setattr("facsynth.select.herding.ALL_SEEN", 100)
    monkeypatch.setattr("facsynth.select.herding._NEAR_SHARE", 0.2)
    some, near = herd(*large_group(), 60)
    assert some.tolist() != of_all.tolist()
    assert near < 1.05 * nearest
    assert np.unique(some).size == 60


def test_a_large_group_is_looked_at_whole_when_its_nearest_are_too_long(monkeypatch):
    monkeypatch.setattr("facsynth.select.herding.ALL_SEEN", 100)
    monkeypatch.setattr("facsynth.select.herding._NEAR_SHARE", 0.004)
    fires, target, _ = large_group()
    n_tokens = np.array([9, 1] * 300)
    picks, _ = herd(fires, target, n_tokens, 50, left=120)
    assert n_tokens[picks].sum() == 120
    assert np.unique(picks).size == picks.size


def test_a_choice_from_a_large_pool_says_what_its_picks_look_at(monkeypatch):
    pool = make_activations([{0: 1}, {1: 1, 2: 1}], 3)
    assert not any("look at" in note for note in report(pool, 1).notes)
    monkeypatch.setattr("facsynth.select.select.ALL_SEEN", 0)
    assert any("look at the twentieth" in note for note in report(pool, 1).notes)


def test_the_target_is_matched_unless_another_objective_is_named():
    pool = make_activations([{0: 1}, {1: 1, 2: 1}], 3)
    chosen = report(pool, 1, quota="none", anchor=make_activations([{0: 1}], 3))
    assert chosen.sample_ids == ("s0",)  # the other activates more, which the anchor never does


def test_command_prints_the_random_picks_and_says_when_the_pool_is_too_small(tmp_path):
    table = pool_on_disk(tmp_path / "table", [{0: 2.0}, {1: 2.0}])
    done = call(table, "--budget", 5, "--objective", "representative")
    assert "random, same lengths" in done.stdout
    assert done.stdout.splitlines()[-2:] == ["s0", "s1"]
    assert "the pool has 2 samples with text" in done.stderr


def test_command_covers_the_relevant_features_of_an_anchor(tmp_path):
    table = pool_on_disk(tmp_path / "table", [{0: 2.0, 1: 2.0}, {2: 2.0}])
    anchor = pool_on_disk(tmp_path / "anchor", [{0: 2.0, 1: 2.0, 2: 2.0}])
    relevant = tmp_path / "relevant.txt"
    relevant.write_text("2\n")
    done = call(table, "--budget", 1, "--anchor", anchor, "--relevant", relevant, "--json")
    assert json.loads(done.stdout)["selected"] == ["s1"]


def test_command_reads_the_labels_for_the_direction(tmp_path):
    rows, labels = [{0: 2.0}, {1: 2.0}, {1: 2.0}], ["a", "b", "b"]
    table = pool_on_disk(tmp_path / "table", rows, labels)
    done = call(table, "--budget", 2, "--objective", "direction", "--json")
    assert json.loads(done.stdout)["selection"]["direction_cosine"] == pytest.approx(1.0)


def test_command_includes_samples_by_id_or_by_file(tmp_path):
    table = pool_on_disk(tmp_path / "table", [{0: 2.0}, {1: 2.0}, {2: 2.0}])
    listed = tmp_path / "include.txt"
    listed.write_text('s2\n{"sample_id": "s1"}\n')
    for named in ("s2,s1", listed):
        done = call(table, "--budget", 2, "--include", named, "--json")
        assert json.loads(done.stdout)["selected"] == ["s2", "s1"]


def test_command_refuses_an_unknown_sample_to_include(tmp_path):
    table = pool_on_disk(tmp_path / "table", [{0: 2.0}])
    with pytest.raises(DataError, match="s9 is not in the pool"):
        call(table, "--budget", 1, "--include", "s9")


@pytest.mark.parametrize("line", ['{"sample_id": ', '{"id": "s0"}'])
def test_command_refuses_a_line_that_names_no_sample_to_include(tmp_path, line):
    table = pool_on_disk(tmp_path / "table", [{0: 2.0}])
    listed = tmp_path / "include.jsonl"
    listed.write_text(line)
    with pytest.raises(DataError, match="is not a sample with a sample_id"):
        call(table, "--budget", 1, "--include", listed)


def test_command_reads_the_rejected_answers_of_pairs(tmp_path):
    table = pool_on_disk(tmp_path / "chosen", [{0: 2.0}, {1: 2.0}])
    rejected = pool_on_disk(tmp_path / "rejected", [{1: 2.0}, {1: 2.0}])
    words = ("--budget", 1, "--objective", "direction", "--rejected", rejected, "--json")
    assert json.loads(call(table, *words).stdout)["selected"] == ["s1"]


def test_a_pool_of_one_sample_and_a_pool_of_copies_are_chosen_from():
    assert choose(make_activations([{0: 1}]), 5, quota="length") == [0]
    copies = make_activations([{0: 1, 1: 1}] * 7)
    for objective in ("coverage", "representative"):
        assert choose(copies, 3, objective=objective) == [0, 1, 2]


@pytest.mark.slow
def test_a_million_samples_can_be_chosen_from():
    rng = np.random.default_rng(0)
    n, per_row, width = 1_000_000, 30, 65_536
    ids = np.minimum(rng.pareto(0.6, n * per_row) * 20, width - 1).astype(np.uint32)
    pool = FeatureActivations(
        n_features=width,
        sample_ids=("x",) * n,
        n_tokens=rng.integers(5, 200, n),
        row_starts=np.arange(0, n * per_row + 1, per_row),
        feature_ids=ids,
        values=np.ones(n * per_row, dtype=np.float32),
        positions=np.zeros(n * per_row, dtype=np.uint16),
    )
    assert len(set(choose(pool, 2000, quota="length"))) == 2000

"""Class directions, their agreement, and what may mislead about labels."""

import numpy as np
import pytest

from activations import dense, make_activations
from facsynth.compare.label_report import measure_labels
from facsynth.compare.labels import agreement, labelled_rows, length_cosines
from facsynth.data.pairs import pair_numbers, split_pairs
from facsynth.data.shapes import PlacedRow, read_row
from facsynth.errors import DataError, MismatchError
from facsynth.records import Message, Sample
from facsynth.select.vectors import cosine
from facsynth.table.active import active_rows


def rng(seed=0):
    return np.random.default_rng(seed)


def active(rows, n_features=4, n_tokens=None, relevant=None):
    table = make_activations(rows, n_features, n_tokens)
    return active_rows(table, threshold=1.0, relevant=relevant)


def random_set(n, lean, seed=0, n_features=30, n_tokens=None):
    """Two classes; features 0-4 fire more often in class b by `lean`, 5-9 less often."""
    draw = rng(seed)
    labels = ["a", "b"] * (n // 2)
    rates = np.full((2, n_features), 0.4)
    rates[1, :5] += lean
    rates[1, 5:10] -= lean
    rows = [
        {f: 2.0 for f in np.flatnonzero(draw.random(n_features) < rates[i % 2]).tolist()}
        for i in range(n)
    ]
    return active(rows, n_features, n_tokens), labels


def labelled(*args, **options):
    return labelled_rows(*random_set(*args, **options))


# The direction


def test_direction_is_the_centred_class_means():
    table = active([{0: 2.0}, {0: 3.0, 1: 2.0}, {1: 5.0}, {2: 0.5}])
    found = labelled_rows(table, ["x", "x", "y", "y"])
    means = [[1.0, 0.5, 0, 0], [0, 0.5, 0, 0]]
    assert found.direction() == pytest.approx(np.array(means) - np.mean(means, axis=0))


def test_vectors_hold_ones_and_only_relevant_features():
    relevant = np.array([True, True, False, False])
    table = active([{0: 3.0, 1: 1.0, 2: 9.0}, {1: 3.0}], relevant=relevant)
    assert labelled_rows(table, ["x", "y"]).vectors.csr().toarray().tolist() == [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
    ]


def test_reliability_is_near_the_cosine_of_two_independent_sets():
    one, other = labelled(600, 0.1, seed=1), labelled(600, 0.1, seed=2)
    cosines = [agreement(one, other, n_resamples=20, rng=rng()).cosine]
    for seed in range(3, 23, 2):
        pair = (labelled(600, 0.1, seed=seed + i) for i in (0, 1))
        cosines.append(agreement(*pair, n_resamples=20, rng=rng()).cosine)
    assert np.mean(cosines) == pytest.approx(one.reliability(), abs=0.12)


def test_labels_without_meaning_have_no_reliability():
    found = [labelled(200, 0.0, seed=seed).reliability() for seed in range(20)]
    assert np.median(found) < 0.05


def test_pairs_are_more_reliable_than_the_same_samples_without_pairing():
    draw, rows = rng(3), []
    for i in range(80):  # both sides of a pair share their topic, and differ in feature 0
        topic = {f: 2.0 for f in range(2, 30) if draw.random() < 0.5}
        rows += [topic | {0: 2.0}, topic] if i % 4 else [topic, topic | {0: 2.0}]
    labels = ["chosen", "rejected"] * 80
    table = active(rows, n_features=30)
    paired = labelled_rows(table, labels, pair_ids=np.repeat(np.arange(80), 2))
    assert paired.reliability() > 0.9
    draw = rng(4)
    shuffled_topics = active(
        [{f: 2.0 for f in range(30) if draw.random() < 0.5} for _ in rows], n_features=30
    )
    assert labelled_rows(shuffled_topics, labels).reliability() < 0.6


# Agreement


def test_set_agrees_with_another_of_the_same_source():
    found = agreement(labelled(400, 0.3, 1), labelled(400, 0.3, 2), rng=rng())
    assert found.cosine > 0.8
    assert found.low <= found.cosine <= found.high
    assert found.shuffled_high < found.cosine
    assert found.p_value == pytest.approx(1 / 201)


def test_swapped_labels_contradict():
    table, labels = random_set(400, 0.3)
    swapped = labelled_rows(table, [{"a": "b", "b": "a"}[label] for label in labels])
    found = agreement(swapped, labelled_rows(table, labels), rng=rng())
    assert found.cosine == pytest.approx(-1.0)
    assert found.high < 0


def test_interval_holds_the_mean_cosine_of_such_sets():
    cosines, held = [], 0
    target = labelled(400, 0.15, seed=999)
    found = [
        agreement(labelled(100, 0.15, seed=s), target, n_resamples=60, rng=rng()) for s in range(30)
    ]
    cosines = [one.cosine for one in found]
    held = sum(one.low <= np.mean(cosines) <= one.high for one in found)
    assert held >= 25


def test_resamples_and_shuffles_equal_a_loop():
    one, other, draw = labelled(60, 0.2, seed=1), labelled(60, 0.2, seed=2), rng()
    pairs = [(one.resampled(draw), other.resampled(draw)) for _ in range(20)]
    drawn = [cosine(one.direction(a), other.direction(b)) for a, b in pairs]
    chance = [cosine(one.shuffled(draw).direction(), other.direction()) for _ in range(20)]
    found = agreement(one, other, n_resamples=20, rng=rng())
    low, high = np.quantile(drawn, [0.025, 0.975]) + found.cosine - np.mean(drawn)
    assert (found.low, found.high) == pytest.approx((low, high))
    expected = np.quantile(chance, [0.025, 0.975]).tolist()
    assert [found.shuffled_low, found.shuffled_high] == pytest.approx(expected)


def test_shuffling_pairs_swaps_sides_and_keeps_every_pair_whole():
    table = active([{0: 2.0}, {1: 2.0}] * 9)
    found = labelled_rows(table, ["c", "r"] * 9, pair_ids=np.repeat(np.arange(9), 2))
    classes = found.shuffled(rng()).class_ids.reshape(-1, 2)
    assert (classes.sum(axis=1) == 1).all()
    assert 0 < classes[:, 0].sum() < 9


def test_resampling_draws_whole_pairs():
    table = active([{0: 2.0}, {1: 2.0}] * 9)
    found = labelled_rows(table, ["c", "r"] * 9, pair_ids=np.repeat(np.arange(9), 2))
    weights = found.resampled(rng()).reshape(-1, 2)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert weights.sum() == 18


def test_other_classes_do_not_compare():
    table = active([{0: 2.0}, {1: 2.0}])
    one, other = labelled_rows(table, ["a", "b"]), labelled_rows(table, ["a", "c"])
    with pytest.raises(MismatchError, match="--rename OLD=NEW"):
        agreement(one, other, rng=rng())


# Lengths, richness, warnings


def test_direction_of_classes_that_differ_in_length_alone_is_that_of_length():
    rows = [{f: 2.0 for f in range(6)} if i % 2 else {0: 2.0} for i in range(60)]
    table = active(rows, n_features=8, n_tokens=[50 if i % 2 else 5 for i in range(60)])
    found = labelled_rows(table, ["long" if i % 2 else "short" for i in range(60)])
    assert length_cosines(found).tolist() == pytest.approx([1.0, -1.0])
    report = measure_labels(found, "set")
    assert [c.length_auc for c in report.classes] == [1.0, 0.0]
    assert "longer than the others in 100%" in report.warnings[0]


def test_equal_lengths_have_no_direction():
    assert length_cosines(labelled(40, 0.3)).tolist() == [0.0, 0.0]


def test_classes_are_rarefied_to_the_smallest():
    table = active([{0: 2.0}, {1: 2.0}, {2: 2.0}, {3: 2.0}])
    found = labelled_rows(table, ["big", "big", "big", "small"])
    big, small = measure_labels(found, "set").classes
    assert (big.n_seen, big.seen_at_equal_samples) == (3, pytest.approx(1.0))
    assert (small.n_seen, small.seen_at_equal_samples) == (1, pytest.approx(1.0))


def test_coverage_is_that_of_the_same_class_of_the_anchor():
    anchor = active([{0: 2.0, 1: 2.0}, {2: 2.0, 3: 2.0}])
    seed = active([{0: 2.0, 2: 2.0}, {1: 2.0, 3: 2.0}])
    labels = ["chosen", "rejected"]
    target, rows = labelled_rows(anchor, labels), labelled_rows(seed, labels)
    report = measure_labels(rows, "set", anchor=target)
    assert [c.fac for c in report.classes] == [0.5, 0.5]


def test_share_of_pairs_with_the_longer_chosen_answer_is_reported_and_warned_of():
    table = active([{0: 2.0}, {1: 2.0}] * 4, n_tokens=[9, 5, 9, 5, 9, 5, 4, 4])
    labels = ["chosen", "rejected"] * 4
    found = labelled_rows(table, labels, pair_ids=np.repeat(np.arange(4), 2))
    report = measure_labels(found, "set")
    assert (report.n_pairs, report.chosen_longer) == (4, 0.875)
    assert any("longer one in 88% of the pairs" in w for w in report.warnings)


def test_agreement_by_chance_gives_a_warning():
    table, labels = random_set(60, 0.0)
    rows, target = labelled_rows(table, labels), labelled(60, 0.0, seed=8)
    found = agreement(rows, target, rng=rng())
    report = measure_labels(rows, "set", found=found)
    assert any("what shuffled labels give" in w for w in report.warnings)
    assert any("more than sampling noise" in w for w in report.warnings)


def test_unlabelled_and_empty_samples_are_left_out_and_counted():
    table = active([{0: 2.0}, {1: 2.0}, {2: 2.0}, {}], n_tokens=[5, 5, 5, 0])
    found = labelled_rows(table, ["a", "b", None, "b"])
    assert (found.n_left_out, found.rows.tolist()) == (2, [0, 1])


def test_pair_with_an_empty_side_is_left_out_whole():
    table = active([{0: 2.0}, {1: 2.0}, {0: 2.0}, {}], n_tokens=[5, 5, 5, 0])
    labels = ["chosen", "rejected"] * 2
    found = labelled_rows(table, labels, pair_ids=np.array([0, 0, 1, 1]))
    assert (found.rows.tolist(), found.pair_ids.tolist()) == ([0, 1], [0, 0])


@pytest.mark.parametrize("labels", [["a", "a"], [None, None], ["a", None]])
def test_direction_needs_two_classes(labels):
    with pytest.raises(DataError, match="a direction needs two classes"):
        labelled_rows(active([{0: 2.0}, {1: 2.0}]), labels)


def test_samples_that_all_are_equal_have_a_zero_direction():
    table = active([{0: 2.0}] * 6)
    found = labelled_rows(table, ["a", "b"] * 3)
    assert (np.abs(found.direction()).max(), found.reliability()) == (0.0, 0.0)
    assert agreement(found, found, n_resamples=20, rng=rng()).cosine == 0.0


def test_feature_that_nobody_activates_changes_nothing():
    table, labels = random_set(40, 0.3)
    array = dense(table.activations)
    rows = [{f: float(v) for f, v in enumerate(row) if v} for row in array]
    wider = labelled_rows(active(rows, n_features=50), labels)
    assert wider.reliability() == pytest.approx(labelled_rows(table, labels).reliability())


# Pairs


def pair(name="p"):
    asked = Message("user", "why?")
    told = (asked, Message("assistant", "so")), (asked, Message("assistant", "no"))
    return Sample(name, messages=told[0], rejected=told[1], label="3")


def test_pair_becomes_two_samples_that_find_each_other():
    chosen, rejected = split_pairs([pair()])
    assert (chosen.sample_id, rejected.sample_id) == ("p#chosen", "p#rejected")
    assert (chosen.messages[1].content, rejected.messages[1].content) == ("so", "no")
    assert not chosen.rejected
    samples = list(split_pairs([pair("x#1"), pair("y")]))
    numbers = pair_numbers([s.sample_id for s in samples], [s.label for s in samples])
    assert numbers.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("ids", "labels"),
    [
        (["a", "b"], ["chosen", "rejected"]),
        (["a#chosen", "b#rejected"], ["chosen", "rejected"]),
        (["a#chosen", "a#rejected"], ["chosen", "chosen"]),
        (["a#x", "a#y"], ["x", "y"]),
    ],
)
def test_what_is_no_pair_is_not_taken_for_one(ids, labels):
    assert pair_numbers(ids, labels) is None


def test_sample_without_a_second_answer_is_an_error():
    with pytest.raises(DataError, match="'p' is not a preference pair"):
        list(split_pairs([Sample("p", text="alone")]))


@pytest.mark.parametrize(
    "row",
    [
        {
            "chosen": "\n\nHuman: why?\n\nAssistant: so",
            "rejected": "\n\nHuman: why?\n\nAssistant: no",
        },
        {"prompt": "why?", "chosen": "so", "rejected": "no", "subset": "chat", "id": 7},
        {
            "prompt": [{"role": "user", "content": "why?"}],
            "chosen": [{"role": "assistant", "content": "so"}],
            "rejected": [{"role": "assistant", "content": "no"}],
        },
    ],
    ids=["HH-RLHF", "RewardBench", "TRL"],
)
def test_published_pair_layouts_are_read_with_both_answers(row):
    found = split_pairs([read_row(PlacedRow("a", "line 1", "p", row)).sample])
    turns = [[(m.role, m.content) for m in sample.messages] for sample in found]
    assert turns == [[("user", "why?"), ("assistant", answer)] for answer in ("so", "no")]

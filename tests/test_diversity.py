"""Text and vector measures of diversity, worked out by hand."""

import gzip
import json
import math
import sys
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.vq import vq
from scipy.sparse import csr_array
from scipy.spatial.distance import pdist
from scipy.stats import entropy as scipy_entropy

from activations import make_activations, write_table
from facsynth.cli.diversity import diversity
from facsynth.compare.diversity import (
    cluster_entropy,
    compression_ratio,
    distinct_n,
    draw_parts,
    find_clusters,
    mean_cosine_distance,
    measure_draws,
    measure_texts,
    measure_vectors,
    ngram_entropy,
    self_bleu,
    vendi_score,
)
from facsynth.compare.settings import DiversitySettings
from facsynth.compare.side_by_side import DataSet, compare_diversity
from facsynth.data.write import sample_row, write_jsonl
from facsynth.errors import DataError
from facsynth.records import Message, Sample, sample_text
from facsynth.table.active import active_rows

TEXTS = [["a", "b", "a"], ["a", "c"]]
CORPORA = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=7), min_size=2, max_size=6)


def plain_bleu(hypothesis, references):
    """Sentence BLEU-4 as it is defined, with method 1 of Chen and Cherry."""
    logs = 0.0
    for n in range(1, 5):

        def grams(words, n=n):
            return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

        mine, theirs = grams(hypothesis), [grams(reference) for reference in references]
        matched = sum(min(c, max(other[g] for other in theirs)) for g, c in mine.items())
        if n == 1 and matched == 0:
            return 0.0
        logs += math.log((matched or 0.1) / max(1, mine.total())) / 4
    length = len(hypothesis)
    nearest = min((len(r) for r in references), key=lambda size: (abs(size - length), size))
    return math.exp(logs) * (1.0 if length > nearest else math.exp(1 - nearest / length))


def vectors(n, d=5, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


# Words


def test_text_of_a_sample_joins_all_turns_and_leaves_the_rejected_answer_out():
    ask, good, bad = (
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("assistant", "No"),
    )
    pair = Sample("p", messages=(ask, good), rejected=(ask, bad))
    assert sample_text(pair) == "Hi\nHello"
    assert sample_text(Sample("t", text="plain")) == "plain"


def test_distinct_divides_different_ngrams_by_words():
    assert distinct_n(TEXTS, 1) == 3 / 5
    assert distinct_n(TEXTS, 2) == 3 / 5  # ab, ba, ac; none across the two texts


def test_distinct_of_empty_texts_is_an_error():
    with pytest.raises(DataError, match="the 2 texts have no words"):
        distinct_n([[], []], 1)


def test_entropy_is_in_bits():
    assert ngram_entropy([["a", "b", "c", "d"]], 1) == pytest.approx(2.0)
    assert ngram_entropy([["a", "a", "b", "c"]], 1) == pytest.approx(1.5)
    assert ngram_entropy([["a", "a", "a"]], 2) == 0.0


def test_entropy_without_ngrams_is_zero():
    assert ngram_entropy([["a"], ["b"]], 2) == 0.0


def test_mean_length_counts_words_and_empty_texts():
    assert measure_texts(["a b a", "a c", ""])["mean_words"] == pytest.approx(5 / 3)


def test_compression_ratio_is_raw_bytes_over_gzip_bytes():
    raw = "äh äh".encode()
    assert compression_ratio(["äh", "äh"]) == len(raw) / len(gzip.compress(raw, 9, mtime=0))


def test_repetition_compresses_better():
    words = [f"{i * 7919 % 1000}" for i in range(400)]
    assert compression_ratio(["7919"] * 400) > 5 * compression_ratio(words)


def test_compression_of_nothing_is_an_error():
    with pytest.raises(DataError, match="empty"):
        compression_ratio(["", ""])


# Self-BLEU


def test_self_bleu_of_a_case_worked_out_by_hand():
    # "a b c d e" against "a b c d f": 4/5, 3/4, 2/3, 1/2, equal lengths; the same the other way
    expected = (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert self_bleu([list("abcde"), list("abcdf")]) == pytest.approx(expected)


def test_self_bleu_smooths_a_missing_order_and_penalises_brevity():
    # "a b c d" has a, b, c, d once each in "a c b d e": 4/4, then 0.1/3, 0.1/2, 0.1/1; 5 > 4
    short = (0.1 / 3 * 0.1 / 2 * 0.1) ** 0.25 * math.exp(1 - 5 / 4)
    long = (4 / 5 * 0.1 / 4 * 0.1 / 3 * 0.1 / 2) ** 0.25
    found = self_bleu([list("abcd"), list("acbde")])
    assert found == pytest.approx((short + long) / 2)


def test_self_bleu_of_copies_is_one_and_of_strangers_zero():
    assert self_bleu([list("abcd")] * 3) == pytest.approx(1.0)
    assert self_bleu([list("abcd"), list("efgh")]) == 0.0


@settings(deadline=None, max_examples=40)
@given(CORPORA)
def test_self_bleu_equals_the_quadratic_definition(texts):
    each = [plain_bleu(t, [*texts[:i], *texts[i + 1 :]]) for i, t in enumerate(texts)]
    assert self_bleu(texts) == pytest.approx(np.mean(each))


def test_self_bleu_of_one_text_is_an_error():
    with pytest.raises(DataError, match="two texts with words and was given 1"):
        self_bleu([["a"], []])


# Vectors


@pytest.mark.parametrize("n", [1, 4, 9])
def test_vendi_is_one_for_copies_and_n_for_strangers(n):
    assert vendi_score(np.tile([3.0, 4.0], (n, 1))) == pytest.approx(1.0)
    assert vendi_score(np.diag(np.arange(1.0, n + 1))) == pytest.approx(n)


def test_vendi_of_two_angles_worked_out_by_hand():
    # cos 60° = ½, so the eigenvalues of K / 2 are ¾ and ¼
    pair = np.array([[1.0, 0.0], [0.5, math.sqrt(0.75)]])
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert vendi_score(pair) == pytest.approx(expected)


def test_vendi_is_the_same_from_either_side_of_the_kernel():
    tall = vectors(12, 5)
    assert vendi_score(tall) == pytest.approx(vendi_score(np.hstack([tall, np.zeros((12, 20))])))


def test_cosine_distance_equals_the_mean_over_pairs():
    points = vectors(9)
    units = points / np.linalg.norm(points, axis=1, keepdims=True)
    pairs = [1 - units[i] @ units[j] for i in range(9) for j in range(i)]
    assert mean_cosine_distance(points) == pytest.approx(np.mean(pairs))


def test_opposite_vectors_are_two_apart():
    assert mean_cosine_distance(np.array([[1.0, 0.0], [-2.0, 0.0]])) == pytest.approx(2.0)


@pytest.mark.parametrize("measure", [vendi_score, mean_cosine_distance])
def test_a_zero_vector_is_an_error(measure):
    with pytest.raises(DataError, match="1 of 2 vectors are zero"):
        measure(np.array([[1.0, 0.0], [0.0, 0.0]]))


def test_sparse_vectors_measure_as_dense_ones_do():
    wide = np.where(vectors(30) > 0, vectors(30), 0.0)
    wide = np.hstack([wide[wide.any(axis=1)], np.zeros((np.count_nonzero(wide.any(axis=1)), 90))])
    found = [
        measure_vectors(one, find_clusters(one, n_clusters=4, random_seed=0))
        for one in (wide, csr_array(wide))
    ]
    assert found[0] == pytest.approx(found[1])


def test_centres_of_few_wide_vectors_are_means_of_their_clusters():
    points = np.repeat(np.eye(3, 40), 5, axis=0)
    centres = find_clusters(points, n_clusters=3, random_seed=1)
    assert np.sort(centres, axis=0)[-1] == pytest.approx(np.eye(3, 40).max(axis=0))


def test_cluster_entropy_of_four_equal_directions_is_two_bits():
    points = np.repeat(np.eye(4), 5, axis=0)
    assert cluster_entropy(points, np.eye(4)) == pytest.approx(2.0)
    assert cluster_entropy(points[:5], np.eye(4)) == 0.0
    assert cluster_entropy(points[:8], np.eye(4)) == pytest.approx(
        -(5 / 8 * math.log2(5 / 8) + 3 / 8 * math.log2(3 / 8))
    )


def test_clusters_are_found_and_repeat_with_the_seed():
    points = np.repeat(np.eye(3), 20, axis=0) + 0.01 * vectors(60, 3)
    centres = find_clusters(points, n_clusters=3, random_seed=1)
    assert cluster_entropy(points, centres) == pytest.approx(math.log2(3))
    assert (centres == find_clusters(points, n_clusters=3, random_seed=1)).all()


def test_more_clusters_than_different_vectors_are_cut_to_their_number():
    assert len(find_clusters(vectors(3), n_clusters=20, random_seed=0)) == 3
    assert len(find_clusters(np.ones((9, 2)), n_clusters=20, random_seed=0)) == 1


# Against maintained programs

STORIES = [
    *(
        "the cat sat on the mat and looked at the dog",
        "a bird sang in the tree while the cat slept",
    ),
    *("the dog sat on the rug and looked at the cat again", "the cat sat on the mat"),
]
GRID = np.array([[((i * 7 + j * 3) % 11) - 5.0 for j in range(4)] for i in range(6)])


def test_self_bleu_equals_that_of_nltk():
    # nltk 3.10.4: mean of sentence_bleu against the others, SmoothingFunction().method1
    assert self_bleu([text.split() for text in STORIES]) == pytest.approx(0.41570547323598817)


def test_vendi_equals_that_of_its_authors():
    # vendi-score 0.0.3: vendi.score_dual(GRID, normalize=True)
    assert vendi_score(GRID) == pytest.approx(2.9384663582277786)


def test_cosine_distance_equals_that_of_scipy():
    assert mean_cosine_distance(GRID) == pytest.approx(pdist(GRID, "cosine").mean())


def test_cluster_entropy_equals_that_of_scipy():
    units = GRID / np.linalg.norm(GRID, axis=1, keepdims=True)
    centres = find_clusters(GRID, n_clusters=3, random_seed=0)
    counts = np.bincount(vq(units, centres)[0])
    assert cluster_entropy(GRID, centres) == pytest.approx(scipy_entropy(counts, base=2))


# Draws


def test_a_draw_of_everything_has_no_error():
    draws = draw_parts(4, size=9, n_draws=5, rng=np.random.default_rng(0))
    found = measure_draws(lambda rows: {"n": float(len(rows))}, draws)
    assert (found["n"].value, found["n"].standard_error) == (4, None)


def test_standard_error_is_that_of_the_mean_over_draws():
    seen = []

    def measure(rows):
        seen.append(float(rows.sum()))
        assert len(set(rows.tolist())) == 3
        return {"sum": seen[-1]}

    draws = draw_parts(10, size=3, n_draws=6, rng=np.random.default_rng(0))
    found = measure_draws(measure, draws)["sum"]
    assert found.value == pytest.approx(np.mean(seen))
    assert found.standard_error == pytest.approx(np.std(seen, ddof=1) / math.sqrt(6))


def test_vectors_that_are_read_from_a_table_measure_as_those_in_memory():
    rng = np.random.default_rng(0)
    fires = [{int(f): 1.0 + f for f in rng.choice(12, 4, replace=False)} for _ in range(40)]
    rows = active_rows(make_activations(fires, n_features=12), threshold=0.0)
    texts = tuple(f"w{i} w{i % 3}" for i in range(40))
    small = DiversitySettings(sample=10, clusters=3)
    found = [
        compare_diversity([DataSet("set", texts, rows, vectors)], small).sets[0].metrics
        for vectors in (rows, rows.matrix)
    ]
    assert found[0] == found[1]


def test_measures_have_stable_names():
    assert list(measure_texts(["a b", "a c"])) == [
        *("mean_words", "distinct_1", "distinct_2", "unigram_entropy", "bigram_entropy"),
        *("self_bleu", "compression_ratio"),
    ]
    found = measure_vectors(vectors(6), vectors(2))
    assert list(found) == ["cosine_distance", "vendi", "cluster_entropy"]


# Data sets side by side


def of_rows(texts, rows, n_features=4):
    table = make_activations(rows, n_features)
    vectors = active_rows(table, threshold=0.0).matrix
    return DataSet("set", tuple(texts), active_rows(table, threshold=1.0), vectors)


def data_set(n, n_features=4, silent=0):
    rows = [{i % n_features: 1.0 + i} for i in range(n - silent)] + [{}] * silent
    texts = tuple(f"word{i} and word{i % 3}" for i in range(n))
    return of_rows(texts, rows, n_features)


def test_all_sets_are_measured_at_the_size_of_the_smallest():
    small, large = compare_diversity([data_set(5), data_set(40)]).sets
    assert (small.n_measured, large.n_measured, large.n_samples) == (5, 5, 40)
    assert small.metrics["distinct_1"].standard_error is None
    assert large.metrics["distinct_1"].standard_error > 0


def test_without_activations_only_texts_are_measured():
    (found,) = compare_diversity([DataSet("set", ("a b", "a c"))]).sets
    assert list(found.metrics) == list(measure_texts(["a b", "a c"]))


def test_fac_and_closeness_are_measured_beside():
    rows = make_activations([{0: 2.0}, {1: 2.0}, {2: 2.0}, {3: 0.5}])
    sets = [data_set(8), of_rows(("x y", "x z") * 4, [{0: 3.0}] * 8)]
    wide, narrow = compare_diversity(sets, anchor=active_rows(rows, threshold=1.0)).sets
    assert narrow.metrics["fac"].value == pytest.approx(1 / 3)
    assert narrow.metrics["hellinger"].value == pytest.approx(math.sqrt(1 - math.sqrt(1 / 3)))
    assert wide.metrics["fac"].value > narrow.metrics["fac"].value
    assert wide.metrics["hellinger"].value < narrow.metrics["hellinger"].value


def test_copies_are_less_diverse_than_different_samples():
    copies = of_rows(("same words here",) * 8, [{0: 1.0, 1: 2.0}] * 8)
    same, other = compare_diversity([copies, data_set(8)]).sets
    assert same.metrics["vendi"].value == pytest.approx(1.0)
    assert other.metrics["vendi"].value == pytest.approx(4.0)
    assert same.metrics["cluster_entropy"].value == 0.0
    assert same.metrics["self_bleu"].value > other.metrics["self_bleu"].value


def test_samples_without_features_are_counted_and_have_no_vector():
    (found,) = compare_diversity([data_set(6, silent=2)]).sets
    assert found.n_silent == 2
    assert found.metrics["vendi"].value == pytest.approx(4.0)


def test_a_table_without_activations_is_an_error():
    with pytest.raises(DataError, match="0 samples of a data set activate a feature"):
        compare_diversity([data_set(4), data_set(3, silent=3)])


def test_texts_and_rows_of_different_number_are_an_error():
    with pytest.raises(DataError, match="2 texts and 1 rows"):
        compare_diversity([of_rows(("a", "b"), [{0: 1}])])


def test_sets_with_and_without_activations_are_an_error():
    with pytest.raises(DataError, match="of all data sets, or of none"):
        compare_diversity([data_set(4), DataSet("plain", ("a", "b"))])


def test_a_set_of_one_sample_is_an_error():
    with pytest.raises(DataError, match="1 samples; diversity needs two"):
        compare_diversity([DataSet("set", ("a",))])


def test_vectors_of_another_number_are_an_error():
    with pytest.raises(DataError, match="2 texts and 3 rows"):
        compare_diversity([DataSet("set", ("a", "b"), vectors=np.eye(3))])


def test_an_anchor_needs_the_features_of_every_set():
    anchor = active_rows(make_activations([{0: 2.0}]), threshold=1.0)
    with pytest.raises(DataError, match="needs the feature table of every data set"):
        compare_diversity([DataSet("set", ("a b", "a c"))], anchor=anchor)


# The command


@pytest.fixture
def tables(tmp_path):
    """Two tables of other sizes, and data files with the same samples."""
    for name, n in (("small", 4), ("large", 12)):
        samples = [Sample(f"{name}-{i}", text=f"word{i} of {name} {i % 2}") for i in range(n)]
        write_table(tmp_path / name, make_activations([{i % 4: 2.0} for i in range(n)]), samples)
        write_jsonl(map(sample_row, samples), tmp_path / f"{name}.jsonl")
    return tmp_path


def call(*words):
    return CliRunner().invoke(diversity, [str(word) for word in words], catch_exceptions=False)


def test_command_reads_text_and_features_of_tables(tables):
    done = call(tables / "small", tables / "large", "--anchor", tables / "large", "--json")
    row = json.loads(done.stdout)
    first, second = row["sets"]
    assert (first["name"], second["name"]) == ("small", "large")
    assert (first["n_measured"], second["n_measured"], second["n_draws"]) == (4, 4, 5)
    assert first["metrics"]["fac"] == {"value": 1.0, "standard_error": None}
    assert first["metrics"]["vendi"]["value"] == pytest.approx(4.0)
    assert row["vectors"] == "pooled feature activations"


def test_text_measures_of_a_table_are_those_of_its_data(tables):
    rows = [json.loads(call(tables / name, "--json").stdout) for name in ("small", "small.jsonl")]
    one, other = (row["sets"][0]["metrics"] for row in rows)
    assert other == {name: one[name] for name in other}
    assert "vendi" not in other


def test_command_prints_a_column_for_each_data_set(tables):
    printed = call(tables / "small.jsonl", tables / "large.jsonl").stdout
    assert "Distinct-2" in printed
    assert "small.jsonl" in printed
    assert str(tables)[:20] not in printed
    assert "Vendi" not in printed


def test_command_refuses_an_anchor_without_tables(tables):
    with pytest.raises(DataError, match="needs the feature table of every data set"):
        call(tables / "small.jsonl", "--anchor", tables / "large")


def test_command_draws_the_measures(tables):
    plot = tables / "plot.svg"
    call(tables / "small.jsonl", tables / "large.jsonl", "--plot", plot)
    assert "Self-BLEU" in plot.read_text()


def test_command_refuses_a_plot_of_another_kind(tables):
    with pytest.raises(DataError, match="must end in one of"):
        call(tables / "small.jsonl", "--plot", tables / "plot.pdf")


def test_command_says_how_to_install_an_embedder(tables, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(DataError, match=r"facsynth\[embed\]"):
        call(tables / "small.jsonl", "--embed", "some/model")

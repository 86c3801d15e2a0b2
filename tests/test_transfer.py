"""Features of two tables matched by correlation: the reference, planted cases, chance."""

import json
import random

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from activations import make_activations, write_table
from facsynth.cli import main
from facsynth.compare import matching
from facsynth.compare.counterparts import match_features
from facsynth.compare.matching import best_matches, common_features, pair_correlations
from facsynth.compare.settings import TransferSettings
from facsynth.compare.transfer import common_samples
from facsynth.errors import DataError
from facsynth.records import Sample
from facsynth.sae.random import random_directions
from facsynth.table.active import active_rows
from facsynth.table.extract import extract_table
from facsynth.table.table import open_table
from tiny import random_sae
from tiny_pair import (
    FILLERS,
    PLANTED,
    planted_model,
    planted_pair,
    planted_sae,
    planted_table,
    planted_tokenizer,
    talk,
)


def highest_correlations(a, b, min_samples):
    """Correlation of each column of `a` with its best partner in `b`, the slow way."""
    usable = [((m > 0).sum(axis=0) >= min_samples) & (m.std(axis=0) > 0) for m in (a, b)]
    found = np.full(a.shape[1], np.nan)
    for i in np.flatnonzero(usable[0]):
        rs = [np.corrcoef(a[:, i], b[:, j])[0, 1] for j in np.flatnonzero(usable[1])]
        found[i] = max(rs, default=np.nan)
    return found


@pytest.mark.parametrize("is_dense", [False, True])
@given(seed=st.integers(0, 10_000), n=st.integers(3, 30), min_samples=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_best_matches_are_those_of_a_dense_reference(is_dense, seed, n, min_samples):
    rng = np.random.default_rng(seed)
    a, b = (rng.exponential(size=(n, m)) * (rng.random((n, m)) < 0.5) for m in (7, 5))
    sparse = [sp.csr_array(a), sp.csr_array(b)]
    usable = tuple(common_features(matrix, min_samples) for matrix in sparse)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_TILE_VALUES", 10)  # tiles of two features
        patch.setattr(matching, "_BLOCK_SAMPLES", 4)
        patch.setattr(matching, "_DENSE", -1 if is_dense else 2)
        found = best_matches(*sparse, usable)
    for x, y, partners in ((a, b, found[0]), (b, a, found[1])):
        expected = highest_correlations(x, y, min_samples)
        assert (partners < 0).tolist() == np.isnan(expected).tolist()
        for i in np.flatnonzero(partners >= 0):  # of two that are equal but for rounding, either
            r = np.corrcoef(x[:, i], y[:, partners[i]])[0, 1]
            assert r == pytest.approx(expected[i], abs=1e-9)


def test_weighted_correlations_are_those_of_repeated_samples():
    rng = np.random.default_rng(0)
    a, b = (rng.exponential(size=(6, 3)) * (rng.random((6, 3)) < 0.7) for _ in range(2))
    times = np.array([2, 0, 1, 3, 1, 1])
    found = pair_correlations(sp.csc_array(a), sp.csc_array(b), times[:, None].astype(float))
    rows = np.repeat(np.arange(6), times)
    expected = [np.corrcoef(a[rows, i], b[rows, i])[0, 1] for i in range(3)]
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-12)


def topics(n, m, seed=0, *, n_tokens=None):
    """Sparse activations: each feature fires in a twentieth of the samples."""
    rng = np.random.default_rng(seed)
    return rng.gamma(4.0, 1.0, (n, m)) * (rng.random((n, m)) < 0.05)


def table(matrix, *, ids=None, n_tokens=None):
    rows = [{j: float(v) for j, v in enumerate(row) if v > 0} for row in matrix]
    made = make_activations(rows, n_features=matrix.shape[1], sample_ids=ids, n_tokens=n_tokens)
    return active_rows(made, threshold=0.0)


def match(one, other, **options):
    return match_features(one, other, TransferSettings(), **options)


def test_a_permutation_with_noise_is_found_whole():
    a = topics(1200, 30)
    order = np.random.default_rng(1).permutation(30)
    b = a[:, order] * np.random.default_rng(2).uniform(0.8, 1.2, a.shape)
    found, back = match(table(a), table(b))
    assert found.share.value == back.share.value == found.mutual_share.value == 1.0
    np.testing.assert_array_equal(order[found.partners], found.feature_ids)
    assert max(*found.shuffled, *found.shuffled_by_length) == 0.0


def test_independent_tables_share_nothing_though_many_pairs_are_tried():
    found, back = match(table(topics(1200, 60)), table(topics(1200, 60, seed=1)))
    assert found.share.value == back.share.value == 0.0
    assert abs(np.median(found.correlations)) < 0.05


def test_what_length_alone_explains_stays_in_the_shuffle_by_length():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 100, 1000)
    a, b = (np.where(lengths[:, None] > 50, lengths[:, None], 0.0) for _ in range(2))
    found, _ = match(table(a, n_tokens=lengths), table(b, n_tokens=lengths))
    assert found.share.value == 1.0
    assert max(found.shuffled) == 0.0
    assert min(found.shuffled_by_length) == 1.0


def test_an_sae_of_random_directions_is_matched_in_its_frequencies():
    a = topics(1200, 20)
    b = np.concatenate([a, topics(1200, 20, seed=3)], axis=1)
    found, back = match(table(a), table(b), random_b=table(topics(1200, 40, seed=4)))
    assert found.share.value == 1.0
    assert found.random == 0.0
    assert back.random is None


def test_the_interval_holds_the_share_and_shrinks_with_samples():
    def widths(n):
        a = topics(n, 40)
        noise = topics(n, 40, seed=5)
        found = match(table(a), table(a + 1.0 * noise))[0].share
        assert found.low <= found.value <= found.high
        return found.high - found.low

    assert widths(3000) < widths(600) + 1e-9


def on_disk(folder, ids):
    samples = [Sample(sample_id, text=f"text {sample_id}") for sample_id in ids]
    write_table(folder, make_activations([{0: 2.0}] * len(ids)), samples)
    return open_table(folder)


def test_samples_are_paired_by_their_ids(tmp_path):
    found = common_samples(on_disk(tmp_path / "a", "abcd"), on_disk(tmp_path / "b", "dxb"))
    assert [sample.sample_id for sample in found.samples] == ["b", "d"]
    assert [rows.sample_ids for rows in found.rows] == [("b", "d")] * 2


def test_tables_of_other_samples_are_refused():
    a, b = (table(topics(40, 3), ids=[f"{name}{i}" for i in range(40)]) for name in "ab")
    with pytest.raises(DataError, match="hold other samples"):
        match(a, b)


def test_too_few_samples_are_refused():
    with pytest.raises(DataError, match="no feature of A is active in 10 samples of each half"):
        match(table(topics(12, 3)), table(topics(12, 3)))


def test_a_threshold_outside_its_range_is_refused():
    with pytest.raises(DataError, match="min_correlation is 1.5"):
        TransferSettings(min_correlation=1.5)


@pytest.mark.parametrize("apply_b_dec_to_input", [True, False])
def test_random_directions_keep_gate_lengths_and_the_centre(apply_b_dec_to_input):
    sae = random_sae("topk", apply_b_dec_to_input=apply_b_dec_to_input)
    control = random_directions(sae)
    centre = sae.b_dec[None]
    torch.testing.assert_close(control.pre_activations(centre), sae.pre_activations(centre))
    torch.testing.assert_close(control.W_enc.norm(dim=0), sae.W_enc.norm(dim=0))
    assert (control.encode(torch.randn(5, 16)) > 0).sum(dim=1).max() <= 4
    cosines = torch.cosine_similarity(control.W_dec, sae.W_dec)
    assert cosines.abs().mean() < 0.4
    assert sae.content_hash != control.content_hash


def planted_pair_of_tables(folder):
    """The planted model read by its SAE, and by the same SAE with its features in another order."""
    lm, sae = planted_pair()
    order = torch.tensor([3, 1, 0, 2, 4, 8, 7, 6, 5])
    other = planted_sae()
    other.W_enc.data = sae.W_enc[:, order]
    rng = random.Random(0)
    words = [*PLANTED, *FILLERS]
    samples = [talk(f"s{i}", " ".join(rng.choices(words, k=20))) for i in range(120)]
    planted_model().save_pretrained(folder / "model")
    planted_tokenizer().save_pretrained(folder / "model")
    extract_table(samples, lm, sae, folder / "a")
    extract_table(samples[10:], lm, other, folder / "b")
    extract_table(samples, lm, random_directions(sae), folder / "random")
    return order.tolist()


def test_transfer_from_the_command_line(tmp_path):
    order = planted_pair_of_tables(tmp_path)
    plot = tmp_path / "shares.svg"
    model = tmp_path / "model"
    words = ["transfer", tmp_path / "a", tmp_path / "b", "--random", tmp_path / "random"]
    words += ["--plot", plot, "--model-a", model, "--model-b", model, "--json"]
    done = CliRunner().invoke(main, [*map(str, words)])
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)
    assert row["n_samples"]["common"] == 110
    assert row["a"]["share"]["value"] == 1.0
    assert row["a"]["random"] < 0.5
    assert {pair["a"]: order[pair["b"]] for pair in row["pairs"]} == {i: i for i in range(9)}
    first = row["pairs"][0]
    assert first["same_word"] == 1.0
    assert first["names"][0] == first["names"][1]
    drawn = plot.read_text()
    assert "Features with a counterpart" in drawn
    assert "A in random directions" in drawn
    assert str(tmp_path) not in drawn


def test_a_table_of_other_texts_under_the_same_ids_is_refused(tmp_path):
    for name, text in (("a", "the cat"), ("b", "the dog")):
        planted_table([talk("s0", text)], tmp_path / name)
    done = CliRunner().invoke(main, ["transfer", str(tmp_path / "a"), str(tmp_path / "b")])
    assert done.exit_code == 1
    assert "sample 's0' has another text" in done.output


def test_tables_of_two_precisions_are_measured_with_a_warning(tmp_path):
    planted_pair_of_tables(tmp_path)
    manifest = tmp_path / "b" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"float32"', '"mixed"'))
    words = ["transfer", tmp_path / "a", tmp_path / "b", "--no-spans", "--json"]
    done = CliRunner().invoke(main, [*map(str, words)])
    assert done.exit_code == 0, done.output
    assert "in float32 and " in json.loads(done.stdout)["warnings"][0]

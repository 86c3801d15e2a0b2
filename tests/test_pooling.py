"""Pooling in feature tiles equals the dense matrix, and never holds it."""

import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facsynth.errors import ModelError
from facsynth.sae.module import Gate
from facsynth.table.pooling import PooledBatch, join_rows, pool_tokens
from facsynth.table.settings import Gating, Pooling
from tiny import D_MODEL, coordinate_sae, random_sae

COUNTS = st.lists(st.integers(0, 7), min_size=1, max_size=6).filter(any)


def reference(x, counts, sae, gate, pooling):
    """Values and positions, `n_rows x n_features`, from the dense matrix of one row at a time."""
    values, tokens, end = [], [], 0
    for count in counts:
        part = x[end : end + count]
        codes = (sae.pre_activations(part).relu() if gate == "relu" else sae.encode(part)).numpy()
        if pooling == "last":
            codes = codes[-1:]
        first = codes.argmax(0) if count else np.zeros(sae.config.d_sae, dtype=int)
        pools = {"max": codes.max(0, initial=0), "count": (codes > 0).sum(0)}
        pools |= {"mean": codes.sum(0) / max(count, 1), "last": pools["max"]}
        values.append(pools[pooling])
        tokens.append(first + (end if pooling != "last" else end + max(count, 1) - 1))
        end += count
    return np.stack(values), np.stack(tokens)


def random_tokens(n, seed=1):
    return torch.randn(n, D_MODEL, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pooling", get_args(Pooling))
@pytest.mark.parametrize("gate", get_args(Gating))
@pytest.mark.parametrize("architecture", get_args(Gate))
@settings(max_examples=10)
@given(counts=COUNTS, tile=st.integers(1, 60))
def test_pooled_rows_are_those_of_the_dense_matrix(architecture, gate, pooling, counts, tile):
    sae, x = random_sae(architecture), random_tokens(sum(counts))
    rows = pool_tokens(
        x, counts, 3 * np.arange(len(x)) + 1, sae=sae, gate=gate, pooling=pooling, tile=tile
    )
    values, tokens = reference(x, counts, sae, gate, pooling)
    owner = np.repeat(np.arange(len(counts)), rows.n_entries)
    assert [owner.tolist(), rows.feature_ids.tolist()] == [i.tolist() for i in values.nonzero()]
    np.testing.assert_allclose(rows.values, values[owner, rows.feature_ids], atol=1e-5)
    assert rows.positions.tolist() == (3 * tokens[owner, rows.feature_ids] + 1).tolist()


@pytest.mark.parametrize("architecture", get_args(Gate))
def test_of_equal_values_the_first_position_counts(architecture):
    sae = random_sae(architecture)
    x = random_tokens(1).repeat(4, 1)
    rows = pool_tokens(x, [1, 3], np.array([9, 4, 5, 6]), sae=sae)
    assert set(rows.positions[: rows.n_entries[0]]) == {9}
    assert set(rows.positions[rows.n_entries[0] :]) == {4}


def test_pools_of_numbers_on_paper():
    x = torch.tensor([[1.0], [0.0], [3.0], [-5.0]])
    sae, found = coordinate_sae(d_in=1), {}
    for pooling in get_args(Pooling):
        rows = pool_tokens(x, [4], np.arange(4), sae=sae, pooling=pooling)
        found[pooling] = [
            rows.feature_ids.tolist(),
            rows.values.tolist(),
            rows.positions.tolist(),
        ]
    assert found == {
        "max": [[0, 1], [3.0, 5.0], [2, 3]],
        "mean": [[0, 1], [1.0, 1.25], [2, 3]],
        "count": [[0, 1], [2.0, 1.0], [2, 3]],
        "last": [[1], [5.0], [3]],
    }


def test_a_stream_with_nan_is_an_error_and_no_empty_row():
    x = random_tokens(3).index_fill(0, torch.tensor([1]), float("nan"))
    with pytest.raises(ModelError, match=r"NaN or infinity in torch.float32; pass --dtype"):
        pool_tokens(x, [3], np.arange(3), sae=random_sae())


def test_rows_of_batches_in_any_order_are_joined_in_order():
    sae, x = random_sae(), random_tokens(6)
    whole = pool_tokens(x, [1, 2, 3], np.arange(6), sae=sae)
    last = pool_tokens(x[3:], [3], np.arange(3, 6), sae=sae)
    rest = pool_tokens(x[[1, 2, 0]], [2, 1], np.array([1, 2, 0]), sae=sae)
    batches = [PooledBatch(np.array([2]), last), PooledBatch(np.array([1, 0]), rest)]
    starts, joined = join_rows(batches, n_rows=4)
    assert np.diff(starts).tolist() == [*whole.n_entries, 0]
    for name in ("feature_ids", "positions"):
        assert getattr(joined, name).tolist() == getattr(whole, name).tolist()
    np.testing.assert_allclose(joined.values, whole.values, atol=1e-5)


MEMORY = """
import resource, sys, numpy as np, torch
from facsynth.table.pooling import pool_tokens
from facsynth.sae.module import SaeConfig, SparseAutoencoder
kind, gate = sys.argv[1:]
sae = SparseAutoencoder(SaeConfig(64, 65_536, kind, 0, k=32 if kind == "topk" else None))
torch.manual_seed(0)
sae.W_enc.data.normal_(std=1 / 8)
if kind == "jumprelu":
    sae.threshold.data.fill_(3.0)
x = torch.randn(8192, 64)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
before = peak()
rows = pool_tokens(x, [128] * 64, np.arange(8192), sae=sae, gate=gate)
print(len(rows.values), peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "gate"), [("topk", "sae"), ("jumprelu", "sae"), ("topk", "relu")]
)
def test_a_wide_sae_over_a_large_batch_stays_under_three_gibibytes(architecture, gate):
    """The dense matrix alone would take 2 GiB, its positions and the gate as much again."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, architecture, gate],
        capture_output=True,
        text=True,
        check=True,
    )
    n_entries, gibibytes = done.stdout.split()
    assert int(n_entries) > 10_000
    assert float(gibibytes) < 1.0

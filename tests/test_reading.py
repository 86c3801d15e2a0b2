"""Batches that do not fit are read in halves, and nothing is credited to another text."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facsynth.errors import ModelError
from facsynth.table import reading
from facsynth.table.extract import extract_features
from facsynth.table.reading import pick_batch_tokens, read_in_halves
from tiny import chat, random_sae, tiny_lm

FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes"),
    MemoryError(),
]


def small_memory(lengths, room, error=FULL[0]):
    """A reader of batches up to `room` padded tokens, and the batches that it refused."""
    refused = []

    def read(batch):
        if len(batch) * max(lengths[i] for i in batch) > room:
            refused.append(list(batch))
            raise error
        return [10 * i for i in batch]

    return read, refused


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(9, 40))
def test_every_text_is_read_once_whatever_fits(lengths, room):
    read, refused = small_memory(lengths, room)
    batches = [list(range(len(lengths)))[::-1]]
    found = [pair for pair in read_in_halves(batches, lengths, read)]
    assert [i for batch, _ in found for i in batch] == batches[0]
    assert all(result == [10 * i for i in batch] for batch, result in found)


@pytest.mark.parametrize("error", FULL, ids=lambda e: f"{type(e).__name__} {str(e)[:30]}")
def test_what_does_not_fit_is_halved_and_what_follows_is_not_tried(error):
    lengths = [2] * 16
    read, refused = small_memory(lengths, 8, error)
    batches = [list(range(8)), list(range(8, 16))]
    found = [batch for batch, _ in read_in_halves(batches, lengths, read)]
    assert refused == [[*range(8)]]
    assert found == [[*range(i, i + 4)] for i in (0, 4, 8, 12)]


def test_one_text_that_does_not_fit_is_a_clear_error():
    read, _ = small_memory([3, 700], 100)
    with pytest.raises(ModelError, match="a text of 700 tokens does not fit .* --max-length"):
        list(read_in_halves([[0, 1]], [3, 700], read))


def test_another_error_is_no_lack_of_memory():
    read, _ = small_memory([9], 1, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(read_in_halves([[0]], [9], read))


def test_a_model_that_runs_out_of_memory_gives_the_same_rows(monkeypatch):
    samples = [chat(f"c{i}", "the cat sat " * (i % 5), "a red ball") for i in range(9)]
    lm, sae, read, n_full = tiny_lm(), random_sae(), reading.read_residuals, []
    whole = extract_features(samples, lm, sae)

    def crowded(lm, rows, *args, **options):
        outputs = read(lm, rows, *args, **options)
        if len(rows) > 2:
            n_full.append(len(rows))
            raise FULL[0]
        return outputs

    monkeypatch.setattr(reading, "read_residuals", crowded)
    halved = extract_features(samples, lm, sae)
    assert n_full
    assert np.array_equal(halved.feature_ids, whole.feature_ids)
    assert np.array_equal(halved.positions, whole.positions)
    np.testing.assert_allclose(halved.values, whole.values, atol=1e-5)


@pytest.mark.parametrize(
    ("device", "free", "tokens"),
    [
        ("cuda", 2**20, 2048),
        ("cuda", 2**29, 4096),
        ("cuda", 2**40, 32_768),
        ("cpu", 0, 1),
        ("cpu", 2**25, 256),
        ("cpu", 2**40, 2048),
    ],
)
def test_as_many_tokens_are_read_as_the_memory_allows(monkeypatch, device, free, tokens):
    monkeypatch.setattr(reading, "free_memory", lambda device: free)
    model = SimpleNamespace(
        device=device, dtype=torch.bfloat16, config=SimpleNamespace(hidden_size=576)
    )
    model.config.get_text_config = lambda: model.config
    assert pick_batch_tokens(reading.LanguageModel(model, None, "fake", "fake")) == tokens

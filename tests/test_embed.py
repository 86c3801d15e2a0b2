"""One vector per sample from the residual stream."""

import numpy as np
import pytest
import torch

from facsynth.errors import ModelError
from facsynth.models.embed import embed_samples
from facsynth.models.tokens import tokenize_samples
from facsynth.records import Sample
from tiny import D_MODEL, chat, hooked, tiny_lm

SAMPLES = [chat("a", "one two three", "four"), chat("b", "five six"), Sample("c", text="seven")]


def test_a_vector_is_the_mean_of_the_hidden_state_over_scored_tokens():
    lm = tiny_lm()
    found = embed_samples(SAMPLES, lm, 1, batch_tokens=30)
    for row, text in zip(found, tokenize_samples(SAMPLES, lm.tokenizer), strict=True):
        states = hooked(lm, text.input_ids, 1).reshape(-1, D_MODEL)
        expected = states[torch.from_numpy(np.flatnonzero(text.scored))].mean(dim=0)
        np.testing.assert_allclose(row, expected.numpy(), atol=1e-5)


def test_a_sample_without_scored_tokens_has_a_zero_vector():
    assert not embed_samples([Sample("e", text=""), *SAMPLES], tiny_lm(), 1)[0].any()


def test_a_layer_that_is_not_there_is_an_error():
    with pytest.raises(ModelError, match="not 99"):
        embed_samples(SAMPLES, tiny_lm(), 99)

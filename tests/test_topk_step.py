"""Gradients in closed form against automatic differentiation of the plain formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facsynth.features import topk_step
from facsynth.features.topk_step import Parameters, top_features, topk_gradients

NAMES = ("encoder", "encoder_bias", "decoder", "decoder_bias")


def make(n_features=20, d_model=6, n_tokens=15, dtype=torch.float64, seed=0):
    """Random tokens and weights; most activations of a token are positive."""
    rng = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)

    weights = Parameters(
        random(n_features, d_model),
        random(n_features),
        random(n_features, d_model),
        random(d_model),
    )
    return random(n_tokens, d_model), weights


def every_third(n_features):
    return torch.arange(n_features) % 3 == 0


def code(scores, k):
    values, ids = scores.topk(k, dim=1)
    return torch.zeros_like(scores).scatter(1, ids, values.relu())


def plain_gradients(x, weights, *, k, dead=None, aux_k=0, aux_weight=0.0):
    """Loss and gradients of the formula in the module's docstring, by autograd."""
    encoder, bias, decoder, centre = leaves = [
        w.clone().requires_grad_() for w in weights.tensors()
    ]
    scores = (x - centre) @ encoder.T + bias
    error = x - code(scores, k) @ decoder - centre
    loss = total = error.square().mean()
    if dead is not None and dead.any():
        among_dead = scores[:, dead]
        aux = code(among_dead, min(aux_k, among_dead.shape[1])) @ decoder[dead]
        total = loss + aux_weight * (error.detach() - aux).square().mean()
    return float(loss.detach()), torch.autograd.grad(total, leaves)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 20), st.integers(0, 1000), st.integers(1, 12), st.booleans())
def test_every_gradient_is_that_of_the_plain_formula(k, seed, aux_k, with_dead):
    x, weights = make(seed=seed)
    options = {"dead": every_third(20) if with_dead else None, "aux_k": aux_k, "aux_weight": 0.3}
    loss, expected = plain_gradients(x, weights, k=k, **options)
    actual = topk_gradients(x, weights, k=k, **options)
    assert actual.loss == pytest.approx(loss)
    for name, one, other in zip(NAMES, actual.tensors(), expected, strict=True):
        torch.testing.assert_close(one, other, msg=name)


def test_the_auxiliary_loss_reaches_dead_features_only():
    x, weights = make()
    weights.encoder_bias[every_third(20)] = -50.0  # never among the k largest
    weights.encoder_bias[0] = -1.0
    plain = topk_gradients(x, weights, k=4)
    helped = topk_gradients(x, weights, k=4, dead=every_third(20), aux_k=1, aux_weight=0.3)
    changed = (helped.decoder - plain.decoder).abs().sum(1) > 0
    assert changed.any()
    assert not changed[~every_third(20)].any()


def test_without_dead_features_the_auxiliary_loss_is_off():
    x, weights = make()
    none = torch.zeros(20, dtype=torch.bool)
    expected = topk_gradients(x, weights, k=4)
    actual = topk_gradients(x, weights, k=4, dead=none)
    assert all(map(torch.equal, actual.tensors(), expected.tensors()))


def test_fired_marks_the_features_with_an_activation_above_zero():
    x, weights = make()
    scores = (x - weights.decoder_bias) @ weights.encoder.T + weights.encoder_bias
    assert torch.equal(topk_gradients(x, weights, k=3).fired, (code(scores, 3) > 0).any(0))


@pytest.mark.parametrize("has_mkl", [True, False])
def test_both_ways_to_multiply_pairs_agree(monkeypatch, has_mkl):
    if has_mkl and not torch._C.has_mkl:
        pytest.skip("this PyTorch has no MKL")
    x, weights = make()
    monkeypatch.setattr(torch._C, "has_mkl", has_mkl)
    ids = topk_step._scores(x, weights).topk(5, dim=1).indices
    expected = (x @ weights.encoder.T).gather(1, ids)
    torch.testing.assert_close(topk_step._pair_products(x, weights.encoder, ids), expected)


def test_a_choice_in_bfloat16_gives_nearly_the_same_step():
    x, weights = make(n_features=1024, d_model=32, n_tokens=200)
    exact = topk_gradients(x, weights, k=16)
    x, weights = make(n_features=1024, d_model=32, n_tokens=200, dtype=torch.float32)
    quick = topk_gradients(x, weights, k=16)
    assert quick.loss == pytest.approx(exact.loss, rel=0.02)
    assert (quick.fired == exact.fired).float().mean() > 0.99
    for name, one, other in zip(NAMES, quick.tensors(), exact.tensors(), strict=True):
        cosine = torch.cosine_similarity(one.double().flatten(), other.flatten(), dim=0)
        assert cosine > 0.99, name


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=12, max_size=12), st.integers(1, 15))
def test_top_features_are_the_largest_of_those_given(flags, k):
    among = torch.tensor(flags)
    scores = make(n_tokens=5, d_model=12)[0]
    masked = scores.masked_fill(~among, -torch.inf)
    expected = masked.argsort(dim=1, descending=True)[:, : min(k, sum(flags))]
    actual = top_features(scores, among, k)
    assert actual.sort(1).values.tolist() == expected.sort(1).values.tolist()

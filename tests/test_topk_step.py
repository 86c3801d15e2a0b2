"""Gradients in closed form against automatic differentiation of the plain formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facsynth.sae.train import topk_step
from facsynth.sae.train.topk_step import (
    Auxiliary,
    Parameters,
    batchtopk_gradients,
    largest_ids,
    top_features,
    topk_gradients,
)

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


def topk_code(k):
    def code(scores):
        values, ids = scores.topk(k, dim=1)
        return torch.zeros_like(scores).scatter(1, ids, values.relu())

    return code


def batchtopk_code(k):
    def code(scores):
        values, ids = scores.flatten().topk(k * len(scores))
        return torch.zeros_like(scores).flatten().scatter(0, ids, values.relu()).view_as(scores)

    return code


def plain_gradients(x, weights, code, auxiliary=None):
    """Loss and gradients of the formula in the module's docstring, by autograd."""
    encoder, bias, decoder, centre = leaves = [
        w.clone().requires_grad_() for w in weights.tensors()
    ]
    scores = (x - centre) @ encoder.T + bias
    error = x - code(scores) @ decoder - centre
    loss = total = error.square().mean()
    if auxiliary is not None and (dead := auxiliary.dead).any():
        among_dead = scores[:, dead]
        aux = topk_code(min(auxiliary.k, among_dead.shape[1]))(among_dead) @ decoder[dead]
        total = loss + auxiliary.weight * (error.detach() - aux).square().mean()
    return float(loss.detach()), torch.autograd.grad(total, leaves)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 20), st.integers(0, 1000), st.integers(1, 12), st.booleans())
def test_every_gradient_is_that_of_the_plain_formula(k, seed, aux_k, with_dead):
    x, weights = make(seed=seed)
    auxiliary = Auxiliary(every_third(20), k=aux_k, weight=0.3) if with_dead else None
    loss, expected = plain_gradients(x, weights, topk_code(k), auxiliary)
    actual = topk_gradients(x, weights, k=k, auxiliary=auxiliary)
    assert actual.loss == pytest.approx(loss)
    for name, one, other in zip(NAMES, actual.tensors(), expected, strict=True):
        torch.testing.assert_close(one, other, msg=name)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 20), st.integers(0, 1000), st.booleans())
def test_every_gradient_of_a_batch_wide_choice_is_that_of_the_plain_formula(k, seed, with_dead):
    x, weights = make(seed=seed)
    auxiliary = Auxiliary(every_third(20), k=3, weight=0.3) if with_dead else None
    loss, expected = plain_gradients(x, weights, batchtopk_code(k), auxiliary)
    actual = batchtopk_gradients(x, weights, k=k, auxiliary=auxiliary)
    assert actual.loss == pytest.approx(loss)
    for name, one, other in zip(NAMES, actual.tensors(), expected, strict=True):
        torch.testing.assert_close(one, other, msg=name)


@given(st.integers(1, 20), st.integers(0, 1000))
def test_the_limit_is_the_smallest_activation_that_the_batch_keeps(k, seed):
    x, weights = make(seed=seed)
    scores = (x - weights.decoder_bias) @ weights.encoder.T + weights.encoder_bias
    kept = batchtopk_code(k)(scores)
    expected = float(kept[kept > 0].min()) if int((kept > 0).sum()) == k * len(x) else 0
    assert batchtopk_gradients(x, weights, k=k).limit == pytest.approx(expected)


def test_a_wrong_guess_of_the_limit_changes_nothing(monkeypatch):
    x, weights = make(n_features=64)
    expected = batchtopk_gradients(x, weights, k=4)
    for guess in (0.0, expected.limit * 0.9, expected.limit * 1.5):
        monkeypatch.setattr(topk_step, "_guess_limit", lambda *_, guess=guess: guess)
        actual = batchtopk_gradients(x, weights, k=4)
        assert (actual.loss, actual.limit) == (expected.loss, expected.limit)


@pytest.mark.parametrize("gradients", [topk_gradients, batchtopk_gradients])
def test_without_tokens_the_gradients_are_zero(gradients):
    _, weights = make()
    nothing = gradients(torch.zeros(0, 6, dtype=torch.float64), weights, k=3, n_total=8)
    assert nothing.loss == 0
    assert not nothing.fired.any()
    assert not any(tensor.any() for tensor in nothing.tensors())


def test_parts_of_a_batch_add_up_to_it():
    x, weights = make()
    whole = topk_gradients(x, weights, k=4)
    parts = [topk_gradients(part, weights, k=4, n_total=15) for part in (x[:4], x[4:])]
    assert sum(part.loss for part in parts) == pytest.approx(whole.loss)
    for one, other, both in zip(*(g.tensors() for g in (*parts, whole)), strict=True):
        torch.testing.assert_close(one + other, both)


def test_the_auxiliary_loss_reaches_dead_features_only():
    x, weights = make()
    weights.encoder_bias[every_third(20)] = -50.0  # never among the k largest
    weights.encoder_bias[0] = -1.0
    plain = topk_gradients(x, weights, k=4)
    auxiliary = Auxiliary(every_third(20), k=1, weight=0.3)
    helped = topk_gradients(x, weights, k=4, auxiliary=auxiliary)
    changed = (helped.decoder - plain.decoder).abs().sum(1) > 0
    assert changed.any()
    assert not changed[~every_third(20)].any()


def test_without_dead_features_the_auxiliary_loss_is_off():
    x, weights = make()
    none = torch.zeros(20, dtype=torch.bool)
    expected = topk_gradients(x, weights, k=4)
    actual = topk_gradients(x, weights, k=4, auxiliary=Auxiliary(none))
    assert all(map(torch.equal, actual.tensors(), expected.tensors()))


def test_fired_marks_the_features_with_an_activation_above_zero():
    x, weights = make()
    scores = (x - weights.decoder_bias) @ weights.encoder.T + weights.encoder_bias
    assert torch.equal(topk_gradients(x, weights, k=3).fired, (topk_code(3)(scores) > 0).any(0))


@pytest.mark.parametrize("has_mkl", [True, False])
def test_both_ways_to_multiply_pairs_agree(monkeypatch, has_mkl):
    if has_mkl and not torch._C.has_mkl:
        pytest.skip("this PyTorch has no MKL")
    x, weights = make()
    monkeypatch.setattr(torch._C, "has_mkl", has_mkl)
    ids = topk_step._scores(x, weights).topk(5, dim=1).indices
    expected = (x @ weights.encoder.T).gather(1, ids).flatten()
    pairs = topk_step._same_number(ids)
    torch.testing.assert_close(topk_step._pair_products(x, weights.encoder, pairs), expected)


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


@given(st.integers(0, 12), st.integers(0, 99))
def test_sums_of_weighted_rows_are_those_of_the_sparse_matrix(n_entries, seed):
    rng = torch.Generator().manual_seed(seed)
    rows, factors = torch.randn(9, 4, generator=rng), torch.randn(n_entries, generator=rng)
    ids = torch.randint(9, (n_entries,), generator=rng)
    starts = torch.tensor([0, n_entries // 3, n_entries // 3, n_entries])
    matrix = torch.zeros(3, 9)
    for entry in range(n_entries):
        matrix[0 if entry < n_entries // 3 else 2, ids[entry]] += factors[entry]
    actual = topk_step._weighted_sums(rows, ids, starts, factors)
    torch.testing.assert_close(actual, matrix @ rows)


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=12, max_size=12), st.integers(1, 15))
def test_top_features_are_the_largest_of_those_given(flags, k):
    among = torch.tensor(flags)
    scores = make(n_tokens=5, d_model=12)[0]
    masked = scores.masked_fill(~among, -torch.inf)
    expected = masked.argsort(dim=1, descending=True)[:, : min(k, sum(flags))]
    actual = top_features(scores, among, k)
    assert actual.sort(1).values.tolist() == expected.sort(1).values.tolist()


@settings(deadline=None)
@given(st.integers(0, 6), st.integers(1, 20), st.integers(1, 6), st.integers(0, 99), st.booleans())
def test_the_quick_choice_finds_the_largest_scores(n_tokens, n_groups, k, seed, coarse):
    n_features = 16 * n_groups
    rng = torch.Generator().manual_seed(seed)
    scores = torch.randn(n_tokens, n_features, generator=rng)
    scores = scores.round() if coarse else scores  # rounded: many ties
    ids = largest_ids(scores, k)
    assert all(len(set(row)) == k for row in ids.tolist())
    expected = scores.topk(k, dim=1).values
    assert torch.equal(scores.gather(1, ids).sort(1, descending=True).values, expected)


@pytest.mark.parametrize(("is_native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_scores_are_in_bfloat16_only_where_the_hardware_multiplies_it(
    monkeypatch, is_native, dtype
):
    monkeypatch.setattr(topk_step, "multiplies_bfloat16", lambda device: is_native)
    tokens, weights = make(n_features=512, dtype=torch.float32)
    assert topk_step._scores(tokens, weights).dtype == dtype

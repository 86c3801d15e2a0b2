"""The residual stream that hooks read, against what the whole model computes."""

import copy
from collections import Counter
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facsynth.errors import ModelError
from facsynth.models.residual import (
    batch_by_length,
    decoder_layers,
    read_prefix,
    read_residual,
    read_residuals,
    replace_residual,
)
from tiny import D_MODEL, FAMILIES, N_LAYERS, hooked, tiny_lm

RNG = np.random.default_rng(0)
IDS = RNG.integers(3, 300, 25).astype(np.int32)
each_family = pytest.mark.parametrize("family", FAMILIES)
each_layer = pytest.mark.parametrize("layer", range(N_LAYERS))


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def n_hooks(lm):
    return sum(len(module._forward_hooks) for module in lm.model.modules())


@each_family
@pytest.mark.parametrize("layer", range(N_LAYERS - 1))
def test_a_layer_but_the_last_is_the_next_hidden_state(family, layer):
    lm = tiny_lm(family)
    with torch.inference_mode():
        states = lm.model(torch.from_numpy(IDS)[None].long(), output_hidden_states=True)
    assert_close(read_residual(lm, [IDS], layer), states.hidden_states[layer + 1])


@each_family
@each_layer
def test_every_layer_is_what_a_hook_on_the_whole_model_sees(family, layer):
    lm = tiny_lm(family)
    assert_close(read_residual(lm, [IDS], layer)[0], hooked(lm, IDS, layer))


@each_family
def test_several_layers_in_one_pass_are_the_hidden_states(family):
    lm = tiny_lm(family)
    with torch.inference_mode():
        states = lm.model(torch.from_numpy(IDS)[None].long(), output_hidden_states=True)
    both = read_residuals(lm, [IDS], [1, 0])
    assert sorted(both) == [0, 1]
    for layer, output in both.items():
        assert_close(output, states.hidden_states[layer + 1])


def test_several_layers_take_one_pass_that_stops_behind_the_deepest():
    lm, seen = tiny_lm(), []
    layers = decoder_layers(lm.model)
    counters = [
        layers[i].register_forward_pre_hook(lambda *_, i=i: seen.append(i)) for i in range(N_LAYERS)
    ]
    read_residuals(lm, [IDS], {0, 1})
    for counter in counters:
        counter.remove()
    assert seen == [0, 1]


@each_family
def test_the_residual_stream_of_a_mixed_model_is_not_rounded_to_bfloat16(family):
    lm = tiny_lm(family)
    rounded = replace(lm, model=copy.deepcopy(lm.model).bfloat16(), is_mixed=True)
    exact = read_residual(replace(lm, model=copy.deepcopy(rounded.model).float()), [IDS], 1)
    mixed = read_residual(rounded, [IDS], 1)
    assert (mixed - mixed.bfloat16().float()).abs().max() > 0
    assert (mixed - exact).norm() < 0.02 * exact.norm()


@each_family
@pytest.mark.parametrize("part", ["q_proj", "k_proj", "v_proj"])
def test_what_attention_of_a_mixed_model_is_given_is_not_rounded(family, part):
    lm = tiny_lm(family)
    rounded = replace(lm, model=copy.deepcopy(lm.model).bfloat16(), is_mixed=True)
    given = []
    for name, module in rounded.model.named_modules():
        if name.endswith(part):
            module.register_forward_hook(lambda _m, _i, output: given.append(output))
    read_residual(rounded, [IDS], 1)
    assert given
    assert all((x - x.bfloat16().float()).abs().max() > 0 for x in given)


def test_a_mixed_model_leaves_the_rounding_of_other_products_as_it_was():
    products = torch.backends.mkldnn.matmul
    lm, before = tiny_lm(), products.fp32_precision
    rounded = replace(lm, model=copy.deepcopy(lm.model).bfloat16(), is_mixed=True)
    read_residual(rounded, [IDS], 1)
    assert products.fp32_precision == before


@each_family
def test_padding_does_not_change_a_row(family):
    lm = tiny_lm(family)
    rows = [IDS[:n] for n in (3, 25, 1, 14)]
    together = read_residual(lm, rows, 1)
    for row, output in zip(rows, together, strict=True):
        assert_close(output[: len(row)], read_residual(lm, [row], 1)[0])


@each_family
@each_layer
@pytest.mark.parametrize("n_prefix", [1, 11])
def test_a_shared_prefix_changes_nothing(family, layer, n_prefix):
    lm = tiny_lm(family)
    prefix = read_prefix(lm, IDS[:n_prefix], layer)
    rows = [IDS[n_prefix:], IDS[n_prefix : n_prefix + 3]]
    for _ in range(2):  # the prefix is not used up
        output = read_residual(lm, rows, layer, prefix=prefix)
        assert_close(output[0], hooked(lm, IDS, layer)[n_prefix:])
        assert_close(output[1, :3], output[0, :3])


@each_family
def test_a_prefix_serves_all_layers_up_to_the_one_it_was_read_to(family):
    lm = tiny_lm(family)
    prefix = read_prefix(lm, IDS[:11], N_LAYERS - 1)
    for layers in ([0, 1, 2], [1]):
        for layer, output in read_residuals(lm, [IDS[11:]], layers, prefix=prefix).items():
            assert_close(output[0], hooked(lm, IDS, layer)[11:])


def test_a_prefix_that_ends_above_a_wanted_layer_is_refused():
    lm = tiny_lm()
    prefix = read_prefix(lm, IDS[:11], 0)
    with pytest.raises(ModelError, match="read up to layer 0, but layer 1 is asked for"):
        read_residuals(lm, [IDS[11:]], [0, 1], prefix=prefix)


def test_reading_no_layer_is_refused():
    with pytest.raises(ModelError, match="no layer of tiny llama to read"):
        read_residuals(tiny_lm(), [IDS], [])


def test_layers_above_the_one_that_is_read_are_not_run():
    lm, seen = tiny_lm(), []
    above = decoder_layers(lm.model)[2].register_forward_hook(lambda *_: seen.append(1))
    read_residual(lm, [IDS], 1)
    above.remove()
    assert not seen


def test_hooks_are_gone_after_reading_and_after_an_error():
    lm = tiny_lm()
    before = n_hooks(lm)  # Transformers leaves its own where a test asked it for hidden states
    read_residual(lm, [IDS], 1)
    with pytest.raises(IndexError):
        read_residual(lm, [np.array([999], dtype=np.int32)], 1)
    with pytest.raises(KeyError), replace_residual(lm, 1, lambda output: output):
        raise KeyError
    assert n_hooks(lm) == before


@each_family
def test_a_replaced_residual_is_what_the_next_layer_reads(family):
    lm, ids = tiny_lm(family), torch.from_numpy(IDS)[None].long()
    value = torch.randn(1, len(IDS), D_MODEL, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        clean = lm.model(ids).logits
        with replace_residual(lm, 1, lambda output: value):
            replaced = lm.model(ids).logits
        with replace_residual(lm, 1, lambda output: output):
            same = lm.model(ids).logits
    assert_close(same, clean)
    assert (replaced - clean).abs().max() > 0.1


def test_rows_without_tokens_are_read_as_padding():
    empty = np.zeros(0, dtype=np.int32)
    assert read_residual(tiny_lm(), [empty, empty], 1).shape == (2, 1, D_MODEL)


@pytest.mark.parametrize("layer", [-1, N_LAYERS])
def test_a_layer_that_the_model_lacks_is_refused(layer):
    with pytest.raises(ModelError, match=f"tiny llama has the layers 0 to 2, not {layer}"):
        read_residuals(tiny_lm(), [IDS], [0, layer])


def test_a_model_without_decoder_layers_is_refused():
    model = torch.nn.Linear(2, 2)
    model.config = tiny_lm().model.config
    with pytest.raises(ModelError, match="Linear has no list of 3 decoder layers"):
        decoder_layers(model)


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 100), st.integers(1, 5))
def test_batches_stay_in_the_budget_and_hold_each_text_once(lengths, budget, max_rows):
    batches = batch_by_length(lengths, batch_tokens=budget, max_rows=max_rows)
    assert Counter(i for batch in batches for i in batch) == Counter(range(len(lengths)))
    for batch in batches:
        width = max(lengths[i] for i in batch)
        assert len(batch) == 1 or len(batch) * width <= budget
        assert 1 <= len(batch) <= max_rows


def cost(batches, lengths, budget):
    """Tokens with padding, a sixteenth of the budget for each batch, endless beyond the budget."""
    tokens = [len(batch) * max(lengths[i] for i in batch) for batch in batches]
    fits = all(len(b) == 1 or n <= budget for b, n in zip(batches, tokens, strict=True))
    return sum(tokens) + len(batches) * budget / 16 if fits else float("inf")


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(1, 100))
def test_no_other_cut_of_the_sorted_texts_has_less_padding(lengths, budget):
    found = batch_by_length(lengths, batch_tokens=budget)
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    cuts = (c for n in range(len(order)) for c in combinations(range(1, len(order)), n))
    every = ([order[a:b] for a, b in pairwise((0, *cut, len(order)))] for cut in cuts)
    assert cost(found, lengths, budget) == min(cost(b, lengths, budget) for b in every)

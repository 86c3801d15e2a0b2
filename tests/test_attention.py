import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812
from torch.testing import assert_close

from facsynth.models import attention
from facsynth.models.attention import attend, attention_in_blocks
from facsynth.models.precision import precision
from facsynth.models.prefix import ReadPrompts
from facsynth.models.residual import read_prefix, read_residual
from tiny import FAMILIES, hooked, tiny_lm

IDS = np.random.default_rng(0).integers(5, 90, 25).astype(np.int32)

small = st.integers(1, 4)


def heads(n_rows, n_heads, n_tokens, d_head, *, seed=0):
    """As decoder layers give them: tokens before heads in memory."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(n_rows, n_tokens, n_heads, d_head, generator=generator, dtype=torch.double)
    return drawn.transpose(1, 2)


def plainly(q, k, v, *, scale, mask, softcap=None):
    """Softmax of all scores; a query that sees no key sees all."""
    group = q.shape[1] // k.shape[1]
    scores = scale * q @ k.repeat_interleave(group, 1).transpose(2, 3)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)
    return (weights @ v.repeat_interleave(group, 1)).transpose(1, 2)


def up_to_own(n_queries, n_keys):
    at = torch.arange(n_keys - n_queries, n_keys)
    return torch.arange(n_keys)[None] <= at[:, None]


@settings(deadline=None)
@given(
    n_rows=small,
    n_groups=small,
    group=small,
    n_queries=st.integers(1, 40),
    behind=st.integers(0, 9),
    block=st.sampled_from([None, 1, 7, 16, 64]),
    softcap=st.sampled_from([None, 0.8]),
)
def test_blocks_give_what_all_scores_at_once_give(
    n_rows, n_groups, group, n_queries, behind, block, softcap
):
    n_keys = n_queries + behind
    q = heads(n_rows, n_groups * group, n_queries, 5)
    k, v = heads(n_rows, n_groups, n_keys, 5, seed=1), heads(n_rows, n_groups, n_keys, 3, seed=2)
    found = attend(q, k, v, scale=0.7, block=block, softcap=softcap)
    mask = up_to_own(n_queries, n_keys)
    assert_close(found, plainly(q, k, v, scale=0.7, mask=mask, softcap=softcap))


@settings(deadline=None)
@given(data=st.data(), block=st.sampled_from([1, 4, 64]))
def test_a_mask_says_what_each_query_sees(data, block):
    q, k, v = heads(2, 6, 9, 4), heads(2, 3, 11, 4, seed=1), heads(2, 3, 11, 4, seed=2)
    seen = data.draw(st.lists(st.booleans(), min_size=2 * 9 * 11, max_size=2 * 9 * 11))
    mask = torch.tensor(seen).view(2, 1, 9, 11)
    found = attend(q, k, v, scale=0.5, block=block, mask=mask)
    assert_close(found, plainly(q, k, v, scale=0.5, mask=mask))


@pytest.mark.parametrize(("n_queries", "n_keys"), [(200, 200), (200, 230)])
def test_in_bfloat16_it_is_as_near_as_pytorchs_kernel(n_queries, n_keys):
    q, k, v = heads(2, 6, n_queries, 64), heads(2, 2, n_keys, 64, seed=1), heads(2, 2, n_keys, 64)
    mask = up_to_own(n_queries, n_keys)
    exact = plainly(q, k, v, scale=0.125, mask=mask)
    q, k, v = (x.bfloat16() for x in (q, k, v))
    kernel = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.125, enable_gqa=True)
    error = (attend(q, k, v, scale=0.125).double() - exact).norm()
    assert error < 2 * (kernel.transpose(1, 2).double() - exact).norm()


@pytest.mark.parametrize(
    ("dtype", "n_queries", "n_keys", "used"),
    [
        (torch.float32, 700, 700, True),
        (torch.float32, 900, 900, False),
        (torch.float32, 900, 924, True),
        (torch.bfloat16, 900, 900, True),
        (torch.bfloat16, 1, 30, False),
        (torch.float16, 30, 30, False),
        (torch.float16, 30, 33, False),
    ],
)
def test_blocks_or_the_kernel_give_the_same(monkeypatch, dtype, n_queries, n_keys, used):
    calls = []
    monkeypatch.setattr(attention, "attend", lambda *a, **k: calls.append(1) or attend(*a, **k))
    q, k, v = heads(1, 2, n_queries, 8), heads(1, 1, n_keys, 8, seed=1), heads(1, 1, n_keys, 8)
    layer = torch.nn.Identity()
    layer.num_key_value_groups = 2
    found, _ = attention._attention(layer, q.to(dtype), k.to(dtype), v.to(dtype), None, scaling=0.4)
    exact = plainly(q, k, v, scale=0.4, mask=up_to_own(n_queries, n_keys))
    assert bool(calls) == used
    assert_close(found.double(), exact, atol=1e-5 if dtype == torch.float32 else 0.05, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_attends_in_blocks_while_it_is_read(family, monkeypatch):
    lm, used = tiny_lm(family), []
    monkeypatch.setattr(attention, "attend", lambda *a, **k: used.append(1) or attend(*a, **k))
    before = lm.model.config._attn_implementation
    output = read_residual(lm, [IDS[:5]], 1)  # shorter than the windows
    assert len(used) == 2
    assert lm.model.config._attn_implementation == before
    assert_close(output[0], hooked(lm, IDS[:5], 1))


def test_the_models_own_attention_is_back_after_an_error():
    lm = tiny_lm()
    with pytest.raises(KeyError), attention_in_blocks(lm):
        raise KeyError
    assert lm.model.config._attn_implementation == "sdpa"


def test_behind_a_prefix_no_mask_is_made():
    lm, masks = tiny_lm(), []
    for module in lm.model.modules():
        if type(module).__name__ == "LlamaAttention":
            module.register_forward_pre_hook(
                lambda _m, _a, given: masks.append(given["attention_mask"]), with_kwargs=True
            )
    read_residual(lm, [IDS[11:], IDS[11:14]], 1, prefix=read_prefix(lm, IDS[:11], 1))
    assert masks == [None] * 4


def test_attention_that_is_written_out_by_choice_is_left_alone():
    lm = tiny_lm()
    eager = replace(lm, model=copy.deepcopy(lm.model))
    eager.model.set_attn_implementation("eager")
    with attention_in_blocks(eager):
        assert eager.model.config._attn_implementation == "eager"


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_in_front_is_not_seen(family):
    lm = tiny_lm(family)
    prompts = ReadPrompts(lm, [IDS[:9], IDS[:2]], deepest=1)
    output = prompts.residuals([IDS[9:14], IDS[2:4]], [1])[1]
    assert_close(output[0], hooked(lm, IDS[:14], 1)[9:])
    assert_close(output[1, :2], hooked(lm, IDS[:4], 1)[2:])


@pytest.mark.parametrize("implementation", ["sdpa", "facsynth"])
def test_a_mixed_model_attends_in_float32(implementation):
    lm = replace(tiny_lm(), is_mixed=True)
    q, k, v = (heads(1, 4, 30, 8, seed=i).float() for i in range(3))
    exact = plainly(*(x.double() for x in (q, k, v)), scale=0.4, mask=up_to_own(30, 30))
    with precision(lm):
        if implementation == "sdpa":
            found = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.4)
            found = found.transpose(1, 2)
        else:
            found, _ = attention._attention(torch.nn.Identity(), q, k, v, None, scaling=0.4)
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 1e-5


def test_values_that_autocast_rounded_follow_the_queries():
    q, k, v = (heads(1, 4, 30, 8, seed=i).float() for i in range(3))
    found, _ = attention._attention(torch.nn.Identity(), q, k, v.bfloat16(), None, scaling=0.4)
    mask = up_to_own(30, 30)
    assert_close(found, plainly(q, k, v.bfloat16().float(), scale=0.4, mask=mask))

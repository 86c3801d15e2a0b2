"""The quality of an SAE against direct, dense computations."""

import numpy as np
import pytest
import torch

from facsynth.errors import DataError, MismatchError
from facsynth.models.residual import read_residual
from facsynth.progress import SILENT
from facsynth.sae.evaluate import SaeQuality, evaluate_sae
from tiny import FAMILIES, coordinate_sae, random_sae, tiny_lm, tokenized

RNG = np.random.default_rng(0)
FULL = [tokenized(RNG.integers(3, 300, n)) for n in (5, 30, 12, 3, 21)]
PARTLY = [tokenized(text.input_ids, RNG.random(len(text.input_ids)) < 0.8) for text in FULL]
GATES = ("topk", "standard", "jumprelu")


def zero_sae():
    """Reconstructs every vector as zero."""
    sae = coordinate_sae()
    for parameter in sae.parameters():
        parameter.data.zero_()
    return sae


def scored_residual(lm, texts, layer=1):
    parts = [read_residual(lm, [t.input_ids], layer)[0][torch.from_numpy(t.scored)] for t in texts]
    return torch.cat(parts)


def plain_loss(lm, texts):
    """Loss at the tokens whose own position and whose next token are scored, one by one."""
    losses = []
    for text in texts:
        ids = torch.from_numpy(text.input_ids).long()
        with torch.inference_mode():
            log_p = lm.model(ids[None]).logits[0].log_softmax(-1)
        for t in range(len(ids) - 1):
            if text.scored[t] and text.scored[t + 1]:
                losses.append(-log_p[t, ids[t + 1]])
    return torch.stack(losses)


@pytest.mark.parametrize("gate", GATES)
def test_reconstruction_numbers_are_those_of_a_dense_computation(gate):
    lm, sae = tiny_lm(), random_sae(gate)
    x = scored_residual(lm, PARTLY)
    z = sae.encode(x)
    rebuilt, centred = sae.decode(z), x - x.mean(0)
    quality = evaluate_sae(lm, sae, PARTLY, max_norm_ratio=1e6)
    expected = {
        "explained_variance": 1 - (x - rebuilt).square().sum() / centred.square().sum(),
        "cosine": torch.cosine_similarity(centred, rebuilt - x.mean(0)).mean(),
        "l0": (z > 0).sum(1).float().mean(),
        "dead_share": (~(z > 0).any(0)).float().mean(),
        "dense_share": ((z > 0).float().mean(0) > 0.1).float().mean(),
        "n_tokens": len(x),
        "n_outliers": 0,
    }
    actual = quality.row()
    assert {name: actual[name] for name in expected} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, rel=1e-4
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_perfect_sae_recovers_everything(family):
    quality = evaluate_sae(tiny_lm(family), coordinate_sae(), PARTLY, max_norm_ratio=1e6)
    assert quality.explained_variance == pytest.approx(1)
    assert quality.cosine == pytest.approx(1)
    assert quality.cross_entropy_sae == pytest.approx(quality.cross_entropy, rel=1e-5)
    assert quality.recovered == pytest.approx(1, abs=1e-4)
    assert quality.recovered_from_mean == pytest.approx(1, abs=1e-4)


def test_an_sae_that_puts_out_zeros_recovers_nothing():
    quality = evaluate_sae(tiny_lm(), zero_sae(), PARTLY, max_norm_ratio=1e6)
    assert quality.cross_entropy_sae == quality.cross_entropy_zero
    assert quality.recovered == 0
    assert (quality.l0, quality.dead_share, quality.dense_share) == (0, 1, 0)


def test_an_sae_that_puts_out_the_mean_recovers_nothing_from_the_mean():
    sae = zero_sae()
    sae.b_dec.data = scored_residual(tiny_lm(), PARTLY).mean(0)
    quality = evaluate_sae(tiny_lm(), sae, PARTLY, max_norm_ratio=1e6)
    assert quality.recovered_from_mean == pytest.approx(0, abs=1e-5)
    assert quality.explained_variance == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_of_the_untouched_model_is_the_one_that_transformers_gives(family):
    lm, [text] = tiny_lm(family), FULL[1:2]
    ids = torch.from_numpy(text.input_ids).long()[None]
    with torch.inference_mode():
        expected = float(lm.model(ids, labels=ids).loss)
    quality = evaluate_sae(lm, random_sae(), [text])
    assert quality.cross_entropy == pytest.approx(expected, rel=1e-5)
    assert quality.n_loss_tokens == len(text.input_ids) - 1


def test_the_loss_counts_scored_tokens_with_a_scored_next_one():
    losses = plain_loss(tiny_lm(), PARTLY)
    quality = evaluate_sae(tiny_lm(), random_sae(), PARTLY)
    assert quality.n_loss_tokens == len(losses)
    assert quality.cross_entropy == pytest.approx(float(losses.mean()), rel=1e-5)


@pytest.mark.parametrize("gate", GATES)
def test_the_patched_loss_is_that_of_a_hook_of_one_s_own(gate):
    lm, sae, losses = tiny_lm(), random_sae(gate), []
    for text in PARTLY:
        ids, scored = torch.from_numpy(text.input_ids).long(), torch.from_numpy(text.scored)

        def patch(_module, _inputs, output, scored=scored):
            return torch.where(scored[:, None], sae.decode(sae.encode(output[0])), output)

        handle = lm.model.model.layers[1].register_forward_hook(patch)
        with torch.inference_mode():
            log_p = lm.model(ids[None]).logits[0].log_softmax(-1)
        handle.remove()
        both = (scored[:-1] & scored[1:]).nonzero()[:, 0]
        losses.append(-log_p[both, ids[both + 1]])
    quality = evaluate_sae(lm, sae, PARTLY)
    assert quality.cross_entropy_sae == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)
    clean, zero, mean = (
        quality.cross_entropy,
        quality.cross_entropy_zero,
        quality.cross_entropy_mean,
    )
    patched = quality.cross_entropy_sae
    assert quality.recovered == pytest.approx((zero - patched) / (zero - clean))
    assert quality.recovered_from_mean == pytest.approx((mean - patched) / (mean - clean))


def test_the_losses_stop_after_enough_texts():
    lm, sae = tiny_lm(), random_sae()
    assert evaluate_sae(lm, sae, FULL, max_loss_tokens=6).n_loss_tokens == 4 + 29
    assert evaluate_sae(lm, sae, FULL, max_loss_tokens=6).n_tokens == 71


def test_outlier_tokens_are_left_out_and_counted():
    lm, sae = tiny_lm(), random_sae()
    norms = scored_residual(lm, PARTLY).norm(dim=1)
    ratio = float(norms.quantile(0.9) / norms.median())
    quality = evaluate_sae(lm, sae, PARTLY, max_norm_ratio=ratio)
    assert quality.n_outliers == int((norms > ratio * norms.median()).sum()) > 0
    assert quality.n_tokens + quality.n_outliers == len(norms)


def test_an_empty_text_among_others_changes_nothing():
    lm, sae = tiny_lm(), random_sae()
    found = [evaluate_sae(lm, sae, texts).row() for texts in (FULL, [*FULL, tokenized([])])]
    assert found[1] == pytest.approx(found[0], rel=1e-5)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "have 0 scored tokens; at least 2 are needed"),
        ([tokenized([5, 6], [False, True])], "have 1 scored tokens"),
        ([tokenized([5, 6, 7], [True, False, True])], "no two scored tokens in a row"),
    ],
)
def test_too_little_text_is_refused(texts, message):
    with pytest.raises(DataError, match=message):
        evaluate_sae(tiny_lm(), random_sae(), texts, progress=SILENT)


def test_an_sae_of_another_model_is_refused():
    with pytest.raises(MismatchError, match="the SAE reads vectors of width 8"):
        evaluate_sae(tiny_lm(), random_sae(d_in=8), FULL)


def test_every_number_of_the_row_is_a_plain_one():
    row = evaluate_sae(tiny_lm(), random_sae(), FULL).row()
    assert set(row) == set(SaeQuality.__dataclass_fields__)
    assert all(type(value) in (int, float) for value in row.values())

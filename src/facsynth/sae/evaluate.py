"""How good an SAE is, on held-out text: each number from its definition."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel
from facsynth.models.residual import batch_by_length, read_residual, replace_residual
from facsynth.models.tokens import TokenizedSample
from facsynth.progress import SILENT, Progress
from facsynth.sae.module import SparseAutoencoder
from facsynth.sae.pairing import check_pair
from facsynth.show import TextTable, as_html

__all__ = ["SaeQuality", "evaluate_sae"]

DENSE_SHARE = 0.1
"""A feature active on more of the tokens than this is called dense."""


@dataclass(frozen=True)
class SaeQuality:
    """Quality of an SAE on some text. Outlier tokens count in the cross-entropies only."""

    explained_variance: float
    """1 - Σ‖x - x̂‖² / Σ‖x - mean(x)‖² over all scored tokens; at most 1, higher is better."""

    cosine: float
    """Mean cosine of x - mean(x) and x̂ - mean(x)."""

    l0: float
    """Mean number of features active on a token."""

    dead_share: float
    """Share of the features that are active on no token; depends on the number of tokens."""

    dense_share: float
    """Share of the features that are active on more than a tenth of the tokens."""

    cross_entropy: float
    """Next-token loss of the untouched model at scored tokens, in nats."""

    cross_entropy_sae: float
    """The same with the residual stream of scored tokens replaced by x̂."""

    cross_entropy_zero: float
    """The same with it replaced by zero."""

    cross_entropy_mean: float
    """The same with it replaced by the mean of the scored tokens."""

    recovered: float
    """(zero - sae) / (zero - untouched); 1 is as good as untouched."""

    recovered_from_mean: float
    """(mean - sae) / (mean - untouched), the stricter of the two."""

    n_tokens: int
    """Scored tokens behind variance, L0 and shares."""

    n_outliers: int
    """Scored tokens left out because their norm is more than ten times the median norm."""

    n_loss_tokens: int
    """Scored tokens behind the cross-entropies."""

    def row(self) -> dict[str, Any]:
        """The numbers under the names of the fields."""
        return asdict(self)

    def tables(self) -> list[TextTable]:
        """One table, a measure a row."""
        rows = [(name.replace("_", " "), value) for name, value in self.row().items()]
        return [TextTable("Quality of the SAE", ("measure", "value"), rows)]

    _repr_html_ = as_html


def evaluate_sae(
    lm: LanguageModel,
    sae: SparseAutoencoder,
    texts: Sequence[TokenizedSample],
    *,
    max_loss_tokens: int = 50_000,
    max_norm_ratio: float = 10.0,
    progress: Progress = SILENT,
) -> SaeQuality:
    """Measure an SAE on held-out text.

    Args:
        lm: The model that the SAE was trained on.
        sae: The SAE.
        texts: Tokenised held-out texts.
        max_loss_tokens: Tokens of the first texts used for the cross-entropies, which need four
            full passes of the model.
        max_norm_ratio: Tokens with a norm above this many medians are left out, as in training.
        progress: Where the bar is drawn.

    Raises:
        MismatchError: The SAE does not fit the model.
        DataError: There are no scored tokens.
    """
    check_pair(lm, sae)
    total = sum(text.n_scored for text in texts)
    if total < 2:
        raise DataError(f"the held-out texts have {total} scored tokens; at least 2 are needed")
    with progress.task("reading the held-out text", total, "tokens") as task:
        parts = []
        for batch in batch_by_length([len(t.input_ids) for t in texts], batch_tokens=2048):
            chosen = [texts[i] for i in batch]
            output = read_residual(lm, [t.input_ids for t in chosen], sae.config.layer)
            parts.append(output[_scored_mask(chosen, output.shape[1]).to(output.device)].cpu())
            task.advance(len(parts[-1]))
    x = torch.cat(parts)
    norms = x.float().norm(dim=1)
    usual = norms <= max_norm_ratio * norms.median()
    reconstruction = _reconstruction(sae, x[usual])
    losses = _losses(lm, sae, _head(texts, max_loss_tokens), x[usual].float().mean(0), progress)
    return SaeQuality(**reconstruction, **losses, n_outliers=int((~usual).sum()))


def _reconstruction(sae: SparseAutoencoder, x: Float[Tensor, "n d_model"]) -> dict[str, Any]:
    mean = x.float().mean(0)
    error = spread = cosine = 0.0
    active = torch.zeros(sae.config.d_sae)
    for chunk in torch.split(x, 4096):
        chunk = chunk.float()
        device = sae.W_enc.device
        rebuilt = sae.reconstruct(chunk.to(device)).cpu()
        _, feature, _ = sae.encode_sparse(chunk.to(device))
        active += torch.bincount(feature.cpu(), minlength=sae.config.d_sae)
        error += float((chunk - rebuilt).square().sum())
        spread += float((chunk - mean).square().sum())
        cosine += float(torch.cosine_similarity(chunk - mean, rebuilt - mean).sum())
    return {
        "explained_variance": 1 - error / spread,
        "cosine": cosine / len(x),
        "l0": float(active.sum()) / len(x),
        "dead_share": float((active == 0).float().mean()),
        "dense_share": float((active > DENSE_SHARE * len(x)).float().mean()),
        "n_tokens": len(x),
    }


def _losses(
    lm: LanguageModel,
    sae: SparseAutoencoder,
    texts: Sequence[TokenizedSample],
    mean: Float[Tensor, " d_model"],
    progress: Progress,
) -> dict[str, Any]:
    """Cross-entropies with four kinds of residual stream, and what the SAE recovers."""
    sums = dict.fromkeys(("clean", "sae", "zero", "mean"), 0.0)
    count = 0
    with progress.task("cross-entropy", sum(t.n_scored for t in texts), "tokens") as task:
        for batch in batch_by_length([len(t.input_ids) for t in texts], batch_tokens=1024):
            chosen = [texts[i] for i in batch]
            for kind in sums:
                loss, n = _batch_loss(lm, sae, chosen, mean, kind)
                sums[kind] += loss
            count += n
            task.advance(sum(t.n_scored for t in chosen))
    if not count:
        raise DataError("the held-out texts have no two scored tokens in a row to predict")
    clean, patched, zero, average = (value / count for value in sums.values())
    return {
        "cross_entropy": clean,
        "cross_entropy_sae": patched,
        "cross_entropy_zero": zero,
        "cross_entropy_mean": average,
        "recovered": (zero - patched) / (zero - clean),
        "recovered_from_mean": (average - patched) / (average - clean),
        "n_loss_tokens": count,
    }


def _batch_loss(
    lm: LanguageModel,
    sae: SparseAutoencoder,
    texts: Sequence[TokenizedSample],
    mean: Float[Tensor, " d_model"],
    kind: str,
) -> tuple[float, int]:
    """Summed loss at the tokens whose own position and whose next token are both scored."""
    ids = np.zeros((len(texts), max(1, *(len(t.input_ids) for t in texts))), dtype=np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text.input_ids)] = text.input_ids
    mask = _scored_mask(texts, ids.shape[1]).to(lm.device)
    batch = torch.from_numpy(ids).to(lm.device)

    def replace(output: Tensor) -> Tensor:
        if kind == "clean":
            return output
        output = output.clone()
        if kind == "sae":
            output[mask] = sae.reconstruct(output[mask].float()).to(output.dtype)
        else:
            value = torch.zeros_like(mean) if kind == "zero" else mean
            output[mask] = value.to(output)
        return output

    with torch.inference_mode(), replace_residual(lm, sae.config.layer, replace):
        logits = lm.model(input_ids=batch, use_cache=False).logits
    counted = mask[:, :-1] & mask[:, 1:]
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1][counted].float(), batch[:, 1:][counted], reduction="sum"
    )
    return float(losses), int(counted.sum())


def _scored_mask(texts: Sequence[TokenizedSample], width: int) -> Bool[Tensor, "n_texts width"]:
    mask = torch.zeros((len(texts), width), dtype=torch.bool)
    for row, text in enumerate(texts):
        mask[row, : len(text.scored)] = torch.from_numpy(text.scored)
    return mask


def _head(texts: Sequence[TokenizedSample], max_tokens: int) -> list[TokenizedSample]:
    """The first texts with together at least `max_tokens` scored tokens."""
    ends = np.cumsum([text.n_scored for text in texts])
    return list(texts[: int(np.searchsorted(ends, max_tokens)) + 1])

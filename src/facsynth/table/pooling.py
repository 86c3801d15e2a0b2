"""From the tokens of a batch to one number per sample and feature, without a dense matrix.

Features are processed in tiles, of which only the entries above zero are kept. TopK codes are
sparse already and are pooled directly.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64, UInt16, UInt32
from torch import Tensor

from facsynth.errors import ModelError
from facsynth.sae.module import SparseAutoencoder
from facsynth.table.settings import Gating, Pooling

__all__ = ["PooledBatch", "PooledRows", "join_rows", "pool_tokens"]


@dataclass(frozen=True)
class PooledRows:
    """Entries above zero of the samples of a batch, row by row, features ascending."""

    n_entries: Int64[np.ndarray, " n_rows"]
    feature_ids: UInt32[np.ndarray, " n_entries"]
    values: Float32[np.ndarray, " n_entries"]

    positions: UInt16[np.ndarray, " n_entries"]
    """First position of the largest activation, also where `values` is not the largest."""


@dataclass(frozen=True)
class PooledBatch:
    """What one forward pass gave for one SAE."""

    rows: Int64[np.ndarray, " n_rows"]
    """Which samples the batch holds."""

    pooled: PooledRows
    hidden: Float32[np.ndarray, "n_rows d_model"] | None = None
    """Mean hidden state of each of them; None where it is not kept."""


def pool_tokens(
    x: Float[Tensor, "n_tokens d_model"],
    n_tokens: Sequence[int],
    positions: Int64[np.ndarray, " n_tokens"],
    *,
    sae: SparseAutoencoder,
    gate: Gating = "sae",
    pooling: Pooling = "max",
    tile: int | None = None,
) -> PooledRows:
    """Encode the scored tokens of a batch and pool them per sample.

    Args:
        x: Residual stream of the scored tokens, sample by sample, in order.
        n_tokens: Scored tokens of each sample; zero gives an empty row.
        positions: Position of each token within its sample.
        sae: What encodes them.
        gate: See `Gating`.
        pooling: See `Pooling`.
        tile: Features encoded at a time; by default by the size of the batch.

    Raises:
        ModelError: The residual stream holds NaN or an infinity.
    """
    lengths = np.asarray(n_tokens, dtype=np.int64)
    if not bool(torch.isfinite(x).all()):
        raise ModelError(
            f"the model's residual stream holds NaN or infinity in {x.dtype}; pass "
            "--dtype bfloat16 or --dtype float32"
        )
    if pooling == "last":
        last = np.cumsum(lengths)[lengths > 0] - 1
        x, positions = x[torch.from_numpy(last)], positions[last]
        lengths = np.minimum(lengths, 1)
    filled = np.flatnonzero(lengths)
    if not len(filled):
        return _rows(lengths, [np.zeros(0, dtype=np.int64)] * 4, positions)
    counts: list[int] = lengths[filled].tolist()
    if sae.config.architecture == "topk" and gate == "sae":
        entries = _pool_sparse(sae.encode_sparse(x, tile=tile), counts, sae.config.d_sae, pooling)
    else:
        tiles = sae.encode_tiles(x, positive=gate == "relu", tile=tile)
        entries = _pool_tiles(tiles, counts, pooling)
    row, *others = _to_host(*entries)
    return _rows(lengths, [filled[row], *others], positions)


def join_rows(
    batches: Sequence[PooledBatch], n_rows: int
) -> tuple[Int64[np.ndarray, " n_row_starts"], PooledRows]:
    """Row starts and entries of all rows in order, from batches of rows in any order.

    Args:
        batches: Rows and their entries.
        n_rows: Number of rows; a row in no batch is empty.
    """
    counts = np.zeros(n_rows, dtype=np.int64)
    for batch in batches:
        counts[batch.rows] = batch.pooled.n_entries
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    n = int(starts[-1])
    joined = PooledRows(
        counts, np.empty(n, np.uint32), np.empty(n, np.float32), np.empty(n, np.uint16)
    )
    for batch in batches:
        begin = 0
        for row in batch.rows:
            end = begin + int(counts[row])
            into = slice(starts[row], starts[row + 1])
            joined.feature_ids[into] = batch.pooled.feature_ids[begin:end]
            joined.values[into] = batch.pooled.values[begin:end]
            joined.positions[into] = batch.pooled.positions[begin:end]
            begin = end
    return starts, joined


def _rows(lengths: np.ndarray, entries: Sequence[np.ndarray], positions: np.ndarray) -> PooledRows:
    row, feature, value, token = entries
    return PooledRows(
        np.bincount(row, minlength=len(lengths)).astype(np.int64),
        feature.astype(np.uint32),
        value.astype(np.float32),
        positions[token].astype(np.uint16),
    )


Entries = tuple[Tensor, Tensor, Tensor, Tensor]
"""Row, feature, value and token of each entry."""


def _pool_sparse(
    codes: tuple[Int[Tensor, " n"], Int[Tensor, " n"], Float[Tensor, " n"]],
    counts: Sequence[int],
    n_features: int,
    pooling: Pooling,
) -> Entries:
    """Pool codes above zero, tokens ascending: sorted by row and feature, the largest first."""
    token, feature, value = codes
    lengths = torch.tensor(counts, device=token.device)
    owner = torch.arange(len(counts), device=token.device).repeat_interleave(lengths)
    key = owner[token] * n_features + feature
    order = value.argsort(descending=True, stable=True)
    order = order[key[order].argsort(stable=True)]
    groups, sizes = torch.unique_consecutive(key[order], return_counts=True)
    first = order[sizes.cumsum(0) - sizes]
    row = groups // n_features
    if pooling == "count":
        pooled = sizes.float()
    elif pooling == "mean":
        group = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)
        total = torch.zeros(len(sizes), dtype=torch.float64, device=sizes.device)
        pooled = (total.index_add_(0, group, value[order].double()) / lengths[row]).float()
    else:
        pooled = value[first]
    return row, groups % n_features, pooled, token[first]


def _pool_tiles(
    tiles: Iterator[tuple[int, Tensor]], counts: Sequence[int], pooling: Pooling
) -> Entries:
    """Pool dense tiles; keep the entries above zero, sorted by row and feature."""
    found = []
    for start, codes in tiles:
        best, token = _segment_max(codes, counts)
        row, column = best.nonzero(as_tuple=True)
        pooled = best if pooling in ("max", "last") else _segment_sum(codes, counts, pooling)
        entry = (row.int(), (column + start).int(), pooled[row, column], token[row, column].int())
        found.append(entry)
    entries = [torch.cat(column) for column in zip(*found, strict=True)]
    if len(found) > 1:
        order = entries[0].argsort(stable=True)
        entries = [column[order] for column in entries]
    row, feature, value, token = entries
    return row, feature, value, token


def _segment_max(
    codes: Float[Tensor, "n_tokens m"], counts: Sequence[int]
) -> tuple[Float[Tensor, "n_rows m"], Float[Tensor, "n_rows m"]]:
    """Largest code of each row, and the first token that has it (exact up to 2^24 tokens).

    Plain reductions and not `max(0)`, which keeps the index as it goes and is 30 times slower on
    the CPU: the first token is the one of the highest rank among those that reach the maximum.
    """
    n = len(codes)
    ranks = torch.arange(n, 0, -1, dtype=torch.float32, device=codes.device)[:, None]
    best, rank = [], []
    for part, place in zip(
        codes.split_with_sizes(list(counts)), ranks.split_with_sizes(list(counts)), strict=True
    ):
        best.append(part.amax(0))
        rank.append(torch.where(part == best[-1], place, 0.0).amax(0))
    return torch.stack(best), n - torch.stack(rank)


def _segment_sum(
    codes: Float[Tensor, "n_tokens m"], counts: Sequence[int], pooling: Pooling
) -> Float[Tensor, "n_rows m"]:
    """Mean or number of codes above zero of each row."""
    reduce: Callable[[Tensor], Tensor] = (
        (lambda part: part.mean(0)) if pooling == "mean" else (lambda part: (part > 0).sum(0))
    )
    return torch.stack([reduce(part) for part in codes.split_with_sizes(list(counts))]).float()


def _to_host(*tensors: Tensor) -> list[np.ndarray]:
    """Copies in main memory; from a GPU through pinned memory, all of them under way at once."""
    if tensors[0].device.type != "cuda":
        return [tensor.cpu().numpy() for tensor in tensors]
    copies = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in tensors]
    for copy, tensor in zip(copies, tensors, strict=True):
        copy.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream(tensors[0].device).synchronize()
    return [copy.numpy() for copy in copies]

"""Samples as a table for embedding-atlas: text, place, neighbours and what they cover.

Samples are placed by the features that they activate: each counts by how rare it is, rows have
length 1, and the two strongest directions behind the common one are the axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Float64, Int64
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds

from facsynth.coverage.fac import missing_features
from facsynth.coverage.threshold import ChosenThreshold, own_threshold
from facsynth.errors import DataError
from facsynth.folders import atomic_path
from facsynth.records import sample_text
from facsynth.report.sources import threshold_of_run
from facsynth.table.active import active_rows
from facsynth.table.table import FeatureTable, open_table

__all__ = ["AtlasExport", "export_atlas"]

_N_NEIGHBOURS = 15
_TILE = 512
"""Rows whose similarities with all others are in memory at once."""

_SETS = {"anchor": "anchor", "seed": "seed", "synthetic": "synthesize/table"}
"""Sets of a run, and their tables in its folder."""


@dataclass(frozen=True)
class AtlasExport:
    """What was written."""

    data: Path
    n_rows: int
    threshold: ChosenThreshold
    """δ, and how it was chosen."""

    @property
    def command(self) -> str:
        """What opens it."""
        columns = "--text text --x x --y y --neighbors neighbors"
        return f"embedding-atlas {self.data} {columns}"


def export_atlas(
    source: str | Path, folder: Path, *, threshold: float | None = None
) -> AtlasExport:
    """Write the samples of a run, or of one feature table, as Parquet for embedding-atlas.

    Args:
        source: A run folder of `fac run`, whose own threshold is used, or a feature table.
        folder: Where `atlas.parquet` goes.
        threshold: δ for a table, in SAE units; by default chosen from its activations.

    Raises:
        DataError: There is no table.
    """
    run = Path(source)
    if (run / "anchor" / "manifest.json").is_file():
        tables = {
            name: open_table(run / place)
            for name, place in _SETS.items()
            if (run / place / "manifest.json").is_file()
        }
        chosen = threshold_of_run(run, tables)
    elif (run / "manifest.json").is_file():
        tables = {"samples": open_table(run)}
        chosen = own_threshold(tables["samples"], given=threshold)
    else:
        raise DataError(
            f"{source} is neither a run folder of `fac run` nor a feature table; embedding-atlas "
            "needs activations"
        )
    table = _rows(tables, chosen.threshold)
    path = folder / "atlas.parquet"
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    return AtlasExport(path, table.num_rows, chosen)


def _rows(tables: dict[str, FeatureTable], threshold: float) -> pa.Table:
    found = {name: active_rows(table, threshold=threshold) for name, table in tables.items()}
    fires = csr_array(_stacked([rows.fires for rows in found.values()]))
    samples = [sample for table in tables.values() for sample in table.samples()]
    names = [name for name, table in tables.items() for _ in range(table.manifest.n_samples)]
    near = _weighted(fires)
    places = _places(near)
    ids, distances = _neighbours(near)
    states: list[str | None] = [None] * len(samples)
    n_missing: list[int | None] = [None] * len(samples)
    if "anchor" in found and "seed" in found:
        missing = missing_features(found["anchor"], found["seed"])
        counts = np.asarray(fires[:, missing].sum(axis=1)).ravel().astype(int).tolist()
        states = [_state(name, n) for name, n in zip(names, counts, strict=True)]
        n_missing = list(counts)
    pairs = [{"ids": i, "distances": d} for i, d in zip(ids, distances, strict=True)]
    return pa.table(
        {
            "id": [sample.sample_id for sample in samples],
            "set": names,
            "text": [sample_text(sample) for sample in samples],
            "label": pa.array([sample.label for sample in samples], pa.string()),
            "x": places[:, 0],
            "y": places[:, 1],
            "neighbors": pa.array(pairs, _NEIGHBOURS),
            "coverage": pa.array(states, pa.string()),
            "n_features": np.diff(fires.indptr),
            "n_missing": pa.array(n_missing, pa.int64()),
        }
    )


_NEIGHBOURS = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float64()))])


def _state(name: str, n_missing: int) -> str:
    """Of the anchor whether the seed lacks something of it, of the synthetic set what it adds."""
    if name == "anchor":
        return "missing" if n_missing else "covered"
    return ("fills" if n_missing else "adds nothing") if name == "synthetic" else name


def _stacked(parts: Sequence[csr_array]) -> csr_array:
    from scipy.sparse import vstack

    return vstack(parts, format="csr")


def _weighted(fires: csr_array) -> csr_array:
    """Rows of length 1 in which rare features count more (inverse document frequency)."""
    counts = np.bincount(fires.indices, minlength=fires.shape[1])
    weights = np.log((1 + fires.shape[0]) / (1 + counts)) + 1
    values = weights[fires.indices].astype(np.float32)
    lengths = np.sqrt(np.add.reduceat(np.append(values**2, 0), fires.indptr[:-1]))
    owners = np.repeat(np.arange(fires.shape[0]), np.diff(fires.indptr))
    return csr_array((values / lengths[owners], fires.indices, fires.indptr), shape=fires.shape)


def _places(near: csr_array) -> Float64[np.ndarray, "n_samples 2"]:
    """Coordinates along the second and the third singular direction; the first is the mean."""
    places = np.zeros((near.shape[0], 2))
    k = min(3, min(near.shape) - 1)
    if k < 2 or not near.nnz:
        return places
    start = np.ones(min(near.shape))
    u, s, _ = svds(near.astype(np.float64), k=k, v0=start)
    order = np.argsort(-s)[1:]
    found = u[:, order] * s[order]
    signs = np.sign(found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])])
    places[:, : found.shape[1]] = found * signs
    return places


def _dense(product: csr_array) -> Float32[np.ndarray, "n_rows n_samples"]:
    return np.asarray(product.toarray(), dtype=np.float32)


def _neighbours(near: csr_array) -> tuple[list[list[int]], list[list[float]]]:
    """The nearest other rows of each, by 1 - cosine, nearest first."""
    n = near.shape[0]
    k = min(_N_NEIGHBOURS, n - 1)
    ids, distances = list[list[int]](), list[list[float]]()
    for start in range(0, n, _TILE):
        tile = _dense(near[start : start + _TILE] @ near.T)
        here = np.arange(tile.shape[0])
        tile[here, start + here] = -np.inf
        best: Int64[np.ndarray, "n_rows k"] = np.argsort(-tile, axis=1, kind="stable")[:, :k]
        ids += best.tolist()
        distances += (1 - np.take_along_axis(tile, best, axis=1)).astype(float).tolist()
    return ids, distances

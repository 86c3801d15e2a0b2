"""Feature tables of any size with made-up activations, to measure what tables cost.

    python benchmarks/scale_table.py FOLDER N_SAMPLES [RANDOM_SEED]

Each sample has about 200 active features of 65,536; a few are frequent and most are rare.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facsynth.records import FeatureActivations, Sample
from facsynth.table.manifest import TableSource
from facsynth.table.write import finish_table, samples_hash, write_part

N_FEATURES = 65_536
N_DRAWS = 236
"""Draws of a feature for each sample, of which about 200 differ."""

PART_SAMPLES = 8192
_TICKETS = 2**22
WORDS = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
]

SOURCE = TableSource(
    model_hash="0" * 64,
    sae_hash="1" * 64,
    n_features=N_FEATURES,
    layer=1,
    gate="sae",
    pooling="max",
    score="all",
    max_length=1024,
    chat_format_hash="2" * 64,
    model_name="none",
    sae_name="none",
)


def make_samples(n_samples: int) -> Iterator[Sample]:
    """Short texts with one of two labels."""
    for i in range(n_samples):
        words = " ".join(WORDS[(i * step) % len(WORDS)] for step in (1, 3, 5))
        yield Sample(f"s{i:07d}", text=f"{words} {i % 90_001}", label="ab"[i % 2])


def make_tickets(random_seed: int) -> np.ndarray:
    """Features, as often as they fire: a few are frequent and most are rare."""
    rng = np.random.default_rng(random_seed)
    shares = 1 / (np.arange(N_FEATURES) + 100)
    ends = np.round(np.cumsum(shares / shares.sum()) * _TICKETS).astype(np.int64)
    names = rng.permutation(N_FEATURES).astype(np.uint16)  # an id does not tell the frequency
    return np.repeat(names, np.diff(ends, prepend=0))


def make_rows(sample_ids: list[str], tickets: np.ndarray, seed: list[int]) -> FeatureActivations:
    """Rows with distinct ascending features that are drawn from tickets."""
    rng, n = np.random.default_rng(seed), len(sample_ids)
    drawn = np.sort(tickets[rng.integers(0, _TICKETS, (n, N_DRAWS), dtype=np.int32)], axis=1)
    kept = np.ones(drawn.shape, dtype=np.bool_)
    kept[:, 1:] = drawn[:, 1:] != drawn[:, :-1]
    lengths = kept.sum(axis=1)
    n_entries = int(lengths.sum())
    return FeatureActivations(
        n_features=N_FEATURES,
        sample_ids=tuple(sample_ids),
        n_tokens=rng.integers(5, 300, n),
        row_starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        feature_ids=drawn[kept].astype(np.uint32),
        values=1e-3 + 2 * rng.standard_exponential(n_entries, dtype=np.float32),
        positions=rng.integers(0, 300, n_entries, dtype=np.uint16),
    )


def make_table(folder: Path, n_samples: int, random_seed: int) -> None:
    """Write a finished table."""
    folder.mkdir(parents=True)
    tickets = make_tickets(random_seed)
    samples = list(make_samples(n_samples))
    for index, start in enumerate(range(0, n_samples, PART_SAMPLES)):
        part = samples[start : start + PART_SAMPLES]
        rows = make_rows([one.sample_id for one in part], tickets, [random_seed, index])
        write_part(folder, index, rows, part)
    finish_table(folder, SOURCE, samples_hash(samples), n_parts=-(-n_samples // PART_SAMPLES))


if __name__ == "__main__":
    make_table(Path(sys.argv[1]), int(sys.argv[2]), int((sys.argv[3:] or ["0"])[0]))

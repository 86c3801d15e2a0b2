"""Whether a text carries its label, by a head on the features of the labelled seed.

The head is a least-squares classifier with a ridge penalty. What it says of each seed sample when
fitted without that sample has a closed form, so its accuracy costs nothing, and a head that cannot
tell the labels apart is known before a text is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from scipy.sparse import csr_array

from facsynth.errors import DataError
from facsynth.records import FeatureActivations
from facsynth.synthesize.task_format import TaskFormat
from facsynth.table.rows import take_rows

__all__ = ["LEAST_ACCURACY", "LEAST_OF_EACH", "LabelHead", "fit_kernel"]

LEAST_OF_EACH = 20
"""Seed samples of each label that a head needs."""

LEAST_ACCURACY = 0.8
"""Balanced accuracy below which a head is not used."""

_MOST_OF_EACH = 1000
_PENALTIES = (10.0, 1.0, 0.1, 0.01)
"""As shares of the mean squared length of a sample; of equally good ones the largest is taken."""


@dataclass(frozen=True, eq=False)
class LabelHead:
    """A linear head that tells two labels apart; made by `fit`."""

    labels: tuple[str, str]
    """What it says above 0, and below."""

    weights: Float64[np.ndarray, " n_features"]
    bias: float
    accuracy: float
    """Balanced accuracy on the seed, each sample left out in turn, in [0, 1]."""

    @classmethod
    def fit(
        cls,
        rows: FeatureActivations,
        labels: Sequence[str | None],
        wanted: tuple[str, str],
    ) -> "LabelHead":
        """Fit a head on the samples of two labels, which weigh the same.

        Args:
            rows: Activations of the seed.
            labels: Label of each sample.
            wanted: The two labels.

        Raises:
            DataError: The seed has too few samples of one of them.
        """
        found = [[i for i, label in enumerate(labels) if label == one] for one in wanted]
        counts = [len(part) for part in found]
        if min(counts) < LEAST_OF_EACH:
            raise DataError(
                f"a head on the seed needs {LEAST_OF_EACH} samples of each label; it has "
                + " and ".join(f"{n} of {w}" for n, w in zip(counts, wanted, strict=True))
            )
        rng = np.random.default_rng(0)
        taken = [np.sort(rng.permutation(part)[:_MOST_OF_EACH]) for part in found]
        signs = np.repeat([1.0, -1.0], [part.size for part in taken])
        noise = np.repeat([part.size for part in taken], [part.size for part in taken])
        points = _points(take_rows(rows, np.concatenate(taken)))
        kernel = (points @ points.T).toarray() + 1.0
        best, chosen = -1.0, np.zeros(signs.size)
        for penalty in _PENALTIES:
            ridge = penalty * kernel.trace() / signs.size * noise / noise.mean()
            inner, left_out = fit_kernel(kernel, ridge, signs)
            accuracy = float(np.mean([(left_out * signs > 0)[signs == s].mean() for s in (1, -1)]))
            if accuracy > best:
                best, chosen = accuracy, inner
        return cls(wanted, points.T @ chosen, float(chosen.sum()), best)

    @classmethod
    def of_task(
        cls,
        how: str,
        task: TaskFormat,
        rows: FeatureActivations,
        labels: Sequence[str | None],
    ) -> "LabelHead | None":
        """The head of a task with two labels, where one is wanted and good enough.

        Args:
            how: `head`, or `auto` for one only if it is possible; else there is none.
            task: What is written.
            rows: Activations of the seed.
            labels: Label of each sample of the seed.

        Raises:
            DataError: There must be a head, but there cannot be one.
        """
        done = task.completion
        if how not in ("head", "auto") or not (done and done.kind == "contrast"):
            if how == "head":
                raise DataError(f"the task {task.name} has no two labels for a head to tell apart")
            return None
        try:
            head = cls.fit(rows, labels, (str(task.label), str(done.label)))
        except DataError:
            if how == "head":
                raise
            return None
        if head.accuracy >= LEAST_ACCURACY:
            return head
        if how == "head":
            raise DataError(
                f"a head on the seed tells {' and '.join(head.labels)} apart with a balanced "
                f"accuracy of {head.accuracy:.2f}, below {LEAST_ACCURACY}; use --check-labels ask"
            )
        return None

    def agrees(self, rows: FeatureActivations, label: str) -> Bool[np.ndarray, " n_samples"]:
        """Which samples the head gives a label."""
        above: Bool[np.ndarray, " n_samples"] = _points(rows) @ self.weights + self.bias > 0
        return above if label == self.labels[0] else ~above


def fit_kernel(
    kernel: Float64[np.ndarray, "n_samples n_samples"],
    ridge: Float64[np.ndarray, " n_samples"],
    signs: Float64[np.ndarray, " n_samples"],
) -> tuple[Float64[np.ndarray, " n_samples"], Float64[np.ndarray, " n_samples"]]:
    """Dual weights of a ridge regression, and its value at each sample when fitted without it."""
    inverse = np.linalg.inv(kernel + np.diag(ridge))
    inner = inverse @ signs
    return inner, signs - inner / np.diag(inverse)


def _points(rows: FeatureActivations) -> csr_array:
    """Logarithms of activations, of length 1 in each sample, so that long texts weigh no more."""
    shape = (rows.n_tokens.size, rows.n_features)
    values = np.log1p(rows.values.astype(np.float64))
    sums = np.add.reduceat(np.append(values**2, 0.0), rows.row_starts[:-1])
    sums[np.diff(rows.row_starts) == 0] = 1.0
    scaled = values / np.repeat(np.sqrt(sums), np.diff(rows.row_starts))
    return csr_array((scaled, rows.feature_ids.astype(np.int64), rows.row_starts), shape)

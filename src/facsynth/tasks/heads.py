"""Linear heads on frozen vectors: logistic regression for classes and for preferences.

Both are fitted to the optimum by scikit-learn instead of for a number of epochs, so they depend on
the data alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

__all__ = [
    "LinearHead",
    "fit_classifier",
    "fit_preferences",
    "heads_to_tensors",
    "tensors_to_heads",
]

Rows = Float32[np.ndarray, "n_rows d_model"]


@dataclass(frozen=True)
class LinearHead:
    """score(x) = weights · (x - mean) / scale + bias."""

    weights: Float64[np.ndarray, " d_model"]
    mean: Float64[np.ndarray, " d_model"]
    scale: Float64[np.ndarray, " d_model"]
    bias: float

    def scores(self, rows: Rows) -> Float64[np.ndarray, " n_rows"]:
        """One number per row: log odds of the positive class, or a reward."""
        scaled = (rows.astype(np.float64) - self.mean) / self.scale
        found: Float64[np.ndarray, " n_rows"] = scaled @ self.weights + self.bias
        return found


def fit_classifier(
    rows: Rows, positive: Bool[np.ndarray, " n_rows"], *, inverse_l2: float
) -> LinearHead:
    """L2-regularised logistic regression on standardised rows, both classes weighing the same.

    Args:
        rows: Vectors of the training samples.
        positive: Their classes, both present.
        inverse_l2: scikit-learn's C; smaller is smoother.
    """
    mean, scale = _moments(rows)
    fit = _regression(inverse_l2, class_weight="balanced")
    fit.fit((rows - mean) / scale, positive)
    return LinearHead(fit.coef_[0].astype(np.float64), mean, scale, float(fit.intercept_[0]))


def fit_preferences(chosen: Rows, rejected: Rows, *, inverse_l2: float) -> LinearHead:
    """Bradley-Terry reward, P(chosen beats rejected) = σ(r(chosen) - r(rejected)), linear in rows.

    This is logistic regression without intercept on the differences, each taken with both signs.

    Args:
        chosen: Vectors of the better answers.
        rejected: Vectors of the worse ones, in the same order.
        inverse_l2: scikit-learn's C; smaller is smoother.
    """
    mean, scale = _moments(np.concatenate([chosen, rejected]))
    differences = (chosen.astype(np.float64) - rejected) / scale
    fit = _regression(inverse_l2, fit_intercept=False)
    both = np.concatenate([differences, -differences])
    fit.fit(both, np.arange(len(both)) < len(differences))
    return LinearHead(fit.coef_[0].astype(np.float64), mean, scale, 0.0)


def _moments(rows: Rows) -> tuple[Any, Any]:
    wide = rows.astype(np.float64)
    return wide.mean(axis=0), wide.std(axis=0) + 1e-6


def heads_to_tensors(heads: Mapping[str, LinearHead]) -> dict[str, Any]:
    """Heads by name as tensors called `<name>.<part>`."""
    found: dict[str, Any] = {}
    for name, head in heads.items():
        parts = {"weights": head.weights, "mean": head.mean, "scale": head.scale}
        parts["bias"] = np.array([head.bias])
        found |= {f"{name}.{part}": values for part, values in parts.items()}
    return found


def tensors_to_heads(tensors: Mapping[str, Any]) -> dict[str, LinearHead]:
    """The inverse of `heads_to_tensors`."""
    return {
        name: LinearHead(
            tensors[f"{name}.weights"],
            tensors[f"{name}.mean"],
            tensors[f"{name}.scale"],
            float(tensors[f"{name}.bias"][0]),
        )
        for name in sorted({tensor.rsplit(".", 1)[0] for tensor in tensors})
    }


def _regression(inverse_l2: float, **options: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=inverse_l2, max_iter=1000, **options)

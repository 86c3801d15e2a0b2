"""Linear heads on frozen vectors: logistic regression for classes and for preferences.

Both are fitted to the optimum by scikit-learn instead of for a number of epochs, so they depend on
the data alone. A head is one array, the weights followed by the bias.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

__all__ = ["Head", "fit_classifier", "fit_preferences", "head_scores"]

Rows = Float32[np.ndarray, "n_rows d_model"]
Head = Float64[np.ndarray, " n_weights"]
"""d_model weights and a bias."""


def head_scores(head: Head, rows: Rows) -> Float64[np.ndarray, " n_rows"]:
    """One number per row: log odds of the positive class, or a reward."""
    found: Float64[np.ndarray, " n_rows"] = rows.astype(np.float64) @ head[:-1] + head[-1]
    return found


def fit_classifier(rows: Rows, positive: Bool[np.ndarray, " n_rows"], *, inverse_l2: float) -> Head:
    """L2-regularised logistic regression on standardised rows, both classes weighing the same.

    Args:
        rows: Vectors of the training samples.
        positive: Their classes, both present.
        inverse_l2: scikit-learn's C; smaller is smoother.
    """
    mean, scale = _moments(rows)
    fit = _regression(inverse_l2, class_weight="balanced")
    fit.fit((rows - mean) / scale, positive)
    weights = fit.coef_[0].astype(np.float64) / scale
    return np.append(weights, fit.intercept_[0] - mean @ weights)


def fit_preferences(chosen: Rows, rejected: Rows, *, inverse_l2: float) -> Head:
    """Bradley-Terry reward, P(chosen beats rejected) = σ(r(chosen) - r(rejected)), linear in rows.

    This is logistic regression without intercept on the differences, each taken with both signs.

    Args:
        chosen: Vectors of the better answers.
        rejected: Vectors of the worse ones, in the same order.
        inverse_l2: scikit-learn's C; smaller is smoother.
    """
    _, scale = _moments(np.concatenate([chosen, rejected]))
    differences = (chosen.astype(np.float64) - rejected) / scale
    fit = _regression(inverse_l2, fit_intercept=False)
    both = np.concatenate([differences, -differences])
    fit.fit(both, np.arange(len(both)) < len(differences))
    return np.append(fit.coef_[0].astype(np.float64) / scale, 0.0)


def _moments(rows: Rows) -> tuple[Any, Any]:
    wide = rows.astype(np.float64)
    return wide.mean(axis=0), wide.std(axis=0) + 1e-6


def _regression(inverse_l2: float, **options: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=inverse_l2, max_iter=1000, **options)

"""Linear heads on frozen vectors: logistic regression for classes and for preferences.

Both are fitted to the optimum by scikit-learn, so they depend on the data alone, or by the gradient
steps of the paper. A head is one array, the weights followed by the bias.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

__all__ = ["Head", "fit_classifier", "fit_preferences", "fit_steps", "head_scores"]

Rows = Float32[np.ndarray, "n_rows d_model"]
Head = Float64[np.ndarray, " n_weights"]
"""d_model weights and a bias."""


def head_scores(head: Head, rows: Rows) -> Float64[np.ndarray, " n_rows"]:
    """One number per row: log odds of the positive class, or a reward."""
    found: Float64[np.ndarray, " n_rows"] = rows.astype(np.float64) @ head[:-1] + head[-1]
    return found


def fit_classifier(rows: Rows, positive: Bool[np.ndarray, " n_rows"], *, inverse_l2: float) -> Head:
    """L2-regularised logistic regression on standardised rows, both classes weighing the same."""
    mean, scale = _moments(rows)
    fit = _regression(inverse_l2, class_weight="balanced")
    fit.fit((rows - mean) / scale, positive)
    weights = fit.coef_[0].astype(np.float64) / scale
    return np.append(weights, fit.intercept_[0] - mean @ weights)


def fit_preferences(chosen: Rows, rejected: Rows, *, inverse_l2: float) -> Head:
    """Bradley-Terry reward, P(chosen beats rejected) = σ(r(chosen) - r(rejected)), linear in rows.

    This is logistic regression without intercept on the differences, each taken with both signs.
    """
    _, scale = _moments(np.concatenate([chosen, rejected]))
    differences = (chosen.astype(np.float64) - rejected) / scale
    fit = _regression(inverse_l2, fit_intercept=False)
    both = np.concatenate([differences, -differences])
    fit.fit(both, np.arange(len(both)) < len(differences))
    return np.append(fit.coef_[0].astype(np.float64) / scale, 0.0)


def fit_steps(
    rows: Float32[np.ndarray, "n_rows n_sides d_model"],
    positive: Bool[np.ndarray, " n_rows"] | None,
    *,
    epochs: int,
    random_seed: int,
    learning_rate: float = 8e-5,
    batch_size: int = 4,
) -> Head:
    """The paper's head-only training (arXiv 2602.10388): AdamW on the head of a frozen model.

    The frozen body has no randomness, so stored vectors give the same head as running it in every
    epoch. As in Transformers' Trainer, weights start at N(0, 0.02²) without a bias, and the rate
    falls linearly to 0 without weight decay.

    Args:
        rows: One vector for each sample, or two, of the better and the worse answer.
        positive: Classes of samples, for two outputs and cross-entropy; None for pairs, with one
            output and the loss -log σ(r(better) - r(worse)).
        epochs: Passes over the rows, in an order that is drawn anew each time.
        random_seed: Of the first weights and the order.
        learning_rate: At the first step.
        batch_size: Rows of a step.
    """
    rng = np.random.default_rng(random_seed)
    vectors = rows[:, 0].astype(np.float64) - (rows[:, 1] if positive is None else 0)
    classes = np.eye(2)[positive.astype(int)] if positive is not None else np.ones((len(rows), 1))
    weights = rng.normal(0, 0.02, (classes.shape[1], rows.shape[2]))
    first, second, step = np.zeros_like(weights), np.zeros_like(weights), 0
    n_steps = epochs * -(-len(rows) // batch_size)
    for _ in range(epochs):
        order = rng.permutation(len(rows))
        for start in range(0, len(rows), batch_size):
            batch = order[start : start + batch_size]
            out = np.exp(np.minimum(vectors[batch] @ weights.T, 500.0))
            chance = out / (1 + out if positive is None else out.sum(axis=1, keepdims=True))
            gradient = (chance - classes[batch]).T @ vectors[batch] / len(batch)
            step += 1
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient**2 - second)
            size = np.sqrt(second / (1 - 0.999**step)) + 1e-8
            rate = learning_rate * (1 - (step - 1) / n_steps)
            weights -= rate * first / (1 - 0.9**step) / size
    return np.append(weights[-1] - (0 if positive is None else weights[0]), 0.0)


def _moments(rows: Rows) -> tuple[Any, Any]:
    wide = rows.astype(np.float64)
    return wide.mean(axis=0), wide.std(axis=0) + 1e-6


def _regression(inverse_l2: float, **options: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=inverse_l2, max_iter=1000, **options)

"""AlpacaEval 2's length-controlled win rate (arXiv 2404.04475), fitted as in its package.

A logistic regression explains who wins by the difference in length, the difficulty of the
instruction and the model; the win rate is what it predicts at equal lengths. The model, its
L1 penalty, the choice of its strength and the weight of the gamed baselines are those of
alpaca_eval 0.6.6. The package itself is not used: it reads its constants from the Hub at every
call.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from facsynth.data.read import read_placed_rows
from facsynth.errors import DataError

__all__ = ["Gamed", "length_controlled", "read_gamed"]

_GAMED_WEIGHT = 0.2
_STRENGTHS = np.logspace(-4, 4, 10)
_N_FOLDS = 5
_RANDOM_STATE = 123


@dataclass(frozen=True)
class Gamed:
    """`df_gamed.csv` of the data set tatsu-lab/alpaca_eval: what keeps the regression in place."""

    index: Int64[np.ndarray, " n_rows"]
    """Instruction of each row."""

    preference: Float64[np.ndarray, " n_rows"]
    """Wins of a baseline that was told to be brief or wordy, in [0, 1]."""

    length: Float64[np.ndarray, " n_rows"]
    """Standardised difference in length to the baseline."""

    difficulty: Float64[np.ndarray, " n_rows"]
    """Of the instruction, estimated over the leaderboard."""


def read_gamed(path: str) -> Gamed:
    """Read `df_gamed.csv`.

    Raises:
        DataError: A column is missing or holds no numbers.
    """
    names = ("index", "preference", "std_delta_len", "instruction_difficulty")
    rows = [row.value for row in read_placed_rows(path)]
    try:
        values = np.array([[float(row[name]) for name in names] for row in rows])  # type: ignore[index]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} lacks numbers in {', '.join(names)} ({error}); take df_gamed.csv of the Hub "
            "data set tatsu-lab/alpaca_eval"
        ) from error
    return Gamed(values[:, 0].astype(np.int64), values[:, 1], values[:, 2], values[:, 3])


def length_controlled(
    preference: Float64[np.ndarray, " n_items"],
    longer: Float64[np.ndarray, " n_items"],
    *,
    index: Int64[np.ndarray, " n_items"] | None = None,
    gamed: Gamed | None = None,
) -> float:
    """Win rate at equal lengths, in [0, 1].

    Args:
        preference: For each instruction how much the model wins, from 0 to 1.
        longer: Characters of the baseline's output minus those of the model's.
        index: Place of each instruction among AlpacaEval's; needed with `gamed`.
        gamed: Constants of AlpacaEval's own rate (`length_controlled_v1`). Without them neither
            difficulty nor gamed baselines are in the regression (`length_controlled_minimal`).

    Raises:
        DataError: There are fewer than five instructions, or one whose difficulty is unknown.
    """
    if preference.size < _N_FOLDS:
        raise DataError(f"{preference.size} instructions are too few to control for length")
    spread = longer.std(ddof=1)
    columns = [np.tanh(longer / spread) if spread > 0 else np.zeros(preference.size)]
    own = np.ones(preference.size)
    if gamed is None:
        rows, wins, weights = np.column_stack([*columns, own]), preference, own
        even = np.column_stack([np.zeros(preference.size), own])
    else:
        assert index is not None, "difficulties go by the place of an instruction"
        difficulty = _difficulties(gamed, index)
        theirs = np.zeros(gamed.index.size)
        rows = np.concatenate(
            [
                np.column_stack([np.tanh(gamed.length), gamed.difficulty, theirs]),
                np.column_stack([*columns, difficulty, own]),
            ]
        )
        wins = np.concatenate([gamed.preference, preference])
        weights = np.concatenate([theirs + _GAMED_WEIGHT / 2, own])
        even = np.column_stack([np.zeros(preference.size), difficulty, own])
    fitted = _fit(rows, wins, weights)
    return float(fitted.predict_proba(even)[:, 1].mean())


def _difficulties(gamed: Gamed, index: Int64[np.ndarray, " n_items"]) -> Any:
    known = dict(zip(gamed.index.tolist(), gamed.difficulty.tolist(), strict=True))
    missing = [i for i in index.tolist() if i not in known]
    if missing:
        raise DataError(
            f"instruction {missing[0]} has no difficulty in the file of gamed baselines; it holds "
            "AlpacaEval's 805 in their order, so evaluate on that file from its beginning"
        )
    return np.array([known[i] for i in index.tolist()])


def _fit(rows: Any, wins: Any, weights: Any) -> Any:
    """Logistic regression on shares: each row counts once as won and once as lost."""
    from sklearn.model_selection import GroupKFold

    both = np.concatenate([rows, rows])
    won = np.repeat([1, 0], len(rows))
    shares, heavy = np.concatenate([wins, 1 - wins]), np.concatenate([weights, weights])
    groups = np.tile(np.arange(len(rows)), 2)
    losses = np.zeros((_N_FOLDS, _STRENGTHS.size))
    for fold, (train, test) in enumerate(GroupKFold(_N_FOLDS).split(both, won, groups)):
        state = np.random.RandomState(
            _RANDOM_STATE
        )  # one for all strengths, as in LogisticRegressionCV
        for place, strength in enumerate(_STRENGTHS):
            fit = _regression(strength, state).fit(
                both[train], won[train], sample_weight=(shares * heavy)[train]
            )
            losses[fold, place] = _loss(fit, both[test], won[test], shares[test], heavy[test])
    best = _STRENGTHS[int(losses.mean(axis=0).argmin())]
    return _regression(best, _RANDOM_STATE).fit(both, won, sample_weight=shares * heavy)


def _loss(fit: Any, rows: Any, won: Any, shares: Any, weights: Any) -> float:
    wins = np.where(won == 1, shares, 1 - shares)
    predicted = np.clip(fit.predict_proba(rows)[:, 1], 1e-15, 1 - 1e-15)
    entropy = wins * np.log(predicted) + (1 - wins) * np.log(1 - predicted)
    return float(-(entropy * weights).mean())


def _regression(strength: float, state: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(
        C=strength, l1_ratio=1.0, solver="liblinear", fit_intercept=False, random_state=state
    )

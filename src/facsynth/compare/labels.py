"""The labels of a data set: the direction between its classes, and how reliable it is.

For reward and classification data, labels matter more than the coverage of the texts: the best
predictor of quality was the agreement of the class direction of a subset with that of the pool
(see docs/method.md). The direction of K classes is the matrix of their mean feature vectors minus
the mean of these means; for two classes, chosen and rejected for example, its cosines are those of
the difference of the two means. Directions are taken in feature space, or in hidden space where a
table keeps the mean hidden states of its samples.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from facsynth.compare.settings import Space
from facsynth.coverage.hidden import hidden_states
from facsynth.errors import DataError, MismatchError
from facsynth.select.vectors import as_rows, column_sums, cosine, square_norms, take
from facsynth.table.active import ActiveRows

__all__ = ["Agreement", "LabelledRows", "agreement", "labelled_rows", "length_cosines"]

LEVEL = 0.95
"""Share of the resamples inside an interval."""

_BLOCK = 8192
"""Pairs whose differences are held at once."""

_TOGETHER = 16
"""Resamples whose directions are made in one pass over the samples."""


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """A feature table whose rows have classes; see `labelled_rows`."""

    active: ActiveRows
    """The whole table."""

    vectors: Any
    """Rows (n_samples, n_columns): where features fire, or dense hidden states."""

    names: tuple[str, ...]
    """The classes, at least two, in alphabetical order."""

    class_ids: Int64[np.ndarray, " n_samples"]
    pair_ids: Int64[np.ndarray, " n_samples"] | None
    """Pair of each sample when classes come in pairs (chosen and rejected), else None."""

    n_tokens: Int64[np.ndarray, " n_samples"]
    n_left_out: int
    """Samples without a label or without scored tokens; with pairs, all samples of such a pair."""

    rows: Int64[np.ndarray, " n_samples"]
    """Position of each sample in the table."""

    def sizes(self) -> Int64[np.ndarray, " n_classes"]:
        """Samples of each class."""
        return np.bincount(self.class_ids, minlength=len(self.names))

    def direction(
        self, weights: Float64[np.ndarray, " n_samples"] | None = None
    ) -> Float64[np.ndarray, "n_classes n_columns"]:
        """Mean vector of each class minus the mean of these means; samples may be weighted."""
        weights = np.ones(self.class_ids.size) if weights is None else weights
        centred: NDArray[np.float64] = _directions(self, [(self.class_ids, weights)])[0]
        return centred

    def reliability(self) -> float:
        """Share of the squared length of the direction that is no sampling noise, in [0, 1].

        1 - E‖noise‖² / ‖direction‖², with the noise from the spread of the samples in each class
        (of the differences, with pairs). Between 0 (the labels separate nothing, or there are too
        few samples) and 1; two directions of the same source with reliabilities r and s have an
        expected cosine of about √(r s).
        """
        length = float(np.square(self.direction()).sum())
        return max(0.0, 1.0 - self._noise() / length) if length else 0.0

    def _noise(self) -> float:
        n_classes = len(self.names)
        if self.pair_ids is not None:
            order = np.lexsort((self.class_ids, self.pair_ids))
            return _spread(_differences(self.vectors, order[::2], order[1::2])) / 2
        parts = (take(self.vectors, np.flatnonzero(self.class_ids == c)) for c in range(n_classes))
        return (1 - 1 / n_classes) * sum(_spread([part]) for part in parts)

    def resampled(self, rng: np.random.Generator) -> Float64[np.ndarray, " n_samples"]:
        """Weights of a bootstrap resample: of the pairs, or of each class by itself."""
        if self.pair_ids is not None:
            n_pairs = self.class_ids.size // 2
            drawn = np.bincount(rng.integers(0, n_pairs, n_pairs), minlength=n_pairs)
            weights: NDArray[np.float64] = drawn[self.pair_ids].astype(np.float64)
            return weights
        weights = np.zeros(self.class_ids.size)
        for c in range(len(self.names)):
            rows = np.flatnonzero(self.class_ids == c)
            weights[rows] = np.bincount(rng.integers(0, rows.size, rows.size), minlength=rows.size)
        return weights

    def shuffled(self, rng: np.random.Generator) -> "LabelledRows":
        """The same samples with labels at random: sides swapped in pairs, or classes permuted."""
        if self.pair_ids is not None:
            swap = rng.integers(0, 2, self.class_ids.size // 2)[self.pair_ids]
            return replace(self, class_ids=self.class_ids ^ swap)
        return replace(self, class_ids=rng.permutation(self.class_ids))


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well the class directions of two data sets agree; see `agreement`."""

    cosine: float
    """In [-1, 1]; below 0 the labels of the two contradict each other."""

    low: float
    """Lower end of the 95 % interval."""

    high: float
    ceiling: float
    """Cosine to expect of two sets of these sizes with one true direction: √(r s)."""

    shuffled_low: float
    """Lower end of the same share of cosines with the labels of the first set shuffled."""

    shuffled_high: float
    p_value: float
    """Share of shuffles with a cosine at least as far from 0, the observed one included."""

    n_resamples: int


def labelled_rows(
    active: ActiveRows,
    labels: Sequence[str | None],
    *,
    pair_ids: Int64[np.ndarray, " n_samples"] | None = None,
    space: Space = "features",
    scale: Float64[np.ndarray, " d_model"] | None = None,
) -> LabelledRows:
    """Rows with classes, in the vectors that directions are taken of.

    Args:
        active: A table.
        labels: Class of each row; None leaves the row out.
        pair_ids: Pair of each row, two rows each with different labels; None without pairs.
        space: What a vector holds; see `LabelSettings`.
        scale: Of `hidden`: unit of each dimension, the same for all sets that are compared; the
            spread over this table when None.

    Raises:
        DataError: Fewer than two classes are left, hidden states are asked for that the table
            does not have, or relevant features of hidden states.
        MismatchError: Labels and rows differ in number.
    """
    n_tokens = active.n_tokens
    if len(labels) != active.n_samples:
        raise MismatchError(f"{len(labels)} labels and {active.n_samples} rows")
    vectors = _vectors(active, space, scale)
    usable = np.array([label is not None for label in labels]) & (n_tokens > 0)
    if pair_ids is not None:  # a pair needs both of its sides
        usable &= np.bincount(pair_ids, weights=usable)[pair_ids] == 2
    rows = np.flatnonzero(usable)
    names, class_ids = np.unique(
        np.array([str(labels[i]) for i in rows.tolist()], dtype=np.str_), return_inverse=True
    )
    if len(names) < 2:
        found = f"only the class {str(names[0])!r}" if len(names) else "no class at all"
        raise DataError(
            f"{rows.size} of {len(labels)} samples have a label and text, with {found}; a "
            "direction needs two classes: extract with --label-field, or pairs with --both-answers"
        )
    if pair_ids is not None:
        pair_ids = np.unique(pair_ids[rows], return_inverse=True)[1].astype(np.int64)
    return LabelledRows(
        active=active,
        vectors=vectors if rows.size == n_tokens.size else take(vectors, rows),
        names=tuple(names.tolist()),
        class_ids=class_ids.astype(np.int64),
        pair_ids=pair_ids,
        n_tokens=n_tokens[rows],
        n_left_out=len(labels) - rows.size,
        rows=rows,
    )


def agreement(
    one: LabelledRows,
    other: LabelledRows,
    *,
    n_resamples: int = 200,
    rng: np.random.Generator,
) -> Agreement:
    """Cosine of the class directions of two data sets, with its uncertainty and a control.

    Samples of both sets are drawn with replacement (whole pairs, or within each class). Resampling
    adds noise, which turns directions apart, so the percentiles are moved by (cosine - mean of the
    resamples) and cut to [-1, 1]; read them as the range of the cosine of two sets of these sizes
    from the same two sources. The control shuffles the labels of the first set, which keeps its
    texts and sizes.

    Raises:
        MismatchError: The classes or the features of the two differ.
    """
    if one.names != other.names:
        raise MismatchError(
            f"one set has the classes {', '.join(one.names[:5])} and the other "
            f"{', '.join(other.names[:5])}; directions compare between the same classes, so map "
            "one onto the other with --rename OLD=NEW"
        )
    if one.vectors.shape[1] != other.vectors.shape[1]:
        raise MismatchError("the two sets have different features; extract both with one SAE")
    target = other.direction()
    observed = cosine(one.direction(), target)
    drawn = np.array(_resampled_cosines(one, other, n_resamples, rng))
    chance = np.array(_shuffled_cosines(one, target, n_resamples, rng))
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = (np.quantile(drawn, ends) + observed - drawn.mean()).tolist()
    n_beyond = int(np.count_nonzero(np.abs(chance) >= abs(observed)))
    return Agreement(
        cosine=observed,
        low=max(-1.0, low),
        high=min(1.0, high),
        ceiling=float(np.sqrt(one.reliability() * other.reliability())),
        shuffled_low=float(np.quantile(chance, ends[0])),
        shuffled_high=float(np.quantile(chance, ends[1])),
        p_value=(1 + n_beyond) / (1 + n_resamples),
        n_resamples=n_resamples,
    )


def _directions(
    rows: LabelledRows, drawn: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]]
) -> Float64[np.ndarray, "n_draws n_classes n_columns"]:
    """The direction for each labelling and weighting of the samples, in one pass over them."""
    classes = range(len(rows.names))
    members = [np.where(ids == c, weights, 0.0) for ids, weights in drawn for c in classes]
    shares = [member / max(float(member.sum()), 1e-12) for member in members]
    means = column_sums(rows.vectors, shares).reshape(len(drawn), len(classes), -1)
    centred: NDArray[np.float64] = means - means.mean(axis=1, keepdims=True)
    return centred


def _resampled_cosines(
    one: LabelledRows, other: LabelledRows, n_resamples: int, rng: np.random.Generator
) -> list[float]:
    found: list[float] = []
    for start in range(0, n_resamples, _TOGETHER):
        n = min(_TOGETHER, n_resamples - start)
        drawn = [(one.resampled(rng), other.resampled(rng)) for _ in range(n)]
        mine = _directions(one, [(one.class_ids, weights) for weights, _ in drawn])
        theirs = _directions(other, [(other.class_ids, weights) for _, weights in drawn])
        found += map(cosine, mine, theirs)
    return found


def _shuffled_cosines(
    rows: LabelledRows, target: NDArray[np.float64], n_resamples: int, rng: np.random.Generator
) -> list[float]:
    found, weights = [], np.ones(rows.class_ids.size)
    for start in range(0, n_resamples, _TOGETHER):
        n = min(_TOGETHER, n_resamples - start)
        labels = [rows.shuffled(rng).class_ids for _ in range(n)]
        directions = _directions(rows, [(ids, weights) for ids in labels])
        found += [cosine(direction, target) for direction in directions]
    return found


def length_cosines(rows: LabelledRows) -> Float64[np.ndarray, " n_classes"]:
    """Cosine of each class's part of the direction with the direction of longer texts.

    The latter is the covariance of the vectors with the logarithm of the number of tokens. Near 1
    or -1, the class differs from the others mostly in length. All 0 when lengths are equal.
    """
    logs = np.log(rows.n_tokens)
    logs = logs - logs.mean()
    # vectors are not centred: Σ (l - l̄) x = Σ (l - l̄)(x - x̄), because the weights sum to 0
    [longer] = column_sums(rows.vectors, [logs])
    return np.array([cosine(part, longer) for part in rows.direction()])


def _vectors(active: ActiveRows, space: Space, scale: NDArray[np.float64] | None) -> Any:
    """The vectors of all rows; features that do not count fire nowhere."""
    if space == "features":
        return active.firing
    if not active.relevant.all():
        raise DataError("relevant features do not choose among hidden states; leave --relevant out")
    return hidden_states(active, scale)


def _spread(parts: Iterable[Any]) -> float:
    """Expected squared distance of the mean of these rows, in parts, to their source's mean."""
    n, squares, sums = 0, 0.0, np.zeros(1)
    for part in parts:
        n += part.shape[0]
        squares += float(square_norms(part).sum())
        sums = sums + column_sums(part, [np.ones(part.shape[0], dtype=np.bool_)])[0]
    if n < 2:
        return float("inf")  # one sample says nothing about its own noise
    return float(max(0.0, squares / n - np.square(sums / n).sum()) / (n - 1))


def _differences(vectors: Any, one: NDArray[np.int64], other: NDArray[np.int64]) -> Iterator[Any]:
    """The vectors of some samples minus those of others, a few thousand at a time."""
    for start in range(0, one.size, _BLOCK):
        rows = slice(start, start + _BLOCK)
        yield as_rows(take(vectors, one[rows])) - as_rows(take(vectors, other[rows]))

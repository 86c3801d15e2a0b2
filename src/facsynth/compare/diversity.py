"""Diversity of a data set by published text and vector measures, each from its definition.

Words are those of `facsynth.words`: in lower case and without punctuation; scripts without spaces
are split into characters.

Nearly all of these measures change with the number of samples: compare data sets at equal sizes,
as `fac diversity` does.
"""

import gzip
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray
from scipy.sparse import diags_array, issparse
from scipy.stats import entropy

from facsynth.errors import DataError
from facsynth.words import split_words

__all__ = [
    "Estimate",
    "cluster_entropy",
    "compression_ratio",
    "distinct_n",
    "draw_parts",
    "find_clusters",
    "mean_cosine_distance",
    "measure_draws",
    "measure_texts",
    "measure_vectors",
    "ngram_entropy",
    "self_bleu",
    "vendi_score",
]

Words = Sequence[Sequence[str]]
"""The words of each text."""

Vectors = Any
"""A vector of each sample (n_samples, d), none of them zero: a float64 array, or a sparse one."""

_BLEU_ORDER = 4
_BLEU_EPSILON = 0.1
_GZIP_LEVEL = 9


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure over random draws of samples."""

    value: float
    """Mean over the draws."""

    standard_error: float | None
    """Of the mean over draws; None when one draw held all samples."""


def distinct_n(texts: Words, n: int) -> float:
    """Different n-grams of all texts, divided by the number of words (Li et al. 2016, N16-1014).

    The paper divides by words also for n = 2; some programs divide by the number of bigrams.
    N-grams do not cross texts. Falls with the size of the data.

    Returns:
        A fraction in [0, 1], higher is more diverse.

    Raises:
        DataError: The texts have no words.
    """
    return len(_count_ngrams(texts, n)) / _n_words(texts)


def ngram_entropy(texts: Words, n: int) -> float:
    """Shannon entropy of the n-grams of all texts, in bits: -Σ p log2 p (Shannon 1948).

    Grows with the size of the data. 0 when all n-grams are the same or there are none.
    """
    counts = list(_count_ngrams(texts, n).values())
    return float(entropy(counts, base=2)) if counts else 0.0


def self_bleu(texts: Words) -> float:
    """Self-BLEU-4: mean BLEU of each text with all others as references (Zhu et al. 2018).

    BLEU as in Papineni et al. 2002, for one sentence: geometric mean of the clipped precisions of
    1- to 4-grams, times the brevity penalty against the reference of nearest length (the shorter
    of two equally near). As in the authors' program, a precision without a match counts 0.1 as its
    numerator (Chen and Cherry 2014, method 1), and a text without a matching word scores 0.
    Texts without words are left out.

    The largest count of each n-gram over the other texts follows from the two largest over all
    texts, so the time is linear in the words.

    Returns:
        A value in [0, 1], lower is more diverse. It grows with the number of texts.

    Raises:
        DataError: Fewer than two texts have words.
    """
    kept = [words for words in texts if words]
    if len(kept) < 2:
        raise DataError(f"Self-BLEU needs two texts with words and was given {len(kept)}")
    orders = range(1, _BLEU_ORDER + 1)
    grams = [Counter(gram for n in orders for gram in _ngrams(words, n)) for words in kept]
    largest = _two_largest(grams)
    lengths = np.sort([len(words) for words in kept])
    scores = []
    for i, (words, of_text) in enumerate(zip(kept, grams, strict=True)):
        matches = [0] * _BLEU_ORDER
        for gram, count in of_text.items():
            first, owner, second = largest[gram]
            matches[len(gram) - 1] += min(count, second if owner == i else first)
        scores.append(_bleu(len(words), matches, _nearest_other(lengths, len(words))))
    return float(np.mean(scores))


def compression_ratio(texts: Sequence[str]) -> float:
    """Bytes over bytes after gzip at level 9 (Shaib et al. 2024, arXiv 2403.00553).

    Texts are joined by a space and encoded as UTF-8. Gzip looks back 32 kB, so repetitions farther
    apart do not count, and the order of the texts matters. The authors' package (diversity 0.3.1)
    compresses the compressed bytes once more, so its numbers differ.

    Returns:
        A ratio above 0, lower is more diverse.

    Raises:
        DataError: The texts are empty.
    """
    raw = " ".join(texts).encode()
    if not raw.strip():
        raise DataError(f"the {len(texts)} texts are empty, so nothing can be compressed")
    return len(raw) / len(gzip.compress(raw, compresslevel=_GZIP_LEVEL, mtime=0))


def vendi_score(vectors: Vectors) -> float:
    """Vendi score with the cosine kernel K: exp of the entropy of the eigenvalues of K / n.

    Friedman and Dieng 2023 (TMLR, arXiv 2210.02410). Cubic in the smaller of n and d.

    Returns:
        The effective number of different samples, in [1, n]: 1 when all vectors are parallel, n
        when all are orthogonal.

    Raises:
        DataError: There is no vector, or one is zero.
    """
    units = _units(vectors)
    n, d = units.shape
    kernel = units @ units.T if n <= d else units.T @ units
    eigenvalues = np.linalg.eigvalsh(_dense(kernel) / n)
    shares = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def mean_cosine_distance(vectors: Vectors) -> float:
    """Mean of 1 - cos over all pairs of different samples, in [0, 2]; higher is more diverse.

    From ‖Σ u‖² = n + Σ_{i≠j} cos(i, j) for unit vectors u, in linear time.

    Raises:
        DataError: There are fewer than two vectors, or one is zero.
    """
    units = _units(vectors)
    n = units.shape[0]
    if n < 2:
        raise DataError("a distance between samples needs two vectors and was given one")
    total = float(np.square(np.asarray(units.sum(axis=0))).sum())
    return float(1.0 - (total - n) / (n * (n - 1)))


def find_clusters(
    vectors: Vectors, *, n_clusters: int, random_seed: int
) -> Float64[np.ndarray, "n_clusters d"]:
    """Centres of k-means on unit vectors (`scipy.cluster.vq.kmeans2`, k-means++ start).

    Args:
        vectors: One per sample, none of them zero. To compare data sets, give all of them
            together, so that they share the clusters.
        n_clusters: Number of centres; fewer when there are fewer different vectors.
        random_seed: Random seed of the start.
    """
    from scipy.cluster.vq import kmeans2

    units = _units(vectors)
    # Fewer vectors than columns lie in a space of as many dimensions as there are vectors, with
    # the same distances: their coordinates there follow from their products.
    squares, axes = np.linalg.eigh(_dense(units @ units.T))
    real = squares > 1e-10
    coordinates = axes[:, real] * np.sqrt(squares[real])
    k = min(n_clusters, len(np.unique(coordinates.round(6), axis=0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an empty cluster keeps its old centre
        centres, _ = kmeans2(coordinates, k, minit="++", seed=random_seed)
    shares = (centres / np.sqrt(squares[real])) @ axes[:, real].T
    found: NDArray[np.float64] = np.asarray((units.T @ shares.T).T)
    return found


def cluster_entropy(vectors: Vectors, centres: Float64[np.ndarray, "n_clusters d"]) -> float:
    """Entropy of the samples over clusters, in bits (Sem-Ent of Han, Kim and Chang 2022).

    Each unit vector belongs to its nearest centre.

    Returns:
        A value in [0, log2 n_clusters], higher is more diverse.
    """
    units = _units(vectors)
    distances = np.square(centres).sum(axis=1) - 2.0 * units @ centres.T
    return float(entropy(np.bincount(np.argmin(distances, axis=1)), base=2))


def measure_texts(texts: Sequence[str]) -> dict[str, float]:
    """All text measures of one data set, under stable names."""
    words = [split_words(text) for text in texts]
    return {
        "mean_words": sum(map(len, words)) / len(words),
        "distinct_1": distinct_n(words, 1),
        "distinct_2": distinct_n(words, 2),
        "unigram_entropy": ngram_entropy(words, 1),
        "bigram_entropy": ngram_entropy(words, 2),
        "self_bleu": self_bleu(words),
        "compression_ratio": compression_ratio(texts),
    }


def measure_vectors(
    vectors: Vectors, centres: Float64[np.ndarray, "n_clusters d"]
) -> dict[str, float]:
    """All vector measures of one data set; `centres` as in `cluster_entropy`."""
    return {
        "cosine_distance": mean_cosine_distance(vectors),
        "vendi": vendi_score(vectors),
        "cluster_entropy": cluster_entropy(vectors, centres),
    }


def draw_parts(
    n_samples: int, *, size: int, n_draws: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Positions of the samples of random parts; all samples, once, when there are no more."""
    if size >= n_samples:
        return [np.arange(n_samples)]
    return [rng.choice(n_samples, size, replace=False) for _ in range(n_draws)]


def measure_draws(
    measure: Callable[[NDArray[np.int64]], Mapping[str, float]],
    draws: Sequence[NDArray[np.int64]],
) -> dict[str, Estimate]:
    """Measures of random parts of a data set, with their error.

    Returns:
        For each measure the mean over the draws and its standard error, s / √n_draws. It is the
        error of drawing from this data set, not of the data set from its source.
    """
    found = [measure(draw) for draw in draws]
    errors = len(draws) > 1
    return {
        name: Estimate(
            value=float(np.mean([draw[name] for draw in found])),
            standard_error=float(np.std([draw[name] for draw in found], ddof=1) / len(found) ** 0.5)
            if errors
            else None,
        )
        for name in found[0]
    }


def _n_words(texts: Words) -> int:
    total = sum(len(words) for words in texts)
    if not total:
        raise DataError(f"the {len(texts)} texts have no words; check --text-field")
    return total


def _count_ngrams(texts: Words, n: int) -> Counter[tuple[str, ...]]:
    return Counter(gram for words in texts for gram in _ngrams(words, n))


def _ngrams(words: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(n)), strict=False)


_TwoLargest = dict[tuple[str, ...], tuple[int, int, int]]
"""Of each n-gram: its largest count in one text, that text, and the largest in another."""


def _two_largest(counts: Sequence[Counter[tuple[str, ...]]]) -> _TwoLargest:
    found: _TwoLargest = {}
    for i, of_text in enumerate(counts):
        for gram, count in of_text.items():
            first, owner, second = found.get(gram, (0, -1, 0))
            if count > first:
                found[gram] = (count, i, first)
            elif count > second:
                found[gram] = (first, owner, count)
    return found


def _nearest_other(lengths: NDArray[np.int64], length: int) -> int:
    """Length nearest to `length` among the others, the shorter of two; `lengths` is sorted."""
    at = int(np.searchsorted(lengths, length))
    others = [int(lengths[i]) for i in (at - 1, at + 1) if 0 <= i < lengths.size]
    return min(others, key=lambda other: (abs(other - length), other))


def _bleu(length: int, matches: Sequence[int], reference: int) -> float:
    if not matches[0]:
        return 0.0
    total = 0.0
    for n, matched in enumerate(matches, start=1):
        total += math.log((matched or _BLEU_EPSILON) / max(1, length - n + 1))
    penalty = min(0.0, 1.0 - reference / length)
    return math.exp(penalty + total / _BLEU_ORDER)


def _units(vectors: Vectors) -> Any:
    """The vectors at length 1, sparse where they are."""
    squares = vectors.multiply(vectors) if issparse(vectors) else np.square(vectors)
    norms = np.sqrt(squares.sum(axis=1))
    if not norms.size or not norms.all():
        raise DataError(
            f"{int((norms == 0).sum())} of {norms.size} vectors are zero and have no direction; "
            "leave these samples out"
        )
    return diags_array(1 / norms) @ vectors if issparse(vectors) else vectors / norms[:, None]


def _dense(product: Any) -> NDArray[np.float64]:
    found: NDArray[np.float64] = product.toarray() if issparse(product) else product
    return found

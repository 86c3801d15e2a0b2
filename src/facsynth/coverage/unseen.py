"""How many features a source has that its samples have not shown yet.

The words of ecology: a species is a feature, a sampling unit is a sample, an incidence is a sample
in which a feature is active.
"""

import numpy as np
from jaxtyping import Float64, Int64

__all__ = [
    "chao2",
    "extrapolated_curve",
    "extrapolated_richness",
    "good_turing_coverage",
    "samples_to_reach",
]


def chao2(counts: Int64[np.ndarray, " n_features"], n_samples: int) -> float:
    """Lower bound of the number of features in the source, from incidence data.

    S + (m - 1)/m · Q1² / (2 Q2), and S + (m - 1)/m · Q1 (Q1 - 1) / 2 when Q2 = 0, where Q1 and
    Q2 features are active in exactly one and two of the m samples (Chao 1987, Biometrics 43;
    the factor (m - 1)/m as in Chao and Colwell 2017).
    """
    n_seen = int(np.count_nonzero(counts))
    once = int(np.count_nonzero(counts == 1))
    twice = int(np.count_nonzero(counts == 2))
    unseen = once * once / (2 * twice) if twice else once * (once - 1) / 2
    factor = (n_samples - 1) / n_samples if n_samples else 0.0
    return n_seen + factor * unseen


def extrapolated_richness(
    counts: Int64[np.ndarray, " n_features"],
    n_samples: int,
    n_more: int | float,
    *,
    unseen: float | None = None,
) -> float:
    """Features expected with more samples of the same source; see `extrapolated_curve`."""
    more = np.array([n_more], dtype=np.float64)
    return float(extrapolated_curve(counts, n_samples, more, unseen=unseen)[0])


def extrapolated_curve(
    counts: Int64[np.ndarray, " n_features"],
    n_samples: int,
    n_more: Float64[np.ndarray, " n_sizes"],
    *,
    unseen: float | None = None,
) -> Float64[np.ndarray, " n_sizes"]:
    """Features expected with more samples of the same source.

    S(m + h) = S + U [1 - (1 - Q1 / (Q1 + m U))^h], with U unseen features and Q1 features seen in
    exactly one of the m samples (Colwell et al. 2012, Journal of Plant Ecology 5, equation 18).
    Trust it up to about twice the samples.

    Args:
        counts: Samples in which each feature is active.
        n_samples: Number of samples m.
        n_more: Numbers of further samples h, at least 0.
        unseen: Unseen features U; those of `chao2` by default.
    """
    seen = int(np.count_nonzero(counts))
    unseen = chao2(counts, n_samples) - seen if unseen is None else unseen
    if unseen <= 0:
        return np.full(n_more.size, float(seen))
    once = int(np.count_nonzero(counts == 1))
    kept = 1.0 - once / (once + n_samples * unseen)
    expected: Float64[np.ndarray, " n_sizes"] = seen + unseen * (1.0 - kept**n_more)
    return expected


def samples_to_reach(
    counts: Int64[np.ndarray, " n_features"], n_samples: int, *, share: float = 0.95
) -> float | None:
    """Further samples of this kind until a share of the source's features is expected to be seen.

    The h at which `extrapolated_richness` reaches `share` of `chao2` (Chao et al. 2009, Ecology
    90). Chao2 is a lower bound, so this is one too.

    Returns:
        A number of samples, 0 when the share is reached; None when nothing is active, or when no
        feature is seen twice, so that nothing can be said.
    """
    seen = int(np.count_nonzero(counts))
    total = chao2(counts, n_samples)
    if not seen or not (counts > 1).any():
        return None
    if seen >= share * total:
        return 0.0
    once = int(np.count_nonzero(counts == 1))
    unseen = total - seen
    kept = 1.0 - once / (once + n_samples * unseen)
    return float(np.ceil(np.log((1.0 - share) * total / unseen) / np.log(kept) - 1e-9))


def good_turing_coverage(counts: Int64[np.ndarray, " n_features"]) -> float:
    """Share of the source's firings that belong to features already seen.

    1 - Q1 / Σ_i c_i (Good 1953, Biometrika 40). Near 1, more samples of the same source bring
    few new features.

    Returns:
        A fraction in [0, 1]; 0 when nothing is active.
    """
    total = int(counts.sum())
    return 1.0 - int(np.count_nonzero(counts == 1)) / total if total else 0.0

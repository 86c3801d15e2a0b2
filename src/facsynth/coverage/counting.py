"""Counts how often each feature of an SAE fires on some text; see `facsynth.coverage.reference`."""

from collections.abc import Sequence

import numpy as np

from facsynth.coverage.fac import firing_counts
from facsynth.coverage.reference import PROFILE_THRESHOLDS, ReferenceProfile
from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel
from facsynth.models.tokens import Score
from facsynth.progress import SILENT, Progress
from facsynth.records import FeatureActivations, Sample
from facsynth.sae.module import SparseAutoencoder
from facsynth.table.extract import extract_features, table_source
from facsynth.table.reading import ExtractSettings
from facsynth.table.table import TableSource

__all__ = ["profile_rows", "profile_sae"]

N_QUANTILES = 21


def profile_sae(
    lm: LanguageModel,
    sae: SparseAutoencoder,
    samples: Sequence[Sample],
    *,
    score: Score = "all",
    max_length: int = 1024,
    note: str = "",
    progress: Progress = SILENT,
) -> ReferenceProfile:
    """Count the samples that activate each feature of an SAE.

    Args:
        lm: The model that the SAE was trained on.
        sae: The SAE.
        samples: General text; those without scored tokens are left out.
        score: Whose words are scored.
        max_length: Longer samples are cut.
        note: What the text is, in words.
        progress: Where the bar is drawn.

    Raises:
        DataError: No sample has a scored token.
        MismatchError: The SAE does not fit the model.
    """
    settings = ExtractSettings(score=score, max_length=max_length)
    rows = extract_features(samples, lm, sae, settings=settings, progress=progress)
    return profile_rows(rows, table_source(lm, sae, settings), note=note)


def profile_rows(
    rows: FeatureActivations, source: TableSource, *, note: str = ""
) -> ReferenceProfile:
    """The profile of a table that has been extracted.

    Args:
        rows: Its rows; those without scored tokens are left out.
        source: How it was extracted, by the SAE's own gate and the largest activation.
        note: What the text is, in words.

    Raises:
        DataError: No sample has a scored token, or another gate or pooling was used.
    """
    if (source.gate, source.pooling) != ("sae", "max"):
        raise DataError(
            f"the table was extracted with gate {source.gate} and pooling {source.pooling}; a "
            "profile counts by the SAE's own gate and the largest activation"
        )
    lengths = rows.n_tokens[rows.n_tokens > 0]
    if not lengths.size:
        raise DataError(
            f"none of the {rows.n_tokens.size} samples has scored tokens to count features on"
        )
    peaks = np.zeros(rows.n_features)
    np.maximum.at(peaks, rows.feature_ids, rows.values)
    quantiles = np.quantile(lengths, np.linspace(0, 1, N_QUANTILES), method="nearest")
    return ReferenceProfile(
        thresholds=PROFILE_THRESHOLDS,
        sample_counts=np.stack([firing_counts(rows, threshold=t) for t in PROFILE_THRESHOLDS]),
        max_activations=peaks,
        n_samples=int(lengths.size),
        n_tokens=int(lengths.sum()),
        length_quantiles=tuple(int(q) for q in quantiles),
        sae_hash=source.sae_hash,
        model_hash=source.model_hash,
        score=source.score,
        max_length=source.max_length,
        source=note,
    )

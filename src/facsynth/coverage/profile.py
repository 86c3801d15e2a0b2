"""Reference profiles: how often each feature of an SAE fires on general text.

A profile holds counts only, so an SAE can carry it (`reference.npz` beside its weights) and every
user has something to compare with. It knows how many samples fire a feature, not which.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from facsynth.coverage.variants import THRESHOLDS
from facsynth.data.stored import read_arrays
from facsynth.errors import DataError
from facsynth.folders import atomic_path
from facsynth.models.default_model import default_sae_folder
from facsynth.models.lm import LanguageModel
from facsynth.progress import SILENT, Progress
from facsynth.records import FeatureActivations, Sample
from facsynth.sae.module import SparseAutoencoder
from facsynth.table.active import active_rows
from facsynth.table.extract import extract_features, table_source
from facsynth.table.manifest import TableSource
from facsynth.table.settings import ExtractSettings

__all__ = [
    "PROFILE_FILE",
    "PROFILE_THRESHOLDS",
    "ReferenceProfile",
    "profile_rows",
    "profile_sae",
    "read_profile",
    "write_profile",
]

PROFILE_FILE = "reference.npz"

PROFILE_THRESHOLDS = (*THRESHOLDS, 8.0)
"""Thresholds at which a profile counts: the grid of arXiv 2602.10388, Figure 6, and one above it,
because a few hundred texts of usual length saturate the grid."""

_ARRAYS = ("sample_counts", "max_activations")


@dataclass(frozen=True)
class ReferenceProfile:
    """Firing counts of an SAE's features over general text."""

    thresholds: tuple[float, ...]
    """Ascending, in SAE units."""

    sample_counts: Int64[np.ndarray, "n_thresholds n_features"]
    """Samples that activate each feature above each threshold."""

    max_activations: Float64[np.ndarray, " n_features"]
    n_samples: int
    n_tokens: int
    sae_hash: str
    model_hash: str
    score: str
    """Whose words were scored, as in a feature table."""

    max_length: int
    """Tokens at which samples were cut."""

    source: str = ""
    """What the text was, in words."""

    names: tuple[str, ...] = ()
    """A name of each feature, by text that need not be that of the counts; empty where there is
    none."""

    @property
    def n_features(self) -> int:
        """Width of the SAE."""
        return int(self.sample_counts.shape[1])

    def counts(self, threshold: float) -> Int64[np.ndarray, " n_features"]:
        """Samples that activate each feature above one of the profile's thresholds.

        Raises:
            DataError: The profile was not counted at this threshold.
        """
        for index, value in enumerate(self.thresholds):
            if np.isclose(value, threshold):
                counts: Int64[np.ndarray, " n_features"] = self.sample_counts[index]
                return counts
        known = ", ".join(f"{value:g}" for value in self.thresholds)
        raise DataError(
            f"the reference profile has no counts at threshold {threshold:g}; choose one of {known}"
        )


def profile_sae(
    lm: LanguageModel,
    sae: SparseAutoencoder,
    samples: Sequence[Sample],
    *,
    settings: ExtractSettings | None = None,
    note: str = "",
    progress: Progress = SILENT,
) -> ReferenceProfile:
    """Count the samples that activate each feature of an SAE.

    Args:
        lm: The model that the SAE was trained on.
        sae: The SAE.
        samples: General text; those without scored tokens are left out.
        settings: How they are read.
        note: What the text is, in words.
        progress: Shows a bar.

    Raises:
        DataError: No sample has a scored token, or another gate or pooling is set.
        MismatchError: The SAE does not fit the model.
    """
    settings = settings or ExtractSettings()
    rows = extract_features(samples, lm, sae, settings=settings, progress=progress)
    return profile_rows(rows, table_source(lm, sae, settings), note=note)


def profile_rows(
    rows: FeatureActivations, source: TableSource, *, note: str = ""
) -> ReferenceProfile:
    """The profile of a table that has been extracted.

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
    return ReferenceProfile(
        thresholds=PROFILE_THRESHOLDS,
        sample_counts=np.stack(
            [active_rows(rows, threshold=value).counts for value in PROFILE_THRESHOLDS]
        ),
        max_activations=active_rows(rows, threshold=0.0).peaks.astype(np.float64),
        n_samples=int(lengths.size),
        n_tokens=int(lengths.sum()),
        sae_hash=source.sae_hash,
        model_hash=source.model_hash,
        score=source.score,
        max_length=source.max_length,
        source=note,
    )


def write_profile(profile: ReferenceProfile, path: str | Path) -> None:
    """Write a profile; counts as unsigned integers, activations as float16, facts as JSON.

    Raises:
        SpaceError: The file cannot be written.
    """
    facts = {f.name: getattr(profile, f.name) for f in fields(profile) if f.name not in _ARRAYS}
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            sample_counts=profile.sample_counts.astype(np.uint32),
            max_activations=profile.max_activations.astype(np.float16),
            facts=np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8),
        )


def read_profile(path: str | Path | None = None) -> ReferenceProfile:
    """Read a profile from its file, or from the folder of its SAE; by default the embedded one.

    Raises:
        DataError: There is none, or it cannot be read.
    """
    path = default_sae_folder() if path is None else Path(path)
    path = path / PROFILE_FILE if path.is_dir() else path
    if not path.is_file():
        raise DataError(
            f"there is no reference profile {path}; `fac sae profile SAE DATA` counts one on text "
            "of your choice, or pass a feature table as --anchor"
        )
    try:
        held = read_arrays(path, what="a reference profile")
        facts: dict[str, Any] = json.loads(held["facts"].tobytes())
        facts["thresholds"] = tuple(facts["thresholds"])
        facts["names"] = tuple(facts.get("names", ()))
        return ReferenceProfile(
            sample_counts=held["sample_counts"].astype(np.int64),
            max_activations=held["max_activations"].astype(np.float64),
            **facts,
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is not a reference profile: {error}") from error

"""References on disk: `reference.npz` beside an SAE's weights, and published densities."""

import json
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from facsynth.coverage.density import DensityProfile
from facsynth.coverage.reference import ReferenceProfile
from facsynth.data.read import json_lines
from facsynth.data.write import atomic_path
from facsynth.errors import DataError

__all__ = ["PROFILE_FILE", "read_densities", "read_profile", "write_profile"]

PROFILE_FILE = "reference.npz"
_ARRAYS = ("sample_counts", "max_activations")
_SPARSITY_FLOOR = 1e-10
"""SAELens adds it before it takes the logarithm; a feature there never fired."""


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


def read_profile(path: str | Path) -> ReferenceProfile:
    """Read a profile; a folder is taken for that of an SAE.

    Raises:
        DataError: There is none, or it cannot be read.
    """
    path = Path(path)
    path = path / PROFILE_FILE if path.is_dir() else path
    if not path.is_file():
        raise DataError(
            f"there is no reference profile {path}; `fac sae profile SAE DATA` counts one on text "
            "of your choice, or pass a feature table as --anchor"
        )
    try:
        with np.load(path, allow_pickle=False) as held:
            facts: dict[str, Any] = json.loads(held["facts"].tobytes())
            for name in ("thresholds", "length_quantiles"):
                facts[name] = tuple(facts[name])
            return ReferenceProfile(
                sample_counts=held["sample_counts"].astype(np.int64),
                max_activations=held["max_activations"].astype(np.float64),
                **facts,
            )
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a reference profile: {error}") from error


def read_densities(path: str | Path, n_features: int) -> DensityProfile:
    """Read shares of tokens that activate each feature, as Neuronpedia or SAELens writes them.

    Neuronpedia's rows hold the feature as `index` (or `feature_id`), its share as `frac_nonzero`,
    and perhaps its largest activation as `maxActApprox`; everything else is left alone. SAELens'
    `sparsity.safetensors`, beside the weights of many public SAEs, holds log10(share + 1e-10).

    Args:
        path: A `.jsonl` or `.jsonl.gz` file, a folder of them (`features/` of an export), or a
            `.safetensors` file.
        n_features: Width of the SAE; features without a row count as silent.

    Raises:
        DataError: There is no such row, a row is of another form, or a feature does not exist.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return _read_sparsity(path, n_features)
    files = sorted(path.glob("*.jsonl*")) if path.is_dir() else [path]
    densities, largest = np.zeros(n_features), np.zeros(n_features)
    n_rows = 0
    for place, row in (line for file in files for line in json_lines(file)):
        try:
            feature = int(row["index"] if "index" in row else row["feature_id"])
            share, most = float(row["frac_nonzero"]), float(row.get("maxActApprox") or 0.0)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{place}: expected an object with index and frac_nonzero ({error!r})"
            ) from error
        if not 0 <= feature < n_features or not 0 <= share <= 1:
            raise DataError(
                f"{place}: feature {feature} with frac_nonzero {share:g}; the SAE has the features "
                f"0 to {n_features - 1}, and shares lie in 0..1"
            )
        densities[feature], largest[feature] = share, most
        n_rows += 1
    if not n_rows:
        raise DataError(f"{path} holds no densities; expected rows with index and frac_nonzero")
    return DensityProfile(densities, largest, f"{path.name}, {n_rows:,} features")


def _read_sparsity(path: Path, n_features: int) -> DensityProfile:
    """`sparsity.safetensors` of SAELens (`_log_feature_sparsity` of its trainer)."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        logs = load_file(path)["sparsity"].astype(np.float64)
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"{path} holds no tensor `sparsity` ({error!r})") from error
    if logs.shape != (n_features,) or not (logs <= 1e-6).all():
        raise DataError(
            f"{path}: expected log10 of the shares of {n_features} features, at most 0, and found "
            f"{logs.shape} values, the largest {logs.max(initial=-np.inf):g}"
        )
    densities = np.clip(10.0**logs - _SPARSITY_FLOOR, 0.0, 1.0)
    densities[densities < _SPARSITY_FLOOR] = 0.0
    return DensityProfile(densities, np.zeros(n_features), f"{path.name}, {n_features:,} features")

"""Reference profiles on disk: `reference.npz` beside an SAE's weights."""

import json
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from facsynth.coverage.reference import ReferenceProfile
from facsynth.data.write import atomic_path
from facsynth.errors import DataError

__all__ = ["PROFILE_FILE", "read_profile", "write_profile"]

PROFILE_FILE = "reference.npz"
_ARRAYS = ("sample_counts", "max_activations")


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

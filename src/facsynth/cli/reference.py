"""The reference profile as an anchor: where it lies, and its results as a coverage row."""

from pathlib import Path
from typing import Any

from facsynth.errors import MismatchError

__all__ = ["against_densities", "against_profile"]


def _load_profile(path: Path | None, source: Any) -> Any:
    """The profile in a file, or beside the SAE that extracted a table, be it the shipped one.

    Args:
        path: File of the profile; None takes that of the SAE.
        source: `TableSource` of the table that is to be measured.

    Raises:
        DataError: There is no profile.
        MismatchError: It belongs to another SAE or other scored words.
    """
    from facsynth.coverage.profile import read_profile
    from facsynth.models.default_model import default_sae_folder

    if path is None:
        named = source.sae_name and Path(source.sae_name).exists()
        path = Path(source.sae_name) if named else default_sae_folder()
    profile = read_profile(path)
    for name in ("sae_hash", "model_hash", "score"):
        mine, theirs = getattr(profile, name), getattr(source, name)
        if mine != theirs:
            raise MismatchError(
                f"the reference profile {path} and the table do not compare: {name} is "
                f"{mine[:12]} and {theirs[:12]}; count a profile with the same SAE, model and "
                "--score (`fac sae profile`)"
            )
    return profile


def against_profile(
    path: Path | None, source: Any, seed: Any, relevant: Any, threshold: float
) -> tuple[dict[str, Any], Any]:
    """`ReferenceCoverage` under the keys of `coverage_row`, and rows of the missing features."""
    from dataclasses import asdict

    from facsynth.coverage.reference import measure_reference

    profile = _load_profile(path, source)
    found = measure_reference(profile, seed, relevant=relevant, threshold=threshold)
    close, counts = found.representativeness, profile.counts(threshold)
    row = {
        **_common_row("reference", profile, found, seed),
        "threshold": found.threshold,
        "sweep": [asdict(point) for point in found.sweep],
        "representativeness": asdict(close) if close else None,
    }
    row["controls"] |= {
        "random_subset": found.random_subset,
        "random_hellinger": found.random_hellinger,
    }
    row["n_samples"]["anchor"], row["n_tokens"]["anchor"] = profile.n_samples, profile.n_tokens
    return row, _missing_rows(profile, found, "n_anchor_samples", counts)


def against_densities(
    path: Path, seed: Any, relevant: Any, threshold: float
) -> tuple[dict[str, Any], Any]:
    """The same of `DensityCoverage`; the anchor has no sizes either."""
    from facsynth.coverage.density import measure_densities
    from facsynth.coverage.profile import read_densities

    profile = read_densities(path, seed.n_features)
    found = measure_densities(profile, seed, relevant=relevant, threshold=threshold)
    row = {
        **_common_row("densities", profile, found, seed),
        "threshold": 0.0,
        "sweep": [],
        "representativeness": {"hellinger": found.hellinger},
    }
    row["controls"]["independent_tokens"] = found.independent_tokens
    return row, _missing_rows(profile, found, "token_share", profile.densities)


def _common_row(kind: str, profile: Any, found: Any, seed: Any) -> dict[str, Any]:
    """What both references tell; what neither can is None."""
    from dataclasses import asdict

    names = ("fac", "n_relevant", "n_anchor", "n_covered", "n_missing")
    unknown = ("random_subset", "random_hellinger", "length_matched", "frequency_matched")
    return {
        "anchor": kind,
        "reference": profile.source,
        **{name: getattr(found, name) for name in names},
        "weighted": {"frequency": found.frequency_weighted, "magnitude": None},
        "interval": asdict(found.interval),
        "richness": {"seed": asdict(found.richness), "anchor": None},
        "controls": {**dict.fromkeys(unknown), "warnings": list(found.warnings)},
        "n_samples": {"anchor": None, "seed": int(seed.n_tokens.size)},
        "n_tokens": {"anchor": None, "seed": int(seed.n_tokens.sum())},
    }


def _missing_rows(profile: Any, found: Any, name: str, rates: Any) -> Any:
    return (
        {
            "feature_id": int(f),
            name: rates[f].item(),
            "max_activation": float(profile.max_activations[f]),
        }
        for f in found.missing
    )

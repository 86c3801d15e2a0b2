"""The reference profile as an anchor: where it lies, and its results as a coverage row."""

from pathlib import Path
from typing import Any

from facsynth.errors import MismatchError

__all__ = ["load_profile", "reference_row"]


def load_profile(path: Path | None, source: Any) -> Any:
    """The profile in a file, or beside the SAE that extracted a table.

    Args:
        path: File of the profile; None looks beside the SAE.
        source: `TableSource` of the table that is to be measured.

    Raises:
        DataError: There is no profile.
        MismatchError: It belongs to another SAE or other scored words.
    """
    from facsynth.features.default_model import EMBEDDED_SAE, default_sae_folder
    from facsynth.store.profile import read_profile

    if path is None:
        path = default_sae_folder() if source.sae_name == EMBEDDED_SAE else Path(source.sae_name)
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


def reference_row(profile: Any, found: Any, seed: Any) -> dict[str, Any]:
    """`ReferenceCoverage` under the keys of `coverage_row`; what it lacks is None."""
    from dataclasses import asdict

    close = found.representativeness
    return {
        "anchor": "reference",
        "reference": profile.source,
        **{
            name: getattr(found, name)
            for name in ("fac", "n_relevant", "n_anchor", "n_covered", "n_missing", "threshold")
        },
        "weighted": {"frequency": found.frequency_weighted, "magnitude": None},
        "sweep": [asdict(point) for point in found.sweep],
        "interval": asdict(found.interval),
        "richness": {"seed": asdict(found.richness), "anchor": None},
        "representativeness": asdict(close) if close else None,
        "controls": {
            "random_subset": found.random_subset,
            "random_hellinger": found.random_hellinger,
            "length_matched": None,
            "frequency_matched": None,
            "warnings": list(found.warnings),
        },
        "n_samples": {"anchor": profile.n_samples, "seed": int(seed.n_tokens.size)},
        "n_tokens": {"anchor": profile.n_tokens, "seed": int(seed.n_tokens.sum())},
    }

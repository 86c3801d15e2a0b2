"""Whether two feature tables can be compared."""

from facsynth.errors import MismatchError
from facsynth.table.table import FeatureTable

__all__ = ["check_same_features", "precision_remark"]

_COMPARED = (
    *("model_hash", "sae_hash", "n_features", "layer", "gate", "pooling", "score"),
    "score_reasoning",
)


def check_same_features(one: FeatureTable, other: FeatureTable) -> None:
    """Raise a MismatchError unless both tables speak of the same features."""
    for name in _COMPARED:
        a, b = getattr(one.manifest.source, name), getattr(other.manifest.source, name)
        if a != b:
            raise MismatchError(
                f"{one.folder} and {other.folder} do not compare: {name} is {_short(a)} in the "
                f"first and {_short(b)} in the second; run `fac extract` again with the same "
                "--model, --sae, --gate, --pooling, --score and --score-reasoning"
            )


def precision_remark(one: FeatureTable, other: FeatureTable) -> str:
    """What to say of two tables that were made in different precisions; empty if they were not."""
    a, b = one.manifest.source.dtype, other.manifest.source.dtype
    if not a or not b or a == b:
        return ""
    return (
        f"{one.folder} was extracted in {a} and {other.folder} in {b}: features near the threshold "
        "can differ by rounding; run `fac extract` again with the same --dtype"
    )


def _short(value: object) -> str:
    text = str(value)
    return text[:12] + "…" if len(text) > 40 else text

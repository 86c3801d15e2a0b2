"""What a report shows. Imports nothing heavy: the command reads it for help."""

from dataclasses import dataclass

from facsynth.errors import DataError
from facsynth.settings import Settings, check_threshold

__all__ = ["ReportSettings"]


@dataclass(frozen=True)
class ReportSettings(Settings):
    """How much a report shows."""

    threshold: float | None = None
    """Activation above which a feature is active, in SAE units. A run brings its own; by default
    chosen from the anchor, as `fac coverage` does, or from a table alone."""

    max_features: int = 10_000
    """Features on the page, the most frequent first; the page says how many it leaves out."""

    max_samples: int = 5_000
    """Samples on the page: written ones, rejected ones, the seed, then the anchor."""

    spans: int = 6
    """Spans shown for each feature, strongest first."""

    context_tokens: int = 14
    """Tokens on each side of a span's peak, at most."""

    tested: int = 400
    """Features whose names are tested and that get near misses, unless explanations are given."""

    paint: bool = False
    """Run the model over the shown texts, to colour every token by activation."""

    map: bool = True
    """Lay samples and features out in two dimensions."""

    sensitive: bool = False
    """Blur texts and names until they are clicked; a run of a sensitive task does so itself."""

    model: str | None = None
    """Model that extracted the tables; by default the one that they name."""

    sae: str | None = None
    """SAE that extracted the tables; by default the one that they name."""

    random_seed: int = 0
    """Random seed of the controls and of the map."""

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        if min(self.max_features, self.spans, self.context_tokens) < 1 or self.max_samples < 0:
            raise DataError("a report needs at least one feature, span and token of context")

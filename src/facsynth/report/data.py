"""The records that a report shows; the page computes nothing that they could hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from facsynth.show import TextTable, as_html

__all__ = [
    "SETS",
    "Chart",
    "Credit",
    "FeatureEntry",
    "Lane",
    "Near",
    "Panel",
    "Part",
    "Report",
    "SampleEntry",
    "ShownSpan",
    "ShownText",
    "Status",
    "TopicEntry",
]

Status = Literal["covered", "filled", "missing", "extra", "uncounted", "active"]
"""Of a feature: active in anchor and seed; in anchor and synthetic samples; in the anchor only; not
in the anchor; judged irrelevant; active, where there is one table only."""

SETS = ("anchor", "seed", "synthetic", "rejected")
"""The kinds of samples, in the order of every list of counts."""

Place = tuple[float, float]
"""A point of the map, both coordinates in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One value of a panel, with its interval or range."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    kind: Literal["anchor", "seed", "synthetic", "control"] = "control"
    """Decides colour and shape."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A measure with its controls."""

    title: str
    hint: str
    """How to read it, in one sentence."""

    lanes: tuple[Lane, ...]
    is_share: bool = True
    """Shown in percent, else with three decimals."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with its values."""

    title: str
    hint: str
    svg: str
    """Markup that holds escaped text only."""

    values: TextTable


@dataclass(frozen=True, slots=True)
class ShownText:
    """A text and where its tokens end."""

    text: str
    lengths: tuple[int, ...]
    """Characters of each token, as JavaScript counts them; empty where tokens are not known."""


@dataclass(frozen=True, slots=True)
class ShownSpan:
    """Part of a text around the token at which a feature is most active."""

    text: int
    """Place in `Report.texts`."""

    first: int
    """First token of the span."""

    n_tokens: int
    peak: int
    """The token with the largest activation, counted from the first one of the text."""

    activation: float
    """In SAE units; 0 of a near miss."""

    paint: str = ""
    """One digit per token, 9 for the feature's largest activation; empty where it is unknown."""

    sample: int | None = None
    """Place in `Report.samples` where its sample is listed."""


@dataclass(frozen=True, slots=True)
class Near:
    """A feature that is like another one."""

    feature_id: int
    cosine: float | None
    """Of the decoder directions; None without the SAE."""

    shared: float
    """Samples with both, of those with at least one."""


@dataclass(frozen=True, slots=True)
class FeatureEntry:
    """All that the page says about one feature."""

    feature_id: int
    name: str
    status: Status
    counts: tuple[int, ...]
    """Samples of each set that activate it, in the order of `SETS`."""

    max_activation: float
    """Largest activation in any set, in SAE units."""

    histogram: tuple[tuple[int, ...], ...]
    """For each set, samples by activation: equal bins from 0 to `max_activation`."""

    spans: tuple[ShownSpan, ...] = ()
    misses: tuple[ShownSpan, ...] = ()
    """Text that shares the feature's words and does not activate it."""

    method: str = "peaks"
    """Where the name comes from: `peaks` (untested), `terms`, `llm` or `imported`."""

    balanced_accuracy: float | None = None
    """How well the name tells spans from near misses, 0.5 is a guess; None where untested."""

    is_doubtful: bool = False
    grade: str | None = None
    """What the judge of relevance said."""

    reason: str = ""
    """Why."""

    topic: int | None = None
    """Place in `Report.topics`."""

    neighbours: tuple[Near, ...] = ()
    shift: float | None = None
    """z of the log odds of firing in the seed against the anchor; None without a seed."""

    place: Place | None = None


@dataclass(frozen=True, slots=True)
class TopicEntry:
    """Features that are alike."""

    name: str
    n_samples: int
    """Samples of the anchor that activate at least one of them."""

    counts: Mapping[str, int]
    """Features by status."""

    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One turn of a sample."""

    role: str
    texts: tuple[int, ...]
    """Places in `Report.texts`, in reading order."""


@dataclass(frozen=True, slots=True)
class Credit:
    """A feature that a sample activates."""

    feature_id: int
    activation: float
    text: int | None = None
    """Where its peak is, in `Report.texts`."""

    peak: int | None = None
    """The token there."""

    paint: Mapping[int, str] | None = None
    """Digits of each text of the sample; see `ShownSpan.paint`."""


@dataclass(frozen=True, slots=True)
class SampleEntry:
    """One sample."""

    sample_id: str
    kind: Literal["anchor", "seed", "synthetic", "rejected"]
    parts: tuple[Part, ...]
    n_tokens: int | None = None
    credits: tuple[Credit, ...] = ()
    """Of a written sample the missing features that it activates; of the seed those that no other
    sample of the seed does; else its strongest."""

    n_active: int | None = None
    """Features that it activates."""

    target: int | None = None
    """Feature that it was written for."""

    facts: tuple[tuple[str, str], ...] = ()
    """Step, round, generator and the like."""

    reason: str = ""
    """Why it was rejected."""

    place: Place | None = None


@dataclass(frozen=True)
class Report:
    """Everything that one page, or one run on a page of several, shows."""

    title: str
    reading: tuple[str, ...]
    """What the numbers mean, and what to do next."""

    facts: tuple[tuple[str, str], ...] = ()
    """Label and value, shown at the top."""

    sizes: Mapping[str, tuple[int, int]] | None = None
    """Samples and tokens of each set."""

    panels: tuple[Panel, ...] = ()
    charts: tuple[Chart, ...] = ()
    details: tuple[TextTable, ...] = ()
    """Further numbers, below a fold."""

    notes: tuple[str, ...] = ()
    """Warnings, and what is not on the page."""

    threshold: float = 0.0
    threshold_rule: str | None = None
    """How it was chosen; None where it was given."""

    features: tuple[FeatureEntry, ...] = ()
    topics: tuple[TopicEntry, ...] = ()
    samples: tuple[SampleEntry, ...] = ()
    texts: tuple[ShownText, ...] = ()
    left_out: Mapping[str, int] | None = None
    """Features and samples that are not on the page, by what they are."""

    unpainted: str = ""
    """Why tokens have no colours; empty where they have."""

    feature_link: str = ""
    """Address of a page on a feature elsewhere, `{id}` for its number; empty if unknown."""

    is_sensitive: bool = False

    def row(self) -> dict[str, Any]:
        """What the page shows, in counts, under stable keys."""
        kinds: list[str] = [sample.kind for sample in self.samples]
        return {
            "title": self.title,
            "reading": list(self.reading),
            "n_features": len(self.features),
            "n_topics": len(self.topics),
            "n_samples": {kind: kinds.count(kind) for kind in SETS},
            "left_out": dict(self.left_out or {}),
            "is_painted": not self.unpainted,
            "is_sensitive": self.is_sensitive,
            "threshold": self.threshold,
            "threshold_rule": self.threshold_rule,
            "panels": {
                panel.title: {lane.name: lane.value for lane in panel.lanes}
                for panel in self.panels
            },
        }

    def tables(self) -> Sequence[TextTable]:
        """The panels of the page as one table."""
        rows = [
            (f"{panel.title}: {lane.name}", lane.value)
            for panel in self.panels
            for lane in panel.lanes
        ]
        rule = f": {self.threshold_rule}" if self.threshold_rule else ""
        counts = [
            (f"threshold δ{rule}", self.threshold),
            ("features on the page", len(self.features)),
            ("samples on the page", len(self.samples)),
        ]
        note = " ".join(self.reading)
        return [TextTable(f"Report of {self.title}", ("what", "value"), [*rows, *counts], note)]

    _repr_html_ = as_html

"""A first look at a data set: what it is about, and what is odd in it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from facsynth.compare.oddities import Oddity, find_oddities
from facsynth.coverage.fac import Topic
from facsynth.coverage.profile import ReferenceProfile
from facsynth.coverage.reference import measure_reference
from facsynth.coverage.representative import log_odds
from facsynth.coverage.result import Coverage, around_peak
from facsynth.show import TextTable, as_html, percent
from facsynth.table.active import active_rows
from facsynth.table.table import FeatureTable
from facsynth.understand.missing import find_topics
from facsynth.understand.names import count_terms
from facsynth.understand.spans import ReadTable, collect_spans

__all__ = ["Look", "Standout", "look_at"]

N_GROUPED = 300
"""Features that stand out most and are sorted into topics."""

N_SHOWN = 12
"""Topics that people see."""

LEAST_SHARE = 0.02
"""What fewer of the samples have is no trait of the data set."""


@dataclass(frozen=True)
class Standout:
    """A topic that the data set is about more than general text is."""

    topic: Topic
    """Its samples are those of the data set."""

    share: float
    """Share of the samples that activate its most telling feature, in [0, 1]."""

    reference_share: float
    """The same share of general text."""


@dataclass(frozen=True)
class Look:
    """What a data set is about and what is odd in it, before it is compared with anything."""

    n_samples: int
    n_tokens: int
    """Scored tokens."""

    median_tokens: int
    """Scored tokens of the sample in the middle."""

    oddities: tuple[Oddity, ...]
    """What is odd in its text, that of most samples first."""

    standouts: tuple[Standout, ...]
    """What it is about more than general text is, the most telling first."""

    coverage: Coverage
    """Measured against general text."""

    def row(self) -> dict[str, Any]:
        """All of it under stable keys."""
        return {
            "n_samples": self.n_samples,
            "n_tokens": self.n_tokens,
            "median_tokens": self.median_tokens,
            "oddities": [one.row() for one in self.oddities],
            "standouts": [
                one.topic.row() | {k: v for k, v in asdict(one).items() if k != "topic"}
                for one in self.standouts
            ],
            "coverage": self.coverage.row(),
        }

    def tables(self) -> Sequence[TextTable]:
        """What is odd, then what the data set is about."""
        title = (
            f"{self.n_samples:,} samples, {self.n_tokens:,} scored tokens, {self.median_tokens:,} "
            f"in the middle one. {self.sentence()}"
        )
        odd = [
            (percent(one.n_samples / one.n_all), one.what, repr(one.example)[1:-1])
            for one in self.oddities
        ]
        about = [
            (
                one.topic.name,
                percent(one.share),
                percent(one.reference_share),
                str(one.topic.feature_ids[0]),
                around_peak(one.topic.example),
            )
            for one in self.standouts[:N_SHOWN]
        ]
        columns = ("more than general text", "here", "there", "feature", "strongest example")
        rows = odd or [("–", "nothing", "–")]
        return [
            TextTable(title, ("odd", "in its text", "for example"), rows),
            TextTable("What it is about", columns, about),
        ]

    def sentence(self) -> str:
        """What was found, in a sentence or two."""
        about = [one.topic.name for one in self.standouts[:3]]
        said = f"It is about: {'; '.join(about)}." if about else "Nothing in it stands out."
        odd = [one for one in self.oddities if one.n_samples >= LEAST_SHARE * one.n_all][:3]
        broken = [f"{percent(one.n_samples / one.n_all)} of {one.what}" for one in odd]
        return f"{said} Odd: {'; '.join(broken)}." if broken else said

    _repr_html_ = as_html


def look_at(
    table: FeatureTable,
    profile: ReferenceProfile,
    tokenizer: Any,
    decoder: Float32[np.ndarray, "n_features d_model"],
    *,
    oddities: Sequence[Oddity] | None = None,
) -> Look:
    """Say what a data set is about and what is odd in it.

    Args:
        table: The data set.
        profile: Counts of general text, of the same SAE.
        tokenizer: Tokenizer of the model that extracted the table.
        decoder: The directions of the SAE.
        oddities: What is odd in its text, where that was found before.

    Raises:
        DataError: The table has no samples.
        MismatchError: Table and profile do not belong together.
    """
    found = measure_reference(profile, table)
    samples = table.samples()
    active = active_rows(table, threshold=found.threshold)
    theirs = profile.counts(found.threshold)
    _, z = log_odds(active.counts, theirs)
    common = active.counts >= max(2, LEAST_SHARE * active.n_samples)
    ranked = np.argsort(-np.where(common, z, -np.inf), kind="stable")[:N_GROUPED]
    ranked = ranked[common[ranked] & (z[ranked] > 0)]
    read = ReadTable.of(table, tokenizer)
    spans = collect_spans(read, ranked.tolist())
    words = count_terms(samples)
    usual = 2 * active.counts[ranked] > active.n_samples  # else they join what they occur with
    topics = [
        topic
        for part in (ranked[usual], ranked[~usual])
        for topic in find_topics(active, decoder, part.tolist(), spans, words)
    ]
    place = {feature: i for i, feature in enumerate(ranked.tolist())}
    standouts = [
        Standout(
            topic,
            int(active.counts[topic.feature_ids[0]]) / active.n_samples,
            int(theirs[topic.feature_ids[0]]) / profile.n_samples,
        )
        for topic in sorted(topics, key=lambda topic: place[topic.feature_ids[0]])
    ]
    return Look(
        n_samples=active.n_samples,
        n_tokens=int(active.n_tokens.sum()),
        median_tokens=int(np.median(active.n_tokens)),
        oddities=tuple(find_oddities(samples) if oddities is None else oddities),
        standouts=tuple(standouts),
        coverage=found,
    )

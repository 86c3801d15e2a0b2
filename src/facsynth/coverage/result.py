"""What a coverage measurement found: one row for machines, tables for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from facsynth.coverage.controls import Controls, Draws
from facsynth.coverage.curves import CurvePoint
from facsynth.coverage.fac import MissingFeature, Topic
from facsynth.coverage.hidden import HiddenCloseness
from facsynth.coverage.interval import Interval
from facsynth.coverage.off_task import ClassCoverage
from facsynth.coverage.representative import FiringShift, Representativeness
from facsynth.coverage.richness import Richness, RichnessComparison
from facsynth.coverage.variants import SweepPoint
from facsynth.show import TextTable, as_html, percent

__all__ = ["N_SHIFTS", "Coverage", "around_peak"]

T = TypeVar("T", FiringShift, MissingFeature)

N_SHIFTS = 10
"""Features that are shown as firing too much, and too little."""


@dataclass(frozen=True)
class Coverage:
    """FAC of a seed against an anchor or a reference profile, with all that is needed to read it.

    What a profile cannot tell is None.
    """

    fac: float
    """`n_covered / n_anchor`, in [0, 1]."""

    n_relevant: int
    """Features marked as relevant, active or not."""

    n_anchor: int
    """Relevant features active in the anchor."""

    n_covered: int
    n_missing: int
    """Relevant features active in the anchor and not in the seed."""

    n_seed_only: int
    """Relevant features active in the seed and not in the anchor; FAC leaves them out."""

    threshold: float
    """Activation above which a feature counts as active, in SAE units."""

    threshold_rule: str | None
    """How the threshold was chosen; None where it was given."""

    frequency_weighted: float
    magnitude_weighted: float | None
    sweep: tuple[SweepPoint, ...]
    interval: Interval
    richness: RichnessComparison
    """Holds the numbers of samples and tokens of both sets."""

    representativeness: Representativeness | None
    """None when the seed activates no relevant feature, so that its shares are undefined."""

    controls: Controls
    missing: tuple[MissingFeature, ...]
    """The missing features: those of most anchor samples first."""

    topics: tuple[Topic, ...] = ()
    """Groups of missing features that are alike, those of most anchor samples first; empty unless
    they were named."""

    by_class: tuple[ClassCoverage, ...] = ()
    """Coverage of the features of each class of the anchor; empty without labels."""

    hidden: HiddenCloseness | None = None
    """Distance between mean hidden states; None unless both tables keep them."""

    curves: Mapping[str, tuple[CurvePoint, ...]] | None = None
    """Features seen against samples, of `anchor` and `seed`; None unless they were asked for."""

    reference: str | None = None
    """The text that the profile was counted on; None against an anchor."""

    def named(
        self, names: Mapping[int, tuple[str, str | None]], topics: Sequence[Topic] = ()
    ) -> "Coverage":
        """The same with the names and examples of listed features, and with topics."""
        close = self.representativeness
        if close:
            over, under = _named(close.over_fired, names), _named(close.under_fired, names)
            close = replace(close, over_fired=over, under_fired=under)
        missing = _named(self.missing, names)
        return replace(self, missing=missing, topics=tuple(topics), representativeness=close)

    def row(self) -> dict[str, Any]:
        """All measures under stable keys, without the list of missing features.

        The keys are the fields, except that the two weighted values are under `weighted`; the
        sizes of both sets are repeated under `n_samples` and `n_tokens`.
        """
        row = asdict(replace(self, missing=(), topics=()))
        del row["missing"]
        row["topics"] = [topic.row() for topic in self.topics]
        row["weighted"] = {
            "frequency": row.pop("frequency_weighted"),
            "magnitude": row.pop("magnitude_weighted"),
        }
        for key in ("n_samples", "n_tokens"):
            row[key] = {side: row["richness"][side][key] for side in ("anchor", "seed")}
        return row

    def tables(self) -> list[TextTable]:
        """The finding in words, then closeness and FAC with controls; all controls if asked for."""
        finding = _finding_table(self)
        more = [_sweep_table(self), *_control_tables(self)] if self.curves is not None else []
        if finding is None:
            return [replace(_main_table(self), note=self.sentence()), *more]
        return [finding, _main_table(self), *more]

    def sentence(self) -> str:
        """What was found, in one or two sentences."""
        return _headline(self)

    _repr_html_ = as_html


def _named(listed: tuple[T, ...], names: Mapping[int, tuple[str, str | None]]) -> tuple[T, ...]:
    texts = (names.get(one.feature_id, (one.name, one.example)) for one in listed)
    return tuple(
        replace(one, name=name, example=example)
        for one, (name, example) in zip(listed, texts, strict=True)
    )


def _main_table(found: Coverage) -> TextTable:
    close, controls, hidden = found.representativeness, found.controls, found.hidden
    anchor, seed = found.richness.anchor, found.richness.seed
    rows: list[tuple[str, object]] = [
        ("closeness: Hellinger distance (0 best)", close and close.hellinger),
        ("  a random anchor subset of that size", controls.random_hellinger),
    ]
    if hidden:
        rows += [
            ("closeness: mean hidden state, in sd (0 best)", hidden.distance),
            ("  random anchor subset of that size", _draws(hidden.random_subset)),
            ("  and of matched lengths", _draws(hidden.length_matched)),
        ]
    rows += [
        ("FAC (1 best)", found.fac),
        ("  random anchor subset of that size", _draws(controls.random_subset)),
        ("  and of matched lengths", _draws(controls.length_matched)),
        ("  frequency-matched other features", _draws(controls.frequency_matched)),
        ("  95 % interval", f"{found.interval.low:.3f} to {found.interval.high:.3f}"),
        ("  weighted by frequency", found.frequency_weighted),
        ("  weighted by magnitude", found.magnitude_weighted),
        ("covered / active in the anchor", f"{found.n_covered:,} / {found.n_anchor:,}"),
        ("missing", found.n_missing),
        ("samples, seed / anchor", f"{seed.n_samples:,} / {anchor.n_samples:,}"),
        ("scored tokens, seed / anchor", f"{seed.n_tokens:,} / {anchor.n_tokens:,}"),
        ("  mean of a sample", f"{_mean_tokens(seed)} / {_mean_tokens(anchor)}"),
    ]
    rule = f" ({found.threshold_rule})" if found.threshold_rule else ""
    title = f"Coverage at threshold {found.threshold:g}{rule}"
    return TextTable(title, ("measure", "value"), rows)


def _sweep_table(found: Coverage) -> TextTable:
    rows = [
        (
            f"{s.threshold:.2f}" + (f" (quantile {s.quantile:g})" if s.quantile else ""),
            s.n_anchor,
            s.n_covered,
            s.fac,
        )
        for s in found.sweep
    ]
    return TextTable("Sweep over the threshold", ("threshold", "anchor", "covered", "FAC"), rows)


def _control_tables(found: Coverage) -> list[TextTable]:
    tables = [_richness_table(found.richness)]
    if found.by_class:
        columns = ("class", "anchor samples", "features", "their mean rate", "covered")
        rows = [(c.label, c.n_samples, c.n_features, c.mean_rate, c.fac) for c in found.by_class]
        tables.append(TextTable("Features that go with each class of the anchor", columns, rows))
    if close := found.representativeness:
        sides = (("more", close.over_fired), ("less", close.under_fired))
        tables += [_shift_table(word, shifts[:N_SHIFTS]) for word, shifts in sides if shifts]
    return tables


def _shift_table(word: str, shifts: Sequence[Any]) -> TextTable:
    named = ("name",) * any(shift.name is not None for shift in shifts)
    return TextTable(
        f"Features that the seed fires {word} than the anchor, first {N_SHIFTS}",
        ("feature", "seed samples", "anchor samples", "log odds", "z", *named),
        [
            (str(s.feature_id), s.n_seed_samples, s.n_anchor_samples)
            + (f"{s.log_odds:+.2f}", f"{s.z:+.1f}", *(s.name for _ in named))
            for s in shifts
        ],
    )


def _richness_table(found: RichnessComparison) -> TextTable:
    sides = (found.seed, found.anchor)
    rows: list[tuple[object, ...]] = [
        ("features seen", *(side.n_seen for side in sides)),
        (
            "estimated in the source (Chao2, a lower bound)",
            *(_whole(side.chao2) for side in sides),
        ),
        ("share of firings of features seen", *(side.sample_coverage for side in sides)),
        (
            "more such samples for 95 % of the estimate",
            *(_whole(side.n_more_for_95) for side in sides),
        ),
        (
            f"features at {found.equal_samples:,} samples",
            _whole(found.seed_at_equal_samples),
            _whole(found.anchor_at_equal_samples),
        ),
    ]
    if found.equal_tokens is not None:
        rows.append(
            (
                f"features at {found.equal_tokens:,} tokens",
                _whole(found.seed_at_equal_tokens),
                _whole(found.anchor_at_equal_tokens),
            )
        )
    return TextTable("Richness", ("measure", "seed", "anchor"), rows)


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _mean_tokens(side: Richness) -> str:
    return f"{side.n_tokens / side.n_samples:.1f}" if side.n_samples else "–"


def _draws(draws: Draws | None) -> object:
    if draws is None or draws.low is None:
        return draws and draws.mean
    return f"{draws.mean:.3f} ({draws.low:.3f} to {draws.high:.3f})"


N_TOPICS, N_SHOWN_SHIFTS = 10, 5
"""Missing topics, and features that fire too much or too little, among the findings."""

_NAME_WIDTH, _EXAMPLE_WIDTH = 42, 20
"""Characters of a finding's cells, so that its table fits 80 columns with two lines for a name."""


def _finding_table(found: Coverage) -> TextTable | None:
    """What is missing or out of proportion, by name; None where nothing is named."""
    anchor, seed = found.richness.anchor.n_samples, found.richness.seed.n_samples
    rows: list[tuple[str, str | None, float, float, str | None]] = [
        ("missing", t.name, 0.0, t.n_anchor_samples / anchor, t.example)
        for t in found.topics[:N_TOPICS]
    ]
    if not found.topics:
        rows += [
            ("missing", m.name, 0.0, m.n_anchor_samples / anchor, m.example)
            for m in found.missing[:N_TOPICS]
        ]
    if close := found.representativeness:
        for what, shifts in (("too much", close.over_fired), ("too little", close.under_fired)):
            rows += [
                (what, s.name, s.n_seed_samples / seed, s.n_anchor_samples / anchor, s.example)
                for s in shifts[:N_SHOWN_SHIFTS]
            ]
    shown = [
        (what, _cut(name, _NAME_WIDTH), percent(ours), percent(theirs), around_peak(example))
        for what, name, ours, theirs, example in rows
        if name is not None
    ]
    columns = ("finding", "named by", "seed", "anchor", "strongest example")
    return TextTable(found.sentence(), columns, shown) if shown else None


def _headline(found: Coverage) -> str:
    whole = "the anchor" if found.reference is None else "the reference"
    seed, chance = found.richness.seed, found.controls.random_subset
    said = (
        f"The seed's {seed.n_samples:,} samples activate {found.fac:.0%} of the "
        f"{found.n_anchor:,} features of {whole}"
    )
    if chance is not None:
        said += f"; {chance.size:,} random samples of {whole} activate {chance.mean:.0%}"
    if chance is not None and chance.size == found.richness.anchor.n_samples:
        said += f", for that is all there is of {whole}: take a larger one"
    elif found.controls.is_saturated:
        return f"{said}, which leaves no room to tell sets apart: raise --threshold."
    if not found.n_missing:
        return f"{said}. Nothing is missing."
    named = [topic.name for topic in found.topics[:3]]
    more = f" Nothing in the seed is about: {'; '.join(named)}." if named else ""
    return f"{said}.{more}"


def around_peak(example: str | None) -> str:
    """A short piece of an example with its peak in it."""
    if example is None:
        return "–"
    start, end = example.find("«"), example.find("»")
    first = max(0, min(start - _EXAMPLE_WIDTH // 3, len(example) - _EXAMPLE_WIDTH))
    last = max(first + _EXAMPLE_WIDTH, end + 1)
    before, after = "…" * (first > 0), "…" * (last < len(example))
    return f"{before}{example[first:last].strip()}{after}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1].rstrip(' ,')}…"

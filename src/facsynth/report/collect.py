"""Makes a report out of tables and of what is known about them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from facsynth.models.tokens import TokenizedSample
from facsynth.progress import SILENT, Progress
from facsynth.records import Span
from facsynth.report.data import Place, Report, SampleEntry, ShownSpan
from facsynth.report.features import (
    FoundSpan,
    feature_entries,
    feature_peaks,
    find_spans,
    topic_entries,
    understand,
)
from facsynth.report.layout import lay_out
from facsynth.report.links import feature_link
from facsynth.report.overview import Overview, make_overview
from facsynth.report.samples import Listed, listed_rows, rejected_entry, sample_entry
from facsynth.report.sets import NOT_PAINTED, ReportInputs
from facsynth.report.settings import ReportSettings
from facsynth.report.texts import RowKey, Texts, digits
from facsynth.table.strongest import strongest_entries
from facsynth.understand.spans import ReadTable

__all__ = ["make_report"]

N_MISSES = 3
"""Near misses shown for a feature."""

Paints = Mapping[tuple[RowKey, int], Mapping[int, str]]
"""For a row and a feature, the digits of each of the row's texts; see `ShownSpan.paint`."""


def make_report(
    inputs: ReportInputs,
    settings: ReportSettings | None = None,
    *,
    progress: Progress = SILENT,
) -> Report:
    """Everything that a page shows about some tables.

    Args:
        inputs: The tables, and what is known about them. Their threshold counts, not that of the
            settings.
        settings: How much is shown.
        progress: Where lines and bars go.
    """
    settings = settings or ReportSettings()
    ranked = inputs.ranked()
    features = ranked[: settings.max_features].tolist()
    peaks = feature_peaks(inputs)
    listed = listed_rows(inputs, max(0, settings.max_samples - len(inputs.rejected)), peaks)
    samples = {kind: table.samples() for kind, table in inputs.tables.items()}
    progress.say(f"report: {len(features):,} features and {len(listed):,} samples")
    texts = Texts(_read(inputs, features, listed, settings))
    spans = find_spans(inputs, features, texts, settings)
    understood = understand(inputs, features, spans, samples, settings)
    _want(texts, spans, listed)
    paints = _paint(inputs, texts, spans, listed, peaks)
    places = _places(inputs, features, settings)
    number_of = {one.key: number for number, one in enumerate(listed)}
    fires = {f: tuple(_shown(f, s, texts, paints, number_of) for s in spans[f]) for f in features}
    misses = {f: _misses(row.get("near_misses", ()), texts) for f, row in understood.names.items()}
    entries = feature_entries(inputs, features, understood, fires, misses, places[1])
    shown = []
    for one in listed:
        sample, place = samples[one.key.kind][one.key.row], places[0].get(one.key)
        shown.append(sample_entry(one, sample, inputs, texts, paints, place))
    shown += [rejected_entry(row, i, texts) for i, row in enumerate(inputs.rejected)]
    overview = make_overview(inputs, settings, progress=progress)
    left_out = _left_out(inputs, ranked[settings.max_features :], shown)
    return replace(
        _report(inputs, overview),
        features=entries,
        topics=topic_entries(inputs, understood, places[1]),
        samples=tuple(shown),
        texts=tuple(texts.shown),
        left_out=left_out,
        unpainted="" if paints else NOT_PAINTED,
        is_sensitive=inputs.is_sensitive or settings.sensitive,
    )


def _report(inputs: ReportInputs, overview: Overview) -> Report:
    return Report(
        title=inputs.title,
        reading=overview.reading,
        facts=inputs.facts,
        sizes={
            kind: (table.manifest.n_samples, table.manifest.n_tokens)
            for kind, table in inputs.tables.items()
        },
        panels=overview.panels,
        charts=overview.charts,
        details=overview.details,
        notes=(*inputs.reader.notes, *overview.notes),
        threshold=inputs.threshold,
        threshold_rule=inputs.threshold_rule,
        feature_link=feature_link(inputs.tables["anchor"].manifest.source),
    )


def _read(
    inputs: ReportInputs,
    features: Sequence[int],
    listed: Sequence[Listed],
    settings: ReportSettings,
) -> dict[RowKey, TokenizedSample]:
    """The texts of rows that may be shown, as the model read them; none without its tokenizer."""
    if inputs.reader.tokenizer is None:
        return {}
    wanted: dict[str, set[int]] = defaultdict(set)
    for one in listed:
        wanted[one.key.kind].add(one.key.row)
    for kind in inputs.tables:
        wanted[kind] |= _rows_of_spans(inputs, kind, features, settings)
    return {
        RowKey(kind, row): text
        for kind, rows in wanted.items()
        for row, text in ReadTable.of(inputs.tables[kind], inputs.reader.tokenizer)
        .tokenize(sorted(rows))
        .items()
    }


def _rows_of_spans(
    inputs: ReportInputs, kind: str, features: Sequence[int], settings: ReportSettings
) -> set[int]:
    found = strongest_entries(inputs.tables[kind], sorted(features), 3 * settings.spans)
    return {one.row for entries in found.values() for one in entries}


def _want(texts: Texts, spans: Mapping[int, Sequence[FoundSpan]], listed: Sequence[Listed]) -> None:
    for found in spans.values():
        for one in found:
            texts.want(one.key, one.first, one.end)
    for row in listed:
        if row.key in texts.read:
            texts.want_all(row.key)
    texts.cut()


def _shown(
    feature: int,
    found: FoundSpan,
    texts: Texts,
    paints: Paints,
    number_of: Mapping[RowKey, int],
) -> ShownSpan:
    place, first = texts.find(found.key, found.first) or (0, 0)
    paint = paints.get((found.key, feature), {}).get(place, "")
    n_tokens = found.end - found.first
    return ShownSpan(
        text=place,
        first=first,
        n_tokens=n_tokens,
        peak=first + found.peak - found.first,
        activation=found.span.activation,
        paint=paint[first : first + n_tokens],
        sample=number_of.get(found.key),
    )


def _misses(spans: Iterable[Span], texts: Texts) -> tuple[ShownSpan, ...]:
    return tuple(
        ShownSpan(texts.plain(span.text), 0, 0, 0, 0.0)
        for span, _ in zip(spans, range(N_MISSES), strict=False)
    )


def _paint(
    inputs: ReportInputs,
    texts: Texts,
    spans: Mapping[int, Sequence[FoundSpan]],
    listed: Sequence[Listed],
    peaks: np.ndarray,
) -> Paints:
    """Digits for every text in which a feature is shown; nothing without a model."""
    if inputs.reader.painter is None:
        return {}
    wanted: dict[RowKey, set[int]] = defaultdict(set)
    for feature, found in spans.items():
        for one in found:
            wanted[one.key].add(feature)
    for row in listed:
        if row.key in texts.read:
            wanted[row.key] |= set(row.features)
    keys = list(wanted)
    painted = inputs.reader.painter.activations(
        [texts.read[key] for key in keys], [sorted(wanted[key]) for key in keys]
    )
    paints: dict[tuple[RowKey, int], dict[int, str]] = {}
    for number, found_values in painted:
        key = keys[number]
        for feature, values in found_values.items():
            most = float(peaks[feature])
            paints[key, feature] = {
                piece.place: digits(values[piece.first : piece.end], most)
                for piece in texts.pieces(key)
            }
    return paints


def _places(
    inputs: ReportInputs, features: Sequence[int], settings: ReportSettings
) -> tuple[dict[RowKey, Place], dict[int, Place]]:
    """Where rows and features stand on the map; empty without one."""
    laid = None
    if settings.map and features:
        ids = np.array(sorted(features), dtype=np.int64)
        laid = lay_out(inputs.together, ids, random_seed=settings.random_seed)
    if laid is None:
        return {}, {}
    keys = [
        RowKey(kind, row)
        for kind, table in inputs.tables.items()
        for row in range(table.manifest.n_samples)
    ]
    rows, columns = (list(map(tuple, points.tolist())) for points in laid)
    return (
        dict(zip(keys, rows, strict=True)),
        dict(zip(ids.tolist(), columns, strict=True)),
    )


def _left_out(
    inputs: ReportInputs, features: np.ndarray, shown: Sequence[SampleEntry]
) -> dict[str, int]:
    """Features by status, and samples by kind, that the page does not hold."""
    statuses = inputs.statuses[features].tolist()
    found = {f"{status} features": statuses.count(status) for status in dict.fromkeys(statuses)}
    kinds = [sample.kind for sample in shown]
    for kind, table in inputs.tables.items():
        n_more = table.manifest.n_samples - kinds.count(kind)  # type: ignore[arg-type]
        if n_more > 0:
            found[f"{kind} samples"] = n_more
    return found

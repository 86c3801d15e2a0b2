"""The first part of a page: what the numbers mean, measures beside their controls, curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facsynth.coverage.controls import Draws, summarize_draws
from facsynth.coverage.curves import CurvePoint, richness_curves
from facsynth.coverage.interval import bootstrap_interval
from facsynth.coverage.measure import measure_coverage
from facsynth.coverage.settings import CoverageSettings
from facsynth.coverage.unseen import chao2
from facsynth.progress import Progress
from facsynth.report.data import Chart, Lane, Panel
from facsynth.report.sets import ReportInputs
from facsynth.report.settings import ReportSettings
from facsynth.report.svg import Series, line_chart
from facsynth.show import TextTable
from facsynth.table.active import ActiveRows, active_rows
from facsynth.table.rows import stack_rows

__all__ = ["Overview", "make_overview"]

Row = Mapping[str, Any]

N_DRAWS = 20
_BINS = 24


@dataclass(frozen=True)
class Overview:
    """See the fields of the same names in `Report`."""

    reading: tuple[str, ...]
    panels: tuple[Panel, ...] = ()
    charts: tuple[Chart, ...] = ()
    details: tuple[TextTable, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Fill:
    """How many missing features the written samples activate."""

    n_filled: int
    n_missing: int
    low: float
    high: float
    by_chance: Draws
    """The same of random anchor samples, as many."""

    @property
    def rate(self) -> float:
        return self.n_filled / self.n_missing


def make_overview(
    inputs: ReportInputs, settings: ReportSettings, *, progress: Progress
) -> Overview:
    """Measure what is not measured yet, and say what it means."""
    sets = _relevant_rows(inputs)
    curves = richness_curves(sets, random_seed=settings.random_seed)
    charts = [_accumulation(curves), _lengths(inputs)]
    spent = TextTable("What was spent", ("what", "amount"), inputs.spent)
    extra = [spent] if inputs.spent else []
    if "seed" not in inputs.tables:
        panels, reading = _alone(inputs, sets["anchor"])
        return Overview(reading, panels, tuple(charts), tuple(extra))
    progress.say("report: measuring coverage, with controls")
    before = inputs.before or _measured(inputs, settings, "seed")
    after = None
    if "synthetic" in inputs.tables:
        after = inputs.after or _measured(inputs, settings, "seed", "synthetic")
    fill = _fill(inputs, settings)
    sides = [("seed", before)] + ([("filled", after)] if after else [])
    if inputs.rounds:
        charts.append(_rounds(before, inputs.rounds))
    panels = (_closeness(sides), _coverage(sides), *([_filled(fill)] if fill else []))
    notes = [f"{_NAMES[k]}: {w}" for k, row in sides for w in row["controls"]["warnings"]]
    return Overview(
        _reading(before, after, fill),
        panels,
        (_sweep(sides), *charts),
        (_controls(sides), *extra),
        tuple(notes),
    )


_NAMES = {"anchor": "anchor", "seed": "seed", "filled": "seed + synthetic"}


def _relevant_rows(inputs: ReportInputs) -> dict[str, ActiveRows]:
    """Active rows of the relevant features, of each set and of the seed with what was written."""
    tables = {kind: table.activations() for kind, table in inputs.tables.items()}
    if "synthetic" in tables and "seed" in tables:
        tables["filled"] = stack_rows([tables["seed"], tables["synthetic"]])
    tables.pop("synthetic", None)
    return {
        kind: active_rows(rows, threshold=inputs.threshold, relevant=inputs.relevant)
        for kind, rows in tables.items()
        if len(rows.sample_ids)
    }


def _measured(inputs: ReportInputs, settings: ReportSettings, *kinds: str) -> Row:
    rows = stack_rows([inputs.tables[kind].activations() for kind in kinds])
    how = CoverageSettings(threshold=inputs.threshold, random_seed=settings.random_seed)
    anchor = inputs.tables["anchor"].activations()
    return measure_coverage(anchor, rows, relevant=inputs.relevant, settings=how).row()


def _fill(inputs: ReportInputs, settings: ReportSettings) -> _Fill | None:
    missing = inputs.missing_before
    n_missing = int(np.count_nonzero(missing))
    if "synthetic" not in inputs.tables or not n_missing:
        return None
    written, anchor = inputs.active["synthetic"], inputs.active["anchor"]
    if not written.n_samples:
        return None
    rng = np.random.default_rng(settings.random_seed)
    interval = bootstrap_interval(missing, written, rng=rng)
    n = min(written.n_samples, anchor.n_samples)
    shares = []
    for _ in range(N_DRAWS):
        drawn = anchor.fires[rng.choice(anchor.n_samples, n, replace=False)]
        seen = np.asarray(drawn.sum(axis=0)).ravel() > 0
        shares.append(float(np.count_nonzero(seen & missing) / n_missing))
    n_filled = int(np.count_nonzero(written.features & missing))
    return _Fill(n_filled, n_missing, interval.low, interval.high, summarize_draws(shares, n))


def _reading(before: Row, after: Row | None, fill: _Fill | None) -> tuple[str, str]:
    chance = before["controls"]["random_subset"]
    meaning = (
        f"The seed activates {before['fac']:.0%} of the {before['n_anchor']:,} features that the "
        "anchor activates"
    )
    if chance:
        meaning += f"; random anchor samples, as many, activate {chance['mean']:.0%}"
    if fill and after:
        meaning += (
            f". The written samples fill {fill.n_filled:,} of the {fill.n_missing:,} missing ones "
            f"({fill.rate:.0%}), which brings coverage to {after['fac']:.0%}"
        )
    if before["n_samples"]["anchor"] <= before["n_samples"]["seed"]:
        advice = (
            "Take a larger anchor: random parts of this one as large as the seed are all of it."
        )
    elif before["controls"]["is_saturated"]:
        advice = "Raise --threshold: at this one nearly any text covers everything."
    elif not before["n_missing"]:
        advice = "Nothing is missing; look at features that fire too rarely, `fac diff` tests them."
    elif fill is None:
        advice = (
            f"Look through the {before['n_missing']:,} missing features below, then let "
            "`fac synthesize` write samples for them."
        )
    elif fill.rate < 0.9 * fill.by_chance.mean:
        advice = (
            f"As many random anchor texts would fill {fill.by_chance.mean:.0%}: try a better "
            "generator, or look below at what was rejected and why."
        )
    else:
        advice = "Read some of the written samples below, then take them along with `fac export`."
    return f"{meaning}.", advice


def _closeness(sides: Sequence[tuple[str, Row]]) -> Panel:
    lanes = [
        Lane(_NAMES[kind], close["hellinger"], kind=_kind(kind))
        for kind, row in sides
        if (close := row["representativeness"])
    ]
    lanes += [
        Lane(f"random anchor, as many as {_NAMES[kind]}", row["controls"]["random_hellinger"])
        for kind, row in sides
    ]
    hint = "Hellinger distance between firing rates and the anchor's. Lower is closer, 0 is best."
    return Panel("Closeness", hint, tuple(lanes), is_share=False)


def _coverage(sides: Sequence[tuple[str, Row]]) -> Panel:
    lanes = []
    for kind, row in sides:
        low, high = row["interval"]["low"], row["interval"]["high"]
        lanes.append(Lane(_NAMES[kind], row["fac"], low, high, _kind(kind)))
    controls = sides[0][1]["controls"]
    for key, name in _DRAWS.items():
        draws = controls[key]
        if draws:
            lanes.append(Lane(name, draws["mean"], draws["low"], draws["high"]))
    hint = "FAC: share of the anchor's features that the set activates, with its 95 % interval."
    return Panel("Coverage", hint, tuple(lanes))


_DRAWS = {
    "random_subset": "random anchor, as many as seed",
    "length_matched": "and of the same lengths",
    "frequency_matched": "other features, equally frequent",
}


def _filled(fill: _Fill) -> Panel:
    chance = fill.by_chance
    lanes = (
        Lane("synthetic", fill.rate, fill.low, fill.high, "synthetic"),
        Lane("random anchor, as many as synthetic", chance.mean, chance.low, chance.high),
    )
    hint = "Fill rate: share of the missing features that the written samples activate."
    return Panel("Fill", hint, lanes)


def _kind(kind: str) -> Any:
    return "synthetic" if kind == "filled" else kind


def _sweep(sides: Sequence[tuple[str, Row]]) -> Chart:
    def points(row: Row) -> list[tuple[float, float]]:
        kept = [p for p in row["sweep"] if p["quantile"] is None and p["fac"] is not None]
        return sorted((float(p["threshold"]), float(p["fac"])) for p in kept)

    series = [Series(_NAMES[kind], kind, points(row)) for kind, row in sides]
    title = "Coverage at several thresholds"
    drawn = line_chart(
        series,
        title=title,
        x_title="threshold δ, in SAE units",
        y_title="FAC",
        y_text="{:.0%}".format,
        rule=float(sides[0][1]["threshold"]),
    )
    hint = "The dashed line is the threshold in use."
    return Chart(title, hint, drawn, _values("threshold", series))


def _accumulation(curves: Mapping[str, Sequence[CurvePoint]]) -> Chart:
    series = [
        Series(
            _NAMES[kind],
            kind,
            [(float(p.n_samples), p.expected) for p in points],
            [(p.low, p.high) for p in points],
            sum(not p.is_extrapolated for p in points),
        )
        for kind, points in curves.items()
    ]
    most = max(float(p.n_samples) for p in curves["anchor"] if not p.is_extrapolated)
    series = [_cut(one, most) for one in series]
    title = "Features seen against samples"
    drawn = line_chart(series, title=title, x_title="samples", y_title="features")
    hint = "A set that lies lower at the same number is less diverse. Dashed: extrapolated."
    return Chart(title, hint, drawn, _values("samples", series))


def _cut(one: Series, most: float) -> Series:
    """Without the points beyond the anchor's size, so that its own curve fills the chart."""
    n = max(1, sum(x <= most for x, _ in one.points))
    solid = min(n, one.n_solid or n)
    return Series(one.name, one.kind, one.points[:n], one.band[:n], solid)


def _lengths(inputs: ReportInputs) -> Chart:
    tokens = {kind: table.activations().n_tokens for kind, table in inputs.tables.items()}
    tokens = {kind: found for kind, found in tokens.items() if found.size}
    top = max(float(np.quantile(found, 0.98)) for found in tokens.values())
    width = max(1, int(np.ceil(top / _BINS)))
    edges = np.arange(0, width * (_BINS + 1), width)
    series = []
    for kind, found in tokens.items():
        counts, _ = np.histogram(np.minimum(found, edges[-1]), edges)
        middles = (edges[:-1] + width / 2).tolist()
        series.append(
            Series(kind, kind, list(zip(middles, (counts / found.size).tolist(), strict=True)))
        )
    title = "Lengths"
    drawn = line_chart(
        series,
        title=title,
        x_title=f"scored tokens of a sample, in steps of {width}",
        y_title="samples",
        y_text="{:.0%}".format,
    )
    rows = [
        (
            kind,
            int(f.size),
            int(f.sum()),
            *map(round, np.quantile(f, [0.1, 0.5, 0.9]).tolist()),
        )
        for kind, f in tokens.items()
    ]
    columns = (
        "set",
        "samples",
        "tokens",
        "10 % shorter than",
        "median",
        "10 % longer than",
    )
    hint = "Longer texts activate more features, so compare sets of like lengths."
    return Chart(title, hint, drawn, TextTable(title, columns, rows))


def _rounds(before: Row, rounds: Sequence[Row]) -> Chart:
    points = [(0.0, float(before["fac"]))]
    points += [(float(row["n_kept"]), float(row["fac"])) for row in rounds]
    series = [Series(_NAMES["filled"], "filled", points)]
    title = "Coverage round by round"
    drawn = line_chart(
        series, title=title, x_title="samples kept", y_title="FAC", y_text="{:.0%}".format
    )
    return Chart(title, "The first point is the seed.", drawn, _values("kept", series))


def _values(x_title: str, series: Sequence[Series]) -> TextTable:
    """The points of a chart, for those who cannot see it."""
    at = sorted({x for one in series for x, _ in one.points})
    found = [dict(one.points) for one in series]
    rows = [(f"{x:,g}", *(_rounded(points.get(x)) for points in found)) for x in at]
    return TextTable("Values", (x_title, *(one.name for one in series)), rows)


def _rounded(value: float | None) -> object:
    if value is None:
        return None
    return round(value) if value > 10 else float(value)


def _controls(sides: Sequence[tuple[str, Row]]) -> TextTable:
    """What the panels leave out."""
    rows: list[tuple[object, ...]] = [
        ("covered features", *(row["n_covered"] for _, row in sides)),
        ("missing features", *(row["n_missing"] for _, row in sides)),
        ("features of the set that the anchor lacks", *(row["n_seed_only"] for _, row in sides)),
        ("FAC weighted by frequency", *(row["weighted"]["frequency"] for _, row in sides)),
        ("FAC weighted by magnitude", *(row["weighted"]["magnitude"] for _, row in sides)),
        (
            "correlation of firing shares",
            *((row["representativeness"] or {}).get("correlation") for _, row in sides),
        ),
        ("chance to be longer than an anchor sample", *(_auc(row) for _, row in sides)),
        ("seen and unseen features (Chao2)", *(_chao(row) for _, row in sides)),
    ]
    return TextTable("Further numbers", ("", *(_NAMES[kind] for kind, _ in sides)), rows)


def _auc(row: Row) -> float | None:
    value: float | None = row["controls"]["length_auc"]
    return value


def _chao(row: Row) -> int | None:
    value = row["richness"]["seed"]["chao2"]
    return None if value is None else round(value)


def _alone(inputs: ReportInputs, rows: ActiveRows) -> tuple[tuple[Panel, ...], tuple[str, str]]:
    """What is in one table."""
    counts = np.sort(rows.counts)[::-1]
    n_seen, total = int(np.count_nonzero(counts)), int(counts.sum())
    n_half = int(np.searchsorted(np.cumsum(counts), total / 2)) + 1 if total else 0
    unseen = chao2(rows.counts, rows.n_samples)
    width = int(np.count_nonzero(inputs.relevant))
    lanes = (
        Lane("active in some sample", n_seen / width, kind="anchor"),
        Lane("in at least 5", float(np.count_nonzero(counts >= 5)) / width, kind="anchor"),
        Lane("estimated in the source (Chao2)", min(1.0, unseen / width)),
        Lane("that make half of all firings", n_half / width),
    )
    hint = f"Shares of the {width:,} features of the SAE at threshold {inputs.threshold:g}."
    meaning = (
        f"{rows.n_samples:,} samples activate {n_seen:,} of {width:,} features; half of all "
        f"firings come from {n_half:,} of them."
    )
    advice = (
        "Look through the features below; `fac report --anchor` with a larger table and this one "
        "as `--seed` shows what is missing here."
    )
    return (Panel("Features in use", hint, lanes),), (meaning, advice)

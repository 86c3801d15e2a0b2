"""The charts of a report as Vega-Lite specifications; the numbers come ready from the rows.

Colours are CSS variables of the page, so that one drawing serves the light and the dark theme.
"""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "accumulation_chart",
    "controls_chart",
    "coverage_curve_chart",
    "rounds_chart",
]

ANCHOR, SEED, FILLED = "anchor", "seed", "seed + synthetic"
"""Names of the three sets in legends and tables."""

COLORS = {ANCHOR: "var(--anchor)", SEED: "var(--seed)", FILLED: "var(--filled)"}
SHAPES = {ANCHOR: "square", SEED: "circle", FILLED: "triangle-up"}

SPREAD = 5
"""An anchor this many times larger than the seed is drawn on a square-root axis."""

Spec = dict[str, Any]
Row = Mapping[str, Any]


def controls_chart(before: Row, after: Row | None) -> Spec:
    """FAC beside its controls: a point for each value, a bar for its interval or range.

    Args:
        before: `Coverage.row` of the seed.
        after: The same for the seed with the synthetic samples.

    Returns:
        A Vega-Lite specification.
    """
    import altair as alt

    rows = [row for name, side in _sides(before, after) for row in _control_rows(name, side)]
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y("measure:N", sort=measures, title=None, axis=alt.Axis(labelLimit=230)),
        yOffset=alt.YOffset("set:N", sort=[SEED, FILLED]),
        color=_color(alt, rows),
        tooltip=["measure:N", "set:N", *_percents(alt, value="mean", low="low", high="high")],
    )
    bars = base.mark_rule(strokeWidth=3, opacity=0.45).encode(
        x=alt.X("low:Q", title="share of the features that is covered"), x2="high:Q"
    )
    scale = alt.Scale(zero=False, nice=True)
    points = base.mark_point(filled=True, size=75, opacity=1).encode(
        x=alt.X("mean:Q", axis=alt.Axis(format="%", tickCount=6), scale=scale),
        shape=_shape(alt, rows),
    )
    return _finished(bars + points, 32 * len(rows), "Coverage beside its controls")


def coverage_curve_chart(before: Row, after: Row | None) -> Spec:
    """FAC over the absolute thresholds of the sweep, with a line at the threshold in use.

    Args:
        before: `Coverage.row` of the seed.
        after: The same for the seed with the synthetic samples.

    Returns:
        A Vega-Lite specification.
    """
    import altair as alt

    rows = [
        {"set": name, **{key: point[key] for key in ("threshold", "fac", "n_covered", "n_anchor")}}
        for name, side in _sides(before, after)
        for point in side["sweep"]
        if point["quantile"] is None and point["fac"] is not None
    ]
    lines = _lines(alt, rows).encode(
        x=alt.X("threshold:Q", title="threshold δ (SAE units)"),
        y=alt.Y("fac:Q", title="FAC", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False)),
        tooltip=[
            "set:N",
            "threshold:Q",
            *_percents(alt, FAC="fac"),
            *_counts(alt, covered="n_covered", anchor="n_anchor"),
        ],
    )
    used = alt.Chart(alt.InlineData(values=[{"threshold": before["threshold"]}]))
    rule = used.mark_rule(strokeDash=[4, 4], color="var(--muted)").encode(x="threshold:Q")
    return _finished(rule + lines, 260, "FAC at several thresholds")


def accumulation_chart(before: Row, after: Row | None) -> Spec:
    """Features seen against the number of samples, for the anchor and the seed.

    Args:
        before: `Coverage.row` of the seed.
        after: The same for the seed with the synthetic samples.

    Returns:
        A Vega-Lite specification.
    """
    import altair as alt

    curves = {ANCHOR: _curve("anchor", *(side for _, side in _sides(before, after)))}
    curves |= {name: _curve("seed", side) for name, side in _sides(before, after)}
    rows = [
        {"set": name, "n_samples": n_samples, "n_features": n_features}
        for name, curve in curves.items()
        for n_samples, n_features in curve
    ]
    is_wide = before["n_samples"]["anchor"] > SPREAD * before["n_samples"]["seed"]
    scale = alt.Scale(type="sqrt") if is_wide else alt.Scale()
    title = "samples (square-root scale)" if is_wide else "samples"
    chart = _lines(alt, rows, size=18).encode(
        x=alt.X("n_samples:Q", title=title, scale=scale),
        y=alt.Y("n_features:Q", title="features seen"),
        tooltip=["set:N", *_counts(alt, samples="n_samples", features="n_features")],
    )
    return _finished(chart, 260, "Features seen against samples")


def rounds_chart(before: Row, rounds: Sequence[Row]) -> Spec:
    """FAC against the synthetic samples kept so far, from the seed alone to the last round.

    Args:
        before: `Coverage.row` of the seed.
        rounds: Rows of `Report.rounds`.

    Returns:
        A Vega-Lite specification.
    """
    import altair as alt

    keys = ("round", "n_kept", "n_covered", "fac")
    start = {"round": 0, "n_kept": 0, "n_covered": before["n_covered"], "fac": before["fac"]}
    rows = [{"set": FILLED, **{key: row[key] for key in keys}} for row in (start, *rounds)]
    chart = _lines(alt, rows, legend=False).encode(
        x=alt.X("n_kept:Q", title="synthetic samples kept"),
        y=alt.Y("fac:Q", title="FAC", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False)),
        order="round:Q",
        tooltip=["round:Q", *_counts(alt, kept="n_kept", covered="n_covered")],
    )
    return _finished(chart, 260, "FAC after each round of synthesis")


def _sides(before: Row, after: Row | None) -> list[tuple[str, Row]]:
    return [(SEED, before)] + ([] if after is None else [(FILLED, after)])


def _control_rows(name: str, side: Row) -> list[Spec]:
    controls, interval = side["controls"], side["interval"]
    draws = {
        "length-matched anchor subset": controls["length_matched"],
        "random anchor subset": controls["random_subset"],
        "frequency-matched features": controls["frequency_matched"],
    }
    fac = {"mean": side["fac"], "low": interval["low"], "high": interval["high"]}
    rows = {"FAC of the set": fac} | {key: value for key, value in draws.items() if value}
    return [
        {"measure": measure, "set": name, **{key: row[key] for key in ("mean", "low", "high")}}
        for measure, row in rows.items()
    ]


def _curve(which: str, *sides: Row) -> list[tuple[int, float]]:
    """Points of a rarefaction curve, with those computed for a comparison at equal size."""
    points: dict[int, float] = {}
    for side in sides:
        richness = side["richness"]
        points |= {int(n): seen for n, seen in richness[which]["curve"]}
        points[richness["equal_samples"]] = richness[f"{which}_at_equal_samples"]
    return sorted(points.items())


def _lines(alt: Any, rows: list[Spec], *, size: int = 45, legend: bool = True) -> Any:
    return (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(filled=True, size=size))
        .encode(color=_color(alt, rows, legend=legend), shape=_shape(alt, rows, legend=legend))
    )


def _color(alt: Any, rows: list[Spec], *, legend: bool = True) -> Any:
    return alt.Color("set:N", scale=_scale(alt, rows, COLORS), **_legend(alt, legend))


def _shape(alt: Any, rows: list[Spec], *, legend: bool = True) -> Any:
    return alt.Shape("set:N", scale=_scale(alt, rows, SHAPES), **_legend(alt, legend))


def _scale(alt: Any, rows: list[Spec], values: dict[str, str]) -> Any:
    present = {row["set"] for row in rows}
    names = [name for name in values if name in present]
    return alt.Scale(domain=names, range=[values[name] for name in names])


def _legend(alt: Any, shown: bool) -> dict[str, Any]:
    return {"legend": alt.Legend(orient="top", title=None) if shown else None}


def _percents(alt: Any, **fields: str) -> list[Any]:
    return [alt.Tooltip(f"{field}:Q", title=title, format=".1%") for title, field in fields.items()]


def _counts(alt: Any, **fields: str) -> list[Any]:
    return [
        alt.Tooltip(f"{field}:Q", title=title, format=",.0f") for title, field in fields.items()
    ]


def _finished(chart: Any, height: int, description: str) -> Spec:
    text = {"labelColor": "var(--muted)", "titleColor": "var(--ink)", "titleFontWeight": "normal"}
    lines = {"domainColor": "var(--line)", "tickColor": "var(--line)", "gridColor": "var(--line)"}
    sizes = {"labelFontSize": 12, "titleFontSize": 12}
    spec: Spec = (
        chart.properties(
            width="container",
            height=height,
            description=description,
            autosize={"type": "fit-x", "contains": "padding"},
        )
        .configure(
            background="transparent",
            font="system-ui, sans-serif",
            axis={**text, **lines, **sizes, "labelFlush": False},
            legend={**sizes, "labelColor": "var(--ink)"},
            view={"stroke": None},
        )
        .to_dict()
    )
    return spec

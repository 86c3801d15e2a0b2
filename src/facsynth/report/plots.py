"""Charts on white for `--plot`: Vega-Lite specifications, and files that need no network."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facsynth.data.write import write_text
from facsynth.errors import DataError
from facsynth.folders import atomic_path

__all__ = [
    "bar_charts",
    "check_plot_path",
    "curve_chart",
    "frontier_charts",
    "heat_map",
    "layer_chart",
    "share_chart",
    "write_chart",
]

Spec = dict[str, Any]
"""A Vega-Lite specification."""

_PNG = b"\x89PNG\r\n\x1a\n"
ENDINGS = (".html", ".svg", ".png")
CELL = 70
"""Width and height of a cell, in pixels."""


def heat_map(
    values: Sequence[Sequence[float | None]],
    names: Sequence[str],
    *,
    title: str,
    row_title: str,
    column_title: str,
    domain: tuple[float, float] = (0.0, 1.0),
) -> Spec:
    """A square matrix as a Vega-Lite specification, with its numbers in the cells.

    Args:
        values: One row per name; None leaves a cell empty.
        names: Names of rows and columns.
        title: Heading of the chart.
        row_title: What a row is.
        column_title: What a column is.
        domain: Values at the ends of the colour scale; colours diverge when it spans 0.
    """
    import altair as alt

    cells = [
        {"row": row, "column": column, "value": values[i][j]}
        for i, row in enumerate(names)
        for j, column in enumerate(names)
        if values[i][j] is not None
    ]
    diverging = domain[0] < 0 < domain[1]
    scheme = "redblue" if diverging else "blues"
    middle = (domain[0] + domain[1]) / 2
    dark = f"abs(datum.value - {middle}) > {0.32 * (domain[1] - domain[0])}"
    is_dark = dark if diverging else f"datum.value > {domain[0] + 0.6 * (domain[1] - domain[0])}"
    base = alt.Chart(alt.InlineData(values=cells)).encode(
        x=alt.X("column:N", sort=list(names), title=column_title, axis=alt.Axis(labelAngle=-30)),
        y=alt.Y("row:N", sort=list(names), title=row_title),
        tooltip=["row:N", "column:N", alt.Tooltip("value:Q", format=".3f")],
    )
    scale = alt.Scale(domain=list(domain), scheme=scheme)
    boxes = base.mark_rect().encode(color=alt.Color("value:Q", scale=scale, title=None))
    numbers = base.mark_text(fontSize=13).encode(
        text=alt.Text("value:Q", format=".2f"),
        color=alt.condition(is_dark, alt.value("white"), alt.value("black")),
    )
    size = CELL * len(names)
    chart = (boxes + numbers).properties(width=size, height=size, title=title, description=title)
    return Spec(chart.to_dict())


def curve_chart(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> Spec:
    """Features seen against samples with 95 % bands, dashed where extrapolated.

    Args:
        curves: By name of the data set, rows of `facsynth.coverage.curves.CurvePoint`.
    """
    import altair as alt

    rows = []
    for name, points in curves.items():
        last = max((p["n_samples"] for p in points if not p["is_extrapolated"]), default=0)
        for point in points:
            part = "extrapolated" if point["is_extrapolated"] else "rarefied"
            rows.append({"set": name, "part": part, **point})
            if point["n_samples"] == last:  # so that the two lines meet
                rows.append({"set": name, "part": "extrapolated", **point})
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("n_samples:Q", title="samples"),
        color=alt.Color("set:N", title=None),
        tooltip=["set:N", "part:N", "n_samples:Q", alt.Tooltip("expected:Q", format=",.0f")],
    )
    band = base.mark_area(opacity=0.2).encode(
        y=alt.Y("low:Q", title="features seen"), y2="high:Q", detail="part:N"
    )
    lines = base.mark_line().encode(
        y="expected:Q",
        strokeDash=alt.StrokeDash("part:N", sort=["rarefied", "extrapolated"], title=None),
    )
    title = "Features seen against samples, 95 % bands"
    chart = (band + lines).properties(width=560, height=340, title=title, description=title)
    return Spec(chart.to_dict())


def frontier_charts(rows: Sequence[Mapping[str, Any]]) -> Spec:
    """Score against added samples on a log axis, a panel for each task and backbone.

    Args:
        rows: Those of an `ExperimentResult`. Arms that add nothing are dashed lines.
    """
    import altair as alt

    shown = [
        {name: row[name] for name in ("task", "backbone", "arm", "n_samples", "score", "sd")}
        | {"low": row["score"] - (row["sd"] or 0.0), "high": row["score"] + (row["sd"] or 0.0)}
        for row in rows
        if row["view"] == "samples" and row["score"] is not None
    ]
    sizes = sorted({row["n_samples"] for row in shown if row["n_samples"]})
    alone = [row for row in shown if not row["n_samples"]]
    flat = [row | {"n_samples": n} for row in alone for n in (sizes[:1] + sizes[-1:])]
    data = [row | {"adds": "samples"} for row in shown if row["n_samples"]]
    data += [row | {"adds": "nothing"} for row in flat]
    base = alt.Chart(alt.InlineData(values=data)).encode(
        x=alt.X("n_samples:Q", title="added samples", scale=alt.Scale(type="log")),
        color=alt.Color("arm:N", title=None),
        tooltip=["arm:N", "n_samples:Q", alt.Tooltip("score:Q", format=".3f")],
    )
    score = alt.Y("score:Q", title="score", scale=alt.Scale(zero=False))
    dashes = alt.StrokeDash("adds:N", sort=["samples", "nothing"], title="adds")
    lines = base.mark_line().encode(y=score, strokeDash=dashes)
    points = base.mark_point(filled=True).encode(y=score)
    bars = base.mark_rule(opacity=0.5).encode(y="low:Q", y2="high:Q")
    panel = (bars + lines + points).properties(width=420, height=300)
    facets = panel.facet(row=alt.Row("task:N", title=None), column=alt.Column("backbone:N"))
    title = "Score against added samples; bars are standard deviations over random seeds"
    return Spec(facets.properties(title=title).to_dict())


def bar_charts(columns: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> Spec:
    """A small bar chart for each measure, with two standard errors where there are some.

    Args:
        columns: Rows of `fac diversity --json`, one for each data set: `name` and `metrics`.
        titles: Title of each measure, in the order of the charts.
    """
    import altair as alt

    names = [column["name"] for column in columns]
    charts = []
    for name, title in titles.items():
        if name not in columns[0]["metrics"]:
            continue
        rows = [_bar(column["name"], column["metrics"][name]) for column in columns]
        base = alt.Chart(alt.InlineData(values=rows), title=title).encode(
            y=alt.Y("name:N", sort=names, title=None)
        )
        bars = base.mark_bar(color="#4c78a8").encode(x=alt.X("value:Q", title=None))
        errors = base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q")
        charts.append((bars + errors).properties(width=240, height=24 * len(names)))
    return Spec(alt.concat(*charts, columns=3).to_dict())


def layer_chart(layers: Sequence[Mapping[str, Any]]) -> Spec:
    """Control rate of the vectors at each layer, beside random and shuffled vectors.

    Args:
        layers: The value `layers` of `facsynth.tasks.steering.evaluate.evaluate_steering`.
    """
    import altair as alt

    rows = []
    for row in layers:
        kinds = {
            "steering vector": [vector["scr"] for vector in row["vectors"]],
            "shuffled answers": row["shuffled"],
            "random vector": row["random"],
        }
        for kind, rates in kinds.items():
            rows += [{"layer": row["layer"], "vector": kind, "scr": rate} for rate in rates]
    order = ["steering vector", "shuffled answers", "random vector"]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("layer:Q", title="decoder layer", axis=alt.Axis(tickMinStep=1)),
        color=alt.Color("vector:N", sort=order, title=None),
    )
    tooltip = ["layer:Q", "vector:N", alt.Tooltip("scr:Q", format=".3f")]
    lines = base.mark_line().encode(y=alt.Y("mean(scr):Q", title="steering control rate"))
    points = base.mark_point(filled=True, opacity=0.6).encode(y="scr:Q", tooltip=tooltip)
    title = "Steering control rate by layer"
    chart = (lines + points).properties(width=520, height=300, title=title, description=title)
    return Spec(chart.to_dict())


def share_chart(
    shares: Mapping[str, Sequence[Mapping[str, float]]],
    controls: Mapping[str, float],
    *,
    min_correlation: float,
) -> Spec:
    """Share of features whose counterpart correlates above r, against r.

    Args:
        shares: Points `r` and `share` for each line, by the line's name.
        controls: Shares at `min_correlation` to read these against, by name.
        min_correlation: Where the rule is drawn above which a feature counts as matched.
    """
    import altair as alt

    names = [*shares, *controls]
    color = alt.Color("line:N", sort=names, title=None, legend=alt.Legend(labelLimit=300))
    rows = [{"line": name, **point} for name, points in shares.items() for point in points]
    lines = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line()
        .encode(
            x=alt.X("r:Q", title="correlation with the best partner, on held-out samples"),
            y=alt.Y("share:Q", title="share of features above it", scale=alt.Scale(domain=[0, 1])),
            color=color,
            tooltip=["line:N", "r:Q", alt.Tooltip("share:Q", format=".3f")],
        )
    )
    rule = (
        alt.Chart(alt.InlineData(values=[{"r": min_correlation}]))
        .mark_rule(strokeDash=[4, 4], color="gray")
        .encode(x="r:Q")
    )
    points = [{"line": n, "r": min_correlation, "share": value} for n, value in controls.items()]
    dots = (
        alt.Chart(alt.InlineData(values=points))
        .mark_point(filled=True, size=90, opacity=1)
        .encode(x="r:Q", y="share:Q", color=color)
    )
    title = "Features with a counterpart"
    chart = (lines + rule + dots).properties(width=520, height=300, title=title, description=title)
    return Spec(chart.to_dict())


def check_plot_path(path: Path) -> None:
    """Raise a DataError unless charts can be written under this name."""
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"--plot {path} must end in one of {', '.join(ENDINGS)}")


def write_chart(spec: Spec, path: Path) -> None:
    """Write a chart as self-contained HTML, as SVG or as PNG, by the ending of the path.

    Raises:
        DataError: The ending is none of these.
        SpaceError: The file cannot be written.
    """
    import vl_convert

    check_plot_path(path)
    if path.suffix.lower() == ".html":
        write_text(vl_convert.vegalite_to_html(spec, bundle=True), path)
    elif path.suffix.lower() == ".svg":
        write_text(vl_convert.vegalite_to_svg(spec), path)
    else:
        with atomic_path(path) as temporary:
            temporary.write_bytes(_packed(vl_convert.vegalite_to_png(spec, scale=2.0)))


def _packed(png: bytes) -> bytes:
    """The same picture with its pixels packed better, three to seven times smaller."""
    chunks, at = [], len(_PNG)
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        chunks.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + size]))
        at += 12 + size
    pixels = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    first, *rest = [(kind, body) for kind, body in chunks if kind != b"IDAT"]
    ordered = [first, *rest[:-1], (b"IDAT", zlib.compress(pixels, 9)), rest[-1]]
    packed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ordered
    )
    return _PNG + b"".join(packed)


def _bar(data_set: str, found: Mapping[str, float | None]) -> Spec:
    value, error = found["value"] or 0.0, found["standard_error"] or 0.0
    return {"name": data_set, "value": value, "low": value - 2 * error, "high": value + 2 * error}

"""Shares of features with a counterpart as a chart on white, for a file of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["share_chart"]


def share_chart(
    shares: Mapping[str, Sequence[Mapping[str, float]]],
    controls: Mapping[str, float],
    *,
    min_correlation: float,
) -> dict[str, Any]:
    """Share of features whose counterpart correlates above r, against r.

    Args:
        shares: Points `r` and `share` for each line, by the line's name.
        controls: Shares at `min_correlation` to read these against, by name.
        min_correlation: Where the rule is drawn above which a feature counts as matched.

    Returns:
        A Vega-Lite specification.
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
    spec: dict[str, Any] = chart.to_dict()
    return spec

"""Steering control rates by layer as a chart on white, for a file of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["layer_chart"]


def layer_chart(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Control rate of the vectors at each layer, beside random and shuffled vectors.

    Args:
        layers: The field `layers` of `facsynth.tasks.steering.evaluate.SteeringResult`.

    Returns:
        A Vega-Lite specification.
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
    spec: dict[str, Any] = chart.to_dict()
    return spec

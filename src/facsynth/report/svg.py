"""Small line charts as SVG; colours are CSS variables of the page, text is escaped."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Series", "line_chart", "nice_ticks"]

WIDTH, HEIGHT = 440, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 30, 40


@dataclass(frozen=True, slots=True)
class Series:
    """One line."""

    name: str
    kind: str
    """`anchor`, `seed`, `synthetic` or `filled`: its class in the style sheet."""

    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float]] = ()
    """Lower and upper end at each point."""

    n_solid: int | None = None
    """Points before the line is dashed; all by default."""


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_title: str,
    y_title: str,
    y_text: Callable[[float], str] = "{:,.4g}".format,
    rule: float | None = None,
) -> str:
    """An SVG element with axes, a legend and a title for screen readers.

    Args:
        series: The lines.
        title: What the chart shows, for those who cannot see it.
        x_title: What the horizontal axis shows.
        y_title: What the vertical axis shows.
        y_text: How a value of the vertical axis is written.
        rule: Where a vertical line is drawn.
    """
    xs = [x for one in series for x, _ in one.points]
    highs = [y for one in series for _, y in (*one.points, *one.band)]
    if not xs:
        return ""
    x_ticks, y_ticks = nice_ticks(min(0.0, *xs), max(xs)), nice_ticks(0.0, max(highs))
    right, top = max(x_ticks[-1], max(xs)), max(y_ticks[-1], max(highs)) or 1.0

    def px(x: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * x / (right or 1.0), 1)

    def py(y: float) -> float:
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * y / top, 1)

    parts = [
        f'<svg class="lines" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">'
    ]
    for tick in y_ticks:
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{py(tick)}" '
            f'y2="{py(tick)}"/><text x="{_LEFT - 6}" y="{py(tick) + 4}" text-anchor="end">'
            f"{escape(y_text(tick))}</text>"
        )
    for tick in x_ticks:
        parts.append(
            f'<text x="{px(tick)}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="{_side(px(tick))}">'
            f"{tick:,g}</text>"
        )
    if rule is not None and rule <= right:
        parts.append(
            f'<line class="rule" x1="{px(rule)}" x2="{px(rule)}" y1="{_TOP}" '
            f'y2="{HEIGHT - _BOTTOM}"/>'
        )
    for one in series:
        parts += _line(one, px, py)
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(x_title)}</text>"
    )
    parts.append(f"{_legend(series, y_title)}</svg>")
    return "".join(parts)


def nice_ticks(low: float, high: float, n: int = 5) -> list[float]:
    """About `n` round numbers from `low` to `high`, which is at most a step beyond the last.

    >>> nice_ticks(0, 0.83)
    [0.0, 0.2, 0.4, 0.6, 0.8]
    """
    span = high - low
    if span <= 0:
        return [low]
    rough = span / n
    power = 10 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 2.5, 5) if m * power >= 0.8 * rough), 10 * power)
    first = math.ceil(low / step)
    return [round(float(i * step), 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _side(x: float) -> str:
    """Which end of a label stands at its tick, so that the last one is not cut off."""
    return "end" if x > WIDTH - _RIGHT - 12 else "middle"


def _line(one: Series, px: Callable[[float], float], py: Callable[[float], float]) -> list[str]:
    parts = []
    if one.band:
        upper = [(x, high) for (x, _), (_, high) in zip(one.points, one.band, strict=True)]
        lower = [(x, low) for (x, _), (low, _) in zip(one.points, one.band, strict=True)]
        area = " ".join(f"{px(x)},{py(y)}" for x, y in (*upper, *reversed(lower)))
        parts.append(f'<polygon class="band {one.kind}" points="{area}"/>')
    n_solid = len(one.points) if one.n_solid is None else one.n_solid
    for dashed, points in ((False, one.points[:n_solid]), (True, one.points[n_solid - 1 :])):
        if len(points) > 1:
            line = " ".join(f"{px(x)},{py(y)}" for x, y in points)
            more = ' stroke-dasharray="4 4"' if dashed else ""
            parts.append(f'<polyline class="line {one.kind}" points="{line}"{more}/>')
    if len(one.points) <= 12:
        parts += [
            f'<circle class="dot {one.kind}" cx="{px(x)}" cy="{py(y)}" r="3"/>'
            for x, y in one.points
        ]
    return parts


def _legend(series: Sequence[Series], y_title: str) -> str:
    parts = [f'<text class="axis" x="2" y="14">{escape(y_title)}</text>']
    at = float(WIDTH - _RIGHT)
    for one in reversed(series):
        at -= 6.4 * len(one.name)
        parts.append(f'<text x="{at:.0f}" y="14">{escape(one.name)}</text>')
        parts.append(f'<circle class="dot {one.kind}" cx="{at - 9:.0f}" cy="10" r="4"/>')
        at -= 26
    return "".join(parts)

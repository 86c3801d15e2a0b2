"""Small line charts as SVG; colours are CSS variables of the page, text is escaped."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Interval", "Series", "interval_chart", "line_chart", "nice_ticks"]

WIDTH, HEIGHT = 360, 236
_LEFT, _RIGHT, _BOTTOM = 46, 14, 40


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


@dataclass(frozen=True, slots=True)
class Interval:
    """One value with its interval."""

    name: str
    value: float
    low: float
    high: float
    kind: str = ""
    """Class of the dot before the name, in the style sheet; no dot by default."""


def interval_chart(rows: Sequence[Interval], *, title: str) -> str:
    """An SVG element with an interval below each name and a line at 0.

    Args:
        rows: From top to bottom.
        title: What the chart shows, for those who cannot see it.
    """
    low, high = min(0.0, *(r.low for r in rows)), max(0.0, *(r.high for r in rows))
    room = 0.06 * (high - low) or 1.0
    low, high = low - room, high + room
    step, bottom = 34, 34 * len(rows) + 8

    def px(x: float) -> float:
        return round(8 + (WIDTH - 16) * (x - low) / (high - low), 1)

    parts = [
        f'<svg class="lines" viewBox="0 0 {WIDTH} {bottom + 24}" role="img" '
        f'aria-label="{escape(title)}">'
        f'<line class="rule" x1="{px(0.0)}" x2="{px(0.0)}" y1="0" y2="{bottom}"/>'
    ]
    for i, row in enumerate(rows):
        y = step * i + 25
        kind = "better" if row.low > 0 else "worse" if row.high < 0 else "even"
        if row.kind:
            parts.append(f'<circle class="dot {row.kind}" cx="12" cy="{y - 14}" r="4"/>')
        parts.append(
            f'<text class="axis" x="{22 if row.kind else 8}" y="{y - 10}">{escape(row.name)}</text>'
            f'<text x="{WIDTH - 8}" y="{y - 10}" text-anchor="end">{row.value:+.3f}</text>'
            f'<line class="interval {kind}" x1="{px(row.low)}" x2="{px(row.high)}" y1="{y}" '
            f'y2="{y}"/><circle class="dot {kind}" cx="{px(row.value)}" cy="{y}" r="4.5"/>'
        )
    parts += [
        f'<text x="{px(tick)}" y="{bottom + 16}" text-anchor="middle">{tick:+g}</text>'
        for tick in nice_ticks(low, high, 4)
    ]
    return "".join([*parts, "</svg>"])


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where values stand in a chart."""

    right: float
    bottom: float
    top: float
    head: float
    """Pixels above the plot, for the legend."""

    def x(self, value: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * value / (self.right or 1.0), 1)

    def y(self, value: float) -> float:
        room = HEIGHT - self.head - _BOTTOM
        share = (value - self.bottom) / ((self.top - self.bottom) or 1.0)
        return round(HEIGHT - _BOTTOM - room * share, 1)


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_title: str,
    y_title: str,
    y_text: Callable[[float], str] = "{:,.4g}".format,
    rule: float | None = None,
    from_zero: bool = True,
    x_labels: Mapping[float, str] | None = None,
) -> str:
    """An SVG element with axes, a legend and a title for screen readers.

    Args:
        series: The lines.
        title: What the chart shows, for those who cannot see it.
        x_title: What the horizontal axis shows, which begins at 0.
        y_title: What the vertical axis shows.
        y_text: How a value of the vertical axis is written.
        rule: Where a vertical line is drawn.
        from_zero: Begin the vertical axis at 0.
        x_labels: Labels of the horizontal axis by their places, such as those of a log axis; round
            numbers by default.
    """
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in (*one.points, *one.band)]
    if not xs:
        return ""
    legend, head = _legend(series, y_title)
    low = 0.0 if from_zero else min(ys)
    x_labels = x_labels or {tick: f"{tick:,g}" for tick in nice_ticks(0.0, max(xs))}
    y_ticks = nice_ticks(low, max(ys))
    frame = _Frame(max(*x_labels, *xs), low, max(y_ticks[-1], *ys), head)
    axes = _axes(frame, x_labels, {tick: y_text(tick) for tick in y_ticks})
    if rule is not None and rule <= frame.right:
        at = frame.x(rule)
        axes.append(f'<line class="rule" x1="{at}" x2="{at}" y1="{head}" y2="{HEIGHT - _BOTTOM}"/>')
    return "".join(
        [
            f'<svg class="lines" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(title)}">',
            *axes,
            *(part for one in series for part in _line(one, frame)),
            f'<text class="axis" x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
            f"{escape(x_title)}</text>{legend}</svg>",
        ]
    )


def _axes(frame: _Frame, x_labels: Mapping[float, str], y_labels: Mapping[float, str]) -> list[str]:
    """Grid lines with the labels of the vertical axis, then labels of the horizontal one."""
    lines = [
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{frame.y(tick)}" '
        f'y2="{frame.y(tick)}"/><text x="{_LEFT - 6}" y="{frame.y(tick) + 4}" text-anchor="end">'
        f"{escape(label)}</text>"
        for tick, label in y_labels.items()
    ]
    return lines + [
        f'<text x="{frame.x(tick)}" y="{HEIGHT - _BOTTOM + 16}" '
        f'text-anchor="{_side(frame.x(tick))}">{escape(label)}</text>'
        for tick, label in x_labels.items()
    ]


def nice_ticks(low: float, high: float, n: int = 5) -> list[float]:
    """About `n` round numbers from `low` to `high`, which is at most a step beyond the last.

    >>> nice_ticks(0.0, 0.83)
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


def _line(one: Series, frame: _Frame) -> list[str]:
    parts = []
    if one.band:
        upper = [(x, high) for (x, _), (_, high) in zip(one.points, one.band, strict=True)]
        lower = [(x, low) for (x, _), (low, _) in zip(one.points, one.band, strict=True)]
        area = _points([*upper, *reversed(lower)], frame)
        parts.append(f'<polygon class="band {one.kind}" points="{area}"/>')
    n_solid = len(one.points) if one.n_solid is None else one.n_solid
    for dashed, points in ((False, one.points[:n_solid]), (True, one.points[n_solid - 1 :])):
        if len(points) > 1:
            more = ' stroke-dasharray="4 4"' if dashed else ""
            line = _points(points, frame)
            parts.append(f'<polyline class="line {one.kind}" points="{line}"{more}/>')
    if len(one.points) <= 12:
        parts += [
            f'<circle class="dot {one.kind}" cx="{frame.x(x)}" cy="{frame.y(y)}" r="3"/>'
            for x, y in one.points
        ]
    return parts


def _points(points: Sequence[tuple[float, float]], frame: _Frame) -> str:
    return " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in points)


def _legend(series: Sequence[Series], y_title: str) -> tuple[str, float]:
    """Names of the lines, right of the axis' title, and the height that they take."""
    parts = [f'<text class="axis" x="2" y="14">{escape(y_title)}</text>']
    least, at, y = 16 + 6.4 * len(y_title), float(WIDTH - _RIGHT), 14
    for one in reversed(series):
        width = 6.4 * len(one.name)
        if at - width - 14 < least and at < WIDTH - _RIGHT:
            at, y = float(WIDTH - _RIGHT), y + 16
        at -= width
        parts.append(f'<text x="{at:.0f}" y="{y}">{escape(one.name)}</text>')
        parts.append(f'<circle class="dot {one.kind}" cx="{at - 9:.0f}" cy="{y - 4}" r="4"/>')
        at -= 26
    return "".join(parts), float(y + 16)

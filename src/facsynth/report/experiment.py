"""The report of an experiment: differences to the reference, and what a score costs."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from facsynth.coverage.threshold import ChosenThreshold
from facsynth.data.stored import read_json
from facsynth.errors import DataError
from facsynth.report.data import Chart, Report
from facsynth.report.svg import Interval, Series, interval_chart, line_chart
from facsynth.show import TextTable

__all__ = ["is_experiment", "report_experiment"]

Row = Mapping[str, Any]

FILE = "experiment.json"

_MARGIN = 1.3
"""Where a log axis begins, as a part of the least amount."""

N_COLOURS = 8
"""Lines of a chart that have a colour of their own."""


def is_experiment(folder: Path) -> bool:
    """Whether a folder is that of a finished `fac experiment`."""
    return (folder / FILE).is_file()


def report_experiment(folder: str | Path) -> Report:
    """The report of a folder of `fac experiment`.

    Args:
        folder: The folder; its result must be there.

    Raises:
        DataError: There is no result, or it lacks what is drawn.
    """
    path = Path(folder) / FILE
    result = read_json(path, what="the result of an experiment")
    try:
        groups = [
            (" · ".join(map(str, key)), list(rows))
            for key, rows in groupby(result["rows"], key=_group)
        ]
        colours = _colours(result["rows"])
        charts = [chart for name, rows in groups for chart in _charts(name, rows, result, colours)]
        tables = [_table(name, rows, result["reference"]) for name, rows in groups]
        threshold = ChosenThreshold(result["threshold"], result["threshold_rule"])
        spent = TextTable("Spent by all arms", ("what", "amount"), list(result["spent"].items()))
        return Report(
            title=result["experiment"],
            reading=(
                result["shown"],
                "Each difference is paired over random seeds and test items.",
            ),
            facts=(
                ("Reference", result["reference"]),
                ("Threshold δ", str(threshold)),
                ("Folder", str(folder)),
            ),
            threshold=threshold.threshold,
            threshold_rule=threshold.rule,
            charts=tuple(charts),
            details=(*tables, spent),
            notes=tuple(result["notes"]),
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not the result of an experiment: {error!r}") from error


def _group(row: Row) -> tuple[Any, ...]:
    return row["task"], row["backbone"], f"equal {row['view']}"


def _colours(rows: Sequence[Row]) -> dict[str, str]:
    """A class of the style sheet for each arm, the same in every chart."""
    arms = dict.fromkeys(row["arm"] for row in rows)
    return {arm: f"k{i % N_COLOURS}" for i, arm in enumerate(arms)}


def _charts(name: str, rows: Sequence[Row], result: Row, colours: Mapping[str, str]) -> list[Chart]:
    compared = [row for row in rows if row["low"] is not None]
    charts = []
    for size, of_size in groupby(sorted(compared, key=_size), key=_size):
        intervals = [
            Interval(
                name=r["arm"],
                value=float(r["difference"]),
                low=float(r["low"]),
                high=float(r["high"]),
                kind=colours[r["arm"]],
            )
            for r in of_size
        ]
        title = f"{name}: {size:,}"
        drawn = interval_chart(intervals, title=title)
        values = TextTable(
            "Values",
            ("arm", "difference", "low", "high"),
            [(one.name, one.value, one.low, one.high) for one in intervals],
        )
        hint = f"Differences to {result['reference']} with 95 % intervals; right of 0 is better."
        charts.append(Chart(title, hint, drawn, values))
    return [*charts, *_frontier(name, rows, colours)]


def _size(row: Row) -> int:
    return int(row["size"])


def _frontier(name: str, rows: Sequence[Row], colours: Mapping[str, str]) -> list[Chart]:
    """Score against added samples, and against written tokens, on log axes."""
    found = []
    for key, what in (("n_samples", "added samples"), ("tokens", "written tokens")):
        arms: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            if row["score"] is not None and row[key]:
                arms.setdefault(row["arm"], []).append((float(row[key]), float(row["score"])))
        if rows[0]["view"] == "samples" and arms:
            alone = {r["arm"]: float(r["score"]) for r in rows if r["n_samples"] == 0}
            title = f"{name}: score against {what}"
            found.append(_log_chart(title, what, arms, alone, colours))
    return found


def _log_chart(
    title: str,
    what: str,
    arms: Mapping[str, list[tuple[float, float]]],
    alone: Mapping[str, float],
    colours: Mapping[str, str],
) -> Chart:
    """A line for each arm; those that add nothing are level."""
    amounts = sorted({x for points in arms.values() for x, _ in points})
    first, last = amounts[0] / _MARGIN, amounts[-1]
    lines = dict(arms) | {arm: [(first, score), (last, score)] for arm, score in alone.items()}
    series = [
        Series(arm, colours[arm], [(math.log(x / first), y) for x, y in sorted(points)])
        for arm, points in lines.items()
    ]
    powers = [m * 10**k for k in range(8) for m in (1, 2, 5)]
    marked = amounts if len(amounts) < 8 else [x for x in powers if first < x < last]
    drawn = line_chart(
        series,
        title=title,
        x_title=f"{what}, log axis",
        y_title="score",
        from_zero=False,
        x_labels={math.log(x / first): f"{x:,g}" for x in marked},
    )
    points = [(arm, x, y) for arm, found in arms.items() for x, y in found]
    values = TextTable("Values", ("arm", what, "score"), points)
    return Chart(title, "Higher and further left is better.", drawn, values)


def _table(name: str, rows: Sequence[Row], reference: str) -> TextTable:
    columns = ("arm", "size", "score", f"− {reference}", "low", "high", "shuffled", "tokens")
    keys = ("arm", "size", "score", "difference", "low", "high", "shuffled", "tokens")
    return TextTable(name, columns, [tuple(row.get(key) for key in keys) for row in rows])

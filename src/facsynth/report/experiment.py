"""The report of an experiment: differences to the reference, and what a score costs."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from facsynth.data.stored import read_json
from facsynth.errors import DataError
from facsynth.report.data import Chart, Report
from facsynth.report.svg import Interval, Series, interval_chart, line_chart
from facsynth.show import TextTable

__all__ = ["is_experiment", "report_experiment"]

Row = Mapping[str, Any]

FILE = "experiment.json"

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
        charts = [chart for name, rows in groups for chart in _charts(name, rows, result)]
        tables = [_table(name, rows, result["reference"]) for name, rows in groups]
        spent = TextTable("Spent by all arms", ("what", "amount"), list(result["spent"].items()))
        return Report(
            title=result["experiment"],
            reading=(
                result["shown"],
                "Each difference is paired over random seeds and test items.",
            ),
            facts=(("Reference", result["reference"]), ("Folder", str(folder))),
            charts=tuple(charts),
            details=(*tables, spent),
            notes=tuple(result["notes"]),
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is not the result of an experiment: {error!r}") from error


def _group(row: Row) -> tuple[Any, ...]:
    return row["task"], row["backbone"], f"equal {row['view']}"


def _charts(name: str, rows: Sequence[Row], result: Row) -> list[Chart]:
    compared = [row for row in rows if row["low"] is not None]
    charts = []
    for size, of_size in groupby(sorted(compared, key=_size), key=_size):
        intervals = [
            Interval(r["arm"], float(r["difference"]), float(r["low"]), float(r["high"]))
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
    return [*charts, *_frontier(name, rows)]


def _size(row: Row) -> int:
    return int(row["size"])


def _frontier(name: str, rows: Sequence[Row]) -> list[Chart]:
    """Score against written tokens, a line for each arm; nothing where nothing was written."""
    arms: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["score"] is not None and row["tokens"]:
            arms.setdefault(row["arm"], []).append((float(row["tokens"]), float(row["score"])))
    series = [
        Series(arm, f"k{i % N_COLOURS}", sorted(points))
        for i, (arm, points) in enumerate(arms.items())
    ]
    if not series:
        return []
    title = f"{name}: frontier"
    drawn = line_chart(
        series, title=title, x_title="written tokens", y_title="score", from_zero=False
    )
    points = [(one.name, x, y) for one in series for x, y in one.points]
    values = TextTable("Values", ("arm", "written tokens", "score"), points)
    return [Chart(title, "Higher and further left is better.", drawn, values)]


def _table(name: str, rows: Sequence[Row], reference: str) -> TextTable:
    columns = ("arm", "size", "score", f"− {reference}", "low", "high", "shuffled", "tokens")
    keys = ("arm", "size", "score", "difference", "low", "high", "shuffled", "tokens")
    return TextTable(name, columns, [tuple(row.get(key) for key in keys) for row in rows])

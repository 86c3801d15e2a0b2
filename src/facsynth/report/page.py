"""Writes reports as one HTML page that needs no network and opens from a folder.

Texts come from data sets and language models, so the page is made for untrusted text. The overview
is escaped by its template; everything else travels as data and enters the document only as
text. The page's security policy runs no other script and fetches no address.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facsynth.data.write import write_text
from facsynth.report.data import Panel, Report, TopicEntry
from facsynth.report.pack import pack
from facsynth.show import TextTable, cell_text

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["write_report"]

MAX_TOPICS = 24
"""Topics drawn on the overview."""

STATUS_WORDS = {
    "covered": "covered",
    "filled": "filled",
    "missing": "missing",
    "extra": "not in the anchor",
    "uncounted": "not relevant",
    "active": "active",
}
"""Statuses in words, in the order of bars and legends."""


def write_report(reports: Report | Sequence[Report], path: str | Path) -> None:
    """Write one report, or several side by side, as a self-contained HTML page.

    Args:
        reports: From `make_report`.
        path: The page.

    Raises:
        SpaceError: The file cannot be written.
    """
    from markupsafe import Markup

    reports = (reports,) if isinstance(reports, Report) else tuple(reports)
    folder = resources.files("facsynth.report")
    # These hold no data and go in as they are; the data is base64.
    style = Markup(folder.joinpath("page.css").read_text("utf-8"))
    script = Markup("\n".join(folder.joinpath(name).read_text("utf-8") for name in SCRIPTS))
    page = (
        _environment()
        .get_template("page.html.jinja")
        .render(
            reports=reports,
            side_by_side=_side_by_side(reports),
            is_sensitive=any(report.is_sensitive for report in reports),
            data=Markup(pack(reports)),
            style=style,
            style_hash=_hash(style),
            script=script,
            script_hash=_hash(script),
            statuses=list(STATUS_WORDS),
            status_words=STATUS_WORDS,
            max_topics=MAX_TOPICS,
        )
    )
    # Half of a character (a lone surrogate) cannot be written; its escape can.
    write_text(page.encode("utf-8", "backslashreplace").decode("utf-8"), path)


SCRIPTS = ("page_store.js", "page_list.js", "page_detail.js", "page_map.js", "page_main.js")
"""Parts of the one script, in this order."""


def _side_by_side(reports: Sequence[Report]) -> TextTable:
    """The lanes of all panels, one column a report."""
    names = dict.fromkeys(
        (panel.title, lane.name)
        for report in reports
        for panel in report.panels
        for lane in panel.lanes
    )
    values = [
        {(panel.title, lane.name): lane.value for panel in report.panels for lane in panel.lanes}
        for report in reports
    ]
    rows: list[tuple[object, ...]] = [
        (": ".join(name), *(one.get(name) for one in values)) for name in names
    ]
    rows.append(("features on the page", *(len(report.features) for report in reports)))
    return TextTable("Measures", ("", *(report.title for report in reports)), rows)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("facsynth", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "at": _at,
        "bars": _bars,
        "cell": cell_text,
        "count": "{:,}".format,
        "has_status": _has_status,
        "measure": _measure,
        "ranked_topics": _ranked_topics,
        "sentence": _sentence,
        "steps": _steps,
    }
    return environment


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode()}"


def _measure(value: float | None, is_share: bool) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if is_share else f"{value:.3f}"


def _at(value: float, panel: Panel) -> float:
    """Where a value of a panel stands, in percent of the width; a distance has its own scale."""
    if panel.is_share:
        top = 1.0
    else:
        top = 1.15 * max(max(lane.value or 0.0, lane.high or 0.0) for lane in panel.lanes) or 1.0
    return round(1 + 98 * value / top, 2)


def _gaps(topic: TopicEntry) -> int:
    return topic.counts.get("missing", 0) + topic.counts.get("filled", 0)


def _ranked_topics(report: Report) -> list[tuple[int, TopicEntry]]:
    """Topics of the overview with their places; most gaps first, then the most frequent."""
    order = sorted(enumerate(report.topics), key=lambda one: (-_gaps(one[1]), -one[1].n_samples))
    return order[:MAX_TOPICS]


def _bars(topic: TopicEntry, report: Report) -> Iterable[tuple[str, float, float]]:
    """Status, start and width of each part of a bar, in percent of the longest."""
    longest = max(sum(one.counts.values()) for _, one in _ranked_topics(report))
    start = 0.0
    for status in STATUS_WORDS:
        width = 100 * topic.counts.get(status, 0) / longest
        if width:
            yield status, round(start, 2), round(width, 2)
        start += width


def _has_status(report: Report, status: str) -> bool:
    return any(status in topic.counts for topic in report.topics)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."


def _steps(text: str) -> "Markup":
    """A sentence whose commands stand between back quotes, as HTML."""
    from markupsafe import Markup, escape

    parts: list[Any] = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part)
        for i, part in enumerate(parts)
    )

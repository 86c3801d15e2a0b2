"""One self-contained HTML page about coverage and what was synthesized; it computes nothing.

All texts come from data sets or language models, so the page is written for untrusted text:
everything is escaped, and its content security policy lets no other script run and no address
be fetched.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from facsynth.data.write import write_text
from facsynth.errors import DataError, MismatchError
from facsynth.records import Message, Span
from facsynth.report.charts import (
    accumulation_chart,
    controls_chart,
    coverage_curve_chart,
    rounds_chart,
)

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["FeatureRow", "NeighbourRow", "Report", "SampleRow", "TopicRow", "write_report"]

Status = Literal["covered", "filled", "missing"]
"""Active in the seed; in a synthetic sample only; in neither."""

MAX_FEATURES = 200
"""Features on the page; a browser stays quick, and the files hold the rest."""

MAX_SAMPLES = 200
MAX_SPANS = 8
"""Spans shown for one feature."""

MAX_CHARACTERS = 6_000
"""Characters shown of one message."""

ROW_KEYS = (
    *("fac", "n_relevant", "n_anchor", "n_covered", "n_missing", "n_seed_only", "threshold"),
    *("weighted", "k_fold", "sweep", "interval", "richness", "representativeness", "controls"),
    *("n_samples", "n_tokens"),
)

ROUND_KEYS = ("round", "n_candidates", "n_kept", "n_covered", "fac")


@dataclass(frozen=True, slots=True)
class NeighbourRow:
    """A feature that is like the one it stands with."""

    feature_id: int
    name: str
    """What it means, by the words at its peaks; may be empty."""

    status: Status
    cosine: float
    """Cosine of the two decoder directions."""

    shared: float
    """Anchor samples that activate both, of those that activate either; in [0, 1]."""


@dataclass(frozen=True, slots=True)
class TopicRow:
    """Missing features that are alike."""

    name: str
    n_features: int
    n_filled: int
    """Those of them that a synthetic sample activates now."""

    n_anchor_samples: int
    """Anchor samples that activate at least one of them."""


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """A feature that was missing before synthesis."""

    feature_id: int
    name: str
    """What the feature means, in terms or in the words of a language model; may be empty."""

    status: Literal["filled", "missing"]
    """Whether a synthetic sample activates it now."""

    n_anchor_samples: int
    """Anchor samples that activate the feature."""

    max_activation: float
    """Largest activation in the anchor, in SAE units."""

    n_synthetic: int
    """Synthetic samples that activate the feature."""

    spans: tuple[Span, ...]
    """Where the anchor activates it, strongest first."""

    balanced_accuracy: float | None = None
    """How well the name tells other spans of the feature from near misses; None when untested."""

    is_doubtful: bool = False
    """Whether the name did badly there."""

    topic: int | None = None
    """Place of its topic in `Report.topics`; None when it has none."""

    neighbours: tuple[NeighbourRow, ...] = ()
    """Features that are like it, by direction and by samples."""


@dataclass(frozen=True, slots=True)
class SampleRow:
    """A synthetic sample that was kept."""

    sample_id: str
    messages: tuple[Message, ...]
    """The conversation; a plain text is one message with the role `text`."""

    target_feature: int | None
    """Feature that the sample was written for; None when it was written for none."""

    credited: tuple[tuple[int, float], ...]
    """Features that the sample newly covers, with their activations in SAE units."""

    step: str
    """Step of the method that wrote the sample."""

    round: int
    generator: str
    """Name of the model that wrote it."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a report shows, in the order of the page."""

    title: str
    facts: tuple[tuple[str, str], ...]
    """Label and value pairs, such as model, SAE, threshold, date and versions."""

    before: Mapping[str, Any]
    """`Coverage.row` of the seed."""

    after: Mapping[str, Any] | None = None
    """The same for the seed with the synthetic samples; None when nothing was synthesized."""

    features: tuple[FeatureRow, ...] = ()
    """Features that were missing before synthesis, ranked."""

    topics: tuple[TopicRow, ...] = ()
    """Topics that the features form, in the order of the page."""

    samples: tuple[SampleRow, ...] = ()
    """Synthetic samples that were kept, the most useful first."""

    outcomes: tuple[tuple[str, int], ...] = ()
    """Label and count pairs: what became of the candidates."""

    rounds: tuple[Mapping[str, Any], ...] = ()
    """One row per round of synthesis with `round`, `n_candidates`, `n_kept`, `n_covered` and
    `fac`; the last four are totals from the first round to the end of this one."""

    features_file: str = ""
    """Where all missing features are listed, as text for the reader."""

    samples_file: str = ""
    """Where all synthetic samples are, as text for the reader."""

    is_sensitive: bool = False
    """Whether texts may offend or harm; they are blurred until the reader asks for them."""

    def __post_init__(self) -> None:
        _check_row("before", self.before, ROW_KEYS)
        for row in self.rounds:
            _check_row("a round", row, ROUND_KEYS)
        if self.after is not None:
            _check_row("after", self.after, ROW_KEYS)
            _check_comparable(self.before, self.after)


def write_report(report: Report, path: str | Path) -> None:
    """Write a report as one HTML file that needs no network and opens from a folder.

    Args:
        report: What to show.
        path: The file, replaced where it exists.

    Raises:
        SpaceError: The file cannot be written.
    """
    from markupsafe import Markup

    environment = _environment()
    # Text below is ours and holds no data: it goes in as it is.
    runtime = Markup(_runtime())
    script = Markup(environment.get_template("page.js.jinja").render())
    style = Markup(resources.files("facsynth.report").joinpath("page.css").read_text("utf-8"))
    page = environment.get_template("page.html.jinja").render(
        report=report,
        specs=_specs(report),
        features=report.features[:MAX_FEATURES],
        groups=_groups(report),
        shown_ids={row.feature_id for row in report.features[:MAX_FEATURES]},
        names={row.feature_id: row.name for row in report.features},
        samples=report.samples[:MAX_SAMPLES],
        max_spans=MAX_SPANS,
        max_characters=MAX_CHARACTERS,
        runtime=runtime,
        script=script,
        style=style,
        script_hashes=[_script_hash(runtime), _script_hash(script)],
    )
    # Half of a character (a lone surrogate) cannot be written; its escape can.
    write_text(page.encode("utf-8", "backslashreplace").decode("utf-8"), path)


def _check_row(name: str, row: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    lacking = [key for key in keys if key not in row]
    if lacking:
        raise DataError(
            f"{name} of the report has no {', '.join(lacking)}; "
            "pass a row as its field's documentation says"
        )


def _check_comparable(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    for key in ("threshold", "n_relevant", "n_anchor"):
        if before[key] != after[key]:
            raise MismatchError(
                f"{key} is {before[key]} before and {after[key]} after, so the two coverages "
                "do not compare; measure both with one anchor, threshold and relevance file"
            )


def _groups(report: Report) -> list[tuple[TopicRow | None, list[FeatureRow]]]:
    """The features of the page under their topics; those without one come last."""
    shown = report.features[:MAX_FEATURES]
    places = [*range(len(report.topics)), None]
    groups = [(place, [row for row in shown if row.topic == place]) for place in places]
    return [
        (None if place is None else report.topics[place], rows) for place, rows in groups if rows
    ]


def _specs(report: Report) -> dict[str, dict[str, Any]]:
    specs = {
        "controls": controls_chart(report.before, report.after),
        "curve": coverage_curve_chart(report.before, report.after),
        "accumulation": accumulation_chart(report.before, report.after),
    }
    if report.rounds:
        specs["rounds"] = rounds_chart(report.before, report.rounds)
    return specs


def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("facsynth", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "count": _count,
        "percent": _percent,
        "decimals": _decimals,
        "verdict": _verdict,
        "visible": _visible,
        "sentence": _sentence,
    }
    return environment


@cache
def _runtime() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that gives the page `vegaEmbed`."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")


def _script_hash(script: str) -> str:
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _count(value: int | float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _percent(value: int | float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _decimals(value: int | float | None, places: int = 2) -> str:
    return "–" if value is None else f"{value:,.{places}f}"


def _verdict(draws: Mapping[str, Any], fac: int | float) -> str:
    """Where a coverage stands among the draws of a control."""
    if fac < draws["low"]:
        return f"FAC is below all {draws['n_draws']} draws"
    if fac > draws["high"]:
        return f"FAC is above all {draws['n_draws']} draws"
    return f"FAC is within the {draws['n_draws']} draws"


def _visible(token: str) -> str:
    """A token with white space drawn when it holds nothing else."""
    if token.strip():
        return token
    return token.replace("\n", "↵").replace("\t", "⇥").replace(" ", "␣") or "∅"


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."

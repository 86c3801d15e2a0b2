"""Reports of what there is: a run, or tables."""

from pathlib import Path

from facsynth.progress import SILENT, Progress
from facsynth.report.collect import make_report
from facsynth.report.data import Report
from facsynth.report.settings import ReportSettings
from facsynth.report.sources import find_reader, inputs_of_run, inputs_of_tables
from facsynth.table.table import open_table

__all__ = ["report_run", "report_tables"]


def report_run(
    folder: str | Path,
    settings: ReportSettings | None = None,
    *,
    progress: Progress = SILENT,
) -> Report:
    """The report of a folder of `fac run`, finished or not.

    Args:
        folder: The run folder; its threshold counts, not that of the settings.
        settings: What is shown.
        progress: Where lines and bars go.

    Raises:
        FacsynthError: A table cannot be read, or the model that is to paint is not there.
    """
    folder, settings = Path(folder), settings or ReportSettings()
    reader = find_reader(open_table(folder / "anchor").manifest.source, settings, progress)
    return make_report(inputs_of_run(folder).read_by(reader), settings, progress=progress)


def report_tables(
    anchor: str | Path,
    seed: str | Path | None = None,
    synthetic: str | Path | None = None,
    settings: ReportSettings | None = None,
    *,
    explanations: str | Path | None = None,
    relevance: str | Path | None = None,
    progress: Progress = SILENT,
) -> Report:
    """The report of one table, or of a seed and what was written for it against an anchor.

    Args:
        anchor: Table of the anchor, or any table alone.
        seed: Table of the seed.
        synthetic: A folder of `fac synthesize`, or the table of written samples.
        settings: What is shown.
        explanations: File of `fac explain`, or of another tool.
        relevance: File of `fac relevance`.
        progress: Where lines and bars go.

    Raises:
        FacsynthError: A table or a file cannot be read, tables do not fit together, or the model
            that is to paint is not there.
    """
    settings = settings or ReportSettings()
    paths = [None if path is None else Path(path) for path in (seed, synthetic)]
    inputs = inputs_of_tables(
        Path(anchor),
        *paths,
        explanations=None if explanations is None else Path(explanations),
        relevance=None if relevance is None else Path(relevance),
        settings=settings,
    )
    reader = find_reader(open_table(anchor).manifest.source, settings, progress)
    return make_report(inputs.read_by(reader), settings, progress=progress)

"""What a Python user has in hand becomes open tables, at the door of public functions."""

from pathlib import Path

from facsynth.errors import DataError
from facsynth.records import FeatureActivations
from facsynth.table.table import FeatureTable, open_table

__all__ = ["OpenTable", "TableData", "open_tables"]

OpenTable = FeatureActivations | FeatureTable
"""Rows in memory, or a table on disk, which is read when it is needed."""

TableData = OpenTable | str | Path
"""Activations in memory, a feature table, or its folder."""


def open_tables(given: object) -> tuple[OpenTable, ...]:
    """The tables that a caller passed as `TableData`, or as several that count together.

    Raises:
        DataError: One is something else.
    """
    several = given if isinstance(given, list | tuple) else (given,)
    return tuple(map(_open, several))


def _open(table: object) -> OpenTable:
    if isinstance(table, str | Path):
        return open_table(table)
    if isinstance(table, OpenTable):
        return table
    raise DataError(
        f"expected a feature table, found {type(table).__name__}; extract_features and "
        "extract_table make one"
    )

"""What a Python user has in hand becomes a table's rows, at the door of public functions."""

from pathlib import Path

from facsynth.errors import DataError
from facsynth.records import FeatureActivations
from facsynth.table.table import FeatureTable, open_table

__all__ = ["TableData", "as_activations"]

TableData = FeatureActivations | FeatureTable | str | Path
"""Activations in memory, a feature table, or its folder."""


def as_activations(table: object) -> FeatureActivations:
    """The activations of what a caller passed as `TableData`.

    Mean hidden states come along where the table keeps them.

    Raises:
        DataError: It is something else.
    """
    if isinstance(table, FeatureActivations):
        return table
    if isinstance(table, str | Path):
        table = open_table(table)
    if isinstance(table, FeatureTable):
        return table.activations(hidden=True)
    raise DataError(
        f"expected a feature table, found {type(table).__name__}; extract_features and "
        "extract_table make one"
    )

"""What every result of choosing and comparing promises: plain rows, tables, a next command."""

import json

import pytest

from activations import make_activations, write_table
from facsynth.compare.difference import compare_features
from facsynth.compare.label_report import compare_labels
from facsynth.compare.labels import labelled_rows
from facsynth.compare.overlap import measure_overlap
from facsynth.compare.settings import LabelSettings
from facsynth.compare.side_by_side import DataSet, compare_diversity
from facsynth.compare.transfer import common_samples, measure_transfer
from facsynth.records import Sample
from facsynth.select.pool import Pool
from facsynth.select.select import select_samples
from facsynth.select.settings import SelectSettings
from facsynth.show import Result
from facsynth.table.active import active_rows
from facsynth.table.table import open_table

ROWS = [{i % 4: 2.0, (i // 2) % 4: 3.0} for i in range(60)]


def active():
    return active_rows(make_activations(ROWS), threshold=1.0)


def selection(folder):
    return select_samples(Pool(active()), SelectSettings(3))


def difference(folder):
    return compare_features(active(), active())


def overlap(folder):
    return measure_overlap([active(), active()])


def diversity(folder):
    texts = tuple(f"word{i} and word{i % 3}" for i in range(len(ROWS)))
    sets = [DataSet("set", texts, active(), active().matrix)]
    return compare_diversity(sets, anchor=active())


def labels(folder):
    rows = [labelled_rows(active(), ["a", "b"] * 30) for _ in range(2)]
    return compare_labels(rows[:1], LabelSettings(resamples=20), names=["x", "y"], anchor=rows[1])


def transfer(folder):
    samples = [Sample(f"s{i}", text=f"text {i}") for i in range(len(ROWS))]
    write_table(folder / "table", make_activations(ROWS), samples)
    table = open_table(folder / "table")
    return measure_transfer(common_samples(table, table))


RESULTS = [selection, difference, overlap, diversity, labels, transfer]


@pytest.mark.parametrize("make", RESULTS)
def test_a_row_is_plain_values_and_tables_end_with_the_next_command(make, tmp_path):
    found = make(tmp_path)
    assert isinstance(found, Result)
    json.dumps(found.row())  # refuses NumPy's numbers and arrays
    assert "`fac " in found.tables()[-1].note


@pytest.mark.parametrize("make", RESULTS)
def test_a_notebook_shows_all_tables(make, tmp_path):
    found = make(tmp_path)
    assert found._repr_html_().count("<table>") == len(found.tables())

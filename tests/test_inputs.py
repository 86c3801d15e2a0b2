"""Public functions take what a user has in hand, or say in one line what is wrong."""

import datasets
import pandas as pd
import pytest

import facsynth
from facsynth.data.read import as_samples
from facsynth.data.write import sample_row, write_jsonl
from facsynth.errors import DataError
from facsynth.records import Sample
from facsynth.table.inputs import open_tables
from tiny_pair import planted_pair, planted_table, talk

TEXTS = ["the cat saw the sea", "a dog found tea"]
ROWS = [{"id": f"t{i}", "text": text} for i, text in enumerate(TEXTS)]
SAMPLES = [Sample(f"t{i}", text=text) for i, text in enumerate(TEXTS)]
"""The same data as rows and as samples."""


@pytest.mark.parametrize(
    "data",
    [SAMPLES, ROWS, iter(ROWS), datasets.Dataset.from_list(ROWS), pd.DataFrame(ROWS)],
    ids=["samples", "rows", "iterator", "datasets", "pandas"],
)
def test_rows_of_any_container_are_the_same_samples(data):
    assert as_samples(data) == SAMPLES


def test_strings_are_plain_texts():
    assert [sample.text for sample in as_samples(TEXTS)] == TEXTS


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_path_is_read(tmp_path, kind):
    write_jsonl(map(sample_row, SAMPLES), tmp_path / "data.jsonl")
    assert as_samples(kind(tmp_path / "data.jsonl")) == SAMPLES


def test_a_missing_cell_of_a_data_frame_is_no_label():
    frame = pd.DataFrame([{"text": "one", "label": "a"}, {"text": "two", "label": None}])
    frame.loc[2] = {"text": "three", "label": float("nan")}
    assert [sample.label for sample in as_samples(frame)] == ["a", None, None]


def test_what_holds_no_samples_is_named_in_one_line():
    with pytest.raises(DataError, match="a int cannot be read; pass a path or a list of rows"):
        as_samples(3)


def test_features_are_extracted_from_strings():
    lm, sae = planted_pair()
    rows = facsynth.extract_features(TEXTS, lm, sae)
    assert rows.sample_ids == ("row-1", "row-2")


@pytest.fixture
def tables(tmp_path):
    anchor = [talk(f"a{i}", text) for i, text in enumerate([*TEXTS, "snow and sun", "a bird"])]
    return planted_table(anchor, tmp_path / "anchor"), planted_table(anchor[:2], tmp_path / "seed")


def test_coverage_takes_tables_their_folders_and_their_activations(tables):
    folders = [table.folder for table in tables]
    rows = [table.activations() for table in tables]
    measured = {facsynth.measure_coverage(*pair).fac for pair in (tables, folders, rows)}
    assert len(measured) == 1


def test_active_rows_take_a_table(tables):
    assert facsynth.active_rows(tables[0], threshold=1.0).n_samples == 4


def test_what_is_no_table_is_named_in_one_line():
    with pytest.raises(DataError, match="expected a feature table, found int"):
        open_tables([1, 2])

"""The export for embedding-atlas, against small tables worked out by hand."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from activations import make_activations, write_table
from facsynth.cli import main
from facsynth.coverage.threshold import choose_threshold
from facsynth.data.write import write_json
from facsynth.errors import DataError
from facsynth.records import Sample
from facsynth.report.atlas import export_atlas

SETS = {
    "anchor": [{0: 2.0, 1: 2.0}, {2: 3.0, 3: 0.5}, {0: 2.0, 2: 2.0}],
    "seed": [{0: 2.0, 1: 2.0}],
    "synthesize/table": [{2: 2.0}, {0: 2.0}],
}
"""Of the features that the anchor activates above 1, the seed lacks feature 2."""


@pytest.fixture
def run(tmp_path):
    for place, rows in SETS.items():
        samples = [Sample(f"{place[:4]}{i}", text=f"text {i}") for i in range(len(rows))]
        (tmp_path / place).parent.mkdir(exist_ok=True)
        write_table(tmp_path / place, make_activations(rows, n_features=8), samples)
    write_json({"synthesize": {"threshold": 1.0}}, tmp_path / "recipe.json")
    return tmp_path


def rows_of(done):
    return pq.read_table(done.data).to_pylist()


def test_states_tell_what_the_seed_lacks_and_what_was_filled(run):
    rows = rows_of(export_atlas(run, run / "x"))
    states = {row["id"]: (row["set"], row["coverage"], row["n_missing"]) for row in rows}
    assert states == {
        "anch0": ("anchor", "covered", 0),
        "anch1": ("anchor", "missing", 1),
        "anch2": ("anchor", "missing", 1),
        "seed0": ("seed", "seed", 0),
        "synt0": ("synthetic", "fills", 1),
        "synt1": ("synthetic", "adds nothing", 0),
    }


def test_neighbours_are_the_rows_with_the_most_alike_features(run):
    rows = rows_of(export_atlas(run, run / "x"))
    near = rows[0]["neighbors"]  # anch0 and seed0 (row 3) have the same features
    assert near["ids"][0] == 3
    assert near["distances"][0] == pytest.approx(0.0, abs=1e-6)
    assert sorted(near["ids"]) == [1, 2, 3, 4, 5]
    assert near["distances"] == sorted(near["distances"])


def test_equal_features_lie_at_one_place_and_others_elsewhere(run):
    rows = rows_of(export_atlas(run, run / "x"))
    places = np.array([(row["x"], row["y"]) for row in rows])
    assert places[0] == pytest.approx(places[3])
    assert np.abs(places[0] - places[1]).max() > 0.1


def test_a_run_that_has_chosen_nothing_yet_takes_what_coverage_would_take(run):
    (run / "recipe.json").unlink()
    done = export_atlas(run, run / "x")
    assert done.threshold == choose_threshold(run / "anchor", 1)


def test_a_table_alone_has_no_states(run):
    rows = rows_of(export_atlas(run / "anchor", run / "x"))
    assert {row["coverage"] for row in rows} == {None}


def test_command_writes_the_map_and_says_how_to_open_it(run):
    words = ["export", str(run), "-o", str(run / "x"), "--format", "embedding-atlas"]
    done = CliRunner().invoke(main, words)
    assert "--x x --y y --neighbors neighbors" in done.stdout
    row = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert row["n_samples"] == 6


def test_data_without_activations_are_refused(tmp_path):
    with pytest.raises(DataError, match="needs activations"):
        export_atlas(tmp_path, tmp_path / "x")

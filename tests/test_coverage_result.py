"""What people see of a coverage measurement."""

from dataclasses import replace

import numpy as np
import pytest

from activations import make_activations
from facsynth.coverage.measure import measure_coverage
from facsynth.coverage.settings import CoverageSettings
from facsynth.errors import DataError
from facsynth.show import Result

ANCHOR = make_activations([{i % 6: 2.0} for i in range(60)], n_features=6)
SEED = make_activations([{0: 2.0}, {1: 2.0}], n_features=6)


def measured(seed=SEED, **settings):
    at_one = CoverageSettings(threshold=1.0)
    return measure_coverage(ANCHOR, seed, settings=replace(at_one, **settings))


def test_coverage_is_a_result_that_a_notebook_shows():
    assert isinstance(measured(), Result)
    assert "<caption>Coverage at threshold 1</caption>" in measured()._repr_html_()


def test_the_last_table_ends_with_the_meaning_and_the_next_command():
    note = measured().tables()[-1].note
    assert note.startswith("The seed activates 33.3% of the 6 features of the anchor; random")
    assert note.endswith("`fac synthesize` writes samples for them.")
    assert [table.note for table in measured().tables()[:-1]] == [""]


@pytest.mark.parametrize(
    ("anchor", "advice"),
    [
        ([{0: 2.0, 1: 2.0}] * 20, "raise --threshold"),
        ([{0: 2.0}, {1: 2.0}] * 20, "Nothing is missing"),
    ],
)
def test_where_nothing_can_be_filled_the_sentence_says_what_else_to_do(anchor, advice):
    seed = make_activations([{0: 2.0}, {1: 2.0}])
    assert advice in measure_coverage(make_activations(anchor), seed).tables()[-1].note


def test_control_tables_are_shown_when_asked_for():
    titles = [table.title for table in measured(controls=True).tables()]
    assert titles[0].startswith("Coverage at")
    assert "Richness" in titles
    assert "Richness" not in [table.title for table in measured().tables()]


def test_names_reach_the_listed_features_and_the_row():
    found = measured().named({2: ("cat, tea", "a «cat»")})
    assert found.missing[0].name == "cat, tea"
    under = found.row()["representativeness"]["under_fired"]
    assert {s["feature_id"]: s["name"] for s in under}[2] == "cat, tea"
    assert {s["feature_id"]: s["example"] for s in under}[3] is None


def test_no_draws_are_refused():
    with pytest.raises(DataError, match="resamples and draws must be at least 1"):
        CoverageSettings(draws=0)


def test_the_random_seed_decides_the_draws():
    one, same, other = (measured(random_seed=i).controls for i in (1, 1, 2))
    assert one == same
    assert not np.isclose(one.random_hellinger, other.random_hellinger)

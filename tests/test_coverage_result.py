"""What people see of a coverage measurement."""

from dataclasses import replace

import numpy as np
import pytest

from activations import make_activations
from facsynth.coverage.fac import Topic
from facsynth.coverage.measure import measure_coverage
from facsynth.coverage.result import around_peak
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


def test_without_names_the_numbers_say_what_they_mean():
    (table,) = measured().tables()
    assert table.note.startswith(
        "The seed's 2 samples activate 33% of the 6 features of the anchor"
    )


def test_with_names_the_finding_comes_first():
    found = measured().named({}, [Topic("cat, dog", (2, 3), 20, "a «cat» and a dog")])
    finding = found.tables()[0]
    assert "Nothing in the seed is about: cat, dog." in finding.title
    assert finding.rows == [("missing", "cat, dog", "0%", "33%", "a «cat» and a dog")]


def test_without_topics_the_missing_features_themselves_are_named():
    finding = measured().named({2: ("cat", "the «cat»")}).tables()[0]
    assert finding.rows[0] == ("missing", "cat", "0%", "17%", "the «cat»")


@pytest.mark.parametrize("at", [0, 40, 90])
def test_a_long_example_is_cut_around_its_peak(at):
    words = [f"w{i}" for i in range(91)]
    words[at] = "«peak»"
    shown = around_peak(" ".join(words))
    assert "«peak»" in shown
    assert len(shown) <= 22


@pytest.mark.parametrize(
    ("anchor", "advice"),
    [
        ([{0: 2.0, 1: 2.0}] * 20, "raise --threshold"),
        ([{0: 2.0}, {1: 2.0}] * 20, "Nothing is missing"),
        ([{0: 2.0, 1: 2.0, 2: 2.0}] * 2, "that is all there is of the anchor: take a larger one"),
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

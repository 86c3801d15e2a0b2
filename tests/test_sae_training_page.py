"""The page of the SAE training benchmark is written without a measurement."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("sae_training_report")


def measured(report, plan, name, *, seconds):
    turns = [
        report.Turn(last, seconds * i, seconds, 0.1 * i, 31.96, 0.25)
        for i, (_, last) in enumerate(plan.turns(), 1)
    ]
    return report.Contender(name, "worker", turns=turns, versions={name: "1.0"})


def test_the_turns_cover_all_steps(report):
    turns = list(replace(report.Plan(), n_steps=10, n_turns=4).turns())
    assert [step for first, last in turns for step in range(first, last)] == list(range(10))


def test_the_page_compares_within_turns_and_shows_the_last_quality(report):
    plan = replace(report.Plan(), n_steps=9, n_turns=3, batch_tokens=100)
    entries = [measured(report, plan, n, seconds=s) for n, s in (("ours", 1.0), ("theirs", 3.0))]
    page = report.render(plan, entries, n_tokens=5000, n_heldout=500)
    assert (
        "| ours | 150 (100 to 300) | 1.0 x | 333.3 | 1.0 x | 9 | 6.0 | 0.300 | 32.0 | 25.0% |"
        in page
    )
    assert (
        "| theirs | 50 (33 to 100) | 3.0 x | 1000.0 | 3.0 x | 9 | 18.0 | 0.300 | 32.0 | 25.0% |"
        in page
    )
    assert "| trainer | 3 | 6 | 9 |" in page
    assert "| theirs | 0.100 | 0.200 | 0.300 |" in page
    assert "ours 1.0, theirs 1.0" in page

"""The pages of the studies are those of their stored results."""

from importlib import import_module
from pathlib import Path

import pytest

STUDIES = Path(__file__).parent.parent / "studies"
NAMES = sorted(path.stem for path in (STUDIES / "results").glob("*.json"))


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.syspath_prepend(STUDIES)
    return import_module("pages")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_page_is_that_of_the_stored_results(pages, name):
    page = STUDIES.parent / "docs" / "studies" / f"{name}.md"
    assert pages.written(name) == page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_stored_result_has_a_study(pages):
    assert set(NAMES) <= set(pages.STUDIES)

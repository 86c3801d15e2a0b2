"""Places of ids while data is read."""

import tracemalloc

import pytest

from facsynth.data.places import Places
from facsynth.errors import SpaceError


def test_the_first_place_of_an_id_is_kept():
    places = Places()
    assert places.note("a", "x.jsonl", "line 1")
    assert places.note("b", "y.jsonl", "line 1")
    assert not places.note("a", "y.jsonl", "line 2")
    assert [places.find(name) for name in "abc"] == [
        ("x.jsonl", "line 1"),
        ("y.jsonl", "line 1"),
        None,
    ]


@pytest.mark.parametrize("name", ["", "é", "\ud800", "a\0b", "a" * 10_000])
def test_any_text_is_an_id(name):
    places = Places()
    places.note("a", "x", "line 1")
    assert places.note(name, "x", "line 2")
    assert not places.note(name, "x", "line 3")
    assert places.find(name) == ("x", "line 2")


def test_python_holds_nothing_of_an_id():
    places = Places()
    places.note("first", "data.jsonl", "line 0")
    tracemalloc.start()
    for i in range(3000):
        places.note(f"id {i}", "data.jsonl", f"line {i}")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 3000 * 10


def test_a_full_disk_is_said():
    places = Places()
    places._held.execute("PRAGMA max_page_count = 20")
    with pytest.raises(SpaceError, match="folder for temporary files: database or disk is full"):
        all(places.note(f"{i:0100d}", "data.jsonl", f"line {i}") for i in range(10_000))

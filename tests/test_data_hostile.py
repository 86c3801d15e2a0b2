"""Whatever stands in a row or a file, the reader says so in one line or reads it."""

import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facsynth.data.fields import _COMPARED, _LISTS, _SCORED, FIELDS
from facsynth.data.formats import FORMATS
from facsynth.data.read import read_samples
from facsynth.data.shapes import PlacedRow, read_row
from facsynth.errors import DataError

NAMES = sorted(
    {name for names in FIELDS.values() for name in names}
    | {name for entry in (*_COMPARED, *_SCORED) for name in entry if isinstance(name, str)}
    | {*_LISTS, "score", "rank", "role", "from", "value", "tool_calls", "function", "name"}
    | {"arguments", "type", "function_call", "reasoning", "tool_use_id", "x"}
)
TEXTS = st.sampled_from(["", " ", "Hi", "user", "gpt", "tool", "[{}]", "[1]", "{", "\n\nHuman: x"])
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3) | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6) | VALUES)
def test_any_row_is_read_or_refused_in_one_line(row):
    with suppress(DataError):
        sample = read_row(PlacedRow("a.jsonl", "line 1", "a-1", row)).sample
        assert sample.text is not None or sample.messages


@pytest.mark.parametrize("ending", FORMATS)
@settings(max_examples=15, deadline=None)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(ending, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{ending}"
        path.write_bytes(content)
        with suppress(DataError):
            read_samples(path)

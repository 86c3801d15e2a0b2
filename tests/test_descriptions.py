"""Files that say what features stand for: those of `fac explain`, and imported ones."""

import gzip
import json

import pytest

from facsynth.errors import DataError
from facsynth.records import Span
from facsynth.understand.descriptions import read_explanations
from facsynth.understand.evidence import Evidence
from facsynth.understand.explain import Explanation
from facsynth.understand.fidelity import Fidelity, Score

SPAN = Span("s", "we saw ", "cat", " again", 2.0)
BAD = Fidelity(Score(0.5, 0.3, 0.7, 0.5, 0.5, 0.5, 5, 5), None, None)


def written(tmp_path, *rows):
    path = tmp_path / "explained.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(path):
    return {feature: one.text for feature, one in read_explanations(path).items()}


def test_rows_of_explain_come_back_with_spans_and_doubts(tmp_path):
    evidence = Evidence(3, 20, (SPAN,))
    told = Explanation(evidence, "pets", "llm", ("cat",), "pets", fidelity=BAD)
    untold = Explanation(evidence, "cat", "terms", ("cat",), failure="the model cannot tell")
    found = read_explanations(written(tmp_path, told.row(), untold.row() | {"feature_id": 4}))
    assert found[3].spans == (SPAN,)
    assert (found[3].text, found[3].description, found[3].doubtful) == ("pets", "pets", True)
    assert (found[4].text, found[4].description, found[4].cannot_tell) == ("cat", None, True)


def test_unsure_features_are_left_out_by_degree(tmp_path):
    rows = [
        {"feature_id": 1, "name": "fine"},
        {"feature_id": 2, "description": "failed", "doubtful": True},
        {"feature_id": 3, "description": "Cannot tell."},
        {"feature_id": 4, "name": "terms that failed", "doubtful": True},
    ]
    found = read_explanations(written(tmp_path, *rows)).values()
    kept = {
        degree: [one.feature_id for one in found if one.why_left_out(degree) is None]
        for degree in ("none", "cannot-tell", "doubtful")
    }
    assert kept == {"none": [1, 2, 3, 4], "cannot-tell": [1, 2, 4], "doubtful": [1, 4]}


def test_neuronpedia_export_is_read(tmp_path):
    rows = [
        {
            "modelId": "m",
            "layer": "9-res",
            "index": "3",
            "description": " plants ",
            "typeName": "t",
        },
        {"modelId": "m", "layer": "9-res", "index": "3", "description": "trees"},
        {"modelId": "m", "layer": "9-res", "index": "4", "description": "dates"},
    ]
    with gzip.open(tmp_path / "batch-0.jsonl.gz", "wt") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    assert texts(tmp_path) == {3: "plants", 4: "dates"}
    assert texts(tmp_path / "batch-0.jsonl.gz") == {3: "plants", 4: "dates"}


def test_own_table_is_read(tmp_path):
    (tmp_path / "mine.tsv").write_text("feature_id\tname\n5\tthe sea\n6\t\n")
    assert texts(tmp_path / "mine.tsv") == {5: "the sea"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "id\tname\n5\tsea\n", "expected one of feature_id"),
        ("a.jsonl", '{"feature_id": "x", "name": "sea"}\n', "not a feature number"),
        ("a.jsonl", "[1]\n", "where an object was expected"),
        ("a.jsonl", "{\n", "not JSON"),
        ("a.jsonl", "", "no explanations"),
        ("a.txt", "5 sea", "found text"),
        ("a.jsonl.gz", "plain", "cannot be read"),
    ],
)
def test_file_that_holds_no_explanations_is_an_error(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_explanations(tmp_path / name)

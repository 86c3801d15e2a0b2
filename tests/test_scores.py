"""Scores of a model: plain files, and logs of evaluation tools."""

import json
import zipfile

import numpy as np
import pytest

from facsynth.errors import DataError
from facsynth.records import Message, Sample
from facsynth.understand.scores import read_scores

QUESTIONS = ["Is tea hot?", 'Who said "no"?', "Where is Rome?"]
SAMPLES = [
    Sample(f"q-{i}", messages=(Message("user", text),)) for i, text in enumerate(QUESTIONS, start=1)
]


def written(tmp_path, name, *rows):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path, score=None):
    name, values = read_scores(path, SAMPLES, score=score)
    return name, [None if np.isnan(value) else value for value in values.tolist()]


def harness(doc_id, text, **more):
    doc = {"doc_id": doc_id, "doc": {"prompt": text}, "target": "", "resps": [["Yes"]]}
    return {**doc, "filter": "none", "metrics": list(more), **more}


def inspect(name, text, value, epoch=1):
    scores = {"match": {"value": value, "answer": "Yes"}}
    return {"id": name, "epoch": epoch, "input": text, "target": "a", "scores": scores}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "0\n1\n0.5\n"),
        ("a.jsonl", "0\n1\n0.5\n"),
        ("a.json", "[0, 1, 0.5]"),
        ("a.csv", "correct,model\nfalse,m\ntrue,m\np,m\n"),
        ("a.tsv", "sample_id\treward\nq-3\t0.5\nq-1\t0\nq-2\t1\n"),
    ],
)
def test_plain_scores_are_read_by_id_or_in_order(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read(tmp_path / name)[1] == [0, 1, 0.5]


def test_sample_that_a_file_with_ids_lacks_has_no_score(tmp_path):
    path = written(tmp_path, "a.jsonl", {"id": "q-2", "score": 1}, {"id": "q-1", "score": None})
    assert read(path) == ("score", [None, 1.0, None])


def test_log_of_lm_evaluation_harness_is_matched_by_place_and_metric(tmp_path):
    rows = [
        harness(2, QUESTIONS[2], loose=True, inst=[True, False]),
        harness(0, QUESTIONS[0], loose=False, inst=[True, True]),
    ]
    path = written(tmp_path, "samples_ifeval.jsonl", *rows)
    assert read(path, "loose") == ("loose", [0.0, None, 1.0])
    assert read(path, "inst")[1] == [1.0, None, 0.5]
    with pytest.raises(DataError, match="has the scores loose, inst; name the one"):
        read(path)


def test_filters_of_a_harness_log_are_told_apart(tmp_path):
    rows = [harness(0, QUESTIONS[0], exact=n) | {"filter": f} for n, f in ((0, "strict"), (1, "x"))]
    assert read(written(tmp_path, "s.jsonl", *rows), "exact,strict")[1] == [0.0, None, None]


def test_logs_of_inspect_are_matched_by_order_and_epochs_are_averaged(tmp_path):
    samples = [
        inspect(i, text, "CI"[i % 2], epoch)
        for epoch in (1, 2)
        for i, text in enumerate(QUESTIONS, start=1)
    ]
    samples[1]["scores"]["match"]["value"] = "P"
    log = {"version": 2, "eval": {"task": "t"}, "samples": samples}
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log | {"reductions": [{"scorer": "match", "samples": [{}]}]}))
    assert read(path) == ("match", [0.0, 0.75, 0.0])
    with zipfile.ZipFile(tmp_path / "log.eval", "w") as archive:
        archive.writestr("header.json", "{}")
        for one in samples:
            archive.writestr(f"samples/{one['id']}_epoch_{one['epoch']}.json", json.dumps(one))
    assert read(tmp_path / "log.eval") == read(path)


def test_log_of_inspect_with_ids_of_the_table_is_matched_by_them(tmp_path):
    log = {"eval": {}, "samples": [inspect("q-3", "?", {"a": 1, "b": "I"})]}
    (tmp_path / "log.json").write_text(json.dumps(log))
    assert read(tmp_path / "log.json", "match/b") == ("match/b", [None, None, 0.0])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"score": 1}] * 2, "2 samples and the table has 3"),
        ([{"id": "x", "score": 1}], "no id such as 'x' is in the table, whose ids look like 'q-1'"),
        ([{"id": "q-1", "score": 1}, {"id": "x", "score": 1}], "line 2: the table has no sample"),
        ([{"f1": 1, "f2": 1}] * 3, "has the scores f1, f2; name the one to use by --score"),
        ([{"said": "maybe"}] * 3, "has the scores none"),
        ([harness(3, "?", acc=1)], "has scores for 4 samples"),
        ([harness(0, "Other?", acc=1)], "the log's question is not that of sample 'q-1'"),
    ],
)
def test_scores_that_do_not_fit_the_samples_are_an_error(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        read(written(tmp_path, "a.jsonl", *rows))


def test_broken_archive_is_one_clear_line(tmp_path):
    (tmp_path / "log.eval").write_text("no zip")
    with pytest.raises(DataError, match="inspect log convert"):
        read(tmp_path / "log.eval")

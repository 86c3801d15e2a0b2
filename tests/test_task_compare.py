"""Rows of `fac task compare`: one for each folder and evaluation."""

import json

import pytest
from click.testing import CliRunner

from facsynth.cli import main
from facsynth.errors import DataError
from facsynth.tasks.compare import compare_runs


def folder(path, *, model="models/one.gguf", **headlines):
    path.mkdir()
    (path / "task.json").write_text(json.dumps({"task": "toxicity", "model": model}))
    for name, headline in headlines.items():
        row = {"data": f"x/{name}", "headline": headline}
        (path / f"evaluation-{name}.json").write_text(json.dumps(row))
    return path


def auprc(score):
    return {"measure": "auprc", "score": score, "sd": 0.1, "simple": 0.5, "shuffled": 0.55}


def test_backbones_become_rows(tmp_path):
    folders = [
        folder(tmp_path / "a", suite=auprc(0.8)),
        folder(tmp_path / "b", model="owner/two", suite=auprc(0.8), forum=auprc(0.6)),
    ]
    done = CliRunner().invoke(main, ["task", "compare", *map(str, folders), "--json"])
    rows = json.loads(done.stdout)["rows"]
    found = [(row["model"], row["data"], row["score"], row["simple"]) for row in rows]
    assert found == [
        ("one.gguf", "suite", 0.8, 0.5),
        ("two", "forum", 0.6, 0.5),
        ("two", "suite", 0.8, 0.5),
    ]
    assert rows[0]["shuffled"] == 0.55


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (folder, "has no evaluation; run `fac task toxicity evaluate`"),
        (lambda path: path, "has no task.json"),
    ],
)
def test_folders_without_results_are_refused(tmp_path, made, message):
    with pytest.raises(DataError, match=message):
        compare_runs([made(tmp_path / "a")])

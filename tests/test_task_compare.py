"""Rows of `fac task compare`: one for each folder and evaluation."""

import json

import pytest
from click.testing import CliRunner

from facsynth.cli import main
from facsynth.errors import DataError
from facsynth.tasks.compare import compare_runs


def folder(path, *, task="toxicity", model="models/one.gguf", **evaluations):
    path.mkdir()
    (path / "task.json").write_text(json.dumps({"task": task, "model": model}))
    for name, row in evaluations.items():
        (path / f"evaluation-{name}.json").write_text(json.dumps({"data": f"x/{name}", **row}))
    return path


TOXIC = {"auprc": 0.8, "auprc_sd": 0.1, "prevalence": 0.5, "shuffled_auprc": 0.55}


def test_backbones_become_rows(tmp_path):
    folders = [
        folder(tmp_path / "a", suite=TOXIC),
        folder(tmp_path / "b", model="owner/two", suite=TOXIC, forum={**TOXIC, "auprc": 0.6}),
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
        (lambda path: folder(path, task="juggling"), "holds the task 'juggling'"),
        (folder, "was not evaluated; run `fac task toxicity evaluate`"),
        (lambda path: path, "holds no task.json"),
    ],
)
def test_folders_without_results_are_refused(tmp_path, made, message):
    with pytest.raises(DataError, match=message):
        compare_runs([made(tmp_path / "a")])

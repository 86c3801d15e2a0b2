"""Rows of `fac task compare`: one for each folder and evaluation, with paired differences."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from facsynth.cli import main
from facsynth.compare.paired import paired_differences
from facsynth.errors import DataError
from facsynth.tasks.compare import compare_runs
from facsynth.tasks.results import Items, TaskResult, save_evaluation


def folder(path, *, model="models/one.gguf", **evaluations):
    path.mkdir()
    (path / "task.json").write_text(json.dumps({"task": "toxicity", "model": model}))
    for name, (right, ids) in evaluations.items():
        save_evaluation(path, f"x/{name}", result(right, ids))
    return path


def result(right, ids=None, **more):
    """Accuracies of two random seeds, a control and the untrained model, on a few items."""
    names = ("model-1", "model-2", "shuffled-1", "base")
    scores = {n: np.array(r, dtype=float) for n, r in zip(names, right, strict=False)}
    rows = {n: {"model": n, "accuracy": float(s.mean())} for n, s in scores.items()}
    base = rows.pop("base", None)
    items = Items(tuple(ids or "abcd"), scores)
    return TaskResult("reward", "accuracy", [*rows.values()], items, {}, {}, base, **more)


GOOD = ([[1, 1, 1, 0], [1, 1, 0, 1], [0, 0, 1, 1], [0, 1, 0, 0]], None)
POOR = ([[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1], [0, 1, 0, 0]], None)


def test_backbones_become_rows(tmp_path):
    folders = [
        folder(tmp_path / "a", suite=GOOD),
        folder(tmp_path / "b", model="owner/two", suite=POOR, forum=POOR),
    ]
    done = CliRunner().invoke(main, ["task", "compare", *map(str, folders), "--json"])
    rows = json.loads(done.stdout)["rows"]
    found = [(row["model"], row["data"], row["score"], row["base"]) for row in rows]
    assert found == [
        ("one.gguf", "suite", 0.75, 0.25),
        ("two", "forum", 0.5, 0.25),
        ("two", "suite", 0.5, 0.25),
    ]
    assert [row["difference"] for row in rows] == [None, None, -0.25]
    assert rows[0]["shuffled"] == 0.5


def test_tables_fit_a_terminal_of_80_columns(tmp_path):
    folders = [
        folder(tmp_path / "seed-and-synthetic", suite=GOOD),
        folder(tmp_path / "random-anchor-text", model="owner/two", suite=POOR, forum=POOR),
    ]
    text = CliRunner().invoke(main, ["task", "compare", *map(str, folders)]).stdout
    assert max(map(len, text.splitlines())) <= 80
    assert all(name in text for name in ("seed-and-synthetic", "random-anchor-text", "-0.250"))
    assert "on forum: accuracy" in text


def test_a_row_is_compared_on_the_items_that_both_have(tmp_path):
    few = ([[0, 1], [0, 0]], "dc")  # in another order
    folders = [folder(tmp_path / "a", suite=GOOD), folder(tmp_path / "b", suite=few)]
    row = compare_runs(folders, reference=str(folders[0])).rows[1]
    arms = {"arm": np.array([[1, 0], [0, 0]]), "a": np.array([[1, 0], [0, 1]])}
    [same] = paired_differences({k: v.astype(float) for k, v in arms.items()}, "a")
    assert (row["difference"], row["low"], row["high"]) == (same.mean, same.low, same.high)
    assert row["n_items"] == 2


def test_the_untrained_model_can_be_the_reference(tmp_path):
    [row] = compare_runs([folder(tmp_path / "a", suite=GOOD)], reference="base").rows
    assert (row["reference"], row["difference"], row["n_items"]) == ("base", 0.5, 4)


def test_ranked_scores_differ_by_their_areas(tmp_path):
    positive = np.array([True, True, False, False])
    for name, scores in (("a", [4, 3, 2, 1]), ("b", [1, 2, 3, 4])):
        one = {"model-1": np.array(scores, dtype=float)}
        rows = [{"model": "model-1", "auprc": {"a": 1.0, "b": 5 / 12}[name]}]
        made = TaskResult("toxicity", "auprc", rows, Items(tuple("wxyz"), one, positive), {}, {})
        save_evaluation(folder(tmp_path / name), "suite", made)
    rows = compare_runs([tmp_path / "a", tmp_path / "b"]).rows
    assert rows[1]["difference"] == pytest.approx(5 / 12 - 1)
    assert rows[1]["low"] <= 5 / 12 - 1 <= rows[1]["high"] < 0


def test_ready_responses_are_a_row(tmp_path):
    save_evaluation(tmp_path, "suite", result([[1, 1, 1, 0]]))
    [row] = compare_runs([tmp_path]).rows
    assert (row["model"], row["score"], row["base"]) == ("responses", 0.75, None)


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


def test_a_reference_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="--reference elsewhere is none of the folders"):
        compare_runs([folder(tmp_path / "a", suite=GOOD)], reference="elsewhere")

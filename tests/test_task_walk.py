"""The walk-through of docs/tasks.md works as it stands, with the embedded model."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "tasks.md").read_text()


def commands():
    section = PAGE.split("walked on stand-ins\n")[1]
    return re.search(r"```sh\n(.*?)```", section, re.S)[1]


def run(script, folder):
    (folder / "scripts").symlink_to(ROOT / "scripts")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_stand_ins_are_the_same_every_time_and_have_no_common_sentence(tmp_path):
    first, *_ = commands().splitlines()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for name in "ab":
        assert run(first, tmp_path / name).returncode == 0
    files = {p.name: p.read_text() for p in (tmp_path / "a" / "stand-ins").iterdir()}
    assert files == {p.name: p.read_text() for p in (tmp_path / "b" / "stand-ins").iterdir()}
    trained = [json.loads(x)["text"] for n in ("seed", "full") for x in lines(files, n)]
    assert len(trained) == len(set(trained))
    assert not [text for text in trained if text in files["test.csv"]]


def lines(files, name):
    return files[f"{name}.jsonl"].splitlines()


@pytest.mark.slow
@pytest.mark.long
def test_the_walk_through_runs_and_compares_three_arms(tmp_path):
    done = run(f"{commands().rstrip()} --json", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(done.stdout[done.stdout.rindex('{\n  "rows"') :])["rows"]
    assert [Path(row["folder"]).name for row in rows] == ["only-seed", "synthetic-too", "real-data"]
    assert all(row["simple"] < row["score"] for row in rows)
    assert rows[0]["difference"] is None
    assert rows[2]["low"] <= rows[2]["difference"] <= rows[2]["high"]

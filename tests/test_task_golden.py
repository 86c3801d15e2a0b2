"""Published numbers on real data, in the folder that FACSYNTH_DATA names; skipped without it."""

import json
import os
from pathlib import Path

import pytest

from facsynth.data.settings import ReadSettings
from facsynth.tasks.instruction.benchmarks import read_benchmark, read_responses
from facsynth.tasks.instruction.ifeval import check_ifeval, score_ifeval
from facsynth.tasks.reward.data import read_comparisons

pytestmark = pytest.mark.slow
DATA = Path(os.environ.get("FACSYNTH_DATA", "no such folder"))


def real(name):
    if not (DATA / name).is_file():
        pytest.skip(f"FACSYNTH_DATA has no {name}")
    return DATA / name


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_gpt4_follows_ifeval_as_published(tmp_path):
    told = real("ifeval/gpt4_responses.jsonl")
    known = {row["prompt"] for row in rows_of(told)}
    rows = rows_of(real("ifeval/input_data.jsonl"))
    file = tmp_path / "ifeval.jsonl"  # one response is missing in the mirror
    file.write_text("".join(json.dumps(row) + "\n" for row in rows if row["prompt"] in known))
    benchmark = read_benchmark(str(file))
    check_ifeval(benchmark)
    ready = read_responses(str(told), benchmark)
    row = score_ifeval(benchmark, [ready[item.prompt] for item in benchmark.items])
    found = [
        row[f"{kind}_{level}"]
        for kind in ("prompt", "instruction")
        for level in ("strict", "loose")
    ]
    assert found == pytest.approx([0.7689, 0.7930, 0.8357, 0.8537], abs=0.006)


@pytest.mark.parametrize(
    ("name", "n"), [("llmbar/natural.json", 100), ("hh_rlhf/harmless-base_test.jsonl.gz", 50)]
)
def test_real_preference_files_are_read(name, n):
    pairs = read_comparisons(str(real(name)), reading=ReadSettings(limit=n))
    assert len(pairs) == n
    assert {pair.chosen[-1].role for pair in pairs} == {"assistant"}

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from facsynth.cli.group import main
from facsynth.errors import DataError
from facsynth.records import Sample
from facsynth.scale.shards import extract_shard, merge_shards
from facsynth.table.extract import extract_table
from facsynth.table.settings import ExtractSettings, ShardSettings
from tiny import coordinate_sae, tiny_lm
from tiny_pair import save_pair

SAMPLES = [Sample(f"s{i}", text=f"the cat sat on {'the mat ' * (i % 5)}") for i in range(11)]
SETTINGS = ExtractSettings(part_samples=2)


def files_of(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def extract(folder, shard, n, samples=SAMPLES, settings=SETTINGS):
    sharding = ShardSettings(shard, n)
    found = extract_shard(
        samples, tiny_lm(), {"sae": coordinate_sae()}, folder, sharding, settings=settings
    )
    return found.folders[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "table"
    lm, sae = tiny_lm(), coordinate_sae()
    extract_table(SAMPLES, lm, sae, folder, settings=SETTINGS, sae_name="sae")
    return folder


@pytest.mark.parametrize("n", [1, 2, 4, 9])
def test_merged_shards_are_the_table_of_one_run_in_any_order(tmp_path, whole, n):
    shards = [extract(tmp_path, i, n) for i in range(n)]
    random.Random(n).shuffle(shards)
    merge_shards(shards, tmp_path / "merged")
    assert files_of(tmp_path / "merged") == files_of(whole)


def test_missing_shards_are_named(tmp_path):
    shards = [extract(tmp_path, i, 4) for i in (0, 2)]
    with pytest.raises(DataError, match="shards 1, 3 of 4"):
        merge_shards(shards, tmp_path / "merged")


def test_a_foreign_shard_is_named_with_what_differs(tmp_path):
    one, other = extract(tmp_path, 0, 2), extract(tmp_path / "other", 1, 2, SAMPLES[:9])
    with pytest.raises(DataError, match="other/shard-00001-of-00002 is .* samples_hash"):
        merge_shards([one, other], tmp_path / "merged")


def test_a_shard_that_is_given_twice_is_named(tmp_path):
    one = extract(tmp_path, 0, 2)
    again = shutil.copytree(one, tmp_path / "again")
    with pytest.raises(DataError, match="are both shard 0"):
        merge_shards([one, again], tmp_path / "merged")


def test_a_shard_that_is_not_finished_or_broken_is_named(tmp_path):
    one, other = extract(tmp_path, 0, 2), extract(tmp_path, 1, 2)
    file = next(other.glob("part-*.parquet"))
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(DataError, match="is not the file that was written"):
        merge_shards([one, other], tmp_path / "merged")
    (other / "shard.json").unlink()
    with pytest.raises(DataError, match="unfinished shard"):
        merge_shards([one, other], tmp_path / "merged")


def test_a_merge_that_was_stopped_goes_on(tmp_path, whole):
    shards = [extract(tmp_path, i, 2) for i in range(2)]
    merge_shards(shards, tmp_path / "merged")
    (tmp_path / "merged" / "manifest.json").unlink()
    (tmp_path / "merged" / "counts" / "part-00001.json").unlink()
    merge_shards(shards[::-1], tmp_path / "merged")
    assert files_of(tmp_path / "merged") == files_of(whole)


def test_shards_on_the_command_line_make_the_table_of_one_run(tmp_path):
    model, sae = save_pair(tmp_path)
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps({"text": one.text}) + "\n" for one in SAMPLES))

    def run(*words):
        done = CliRunner().invoke(main, [*map(str, words)], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    extract_words = ("extract", data, "--model", model, "--sae", sae, "-o")
    run(*extract_words, tmp_path / "one")
    for i in (1, 0):
        row = json.loads(
            run(*extract_words, tmp_path / "s", "--shard", i, "--num-shards", 2, "--json")
        )
        assert row["num_shards"] == 2
    shards = sorted((tmp_path / "s").iterdir())
    run("merge", *shards, "-o", tmp_path / "merged")
    assert files_of(tmp_path / "merged") == files_of(tmp_path / "one")


def test_a_shard_outside_the_number_of_shards_is_refused():
    with pytest.raises(DataError, match="between 0 and 1"):
        ShardSettings(2, 2)
    with pytest.raises(DataError, match="--num-shards needs --shard"):
        ShardSettings(None, 2)


def test_the_cost_model_of_the_page_is_the_one_of_the_script():
    script = Path(__file__).parent.parent / "scripts" / "cost_model.py"
    subprocess.run([sys.executable, script, "--check"], check=True)

"""The command line: what goes where, what is printed, and how errors look."""

import errno
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from facsynth.chat.scripted import ScriptedChat
from facsynth.cli import main
from facsynth.data.write import sample_row, write_jsonl
from facsynth.folders import hold_folder
from facsynth.sae.files import save_sae
from facsynth.table.table import open_table
from tiny_pair import PLANTED, obedient, planted_sae, save_pair, talk

ANCHOR = [
    text
    for word in PLANTED
    for text in (
        f"we saw some old {word} under my red table",
        f"they always liked {word} with a very good evening on my road again",
    )
]
SEED = ["we saw some old cat and tea under my tree", "my house was very good today"]
COVERAGE_KEYS = {
    *("fac", "n_relevant", "n_anchor", "n_covered", "n_missing", "threshold", "sweep"),
    *("weighted", "richness"),
}
SYNTHESIS_KEYS = {
    *("n_samples", "n_missing", "n_filled", "outcomes", "rounds", "data"),
    *("stopped", "n_unanswered", "fac", "generator", "sensitive"),
    *(
        "head_accuracy",
        "threshold",
        "threshold_rule",
        "method",
        "n_wanted",
        "length_distance",
        "copying",
    ),
}


class Desk:
    """A folder with data, a model, an SAE and tables, and a terminal to use them from."""

    def __init__(self, folder):
        self.folder = folder
        self.model, self.sae = save_pair(folder)
        self.pair = ("--model", self.model, "--sae", self.sae)
        for name, texts in (("anchor", ANCHOR), ("seed", SEED)):
            samples = [talk(f"{name}-{i}", text, "it was so") for i, text in enumerate(texts)]
            write_jsonl(map(sample_row, samples), folder / f"{name}.jsonl")
        self.anchor, self.seed = folder / "tables" / "anchor", folder / "tables" / "seed"
        self.tables = ("--anchor", self.anchor, "--seed", self.seed)

    def fac(self, *words):
        return CliRunner().invoke(main, [str(word) for word in words])

    def json(self, *words):
        """What the command prints with `--json`; nothing else may be on standard output."""
        done = self.fac(*words, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def error(self, *words):
        """The one line of a command that fails."""
        done = self.fac(*words)
        assert isinstance(done.exception, SystemExit), done.exception
        assert done.exit_code == 1
        assert done.stdout == ""
        (line,) = [
            line
            for line in done.stderr.splitlines()
            if not line.startswith(("loading ", "read ", "threshold "))
        ]
        assert line.startswith("Error: ")
        return line


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    desk = Desk(tmp_path_factory.mktemp("desk"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACSYNTH_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ("anchor", "seed"):
            data, table = desk.folder / f"{name}.jsonl", desk.folder / "tables" / name
            desk.json("extract", data, "-o", table, *desk.pair, "--score", "user")
    return desk


@pytest.fixture
def writer(monkeypatch):
    """The script that answers for every endpoint."""
    chat = ScriptedChat(obedient)
    monkeypatch.setattr("facsynth.chat.endpoint.EndpointChat", lambda *args, **options: chat)
    return chat


def lines(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


# Commands


def test_extract_prints_what_the_table_holds(desk, tmp_path):
    table = tmp_path / "table"
    row = desk.json("extract", desk.folder / "seed.jsonl", "-o", table, *desk.pair)
    assert (row["table"], row["n_samples"], row["n_tokens"]) == (str(table), 2, 22)
    assert row["source"]["n_features"] == len(PLANTED) + 1


def test_extract_reads_the_fields_that_it_is_told(desk, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text('{"speech": "the cat saw the sea", "aside": "a dog found tea"}\n')
    table = tmp_path / "table"
    desk.json("extract", data, "-o", table, "--fields", "text=speech", *desk.pair)
    assert [sample.text for sample in open_table(table).samples()] == ["the cat saw the sea"]
    strict = ("--fields", "text=speech", "--strict", *desk.pair)
    assert "aside" in desk.error("extract", data, "-o", tmp_path / "other", *strict)


def test_extract_makes_one_table_of_several_files_and_keeps_bad_rows_apart(desk, tmp_path):
    one, two, table = tmp_path / "a.jsonl", tmp_path / "b.csv", tmp_path / "t"
    one.write_text('{"text": "the cat"}\n{"text": \n', encoding="utf-8")
    two.write_text("text,more\nred ball,one two three\na mat,\n", encoding="utf-8")
    row = desk.json("extract", one, two, "-o", table, *desk.pair, "--on-bad-row", "skip")
    assert (row["n_samples"], row["read"]["n_rejected"]) == (3, 1)
    assert row["read"]["not_read"] == {"more": 1}
    [bad] = [json.loads(line) for line in (table / "rejected.jsonl").read_text().splitlines()]
    assert (bad["file"], bad["line"]) == (str(one), 2)
    assert json.loads((table / "manifest.json").read_text())["read"] == row["read"]


def test_extract_keeps_a_random_sample_of_rows(desk, tmp_path):
    data = tmp_path / "a.txt"
    data.write_text("".join(f"cat {i}\n" for i in range(20)), encoding="utf-8")
    options = ("--sample", "3", "--random-seed", "1")
    row = desk.json("extract", data, "-o", tmp_path / "t", *desk.pair, *options)
    assert (row["n_samples"], row["read"]["n_not_sampled"]) == (3, 17)


def test_extract_writes_one_table_for_each_sae(desk, tmp_path):
    other = save_sae(planted_sae(layer=1), tmp_path / "deep" / "sae")
    words = ("extract", desk.folder / "seed.jsonl", *desk.pair, "--sae", other)
    row = desk.json(*words, "-o", tmp_path / "tables")
    names = {Path(table["table"]).name: table["source"]["layer"] for table in row["tables"]}
    assert names == {f"{desk.folder.name}-sae": 0, "deep-sae": 1}
    done = desk.fac(*words, "-o", tmp_path / "tables")
    assert done.stdout.count("Feature table") == 2


def test_extract_refuses_the_same_sae_twice(desk, tmp_path):
    words = ("extract", desk.folder / "seed.jsonl", *desk.pair, "--sae", desk.sae)
    assert "the same --sae is given twice" in desk.error(*words, "-o", tmp_path / "t")


def test_extract_records_gate_and_pooling_and_coverage_refuses_to_mix_them(desk, tmp_path):
    data, options = desk.folder / "seed.jsonl", ("--gate", "relu", "--pooling", "count")
    words = ("extract", data, "-o", tmp_path / "t", *desk.pair, "--score", "user", *options)
    row = desk.json(*words, "--batch-tokens", "64")
    assert (row["source"]["gate"], row["source"]["pooling"]) == ("relu", "count")
    line = desk.error("coverage", "--anchor", desk.anchor, "--seed", tmp_path / "t")
    assert "do not compare: gate is sae in the first and relu in the second" in line


def test_extract_shows_its_rate(desk, tmp_path):
    done = desk.fac("extract", desk.folder / "seed.jsonl", "-o", tmp_path / "t", *desk.pair)
    assert re.search(r"2 of 2 samples \([\d,.]+ samples/s, [\d,]+ tokens/s\)", done.stderr)


def test_extract_says_when_samples_were_cut(desk, tmp_path):
    data = desk.folder / "seed.jsonl"
    done = desk.fac("extract", data, "-o", tmp_path / "t", *desk.pair, "--max-length", "6")
    assert "2 of 2 samples were cut at 6 tokens; raise --max-length" in done.stderr
    assert "samples cut" in done.stdout


def test_coverage_has_the_promised_keys_and_values(desk):
    row = desk.json("coverage", *desk.tables)
    assert set(row) >= COVERAGE_KEYS
    assert (row["fac"], row["n_anchor"], row["n_covered"], row["n_missing"]) == (0.25, 8, 2, 6)
    assert row["n_relevant"] == len(PLANTED) + 1


@pytest.mark.parametrize(("bound", "code"), [(0.0, 0), (1.0, 1)])
def test_coverage_below_a_bound_is_an_exit_code(desk, bound, code):
    done = desk.fac("coverage", *desk.tables, "--fail-below", bound, "--json")
    assert done.exit_code == code
    assert json.loads(done.stdout)["fac"] < 1.0
    assert ("below 1" in done.stderr) == bool(code)


def test_coverage_of_several_seeds_counts_them_together(desk):
    row = desk.json("coverage", *desk.tables, "--seed", desk.anchor)
    assert (row["fac"], row["n_samples"]["seed"]) == (1.0, len(ANCHOR) + len(SEED))


def test_missing_features_are_written_and_can_be_explained(desk, tmp_path):
    missing, explained = tmp_path / "missing.jsonl", tmp_path / "explained.jsonl"
    desk.json("coverage", *desk.tables, "--missing", missing, "--model", desk.model)
    found = {row["feature_id"] for row in lines(missing)}
    assert found == {f for f, word in enumerate(PLANTED) if word not in ("cat", "tea")}
    assert all(row["name"] == PLANTED[row["feature_id"]] for row in lines(missing))
    words = ("--features", missing, "--model", desk.model)
    done = desk.fac("explain", desk.anchor, "-o", explained, *words)
    assert "6 features written" in done.stderr
    assert {row["feature_id"] for row in lines(explained)} == found


def test_relevant_features_are_those_of_the_file(desk, tmp_path):
    listed = tmp_path / "relevant.txt"
    listed.write_text('0\n\n{"feature_id": 1, "note": "one\u2028line"}\n', encoding="utf-8")
    row = desk.json("coverage", *desk.tables, "--relevant", listed)
    assert (row["n_relevant"], row["fac"]) == (2, 0.5)


def test_a_table_alone_makes_no_files_of_this_machine_open(desk, tmp_path, monkeypatch):
    monkeypatch.setattr("facsynth.table.pair.load_tokenizer", lambda *a: pytest.fail("opened"))
    line = desk.error("explain", desk.anchor, "-o", tmp_path / "e.jsonl")
    assert f"if you trust them, pass --model {desk.model}" in line


def test_explain_names_features_by_their_planted_words(desk, tmp_path):
    path = tmp_path / "features.jsonl"
    words = ("--max-features", "5", "--spans", "2", "--model", desk.model)
    done = desk.fac("explain", desk.anchor, "-o", path, *words)
    assert done.exit_code == 0
    rows = lines(path)
    assert [row["name"].split(", ")[0] for row in rows] == PLANTED[:5]
    assert all(len(row["spans"]) == row["n_samples"] == 2 for row in rows)
    assert rows[0]["spans"][0]["peak"] == "cat"


FEW = ("--max-samples", "12", "--round-size", "12")


def test_synthesize_writes_as_many_samples_as_wanted(desk, writer, tmp_path):
    options = ("--chat-model", "scripted", "-o", tmp_path / "out", *FEW)
    row = desk.json("synthesize", *desk.tables, *desk.pair, *options)
    assert set(row) == SYNTHESIS_KEYS
    assert row["n_filled"] == row["n_missing"] == 6
    assert len(lines(row["data"])) == row["n_samples"] == 12
    assert writer.history
    seeds = ("--seed", desk.seed, "--seed", tmp_path / "out" / "table")
    assert desk.json("coverage", "--anchor", desk.anchor, *seeds)["fac"] == 1.0
    done = desk.fac("synthesize", *desk.tables, *desk.pair, *options)
    assert "What was written" in done.stdout
    assert "--judge-model has an LLM grade each" in done.stderr


def test_explanations_reach_the_prompts_and_doubtful_ones_do_not_count(desk, writer, tmp_path):
    rows = [
        {"feature_id": 1, "explanation": "loyal animals"},
        {"feature_id": 2, "explanation": "wet animals", "doubtful": True},
        {"feature_id": 3, "explanation": "cannot tell"},
    ]
    path = tmp_path / "explained.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    options = ("--chat-model", "x", "--method", "paper", "--explanations", path)
    row = desk.json("synthesize", *desk.tables, *desk.pair, *options, "-o", tmp_path / "out")
    asked = "\n".join(str(request.messages) for request in writer.history)
    assert row["n_missing"] == 4
    assert "share a theme (loyal animals)" in asked
    assert "wet animals" not in asked


def test_dry_run_estimates_and_asks_nothing(desk, writer, tmp_path):
    prices = ("--price-in", "1", "--price-out", "2", "--dry-run", *FEW)
    words = ("synthesize", *desk.tables, *desk.pair, "--chat-model", "x", "-o", tmp_path / "out")
    row = desk.json(*words, *prices)
    assert (row["n_features"], row["first"]["n_calls"]) == (6, 12)
    assert row["threshold_rule"] == "none of the anchor's activations stands out"
    assert f"Threshold δ: 0 ({row['threshold_rule']})" in desk.fac(*words, *prices).stdout
    assert row["first"]["max_cost"] < row["at_most"]["max_cost"]
    assert (writer.history, (tmp_path / "out").exists()) == ([], False)


def test_limit_ends_synthesis_with_what_there_is_and_a_higher_one_goes_on(desk, writer, tmp_path):
    words = ("synthesize", *desk.tables, *desk.pair, "--chat-model", "x", "-o", tmp_path / "out")
    cut = desk.json(*words, *FEW, "--budget-calls", "4")
    assert (cut["stopped"], cut["outcomes"]["not asked: budget"]) == ("budget", 8)
    assert len(writer.history) == 4
    assert cut["n_samples"] == cut["n_unanswered"] > 0
    whole = desk.json(*words, *FEW, "--budget-calls", "90")
    assert (whole["n_samples"], whole["n_filled"], whole["n_unanswered"]) == (12, 6, 0)
    assert len({request.key for request in writer.history}) == len(writer.history)


def test_synthesize_with_a_local_generator(desk, tmp_path):
    options = ("--max-samples", "2", "--max-candidates", "4", "--no-reply")
    row = desk.json("synthesize", *desk.tables, *desk.pair, *options, "-o", tmp_path / "out")
    assert row["n_missing"] == 6
    assert sum(row["outcomes"].values()) == 4


@pytest.mark.parametrize(
    "words",
    [
        ("--task", "nothing"),
        ("--decontaminate", "nowhere.jsonl"),
        ("--relevant", "{wrong}"),
        ("--api-base", "nowhere"),
        ("--judge-model", "j", "--judge-api-base", "nowhere"),
        ("--sae", "nowhere"),
    ],
)
def test_error_in_the_options_is_found_before_a_model_is_loaded(desk, tmp_path, monkeypatch, words):
    def load(*args, **options):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("facsynth.cli.load.load_model", load)
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("cat")
    words = [str(wrong) if word == "{wrong}" else word for word in words]
    asked = ("--chat-model", "x", "-o", tmp_path / "out", *desk.pair, *words)
    assert "no" in desk.error("synthesize", *desk.tables, *asked)


@pytest.mark.parametrize("command", ["synthesize", "run"])
def test_a_second_run_in_one_folder_is_one_line(desk, writer, tmp_path, command):
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'anchor.source = "{desk.folder}"\nseed.source = "{desk.folder}"\n')
    words = {
        "synthesize": (*desk.tables, *desk.pair, "--chat-model", "x", "-o", tmp_path / "out"),
        "run": (recipe, "-o", tmp_path / "out"),
    }
    with hold_folder(tmp_path / "out"):
        done = desk.fac(command, *words[command])
    assert done.exit_code == 1
    assert "another run is writing into" in done.stderr.splitlines()[-1]


def test_run_prints_both_coverages(desk, writer, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"""
model = "{desk.model}"
sae = "{desk.sae}"
anchor.source = "{desk.folder / "anchor.jsonl"}"
seed.source = "{desk.folder / "seed.jsonl"}"
extract.score = "user"
generator.chat_model = "scripted"
synthesize.effort.max_samples = 6
""")
    row = desk.json("run", recipe, "-o", tmp_path / "run")
    assert (row["before"]["fac"], row["after"]["fac"]) == (0.25, 1.0)
    done = desk.fac("run", recipe, "-o", tmp_path / "run")
    assert "synthesize: already done" in done.stderr
    assert Path(row["report"]).is_file()


@pytest.mark.parametrize("command", ["coverage", "synthesize", "sae info", "doctor"])
def test_tables_for_people_go_to_standard_output(desk, writer, tmp_path, command):
    options = {
        "coverage": desk.tables,
        "synthesize": (*desk.tables, *desk.pair, "--chat-model", "x", "-o", tmp_path / "out")
        + ("--max-samples", 2),
        "sae info": (desk.sae,),
    }
    done = desk.fac(*command.split(), *options.get(command, ()))
    assert (done.exit_code, done.exception) == (0, None)
    assert len(done.stdout.splitlines()) > 5


def test_progress_goes_to_standard_error_unbroken(desk, tmp_path):
    table = tmp_path / ("a-long-name-" * 9)
    done = desk.fac("extract", desk.folder / "seed.jsonl", "-o", table, *desk.pair, "--json")
    assert json.loads(done.stdout)["n_samples"] == 2
    assert f"  extracting {table.name}: 2 of 2 samples" in done.stderr


# Errors of a user: one line, exit 1


def test_missing_data_file(desk, tmp_path):
    line = desk.error("extract", tmp_path / "none.jsonl", "-o", tmp_path / "t", *desk.pair)
    assert f"no file or folder {tmp_path / 'none.jsonl'}" in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"prompt": "a"}\n{"prompt": \n',
            "bad.jsonl, line 2: not JSON (Expecting value, column 11)",
        ),
        ('{"prompt": "a"}\n{"title": "b"}\n', "bad.jsonl, line 2: no known fields, such as"),
        ("", "no samples in"),
        ("\n\n", "no samples in"),
        ('{"prompt": 3}', "line 1: `prompt` is a number where a string was expected"),
    ],
)
def test_data_that_cannot_be_read(desk, tmp_path, text, message):
    data = tmp_path / "bad.jsonl"
    data.write_text(text)
    assert message in desk.error("extract", data, "-o", tmp_path / "t", *desk.pair)


def test_missing_field_is_named(desk, tmp_path):
    data = desk.folder / "seed.jsonl"
    line = desk.error("extract", data, "-o", tmp_path / "t", *desk.pair, "--text-field", "body")
    assert "seed.jsonl, line 1: no field `body`; found `sample_id`, `messages`" in line


def test_model_and_sae_that_do_not_match(desk, tmp_path):
    data, table = desk.folder / "seed.jsonl", tmp_path / "table"
    save_sae(planted_sae(layer=5), tmp_path / "deep")
    save_sae(planted_sae(model_hash="0" * 64), tmp_path / "other")
    deep, other = (
        desk.error("extract", data, "-o", table, "--model", desk.model, "--sae", tmp_path / name)
        for name in ("deep", "other")
    )
    assert "has the layers 0 to 1, not 5" in deep
    assert "the SAE was trained on planted 000000000000" in other


def test_sae_of_a_base_model_is_a_warning(desk, tmp_path):
    sae = planted_sae()
    sae.config = replace(sae.config, model_name="owner/model-base")
    save_sae(sae, tmp_path / "base")
    (tmp_path / "model-it").symlink_to(desk.model)
    words = ("--model", tmp_path / "model-it", "--sae", tmp_path / "base", "--json")
    done = desk.fac("extract", desk.folder / "seed.jsonl", "-o", tmp_path / "table", *words)
    assert done.exit_code == 0, done.output
    assert done.stderr.count("another tuning of the same model") == 1


def test_model_without_its_sae(desk, tmp_path):
    data = desk.folder / "seed.jsonl"
    line = desk.error("extract", data, "-o", tmp_path / "t", "--model", desk.model)
    assert "needs an --sae that was trained on it" in line


def test_table_of_another_sae(desk, tmp_path):
    save_sae(planted_sae(layer=1), tmp_path / "sae")
    table = tmp_path / "table"
    data, model = desk.folder / "seed.jsonl", desk.model
    desk.json(
        *("extract", data, "-o", table, "--score", "user"),
        *("--model", model, "--sae", tmp_path / "sae"),
    )
    line = desk.error("coverage", "--anchor", desk.anchor, "--seed", table)
    assert "do not compare: sae_hash is" in line
    options = ("--model", model, "--sae", tmp_path / "sae", "-o", tmp_path / "out")
    assert "pass the matching --sae" in desk.error("synthesize", *desk.tables, *options)


def test_data_in_place_of_the_anchor_says_to_extract_it_first(desk):
    data = desk.folder / "seed.jsonl"
    line = desk.error("coverage", "--anchor", data, "--seed", desk.anchor)
    assert f"run `fac extract {data} -o TABLE` first" in line


@pytest.mark.parametrize("what", ["a file", "a folder", "nothing"])
def test_not_a_table(desk, tmp_path, what):
    place = {
        "a file": desk.folder / "seed.jsonl",
        "a folder": desk.model,
        "nothing": tmp_path / "x",
    }
    line = desk.error("coverage", "--anchor", desk.anchor, "--seed", place[what])
    assert "not a feature table" in line


def test_tokenizer_of_another_model(desk, tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    for file in desk.model.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    (path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    line = desk.error("explain", desk.anchor, "-o", tmp_path / "f.jsonl", "--model", path)
    assert "has another chat template" in line


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("99", "line 1: feature 99 does not exist; the SAE has the features 0 to 8"),
        ("cat", "line 1: not JSON (Expecting value, column 1); write a feature id or an object"),
        ("{}", "line 1: expected a feature id"),
    ],
)
def test_list_of_features_that_is_none(desk, tmp_path, line, message):
    listed = tmp_path / "relevant.txt"
    listed.write_text(line)
    assert message in desk.error("coverage", *desk.tables, "--relevant", listed)


def test_output_that_holds_something_else(desk, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    line = desk.error("extract", desk.folder / "seed.jsonl", "-o", tmp_path, *desk.pair)
    assert "is not a feature table; choose another output folder" in line


def test_recipe_with_an_unknown_key(desk, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("anchor.source = 'a'\nseed.source = 'b'\nseed.colour = 1")
    line = desk.error("run", recipe, "-o", tmp_path / "run")
    assert "recipe.toml: unknown key `seed.colour`" in line


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "Error: No space left on device"),
        (OSError(errno.EIO, "Broken disk", "/dev/sdb"), "Error: Broken disk: /dev/sdb"),
        (OSError("many\nlines"), "Error: many lines"),
        (OSError(), "Error: OSError"),
    ],
)
def test_error_of_the_system_is_one_line_and_a_traceback_with_debug(
    desk, monkeypatch, error, message
):
    def fail(*args):
        raise error

    monkeypatch.setattr("facsynth.cli.load.open_table", fail)
    assert desk.error("coverage", *desk.tables) == message
    assert desk.fac("--debug", "coverage", *desk.tables).exception is error


def test_full_disk_is_said_with_the_file(desk, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("facsynth.folders.os.fsync", full)
    line = desk.error("coverage", *desk.tables, "--missing", tmp_path / "missing.jsonl")
    assert "missing.jsonl cannot be written: No space left on device; free space or" in line


# Wrong usage: exit 2


@pytest.mark.parametrize(
    "words",
    [
        ("extract",),
        ("extract", "data.jsonl"),
        ("coverage", "--anchor", "a"),
        ("explain", "table", "-o", "f.jsonl", "--max-features", "0"),
        ("synthesize", "--anchor", "a"),
        ("extract", "data.jsonl", "-o", "t", "--score", "nobody"),
        ("coverage", "--anchor", "a", "--seed", "b", "--relevant", "no-such-file"),
        ("no-such-command",),
        ("coverage", "--no-such-option"),
    ],
)
def test_wrong_usage_exits_with_2(desk, words):
    done = desk.fac(*words)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "Usage: " in done.stderr


def test_a_command_with_a_slip_is_recognised(desk):
    assert "Did you mean coverage?" in desk.fac("covrage").output


def test_completion_prints_a_script_for_the_shell(desk):
    assert "_FAC_COMPLETE=zsh_complete" in desk.fac("completion", "zsh").stdout


def test_interrupt_exits_with_130(desk, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("facsynth.cli.load.open_table", interrupt)
    done = desk.fac("coverage", *desk.tables)
    assert done.exit_code == 130
    assert "Stopped. What was saved is kept; run the same command again" in done.stderr


# A real process


@pytest.mark.slow
def test_process_keeps_results_and_messages_apart(desk):
    fac = Path(sys.executable).parent / "fac"
    data = desk.folder / "seed.jsonl"
    words = [fac, "diversity", data, "--json"]  # no model, so that it is quick
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, json.loads(done.stdout)["sets"][0]["n_samples"]) == (0, 2)
    assert done.stderr == "read 2 rows as conversation (fields sample_id, messages)\n"
    failed = subprocess.run(
        [fac, "coverage", "--anchor", data, "--seed", data], capture_output=True, text=True
    )
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("Error: ")
    assert failed.stderr.count("\n") == 1

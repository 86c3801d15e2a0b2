"""`fac explain` and `fac relevance` from the terminal, with a script in place of the endpoint."""

import csv
import json

import pytest
from click.testing import CliRunner

from facsynth.chat.model import ChatFailure
from facsynth.chat.scripted import ScriptedChat
from facsynth.cli import main
from facsynth.coverage.threshold import own_threshold
from planted_texts import LISTS, oracle, planted_samples
from tiny_pair import PLANTED, load_pair, planted_table, save_pair, talk

SAMPLES = [talk(s.sample_id, s.messages[0].content) for s in planted_samples(80)]


class Desk:
    def __init__(self, folder):
        from dataclasses import replace

        self.model, self.sae = save_pair(folder)
        labelled = [
            replace(s, label="pets" if LISTS[0] & set(s.messages[0].content.split()) else "other")
            for s in SAMPLES
        ]
        self.table, self.unlabelled = folder / "table", folder / "unlabelled"
        planted_table(labelled, self.table, pair=load_pair(folder))
        planted_table(SAMPLES, self.unlabelled)

    def fac(self, *words):
        return CliRunner().invoke(main, [str(word) for word in words])

    def explain(self, output, *words):
        return self.fac("explain", self.table, "-o", output, "--model", self.model, *words)

    def error(self, *words):
        done = self.fac(*words)
        assert done.exit_code == 1, done.output
        return done.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return Desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture
def script(monkeypatch):
    """The script that answers for the endpoint; set `chat.answer`-like behaviour by its list."""
    made = []

    def install(answer):
        chat = ScriptedChat(answer, name="scripted")
        monkeypatch.setattr("facsynth.chat.endpoint.EndpointChat", lambda *args, **options: chat)
        made.append(chat)
        return chat

    return install


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_explain_offline_names_and_tests_features(desk, tmp_path):
    path = tmp_path / "e.jsonl"
    done = desk.explain(path, "--max-features", "3", "--json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert (summary["n_features"], summary["n_explained"]) == (3, 0)
    assert summary["doubtful_share"] == 0.0
    assert (summary["n_scored"], summary["median_balanced_accuracy"]) == (3, 1.0)
    rows = lines(path)
    assert all(set(row["terms"][:2]) == LISTS[row["feature_id"]] for row in rows)


def test_explain_says_and_stores_the_threshold_that_it_chose(desk, tmp_path):
    done = desk.explain(tmp_path / "e.jsonl", "--max-features", "1")
    [row] = lines(tmp_path / "e.jsonl")
    assert f"threshold {row['threshold']:g}: " in done.stderr
    assert row["threshold"] == own_threshold(desk.table).threshold


def test_explain_takes_a_list_of_features_in_the_order_of_their_frequency(desk, tmp_path):
    assert desk.explain(tmp_path / "e.jsonl", "--features", "4,2").exit_code == 0
    assert {row["feature_id"] for row in lines(tmp_path / "e.jsonl")} == {2, 4}


def test_long_list_of_features_is_no_file_name(desk, tmp_path):
    listed = ",".join(["4", "2"] * 150)
    assert desk.explain(tmp_path / "e.jsonl", "--features", listed).exit_code == 0
    assert {row["feature_id"] for row in lines(tmp_path / "e.jsonl")} == {2, 4}


def test_file_of_features_may_have_commas(desk, tmp_path):
    (tmp_path / "ids.txt").write_text("4, 2,\n1\n")
    assert desk.explain(tmp_path / "e.jsonl", "--features", tmp_path / "ids.txt").exit_code == 0
    assert {row["feature_id"] for row in lines(tmp_path / "e.jsonl")} == {1, 2, 4}


def test_error_in_the_options_is_found_before_a_tokenizer_is_loaded(desk, tmp_path, monkeypatch):
    def load(*args):
        raise AssertionError("a tokenizer was loaded")

    monkeypatch.setattr("facsynth.table.pair.load_tokenizer", load)
    (tmp_path / "empty.jsonl").write_text("")
    for words in (("--import", tmp_path / "empty.jsonl"), ("--chat-model", "x", "--api-base", "x")):
        desk.error("explain", desk.table, "-o", tmp_path / "e.jsonl", *words)


@pytest.mark.parametrize(
    ("features", "message"), [("4,x", "neither a file nor a list of ids"), ("99", "does not exist")]
)
def test_wrong_list_of_features_is_an_error(desk, tmp_path, features, message):
    words = ("explain", desk.table, "-o", tmp_path / "e.jsonl", "--model", desk.model)
    assert message in desk.error(*words, "--features", features)


def test_explain_with_an_llm_says_the_calls_before_and_makes_none_again(desk, tmp_path, script):
    path, chat = tmp_path / "e.jsonl", script(oracle)
    asked = ("--chat-model", "m", "--features", "0,1")
    done = desk.explain(path, *asked)
    assert done.exit_code == 0, done.output
    n_calls = len(chat.history)
    assert f"calls ahead: {n_calls} calls, about" in done.stderr
    assert {row["method"] for row in lines(path)} == {"llm"}
    before = path.read_bytes()
    again = script([])
    done = desk.explain(path, *asked)
    assert (done.exit_code, len(again.history)) == (0, 0)
    assert "calls ahead: 0 calls" in done.stderr
    assert path.read_bytes() == before


def test_dry_run_calls_and_writes_nothing(desk, tmp_path, script):
    chat = script([])
    done = desk.explain(tmp_path / "e.jsonl", "--chat-model", "m", "--dry-run")
    assert (done.exit_code, len(chat.history)) == (0, 0)
    assert "calls ahead" in done.stderr
    assert not list(tmp_path.glob("e.jsonl*"))


@pytest.mark.parametrize("command", ["explain", "relevance"])
def test_dry_run_without_an_llm_says_that_no_call_lies_ahead(desk, tmp_path, command):
    path = tmp_path / "out.jsonl"
    words = {"explain": (desk.table,), "relevance": ("--task", "reward", "--table", desk.table)}
    done = desk.fac(command, *words[command], "-o", path, "--dry-run")
    assert (done.exit_code, path.exists()) == (0, False)
    assert "calls ahead: none" in done.stderr


def test_limit_of_calls_holds_and_the_next_run_goes_on(desk, tmp_path, script):
    chat, path = script(oracle), tmp_path / "e.jsonl"
    asked = ("--chat-model", "m", "--features", "0,1")
    done = desk.explain(path, *asked, "--budget-calls", "3")
    assert done.exit_code == 1
    assert "budget_calls = 3" in done.stderr
    assert len(chat.history) == 3
    again = script(oracle)
    assert desk.explain(path, *asked, "--budget-calls", "3").exit_code == 1
    assert len(again.history) == 0  # the limit holds for both runs
    assert desk.explain(path, *asked).exit_code == 0


def test_imported_explanations_are_named_as_such(desk, tmp_path):
    (tmp_path / "np.jsonl").write_text('{"index": "1", "description": "dogs"}\n')
    path = tmp_path / "e.jsonl"
    assert desk.explain(path, "--import", tmp_path / "np.jsonl", "--features", "0,1").exit_code == 0
    assert {(row["feature_id"], row["method"]) for row in lines(path)} == {
        (0, "terms"),
        (1, "imported"),
    }


# Relevance


def test_labels_judge_and_coverage_reads_the_file(desk, tmp_path):
    path = tmp_path / "r.jsonl"
    words = ("relevance", "--task", "toxicity", "--table", desk.table, "--label", "pets")
    words += ("--model", desk.model)
    done = desk.fac(*words, "-o", path, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["n_relevant"] == 1
    tables = ("--anchor", desk.table, "--seed", desk.table)
    done = desk.fac("coverage", *tables, "--relevant", path, "--json")
    assert json.loads(done.stdout)["n_relevant"] == 1


def test_labels_without_a_choice_are_an_error_and_no_labels_keep_all(desk, tmp_path):
    words = ("relevance", "--task", "reward", "-o", tmp_path / "r.jsonl", "--table")
    assert "the samples have labels (other, pets)" in desk.error(*words, desk.table)
    done = desk.fac(*words, desk.unlabelled, "--json")
    assert json.loads(done.stdout)["n_relevant"] == len(PLANTED)


def test_llm_judges_once_and_failures_are_not_relevant(desk, tmp_path, script):
    assert desk.explain(tmp_path / "e.jsonl", "--features", "0,1,2").exit_code == 0
    words = ("relevance", "--task", "sycophancy", "--explanations", tmp_path / "e.jsonl")
    words = (*words, "-o", tmp_path / "r.jsonl", "--chat-model", "m", "--max-failures", "0.7")

    def answer(request):
        if "cat" in request.messages[1].content.split("Feature: ")[1].split("\n")[0]:
            return '{"grade": "probably", "reason": "pets"}'
        return ChatFailure("no answer")

    script(answer)
    done = desk.fac(*words)
    assert done.exit_code == 0, done.output
    assert "calls ahead: 3 calls" in done.stderr
    rows = {row["feature_id"]: row for row in lines(tmp_path / "r.jsonl")}
    assert [rows[f]["grade"] for f in (0, 1, 2)] == ["probably", None, None]
    assert [rows[f]["relevant"] for f in (0, 1, 2)] == [True, False, False]


def test_audit_draws_a_sheet_and_scores_it(desk, tmp_path):
    judged, sheet = tmp_path / "r.jsonl", tmp_path / "sheet.csv"
    words = ("relevance", "--task", "toxicity", "--table", desk.table, "--label", "pets")
    words += ("--model", desk.model)
    assert desk.fac(*words, "-o", judged).exit_code == 0
    assert desk.fac("relevance", "audit", judged, "-o", sheet, "--size", "6").exit_code == 0
    assert "exists and may hold verdicts" in desk.error("relevance", "audit", judged, "-o", sheet)
    with sheet.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    for row in rows:
        row["verdict"] = "yes" if row["feature_id"] == "0" else "no"
    with sheet.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    done = desk.fac("relevance", "audit", judged, "--filled", sheet, "--json")
    result = json.loads(done.stdout)
    assert (result["precision"], result["recall"]) == (1.0, 1.0)


def test_scores_find_what_a_model_gets_wrong_and_coverage_reads_the_file(desk, tmp_path):
    failed = [bool(LISTS[2] & set(s.messages[0].content.split())) for s in SAMPLES]
    rows = [
        {"doc_id": i, "acc": float(not one), "metrics": ["acc"]} for i, one in enumerate(failed)
    ]
    (tmp_path / "samples_task.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path, asked = tmp_path / "r.jsonl", ("--scores", tmp_path / "samples_task.jsonl")
    words = ("relevance", "--table", desk.unlabelled, *asked, "--model", desk.model, "-o", path)
    done = desk.fac(*words, "--json")
    assert done.exit_code == 0, done.output
    assert "samples count as failures: acc is at most 0" in done.stderr
    first = lines(path)[0]
    assert (first["feature_id"], first["relevant"], first["grade"]) == (2, True, "yes")
    assert set(first["name"].split(", ")[:2]) <= LISTS[2]
    assert "«" in first["example"]
    tables = ("--anchor", desk.unlabelled, "--seed", desk.unlabelled)
    done = desk.fac("coverage", *tables, "--relevant", path, "--json")
    assert json.loads(done.stdout)["n_relevant"] == sum(row["relevant"] for row in lines(path))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Missing option '--output'"),
        (("-o", "x", "--chat-model", "m"), "Missing option '--task'"),
        (("-o", "x", "--chat-model", "m", "--label", "a"), "judge without --chat-model"),
        (("-o", "x", "--scores", "s", "--label", "a"), "give one of them"),
    ],
)
def test_judge_without_what_it_needs_is_a_usage_error(desk, words, message):
    done = desk.fac("relevance", *words)
    assert (done.exit_code, message in done.stderr) == (2, True)

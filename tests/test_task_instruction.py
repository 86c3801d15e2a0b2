"""Benchmarks of instruction following: golden values of the checkers, bad input, commands."""

import json

import numpy as np
import pytest

from facsynth.chat.scripted import ScriptedChat
from facsynth.errors import DataError
from facsynth.tasks.folder import save_task
from facsynth.tasks.instruction.alpaca import score_alpaca
from facsynth.tasks.instruction.benchmarks import read_benchmark, read_responses
from facsynth.tasks.instruction.evaluate import score_responses, scorer_of
from facsynth.tasks.instruction.gsm8k import find_number, score_gsm8k
from facsynth.tasks.instruction.ifeval import check_ifeval, score_ifeval
from facsynth.tasks.instruction.length_control import Gamed, length_controlled, read_gamed
from test_task_heads import fac, write_rows
from test_task_tuning import QUICK, echoes
from tiny import make_model, make_tokenizer

# IFEval


def ifeval(tmp_path, *rows):
    """A benchmark of items, each some instructions with their arguments."""
    made = [
        {
            "key": key,
            "prompt": f"prompt {key}",
            "instruction_id_list": [name for name, _ in row],
            "kwargs": [arguments for _, arguments in row],
        }
        for key, row in enumerate(rows)
    ]
    return read_benchmark(write_rows(tmp_path / "if.jsonl", made))


COMMA = ("punctuation:no_comma", {})
WORDS = ("length_constraints:number_words", {"num_words": 5, "relation": "at least"})


@pytest.mark.parametrize(
    ("instruction", "followed", "not_followed"),
    [
        (COMMA, "One two.", "One, two."),
        (WORDS, "one two three four five", "one two three"),
        (
            ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}),
            "Dr. Smith of the U.S. Army left.",
            "He left. She stayed.",
        ),
        (("change_case:english_lowercase", {}), "this is a small text", "This is not"),
        (("detectable_format:json_format", {}), '```json\n{"a": 1}\n```', "a: 1"),
        (("startend:end_checker", {"end_phrase": "Bye."}), "Well. Bye.", "Bye. Well"),
        (
            (
                "keywords:letter_frequency",
                {"letter": "z", "let_frequency": 2, "let_relation": "at least"},
            ),
            "Zz",
            "z",
        ),
        (("combination:two_responses", {}), "a******b", "a b"),
    ],
)
def test_instructions_are_checked_as_google_checks_them(
    tmp_path, instruction, followed, not_followed
):
    benchmark = ifeval(tmp_path, [instruction], [instruction])
    row = score_ifeval(benchmark, [followed, not_followed])
    assert row["prompt_strict"] == row["instruction_strict"] == 0.5


def test_levels_count_prompts_and_instructions_and_loose_forgives_a_first_line(tmp_path):
    benchmark = ifeval(tmp_path, [COMMA, WORDS], [COMMA], [COMMA])
    row = score_ifeval(benchmark, ["one two, three four five", "Sure, here:\nYes", ""])
    assert (row["prompt_strict"], row["instruction_strict"]) == (0.0, 1 / 4)
    assert (row["prompt_loose"], row["instruction_loose"]) == (1 / 3, 2 / 4)
    assert row["n_empty"] == 1
    assert row["instructions"][1] == {
        "instruction": "punctuation:no_comma",
        "n": 3,
        "strict": 0.0,
        "loose": 1 / 3,
    }


def test_a_letter_that_is_none_is_drawn_the_same_way_each_time(tmp_path):
    frequency = {"letter": "#", "let_frequency": 4, "let_relation": "at least"}
    benchmark = ifeval(tmp_path, *[[("keywords:letter_frequency", frequency)]] * 12)
    text = ["eeee aaaa iiii oooo tttt nnnn"] * 12
    assert score_ifeval(benchmark, text) == score_ifeval(benchmark, text)


def test_an_instruction_that_nobody_can_check_is_refused(tmp_path):
    with pytest.raises(DataError, match="unknown instruction 'odd:one'"):
        check_ifeval(ifeval(tmp_path, [("odd:one", {})]))
    check_ifeval(ifeval(tmp_path, [("en:punctuation:no_comma", {})]))


# GSM8K


@pytest.mark.parametrize(
    ("response", "last", "behind"),
    [
        ("3 + 4 = 7\n#### 7", "7", "7"),
        ("It costs $1,200.", "1200", None),
        ("#### -5.\nor 6?", "6", "-5"),
        ("none", None, None),
    ],
)
def test_numbers_are_found_as_in_the_harness(response, last, behind):
    assert find_number(response) == last
    assert find_number(response, strict=True) == behind


def test_gsm8k_counts_right_numbers(tmp_path):
    rows = [{"question": f"q{i}", "answer": "2 + 2 = <<2+2=4>>4\n#### 4"} for i in range(4)]
    benchmark = read_benchmark(write_rows(tmp_path / "g.jsonl", rows))
    row = score_gsm8k(benchmark, ["#### 4", "so 4", "#### 5", ""])
    assert (row["exact_match"], row["strict_match"], row["n_without_number"]) == (0.5, 0.25, 1)


# AlpacaEval


def alpaca(tmp_path, n):
    rows = [{"instruction": f"i{k}", "output": "r" * (5 + k), "generator": "g"} for k in range(n)]
    return read_benchmark(write_rows(tmp_path / "a.jsonl", rows))


def judge(prefers):
    def reply(request):
        text = request.messages[-1].content
        first, second = (text.split(f"<{t}>\n")[1].split(f"\n</{t}>")[0] for t in "mM")
        return json.dumps({"better": "m" if prefers(first, second) else "M"})

    return ScriptedChat(reply)


def test_a_judge_that_likes_the_model_gives_it_every_win(tmp_path):
    benchmark, answers = alpaca(tmp_path, 4), ["good", "good", "good", "bad"]
    row = score_alpaca(benchmark, answers, judge(lambda one, other: "good" in (one, "")))
    assert row["win_rate"] == 0.875  # the judge takes the second where neither is good: a draw
    assert row["length_controlled_minimal"] is None
    assert row["n_judged"] == 4


def test_a_judge_that_goes_by_the_place_is_a_draw_and_is_told(tmp_path):
    row = score_alpaca(alpaca(tmp_path, 6), ["x"] * 6, judge(lambda one, other: True))
    assert (row["win_rate"], row["first_share"]) == (0.5, 1.0)
    assert row["length_controlled_minimal"] == pytest.approx(0.5, abs=1e-3)
    assert row["length_controlled"] is None  # the published one needs difficulties


def drawn(n=120):
    """Preferences, differences in length and gamed baselines, drawn as for alpaca_eval below."""
    rng = np.random.default_rng(7)
    difficulty = rng.normal(0, 1.2, n)
    wins, deltas = [], []
    for shift in (-1.0, 1.0):
        deltas.append(rng.normal(shift, 0.7, n))
        logits = 0.4 - 1.5 * np.tanh(deltas[-1]) + 0.6 * difficulty + rng.normal(0, 1, n)
        wins.append(1 / (1 + np.exp(-logits)))
    index, twice = np.tile(np.arange(n), 2), np.tile(difficulty, 2)
    gamed = Gamed(index, np.concatenate(wins), np.concatenate(deltas), twice)
    baseline = rng.integers(200, 3000, n)
    own = (baseline * rng.uniform(0.5, 2.5, n)).astype(int)
    logits = -0.5 + 0.9 * np.tanh((own - baseline) / 1000) + 0.4 * difficulty
    preference = np.round(2 / (1 + np.exp(-(logits + rng.normal(0, 1.5, n))))) / 2
    return preference, (baseline - own).astype(float), gamed


def test_the_length_controlled_rate_is_that_of_the_package():
    # alpaca_eval 0.6.6 with scikit-learn 1.9.1: get_length_controlled_winrate of these numbers,
    # with df_gamed.csv made of them, as length_controlled_v1 and length_controlled_minimal.
    preference, longer, gamed = drawn()
    assert preference.mean() == 0.425
    index = np.arange(preference.size)
    with_gamed = length_controlled(preference, longer, index=index, gamed=gamed)
    assert with_gamed == pytest.approx(0.3454952405245528, abs=1e-6)
    assert length_controlled(preference, longer) == pytest.approx(0.35229005277914645, abs=1e-6)


def test_a_file_of_gamed_baselines_without_difficulties_is_refused(tmp_path):
    path = tmp_path / "df_gamed.csv"
    path.write_text("index,preference,std_delta_len\n0,1.0,0.5\n")
    with pytest.raises(DataError, match="instruction_difficulty"):
        read_gamed(str(path))


# Reading


def test_rows_of_no_benchmark_are_refused(tmp_path):
    with pytest.raises(DataError, match="not a row of a known benchmark"):
        read_benchmark(write_rows(tmp_path / "x.jsonl", [{"text": "hi"}]))
    with pytest.raises(DataError, match="holds no rows"):
        read_benchmark(write_rows(tmp_path / "x.jsonl", []))


def test_ready_responses_are_found_by_their_prompts(tmp_path):
    benchmark = alpaca(tmp_path, 2)
    rows = [{"instruction": "i1", "output": "b"}, {"instruction": "i0", "output": "a"}]
    found = read_responses(write_rows(tmp_path / "r.jsonl", rows), benchmark)
    assert found == {"i0": "a", "i1": "b"}
    rows = [{"instruction": "other", "output": "b"}]
    with pytest.raises(DataError, match="no response to any of the 2 items"):
        read_responses(write_rows(tmp_path / "r.jsonl", rows), benchmark)


# The command line


def write_chats(path, samples):
    turns = [[{"role": m.role, "content": m.content} for m in s.messages] for s in samples]
    return write_rows(path, [{"messages": row} for row in turns])


def test_instruction_from_the_command_line(tmp_path):
    model = tmp_path / "model"
    make_model().save_pretrained(model)
    make_tokenizer().save_pretrained(model)
    data = write_chats(tmp_path / "train.jsonl", echoes(8, 0))
    words = ("--model", model, "--dtype", "float32", "--random-seed", 1, "--max-length", 64)
    words += ("--epochs", 1, "--batch-size", 4, "--save-every", QUICK.optimizer.save_every)
    folder = tmp_path / "run"
    done = fac("task", "instruction", "train", data, "-o", folder, *words)
    assert done.exit_code == 0, done.output
    assert "model-1: 8 samples, 2 steps" in done.stderr
    rows = [{"question": f"how many {i}?", "answer": "#### 4"} for i in range(3)]
    test = write_rows(tmp_path / "gsm.jsonl", rows)
    asked = ("task", "instruction", "evaluate", folder, test, "--max-new-tokens", 4, "--base")
    done = fac(*asked, "--json")
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)
    assert [found["model"] for found in row["models"]] == ["model-1"]
    assert row["base"]["n_questions"] == 3
    assert len((folder / "answers-gsm8k-model-1.jsonl").read_text().splitlines()) == 3
    assert fac(*asked).exit_code == 0
    limited = json.loads(fac(*asked, "--max-new-tokens", 1, "--json").stdout)["base"]
    assert limited["n_cut"] + limited["n_failed"] == 3  # one token, so never ended: cut or empty


def test_ready_responses_are_scored_without_a_model(tmp_path):
    rows = [{"question": "q", "answer": "#### 4"}]
    data = write_rows(tmp_path / "gsm.jsonl", rows)
    told = write_rows(tmp_path / "told.jsonl", [{"question": "q", "response": "4"}])
    asked = ("task", "instruction", "evaluate", tmp_path / "out", data, "--responses", told)
    done = fac(*asked, "--json")
    assert json.loads(done.stdout)["exact_match"] == 1.0


def test_a_missing_response_is_wrong_and_named(tmp_path):
    benchmark = ifeval(tmp_path, [COMMA], [COMMA])
    told = [{"prompt": "prompt 1", "response": "fine"}]
    args = (tmp_path / "if.jsonl", "--responses", write_rows(tmp_path / "r.jsonl", told))
    done = fac("task", "instruction", "evaluate", tmp_path / "out", *args, "--json")
    row = json.loads(done.stdout)
    assert (row["prompt_strict"], row["without_response"]) == (0.5, ["0"])
    assert "1 of 2 items have no response and count as wrong: 0" in done.stderr
    assert score_responses(benchmark, {}, scorer_of(benchmark))["prompt_strict"] == 0.0


def test_alpaca_needs_a_judge(tmp_path):
    data = write_rows(tmp_path / "a.jsonl", [{"instruction": "i", "output": "o"}])
    done = fac("task", "instruction", "evaluate", tmp_path, data, "--responses", data)
    assert done.exit_code == 1
    assert "name one with --chat-model" in done.stderr


def test_a_dry_run_estimates_verdicts_and_writes_no_answer(tmp_path, monkeypatch):
    folder = save_task("instruction", tmp_path, {"training": {"m": {}, "n": {}}}, []).folder
    data = write_rows(tmp_path / "a.jsonl", [{"instruction": "i", "output": "o"}] * 3)
    monkeypatch.setattr("facsynth.cli.load.load_model", None)  # loading would fail
    words = ("--chat-model", "judge", "--api-base", "http://localhost:9/v1", "--dry-run")
    done = fac("task", "instruction", "evaluate", folder, data, *words)
    assert done.exit_code == 0, done.output
    assert "12 calls" in done.stderr  # of 2 models, 3 instructions in both orders
    assert not list(folder.glob("evaluation-*"))

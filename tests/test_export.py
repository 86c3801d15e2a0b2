"""Exports in the forms that training tools read."""

import gzip
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from datasets import load_dataset
from hypothesis import assume, given, settings
from trl import apply_chat_template, is_conversational

from drawn_samples import ANSWERED as ANSWERS
from drawn_samples import PAIR as PAIRS
from drawn_samples import named, samples_of
from facsynth.cli import main
from facsynth.data.cards import SENSITIVE_WARNING, CardFacts, data_card, read_run
from facsynth.data.export import Row, export_samples, form_row
from facsynth.data.read import read_samples
from facsynth.data.write import write_json, write_jsonl
from facsynth.errors import DataError
from facsynth.records import Message, Sample, ToolCall
from tiny import cached_tokenizer

ASK = Message("user", "Is tea hot?")
YES, NO = Message("assistant", "Yes."), Message("assistant", "No.")
ANSWERED = Sample("a", messages=(ASK, YES))
SILENT = Sample("s", messages=(ASK,))
PAIR = Sample("p", messages=(ASK, YES), rejected=(ASK, NO))
PLAIN = Sample("t", text="Tea is hot.", label="warm")

USER = {"role": "user", "content": "Is tea hot?"}
TRUE = {"role": "assistant", "content": "Yes."}
FALSE = {"role": "assistant", "content": "No."}


@pytest.mark.parametrize(
    ("sample", "form", "row"),
    [
        (ANSWERED, "sft", {"messages": [USER, TRUE]}),
        (PLAIN, "sft", {"text": "Tea is hot."}),
        (ANSWERED, "openai", {"messages": [USER, TRUE]}),
        (ANSWERED, "prompt-completion", {"prompt": [USER], "completion": [TRUE]}),
        (PAIR, "preference", {"prompt": [USER], "chosen": [TRUE], "rejected": [FALSE]}),
        (PLAIN, "classification", {"text": "Tea is hot.", "label": "warm"}),
        (ANSWERED, "llamafactory", {"messages": [USER, TRUE]}),
        (PAIR, "llamafactory", {"messages": [USER], "chosen": TRUE, "rejected": FALSE}),
        (
            PAIR,
            "openai",
            {
                "input": {"messages": [USER]},
                "preferred_output": [TRUE],
                "non_preferred_output": [FALSE],
            },
        ),
        (SILENT, "sft", "without an answer"),
        (PLAIN, "openai", "without roles"),
        (ANSWERED, "preference", "without a rejected answer"),
        (ANSWERED, "classification", "without a label"),
    ],
)
def test_sample_takes_the_form(sample, form, row):
    assert form_row(sample, form) == row


def test_equal_answers_still_leave_one_turn_each():
    same = Sample("p", messages=(ASK, YES), rejected=(ASK, YES))
    assert form_row(same, "preference") == {"prompt": [USER], "chosen": [TRUE], "rejected": [TRUE]}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_samples_that_do_not_fit_are_counted_and_the_rest_is_written(tmp_path):
    done = export_samples([Row(ANSWERED, {"step": 1}), Row(SILENT)], tmp_path, "sft")
    assert done.left_out == {"without an answer": 1}
    (row,) = lines(done.data)
    assert row == {"messages": [USER, TRUE], "sample_id": "a", "provenance": {"step": 1}}


def test_clean_drops_where_samples_came_from(tmp_path):
    done = export_samples([Row(ANSWERED, {"step": 1})], tmp_path, "sft", clean=True)
    assert lines(done.data) == [{"messages": [USER, TRUE]}]


def test_openai_gets_no_key_that_it_refuses(tmp_path):
    done = export_samples([Row(ANSWERED, {"step": 1})], tmp_path, "openai")
    assert lines(done.data) == [{"messages": [USER, TRUE]}]


def test_form_that_holds_nothing_is_an_error(tmp_path):
    with pytest.raises(DataError, match="as preference: 1 without a rejected answer; choose anoth"):
        export_samples([Row(ANSWERED)], tmp_path, "preference")


def test_llamafactory_finds_the_file_and_its_columns(tmp_path):
    export_samples([Row(PAIR)], tmp_path, "llamafactory", name="mine")
    entry = json.loads((tmp_path / "dataset_info.json").read_text())["mine"]
    (row,) = lines(tmp_path / entry["file_name"])
    assert entry["ranking"] is True
    assert set(entry["columns"].values()) <= set(row)


@pytest.mark.parametrize("form", ["llamafactory", "openai", "axolotl"])
def test_pairs_and_conversations_do_not_share_a_file(tmp_path, form):
    with pytest.raises(DataError, match="1 conversations and 1 preference pairs, but .* one kind"):
        export_samples([Row(PAIR), Row(ANSWERED)], tmp_path, form)


# Tools and reasoning

TOOL = '{"type": "function", "function": {"name": "rain"}}'
CALL = ToolCall("rain", '{"in": "Oslo"}', "c1")
CALLED = Sample(
    "c",
    messages=(
        ASK,
        Message("assistant", "", tool_calls=(CALL,)),
        Message("tool", "yes", tool_call_id="c1"),
        Message("assistant", "Yes.", reasoning="It rains."),
    ),
    tools=(TOOL,),
)


def test_calls_are_written_as_openai_reads_them_and_reasoning_is_counted(tmp_path):
    done = export_samples([Row(CALLED)], tmp_path, "openai")
    (row,) = lines(done.data)
    assert row["tools"] == [json.loads(TOOL)]
    (call,) = row["messages"][1]["tool_calls"]
    assert call == {
        "id": "c1",
        "type": "function",
        "function": {"name": "rain", "arguments": '{"in": "Oslo"}'},
    }
    assert row["messages"][3] == TRUE
    assert done.parts_left_out == {"reasoning": 1}


def test_rejected_answers_that_training_does_not_see_are_counted(tmp_path):
    done = export_samples([Row(PAIR), Row(ANSWERED), Row(SILENT)], tmp_path, "sft")
    assert done.parts_left_out == {"the rejected answer": 1}


def test_calls_are_written_for_chat_templates_with_tools_as_json_text():
    row = form_row(CALLED, "sft")
    assert json.loads(row["tools"]) == [json.loads(TOOL)]
    function = row["messages"][1]["tool_calls"][0]["function"]
    assert function == {"name": "rain", "arguments": {"in": "Oslo"}}
    assert row["messages"][3]["reasoning_content"] == "It rains."


def test_calls_are_written_with_the_tags_of_llamafactory(tmp_path):
    export_samples([Row(CALLED), Row(ANSWERED)], tmp_path, "llamafactory")
    entry = json.loads((tmp_path / "dataset_info.json").read_text())["facsynth"]
    first, second = lines(tmp_path / "train.jsonl")
    assert [turn["role"] for turn in first["messages"]] == [
        *("user", entry["tags"]["function_tag"]),
        *(entry["tags"]["observation_tag"], "assistant"),
    ]
    assert json.loads(first["messages"][1]["content"]) == {
        "name": "rain",
        "arguments": {"in": "Oslo"},
    }
    assert first["messages"][3]["content"] == "<think>\nIt rains.\n</think>\n\nYes."
    assert (entry["columns"]["tools"], first["tools"], second["tools"]) == (
        "tools",
        '[{"name": "rain"}]',
        "",
    )


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ((ASK, ASK, YES), "turns that do not alternate"),
        ((YES,), "turns that do not alternate"),
        ((ASK, Message("assistant", "Wait.", tool_calls=(CALL,))), "words beside a tool call"),
    ],
)
def test_what_llamafactory_skips_is_left_out(messages, why):
    assert why in form_row(Sample("x", messages=messages), "llamafactory")


def test_sample_that_ends_with_a_call_is_answered():
    asked = Sample("x", messages=CALLED.messages[:2])
    assert form_row(asked, "sft")["messages"][1]["tool_calls"]
    silent = Sample("x", messages=(ASK, Message("assistant", " ")))
    assert form_row(silent, "sft") == "without an answer"


@pytest.mark.parametrize(
    ("sample", "wanted"),
    [
        (CALLED, "type: chat_template\n    field_messages: messages\n    field_tools: tools\n"),
        (PAIR, "type: chat_template.default\n    field_messages: messages\n    field_chosen: ch"),
        (PLAIN, "type: completion\n    field: text\n"),
    ],
)
def test_axolotl_gets_its_configuration(tmp_path, sample, wanted):
    export_samples([Row(sample)], tmp_path, "axolotl")
    text = (tmp_path / "axolotl.yaml").read_text()
    assert wanted in text
    config = yaml.safe_load(text)
    assert config.get("rl") == ("dpo" if sample is PAIR else None)
    fields = {v for k, v in config["datasets"][0].items() if k.startswith("field")}
    assert fields <= set(lines(tmp_path / "train.jsonl")[0])


# Round trips


def without_ids(samples):
    """Samples without the ids of calls, which some forms do not have."""
    return [
        [(m.role, m.content, tuple((c.name, c.arguments) for c in m.tool_calls)) for m in side]
        for sample in samples
        for side in (sample.messages, sample.rejected)
    ]


@pytest.mark.parametrize("form", ["hf", "sft", "prompt-completion", "openai", "axolotl"])
@settings(max_examples=10, deadline=None)
@given(drawn=named(ANSWERS))
def test_exported_conversations_are_read_back(form, drawn):
    samples = [one for one in samples_of(drawn) if not isinstance(form_row(one, form), str)]
    assume(samples)
    with tempfile.TemporaryDirectory() as folder:
        export_samples([Row(sample) for sample in samples], Path(folder), form)
        found = read_samples(folder)
    assert without_ids(found) == without_ids(samples)
    assert [sample.tools for sample in found] == [sample.tools for sample in samples]


@pytest.mark.parametrize("form", ["hf", "preference", "openai", "axolotl", "llamafactory"])
@settings(max_examples=10, deadline=None)
@given(drawn=named(PAIRS))
def test_exported_pairs_are_read_back(form, drawn):
    samples = samples_of(drawn)
    with tempfile.TemporaryDirectory() as folder:
        export_samples([Row(sample) for sample in samples], Path(folder), form)
        assert without_ids(read_samples(folder)) == without_ids(samples)


def test_llamafactory_rows_are_read_back(tmp_path):
    silent = replace(CALLED.messages[3], reasoning=None)
    sample = replace(CALLED, messages=(*CALLED.messages[:3], silent))
    export_samples([Row(sample), Row(ANSWERED)], tmp_path, "llamafactory")
    found = read_samples(tmp_path)
    assert without_ids(found) == without_ids([sample, ANSWERED])
    assert found[0].tools == (TOOL,)


@pytest.mark.parametrize(
    ("sample", "form"),
    [(ANSWERED, "sft"), (ANSWERED, "prompt-completion"), (PAIR, "preference")],
)
def test_trl_renders_what_it_loads(tmp_path, sample, form):
    done = export_samples([Row(sample)], tmp_path, form, clean=True)
    loaded = load_dataset("json", data_files=str(done.data), cache_dir=str(tmp_path / "c"))["train"]
    assert is_conversational(loaded[0])
    rendered = apply_chat_template(loaded[0], cached_tokenizer())
    assert "Is tea hot?" in "".join(rendered.values())
    assert "Yes." in (rendered.get("chosen") or rendered.get("completion") or rendered["text"])


@pytest.mark.parametrize("form", ["hf", "sft", "axolotl"])
def test_datasets_loads_rows_with_and_without_tools(tmp_path, form):
    other = ToolCall("tea", '{"hot": true}')
    second = replace(
        CALLED, sample_id="d", messages=(ASK, Message("assistant", "", None, (other,)))
    )
    done = export_samples([Row(CALLED), Row(second), Row(ANSWERED)], tmp_path, form, clean=True)
    loaded = load_dataset("json", data_files=str(done.data), cache_dir=str(tmp_path / "c"))["train"]
    assert without_ids(read_samples(loaded)) == without_ids([CALLED, second, ANSWERED])


def test_hugging_face_folder_loads_and_reads_back(tmp_path):
    card = data_card(CardFacts("tea: hot", 2, has_provenance=False))
    rows = [Row(ANSWERED), Row(Sample("b", messages=(ASK, NO)))]
    done = export_samples(rows, tmp_path / "set", "hf", card=card)
    loaded = load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"]["messages"][0] == [USER, TRUE]
    assert read_samples(done.data) == [row.sample for row in rows]


def finished_run(folder):
    """What a run leaves, as far as an export reads it."""
    row = {"sample_id": "a", "messages": [USER, TRUE], "provenance": {"step": 1}}
    write_jsonl([row], folder / "synthesize" / "synthetic.jsonl")
    summary = {"n_missing": 40, "n_filled": 30, "generator": "m|x", "outcomes": {"kept": 1}}
    write_json(summary, folder / "synthesize" / "summary.json")
    plan = {"source": {"model_name": "reader"}, "settings": {"form": "a note"}, "prompt_version": 1}
    write_json(plan, folder / "synthesize" / "plan.json")
    private = str(Path("/") / "data" / "ada" / "anchor.jsonl")
    recipe = {"name": "tea", "anchor": {"source": private}, "seed": {"source": "owner/set"}}
    write_json(recipe, folder / "recipe.json")
    for when, fac, distance in (("before", 0.25, 0.5), ("after", 0.75, 0.4)):
        row = {"fac": fac, "representativeness": {"hellinger": distance}}
        write_json(row, folder / "coverage" / f"{when}.json")
    return folder


def test_card_says_what_the_run_found_and_how_to_repeat_it(tmp_path):
    rows, facts, _ = read_run(finished_run(tmp_path))
    card = data_card(facts)
    assert [row.provenance for row in rows] == [{"step": 1}]
    for text in ("| FAC (best 1) | 0.250 | 0.750 |", "| 40 | 10 |", "| 0.500 | 0.400 |"):
        assert text in card
    for text in (
        "fac run tea.toml",
        "| generator | m\\|x |",
        "| asked for | a note |",
        "owner/set",
    ):
        assert text in card
    assert "| anchor | anchor.jsonl |" in card
    assert SENSITIVE_WARNING not in card


def test_neither_card_nor_rows_name_the_server_of_the_generator(tmp_path):
    folder = finished_run(tmp_path) / "synthesize"
    named = {"generator": "m at http://10.0.0.7/v1"}
    row = {"sample_id": "a", "messages": [USER, TRUE], "provenance": named}
    write_jsonl([row], folder / "synthetic.jsonl")
    summary = json.loads((folder / "summary.json").read_text())
    write_json(summary | named, folder / "summary.json")
    rows, facts, _ = read_run(folder)
    assert "| generator | m |" in data_card(facts)
    assert rows[0].provenance == {"generator": "m"}


def test_card_of_a_synthesis_by_itself_has_its_coverage(tmp_path):
    folder = finished_run(tmp_path) / "synthesize"
    summary = json.loads((folder / "summary.json").read_text())
    write_json(summary | {"fac": [0.5, 0.625]}, folder / "summary.json")
    assert "| FAC (best 1) | 0.500 | 0.625 |" in data_card(read_run(folder)[1])


def test_card_of_a_sensitive_set_warns(tmp_path):
    card = data_card(read_run(finished_run(tmp_path), sensitive=True)[1])
    assert SENSITIVE_WARNING in card
    assert "not-for-all-audiences" in card


def test_plain_file_needs_no_run(tmp_path):
    write_jsonl([{"messages": [USER, TRUE]}], tmp_path / "mine.jsonl")
    rows, facts, _ = read_run(tmp_path / "mine.jsonl")
    assert (facts.name, facts.n_rows, len(rows)) == ("mine", 1, 1)
    assert "Not measured" in data_card(facts)


def export(source, folder, *words):
    return CliRunner().invoke(main, ["export", str(source), "-o", str(folder), *words])


@pytest.mark.parametrize("name", ["bom.jsonl", "a.jsonl.gz", "a.parquet", "a.csv"])
def test_command_reads_what_every_command_reads(tmp_path, name):
    content = '{"prompt": "Is tea hot?", "answer": "Yes."}\n'
    if name == "a.parquet":
        rows = pa.table({"prompt": ["Is tea hot?"], "answer": ["Yes."]})
        pq.write_table(rows, tmp_path / name)
    elif name == "a.jsonl.gz":
        (tmp_path / name).write_bytes(gzip.compress(content.encode()))
    elif name == "a.csv":
        (tmp_path / name).write_text("prompt;answer\nIs tea hot?;Yes.\n")
    else:
        (tmp_path / name).write_text(content, encoding="utf-8-sig")
    done = export(tmp_path / name, tmp_path / "out", "--format", "sft", "--clean")
    assert done.exit_code == 0, done.output
    assert "read 1 row as prompt + answer (fields prompt, answer)" in done.stderr
    assert lines(tmp_path / "out" / "train.jsonl") == [{"messages": [USER, TRUE]}]


def test_command_names_the_line_that_is_not_utf8(tmp_path):
    (tmp_path / "latin1.jsonl").write_bytes(b'{"text":"x"}\n{"text":"caf\xe9"}\n')
    done = export(tmp_path / "latin1.jsonl", tmp_path / "out")
    assert "latin1.jsonl, line 2: not UTF-8 (byte 0xe9)" in done.stderr
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("speaker", ["gpt", "chatgpt", "Assistant", "bing", "model"])
def test_exported_roles_are_those_of_openai(tmp_path, speaker):
    turns = [{"from": "human", "value": "Is tea hot?"}, {"from": speaker, "value": "Yes."}]
    write_jsonl([{"conversations": turns}], tmp_path / "a.jsonl")
    assert export(tmp_path / "a.jsonl", tmp_path / "out", "--format", "openai").exit_code == 0
    assert lines(tmp_path / "out" / "train.jsonl") == [{"messages": [USER, TRUE]}]


def test_empty_answer_is_left_out_of_training(tmp_path):
    write_jsonl(
        [{"prompt": "Is tea hot?", "completion": ""}, {"prompt": "Is tea hot?", "answer": "Yes."}],
        tmp_path / "a.jsonl",
    )
    done = export(tmp_path / "a.jsonl", tmp_path / "out", "--format", "sft", "--json")
    assert json.loads(done.stdout)["left_out"] == {"without an answer": 1}


def test_unfinished_run_is_refused(tmp_path):
    (tmp_path / "synthesize").mkdir()
    with pytest.raises(DataError, match="holds no finished synthesis"):
        read_run(tmp_path)


def test_command_exports_and_uploads_nothing_unasked(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", None)
    run = finished_run(tmp_path / "run")
    words = ["export", str(run), "-o", str(tmp_path / "out"), "--json"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)
    assert (row["n_samples"], row["url"]) == (1, None)
    assert (tmp_path / "out" / "README.md").is_file()


def test_command_pushes_the_folder_as_a_private_set(tmp_path, monkeypatch):
    calls = []

    class Api:
        def create_repo(self, repo, **options):
            calls.append((repo, options["private"]))
            return f"https://hub.example/{repo}"

        def upload_folder(self, **options):
            calls.append(options["folder_path"])

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    words = ["export", str(finished_run(tmp_path / "run")), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(main, [*words, "--push", "me/tea"])
    assert "https://hub.example/me/tea" in done.stdout
    assert calls == [("me/tea", True), tmp_path / "out"]
    assert CliRunner().invoke(main, [*words, "--push", "me/tea", "--format", "sft"]).exit_code == 2


CALL = ToolCall("get_weather", '{"city": "Oslo"}')


def test_openai_gets_ids_of_calls_and_of_their_answers():
    asked, told = Message("user", "Rain in Oslo?"), Message("assistant", "Yes.")
    turns = (asked, Message("assistant", "", tool_calls=(CALL,)), Message("tool", "yes"), told)
    row = form_row(Sample("a", messages=turns), "openai")
    assert row["messages"][1]["tool_calls"][0]["id"] == row["messages"][2]["tool_call_id"]


def test_openai_gets_no_answer_of_a_tool_that_nobody_called():
    turns = (Message("user", "Rain?"), Message("tool", "yes"), Message("assistant", "Yes."))
    row = form_row(Sample("a", messages=turns), "openai")
    assert row == "with the answer of a tool that no message calls"

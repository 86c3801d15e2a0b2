"""Toxicity and reward heads on a tiny random model: planted words, shuffled labels, bad input."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from facsynth.cli import main
from facsynth.errors import DataError, MismatchError, ModelError
from facsynth.records import Sample
from facsynth.tasks.hidden_states import read_vectors
from facsynth.tasks.reward.data import Comparison, read_comparisons
from facsynth.tasks.reward.evaluate import evaluate_reward
from facsynth.tasks.reward.settings import RewardSettings
from facsynth.tasks.reward.train import train_reward
from facsynth.tasks.settings import HeadSettings, TuneSettings
from facsynth.tasks.toxicity.data import LabelledTexts, read_labelled
from facsynth.tasks.toxicity.evaluate import evaluate_toxicity
from facsynth.tasks.toxicity.settings import ToxicitySettings
from facsynth.tasks.toxicity.train import train_toxicity
from tiny import chat, make_model, make_tokenizer, tiny_lm

HEAD = TuneSettings(head_only=True, max_length=64, head=HeadSettings(layer=1))
FILLERS = [
    "the",
    "cat",
    "sat",
    "on",
    "the",
    "mat",
    "and",
    "saw",
    "a",
    "red",
    "ball",
    "ok",
    "you",
    "are",
]


def sentence(rng, word):
    words = rng.choices(FILLERS, k=6)
    words.insert(rng.randrange(7), word)
    return " ".join(words)


def labelled(n, seed, *, words=("plum", "oak")):
    """Harmless texts whose class is which of two words they hold."""
    rng = random.Random(seed)
    positive = np.arange(n) % 2 == 0
    samples = [Sample(f"s{seed}-{i}", text=sentence(rng, words[i % 2])) for i in range(n)]
    groups = tuple("odd" if i % 3 else "third" for i in range(n))
    return LabelledTexts(tuple(samples), positive, groups)


def compared(n, seed):
    rng = random.Random(seed)
    return [
        Comparison(
            f"p{seed}-{i}",
            chat("a", "the ball", sentence(rng, "plum")).messages,
            chat("b", "the ball", sentence(rng, "oak")).messages,
            "even" if i % 2 else "odd",
        )
        for i in range(n)
    ]


@pytest.fixture
def train(tmp_path):
    def train(data=None, *, safe=None, **settings):
        data = labelled(80, 0) if data is None else data
        asked = ToxicitySettings(train=HEAD, **settings)
        return train_toxicity(data, tiny_lm, tmp_path / "trained", asked, safe=safe)

    return train


# Toxicity


def test_a_head_learns_a_planted_word_and_not_shuffled_labels(train):
    trained = train(max_per_class=35)
    found = evaluate_toxicity(trained, labelled(60, 1), tiny_lm, allow_overlap=True)
    assert found["auprc"] > 0.95
    assert found["shuffled_auprc"] < 0.75
    assert found["prevalence"] == 0.5
    assert [row["model"] for row in found.models][::3] == ["model-42", "shuffled-42"]
    assert {row["group"]: row["n"] for row in found["groups"]} == {"odd": 40, "third": 20}


def test_random_seeds_that_draw_nothing_make_one_head(train):
    assert train().config["random_seeds"] == [42]


def test_safe_samples_are_mixed_in_as_negative_ones(train):
    toxic = LabelledTexts(labelled(20, 0).samples, np.ones(20, bool), (None,) * 20)
    trained = train(toxic, safe=labelled(30, 2), n_safe=10)
    assert {row["n_rows"] for row in trained.config["training"].values()} == {30}
    assert trained.config["random_seeds"] == [42, 43, 44]


def test_a_trained_folder_holds_no_text(train):
    folder = train().folder
    assert not any(b"plum" in file.read_bytes() for file in folder.iterdir())


def test_near_copies_that_are_allowed_are_listed(train):
    data = labelled(20, 0)
    found = evaluate_toxicity(train(data), data, tiny_lm, allow_overlap=True)
    assert len(found.near_copies) == 20


def test_another_model_is_refused(train):
    with pytest.raises(MismatchError, match="trained on tiny llama"):
        evaluate_toxicity(train(), labelled(20, 1), lambda: tiny_lm("qwen2"))


# Reading


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["toxic", "safe", "odd"], "3 labels .odd, safe, toxic., but the task is binary"),
        (["toxic", None], "has no label"),
        (["red", "blue"], "name it with --positive"),
        (["toxic", "unsafe"], "name it with --positive"),
    ],
)
def test_labels_that_are_not_binary_are_refused(tmp_path, labels, message):
    rows = [{"text": f"the cat {i}", "label": label} for i, label in enumerate(labels)]
    with pytest.raises(DataError, match=message):
        read_labelled(write_rows(tmp_path / "a.jsonl", rows))


def test_a_suite_is_read_by_its_own_fields(tmp_path):
    rows = [
        {"test_case": "the cat", "label_gold": "non-hateful", "functionality": "f1"},
        {"test_case": "a ball", "label_gold": "hateful", "functionality": "f2"},
    ]
    found = read_labelled(write_rows(tmp_path / "a.jsonl", rows))
    assert found.positive.tolist() == [False, True]
    assert found.groups == ("f1", "f2")


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="no samples in"):
        read_labelled(write_rows(tmp_path / "a.jsonl", []))
    with pytest.raises(DataError, match="no samples in"):
        read_comparisons(write_rows(tmp_path / "a.jsonl", []))


def test_rows_of_every_preference_format_are_read(tmp_path):
    rows = [
        {"prompt": "q", "chosen": "a", "rejected": "b", "subset": "donotanswer", "id": 7},
        {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
        {"input": "q", "output_1": "b", "output_2": "a", "label": 2},
    ]
    found = read_comparisons(write_rows(tmp_path / "a.jsonl", rows))
    assert [[m.content for m in pair.chosen] for pair in found] == [["q", "a"]] * 3
    assert [[m.content for m in pair.rejected] for pair in found] == [["q", "b"]] * 3
    assert [pair.subset for pair in found] == ["donotanswer", None, None]


def test_equal_answers_are_refused(tmp_path):
    rows = [{"prompt": "q", "chosen": "a", "rejected": "a"}]
    with pytest.raises(DataError, match="two equal answers"):
        read_comparisons(write_rows(tmp_path / "a.jsonl", rows))


# Hidden states


def test_the_cache_answers_the_second_time(monkeypatch):
    samples = labelled(6, 3).samples
    first = read_vectors(samples, tiny_lm(), HEAD)
    monkeypatch.setattr("facsynth.tasks.hidden_states.embed_tokenized", None)
    np.testing.assert_array_equal(read_vectors(samples, tiny_lm(), HEAD).rows, first.rows)


def test_a_text_cut_at_the_start_keeps_its_end():
    one, two = (Sample(n, text=f"{n} " + "the cat sat on " * 30) for n in "ab")
    lm = tiny_lm()

    def gap(cut):
        settings = replace(HEAD, max_length=40, cut=cut)
        rows = read_vectors([one, two], lm, settings)
        assert rows.n_cut == 2
        return float(np.abs(rows.rows[0] - rows.rows[1]).max())

    assert gap("start") < 1e-6 < 1e-3 < gap("end")


def test_the_last_token_is_not_the_mean():
    samples = labelled(4, 3).samples
    last = read_vectors(
        samples, tiny_lm(), replace(HEAD, head=HeadSettings(layer=1, pooling="last"))
    ).rows
    assert np.abs(last - read_vectors(samples, tiny_lm(), HEAD).rows).max() > 1e-3


def test_a_model_without_a_chat_template_is_refused():
    with pytest.raises(ModelError, match="has no chat template"):
        read_vectors(labelled(4, 3).samples, tiny_lm("llama", "none"), HEAD)


def test_more_tokens_than_the_context_are_refused():
    with pytest.raises(
        DataError, match="--max-length is 513 tokens long, but tiny llama reads at most 512"
    ):
        read_vectors(labelled(4, 3).samples, tiny_lm(), replace(HEAD, max_length=513))


def test_a_sample_without_words_is_refused():
    with pytest.raises(DataError, match="'e' has no words"):
        read_vectors([Sample("e", text="")], tiny_lm(), HEAD)


# Reward


def test_a_reward_head_learns_a_planted_word_and_not_swapped_sides(tmp_path):
    settings = RewardSettings(max_samples=50, train=HEAD)
    trained = train_reward(compared(60, 0), tiny_lm, tmp_path, settings)
    found = evaluate_reward(trained, compared(50, 1), tiny_lm, allow_overlap=True)
    assert found["accuracy"] > 0.9
    assert found["shuffled_accuracy"] < 0.85
    assert {row["subset"]: row["n"] for row in found["subsets"]} == {"even": 25, "odd": 25}
    assert found["sections"] is None


# The command line


@pytest.fixture
def model(tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    make_tokenizer().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def fac(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def write_labelled(path, data):
    flags = zip(data.samples, data.positive, strict=True)
    return write_rows(path, [{"text": s.text, "label": "toxic" if p else "safe"} for s, p in flags])


def test_toxicity_from_the_command_line(tmp_path, model):
    one = write_labelled(tmp_path / "train.jsonl", labelled(60, 0))
    two = write_labelled(tmp_path / "test.jsonl", labelled(40, 1))
    folder = tmp_path / "heads"
    options = ("--model", model, "--dtype", "float32")
    done = fac("task", "toxicity", "train", one, "-o", folder, "--head-only", *options)
    assert done.exit_code == 0, done.output
    assert [one["n_read"] for one in json.loads((folder / "read.json").read_text())] == [60]
    sampled = ("--sample", 30, "--random-seed", 3, "--json")
    done = fac("task", "toxicity", "evaluate", folder, two, "--allow-overlap", *sampled)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["auprc"] > 0.9
    assert (found["read"]["n_read"], found["read"]["n_not_sampled"]) == (30, 10)
    kept = json.loads((folder / "evaluation-test.jsonl.json").read_text())
    assert kept["read"] == found["read"]


def test_options_that_would_be_ignored_are_refused(tmp_path):
    for words, message in (
        (("--epochs", 2, "--head-only"), "--epochs only works without --head-only"),
        (("--layer", 1), "--layer only works with --head-only"),
    ):
        done = fac("task", "reward", "train", "x.jsonl", "-o", tmp_path, *words)
        assert done.exit_code == 2
        assert message in done.stderr

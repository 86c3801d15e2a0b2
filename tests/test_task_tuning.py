"""Training a tiny random model itself: planted words, shuffled labels, kills, bad input."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from facsynth.data.export import Row, export_samples
from facsynth.data.read import read_samples
from facsynth.errors import DataError, MismatchError, ModelError
from facsynth.models.lm import LanguageModel
from facsynth.records import Sample
from facsynth.tasks import fit
from facsynth.tasks.chats import answer_rows, chat_tokenizer
from facsynth.tasks.comparisons import read_comparisons
from facsynth.tasks.folder import open_task
from facsynth.tasks.instruction import train_instruction, tuned_model
from facsynth.tasks.labelled import read_labelled
from facsynth.tasks.reward import evaluate_reward
from facsynth.tasks.toxicity import evaluate_toxicity
from facsynth.tasks.tune import tune_reward, tune_toxicity
from facsynth.tasks.tuning import PAPER, LoraSettings, TuneRun, TuneSettings
from test_task_heads import compared, labelled
from tiny import cached_tokenizer, chat, make_model, tiny_lm

QUICK = TuneSettings(
    lora=LoraSettings(4, 16, 0.0),
    epochs=6.0,
    learning_rate=1e-2,
    batch_size=8,
    micro_batch=8,
    max_tokens=64,
    save_every=50,
)


def load(template="chatml"):
    return LanguageModel(make_model(), cached_tokenizer(template), "tiny llama", "llama")


def run(folder, *, control=False, seeds=(42,), **changes):
    return TuneRun(folder, replace(QUICK, **changes), seeds, control)


@pytest.mark.parametrize("method", ["lora", pytest.param("full", marks=pytest.mark.slow)])
def test_a_tuned_classifier_learns_a_planted_word_and_not_shuffled_labels(tmp_path, method):
    changes = {} if method == "lora" else {"lora": None, "learning_rate": 2e-3}
    tune_toxicity(labelled(60, 0), load, run(tmp_path, control=True, **changes))
    trained = open_task(tmp_path, "toxicity")
    found = evaluate_toxicity(trained, labelled(40, 1), load(), n_resamples=20, allow_overlap=True)
    assert found["auprc"] > 0.95
    assert found["shuffled_auprc"] < 0.75
    assert trained.config["method"] == method


@pytest.mark.slow
def test_a_tuned_reward_model_learns_a_planted_word_and_not_swapped_sides(tmp_path):
    tune_reward(compared(40, 0), load, run(tmp_path, control=True))
    trained = open_task(tmp_path, "reward")
    found = evaluate_reward(trained, compared(40, 1), load(), allow_overlap=True)
    assert found["accuracy"] > 0.9
    assert found["shuffled_accuracy"] < 0.85


def test_a_tuned_reward_model_scores_pairs(tmp_path):
    tune_reward(compared(8, 0), load, run(tmp_path, epochs=2.0))
    trained = open_task(tmp_path, "reward")
    found = evaluate_reward(trained, compared(8, 0), load(), allow_overlap=True)
    assert found["seeds"][0]["seed"] == 42
    assert found["shuffled_accuracy"] is None
    assert trained.config["training"]["seed-42"]["n_steps"] == 2


def echoes(n, seed):
    """Questions that are answered by the word they hold."""
    words = [s.text.split() for s in labelled(n, seed).samples]
    held = [next(w for w in ("plum", "oak") if w in text) for text in words]
    return [
        chat(f"e{seed}-{i}", " ".join(text), word)
        for i, (text, word) in enumerate(zip(words, held, strict=True))
    ]


def answer_loss(lm, samples):
    """Mean loss of the answers' tokens."""
    import torch

    rows, _ = answer_rows(samples, lm, chat_tokenizer(lm.tokenizer)[0], QUICK)
    with torch.inference_mode():
        losses = [
            lm.model(
                input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])
            ).loss.item()
            for row in rows
        ]
    return float(np.mean(losses))


@pytest.mark.slow
def test_an_instruction_model_learns_to_answer_and_the_control_does_not(tmp_path):
    wanted = run(tmp_path, control=True, lora=None, epochs=8.0)
    train_instruction(echoes(60, 0), load, wanted)
    trained = open_task(tmp_path, "instruction")
    losses = {}
    for name in ("base", "seed-42", "shuffled-42"):
        with tuned_model(trained, name, load()) as lm:
            losses[name] = answer_loss(lm, echoes(20, 1))
    assert losses["seed-42"] < 0.5 * losses["shuffled-42"] < losses["base"]


def adapters(folder):
    return load_file(folder / "adapter_model.safetensors")


def same(one, other):
    return all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_like_an_undisturbed_one(tmp_path, monkeypatch):
    data, changes = echoes(16, 0), {"lora": LoraSettings(4, 8, 0.2), "epochs": 2.0, "save_every": 2}
    whole, killed = (run(tmp_path / n, seeds=(1, 2), **changes) for n in ("whole", "killed"))
    train_instruction(data, load, whole)
    step = fit._Watcher.on_step_end

    def kill(self, args, state, control, **kwargs):
        step(self, args, state, control, **kwargs)
        if state.global_step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit._Watcher, "on_step_end", kill)
    with pytest.raises(KeyboardInterrupt):
        train_instruction(data, load, killed)
    assert not (killed.folder / "task.json").exists()
    monkeypatch.setattr(fit._Watcher, "on_step_end", step)
    again = train_instruction(data, load, killed)
    assert again.config["training"]["seed-1"]["resumed_at"] == 2
    assert same(adapters(whole.folder / "seed-1"), adapters(killed.folder / "seed-1"))
    assert not same(adapters(whole.folder / "seed-1"), adapters(whole.folder / "seed-2"))


def test_a_folder_of_other_training_is_refused(tmp_path):
    data = labelled(8, 0)
    tune_toxicity(data, load, run(tmp_path, epochs=1.0))
    with pytest.raises(MismatchError, match="other settings; take another folder"):
        tune_toxicity(data, load, run(tmp_path, epochs=2.0))
    with pytest.raises(MismatchError, match="other data; take another folder"):
        tune_toxicity(labelled(8, 1), load, run(tmp_path, epochs=1.0))


# What is learned of a conversation


@pytest.mark.parametrize("template", ["chatml", "none"])
def test_answers_and_their_ends_are_learned_and_nothing_else(template):
    lm = tiny_lm("llama", template)
    tokenizer, whose = chat_tokenizer(lm.tokenizer)
    turns = chat("a", "the cat", "a ball", "ok", "the mat")
    rows, _ = answer_rows([turns], lm, tokenizer, replace(QUICK, max_tokens=400))
    both = zip(rows[0]["input_ids"], rows[0]["labels"], strict=True)
    told = [token for token, label in both if label >= 0]
    assert tokenizer.decode(told) == "a ball<|im_end|>the mat<|im_end|>"
    assert whose == ("model" if template == "chatml" else "alpaca")


def test_the_template_of_a_base_model_is_alpaca():
    tokenizer, whose = chat_tokenizer(cached_tokenizer("none"))
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
    assert whose == "alpaca"
    assert tokenizer.apply_chat_template(turns, tokenize=False) == (
        "<s>Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nHi\n\n### Response:\nYo<|im_end|>\n\n"
    )


# What facsynth writes


@pytest.mark.parametrize("form", ["hf", "sft", "prompt-completion", "llamafactory", "openai"])
def test_exported_conversations_go_into_instruction_training(tmp_path, form):
    data = echoes(3, 0)
    export_samples([Row(sample) for sample in data], tmp_path, form)
    samples = read_samples(next(tmp_path.rglob("train.jsonl")))
    assert [sample.messages for sample in samples] == [sample.messages for sample in data]


def test_exported_labels_and_pairs_go_into_toxicity_and_reward(tmp_path):
    toxic = [Row(Sample(n, text=f"the {n}", label=n)) for n in ("toxic", "benign")]
    found = read_labelled(str(export_samples(toxic, tmp_path / "a", "classification").data))
    assert found.positive.tolist() == [True, False]
    good, bad = chat("p", "the cat", "a ball"), chat("p", "the cat", "the mat")
    pair = Row(replace(good, rejected=bad.messages))
    found = read_comparisons(str(export_samples([pair], tmp_path / "b", "preference").data))
    assert (found[0].chosen, found[0].rejected) == (good.messages, bad.messages)


# Bad input, before anything is trained


def test_a_conversation_without_an_answer_is_refused(tmp_path):
    with pytest.raises(DataError, match="'b' has no assistant message"):
        train_instruction([chat("a", "x", "y"), chat("b", "x")], load, run(tmp_path))


def test_an_answer_beyond_the_limit_is_refused(tmp_path):
    long = chat("long", "the cat " * 60, "ok")
    with pytest.raises(DataError, match="'long' lies within its first 64 tokens"):
        train_instruction([long, long], load, run(tmp_path))


def test_one_sample_is_too_few(tmp_path):
    with pytest.raises(DataError, match="1 training pairs are too few"):
        tune_reward(compared(1, 0), load, run(tmp_path))
    with pytest.raises(DataError, match="0 conversations are too few"):
        train_instruction([], load, run(tmp_path))


def test_one_class_is_too_few(tmp_path):
    data = labelled(8, 0)
    with pytest.raises(DataError, match="8 positive and 0 negative"):
        tune_toxicity(replace(data, positive=np.ones(8, bool)), load, run(tmp_path))


def test_tuning_needs_a_template_and_a_context_that_is_long_enough(tmp_path):
    with pytest.raises(ModelError, match="has no chat template"):
        tune_toxicity(labelled(8, 0), lambda: load("none"), run(tmp_path))
    with pytest.raises(DataError, match="is 600 tokens long, but tiny llama reads 512"):
        tune_toxicity(labelled(8, 0), load, run(tmp_path, max_tokens=600))


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(DataError, match="--batch-size 6 is no multiple of --micro-batch 4"):
        TuneSettings(batch_size=6)


def test_the_papers_settings_are_the_defaults():
    found = {
        name: (s.lora.rank, s.lora.alpha, s.lora.dropout, s.epochs, s.learning_rate, s.batch_size)
        for name, s in PAPER.items()
    }
    assert found == {
        "toxicity": (8, 16, 0.1, 3.0, 5e-5, 16),
        "reward": (16, 32, 0.1, 1.0, 8e-5, 8),
        "instruction": (8, 16, 0.0, 5.0, 1e-4, 16),
    }
    assert (PAPER["toxicity"].max_tokens, PAPER["toxicity"].cut) == (512, "end")
    assert (PAPER["reward"].max_tokens, PAPER["reward"].cut) == (1024, "start")

"""Training a tiny random model itself: planted words, shuffled labels, kills, bad input."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from facsynth.data.export import Row, export_samples
from facsynth.data.read import read_samples
from facsynth.errors import DataError, MismatchError, ModelError
from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.records import Sample
from facsynth.tasks import fit
from facsynth.tasks.instruction.models import answer_rows, chat_tokenizer, tuned_model
from facsynth.tasks.instruction.settings import InstructionSettings
from facsynth.tasks.instruction.train import train_instruction
from facsynth.tasks.reward.data import read_comparisons
from facsynth.tasks.reward.evaluate import evaluate_reward
from facsynth.tasks.reward.settings import RewardSettings
from facsynth.tasks.reward.train import train_reward
from facsynth.tasks.settings import LoraSettings, OptimizerSettings, TuneSettings
from facsynth.tasks.toxicity.data import read_labelled
from facsynth.tasks.toxicity.evaluate import evaluate_toxicity
from facsynth.tasks.toxicity.settings import ToxicitySettings
from facsynth.tasks.toxicity.train import train_toxicity
from test_task_heads import compared, labelled
from tiny import cached_tokenizer, chat, make_model, tiny_lm

QUICK = TuneSettings(
    random_seed=(42,),
    max_length=64,
    optimizer=OptimizerSettings(
        epochs=6.0, learning_rate=1e-2, batch_size=8, micro_batch=8, save_every=50
    ),
    lora=LoraSettings(4, 16, 0.0),
)


def load(template="chatml"):
    return LanguageModel(make_model(), cached_tokenizer(template), "tiny llama", "llama")


def quick(*, optimizer=None, **changes):
    """Settings that learn fast, with some values changed."""
    steps = replace(QUICK.optimizer, **(optimizer or {}))
    return replace(QUICK, optimizer=steps, **changes)


@pytest.mark.parametrize("method", ["lora", pytest.param("full", marks=pytest.mark.slow)])
def test_a_tuned_classifier_learns_a_planted_word_and_not_shuffled_labels(tmp_path, method):
    changes = {"optimizer": {"epochs": 4.0}}
    if method == "full":
        changes = {"full": True, "optimizer": {"learning_rate": 2e-3}}
    settings = ToxicitySettings(train=quick(control=True, **changes))
    trained = train_toxicity(labelled(60, 0), load, tmp_path, settings)
    found = evaluate_toxicity(trained, labelled(40, 1), load, allow_overlap=True)
    assert found["auprc"] > 0.95
    assert found["shuffled_auprc"] < 0.75
    assert trained.config["method"] == method


@pytest.mark.parametrize("full", [False, True])
def test_a_trained_classifier_is_refused_as_a_language_model(tmp_path, full):
    settings = ToxicitySettings(train=quick(full=full, optimizer={"epochs": 1.0}))
    train_toxicity(labelled(8, 0), load, tmp_path, settings)
    with pytest.raises(ModelError, match="model-42 is a classifier .*writes no text"):
        load_language_model(str(tmp_path / "model-42"))


@pytest.mark.slow
def test_a_tuned_reward_model_learns_a_planted_word_and_not_swapped_sides(tmp_path):
    settings = RewardSettings(train=quick(control=True))
    trained = train_reward(compared(40, 0), load, tmp_path, settings)
    found = evaluate_reward(trained, compared(40, 1), load, allow_overlap=True)
    assert found["accuracy"] > 0.9
    assert found["shuffled_accuracy"] < 0.85


def test_a_tuned_reward_model_scores_pairs(tmp_path):
    settings = RewardSettings(train=quick(optimizer={"epochs": 2.0}))
    trained = train_reward(compared(8, 0), load, tmp_path, settings)
    found = evaluate_reward(trained, compared(8, 0), load, allow_overlap=True)
    assert found.models[0]["model"] == "model-42"
    assert found["shuffled_accuracy"] is None
    assert trained.config["training"]["model-42"]["n_steps"] == 2


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
    settings = quick(control=True, full=True, optimizer={"epochs": 8.0})
    asked = InstructionSettings(train=settings)
    trained = train_instruction(echoes(60, 0), load, tmp_path, asked)
    losses = {}
    for name in ("base", "model-42", "shuffled-42"):
        with tuned_model(trained, name, load()) as lm:
            losses[name] = answer_loss(lm, echoes(20, 1))
    assert losses["model-42"] < 0.5 * losses["shuffled-42"] < losses["base"]


def adapters(folder):
    return load_file(folder / "adapter_model.safetensors")


def same(one, other):
    return all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_a_killed_training_resumes_and_ends_like_an_undisturbed_one(tmp_path, monkeypatch):
    changes = {"optimizer": {"epochs": 2.0, "save_every": 2}, "random_seed": (1, 2)}
    settings = InstructionSettings(train=quick(lora=LoraSettings(4, 8, 0.2), **changes))
    data, whole, killed = echoes(16, 0), tmp_path / "whole", tmp_path / "killed"
    train_instruction(data, load, whole, settings)
    step = fit._Watcher.on_step_end

    def kill(self, args, state, control, **kwargs):
        step(self, args, state, control, **kwargs)
        if state.global_step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit._Watcher, "on_step_end", kill)
    with pytest.raises(KeyboardInterrupt):
        train_instruction(data, load, killed, settings)
    assert not (killed / "task.json").exists()
    monkeypatch.setattr(fit._Watcher, "on_step_end", step)
    again = train_instruction(data, load, killed, settings)
    assert again.config["training"]["model-1"]["resumed_at"] == 2
    assert same(adapters(whole / "model-1"), adapters(killed / "model-1"))
    assert not same(adapters(whole / "model-1"), adapters(whole / "model-2"))


def test_a_folder_of_another_model_is_refused(tmp_path):
    settings = ToxicitySettings(train=quick(optimizer={"epochs": 1.0}))
    train_toxicity(labelled(8, 0), load, tmp_path, settings)
    other = replace(load(), content_hash="other")
    with pytest.raises(MismatchError, match="with other model; choose another folder"):
        train_toxicity(labelled(8, 0), lambda: other, tmp_path, settings)


# What is learned of a conversation


@pytest.mark.parametrize("template", ["chatml", "none"])
def test_answers_and_their_ends_are_learned_and_nothing_else(template):
    lm = tiny_lm("llama", template)
    tokenizer, whose = chat_tokenizer(lm.tokenizer)
    turns = chat("a", "the cat", "a ball", "ok", "the mat")
    rows, _ = answer_rows([turns], lm, tokenizer, replace(QUICK, max_length=400))
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


# Bad input that only the model can show


def test_an_answer_beyond_the_limit_is_refused(tmp_path):
    long = chat("long", "the cat " * 60, "ok")
    with pytest.raises(DataError, match="no answer within the 64 that are read"):
        train_instruction([long, long], load, tmp_path, InstructionSettings(train=QUICK))


def test_tuning_needs_a_template_and_a_context_that_is_long_enough(tmp_path):
    settings = ToxicitySettings(train=QUICK)
    with pytest.raises(ModelError, match="has no chat template"):
        train_toxicity(labelled(8, 0), lambda: load("none"), tmp_path, settings)
    settings = ToxicitySettings(train=quick(max_length=600))
    with pytest.raises(DataError, match="is 600 tokens long, but tiny llama reads at most 512"):
        train_toxicity(labelled(8, 0), load, tmp_path, settings)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(DataError, match="--batch-size 6 must be a multiple of --micro-batch 4"):
        OptimizerSettings(batch_size=6)


def test_the_papers_settings_are_the_defaults():
    def values(settings):
        lora, steps = settings.lora, settings.optimizer
        return (
            *(lora.lora_rank, lora.lora_alpha, lora.lora_dropout),
            *(steps.epochs, steps.learning_rate, steps.batch_size),
            *(settings.max_length, settings.cut),
        )

    assert values(ToxicitySettings().train) == (8, 16, 0.1, 3.0, 5e-5, 16, 512, "end")
    assert values(RewardSettings().train) == (16, 32, 0.1, 1.0, 8e-5, 8, 1024, "start")
    assert values(InstructionSettings().train) == (8, 16, 0.0, 5.0, 1e-4, 16, 2048, "end")

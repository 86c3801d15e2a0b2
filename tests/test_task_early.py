"""What a user gets wrong is found before the model is loaded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facsynth.errors import DataError, MismatchError
from facsynth.records import sample_text
from facsynth.tasks import fit, settings
from facsynth.tasks.folder import Training, open_task, save_task
from facsynth.tasks.instruction.benchmarks import BENCHMARKS, Benchmark, BenchmarkItem
from facsynth.tasks.instruction.evaluate import evaluate_instruction
from facsynth.tasks.instruction.train import train_instruction
from facsynth.tasks.reward.data import both_sides
from facsynth.tasks.reward.evaluate import evaluate_reward
from facsynth.tasks.reward.settings import RewardSettings
from facsynth.tasks.reward.train import train_reward
from facsynth.tasks.settings import OptimizerSettings
from facsynth.tasks.steering.evaluate import evaluate_steering
from facsynth.tasks.steering.settings import SteeringSettings
from facsynth.tasks.steering.train import train_steering
from facsynth.tasks.toxicity.evaluate import evaluate_toxicity
from facsynth.tasks.toxicity.train import train_toxicity
from test_task_heads import compared, fac, labelled, write_rows
from test_task_steering import ITEMS
from tiny import chat, random_sae

LONG = "one two three four five six seven eight"


def never():
    raise AssertionError("the model was loaded")


def one_class():
    return replace(labelled(8, 0), positive=np.ones(8, bool))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (lambda d: train_toxicity(one_class(), never, d), "8 positive and 0 negative"),
        (lambda d: train_reward(compared(1, 0), never, d), "1 training pairs are too few"),
        (lambda d: train_instruction([], never, d), "0 conversations are too few"),
        (
            lambda d: train_instruction([chat("a", "x", "y"), chat("b", "x")], never, d),
            "'b' has no assistant message",
        ),
        (lambda d: train_steering(ITEMS[:1], never, d), "1 training questions are too few"),
        (
            lambda d: train_steering(ITEMS, never, d, SteeringSettings((0,)), sae=random_sae()),
            "the SAE reads layer 1",
        ),
    ],
)
def test_bad_training_data(tmp_path, train, message):
    with pytest.raises(DataError, match=message):
        train(tmp_path / "out")


def test_an_output_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("")
    for train, data in ((train_reward, compared(8, 0)), (train_steering, ITEMS)):
        with pytest.raises(DataError, match="out is a file"):
            train(data, never, tmp_path / "out")


@pytest.mark.parametrize(
    ("pairs", "settings", "message"),
    [
        (compared(8, 1), RewardSettings(), "with other data; choose another folder"),
        (compared(8, 0), RewardSettings(max_samples=5), "with other settings; choose another"),
    ],
)
def test_a_folder_of_other_training(tmp_path, pairs, settings, message):
    Training("reward", tmp_path, RewardSettings(), both_sides(compared(8, 0))).claim("hash")
    with pytest.raises(MismatchError, match=message):
        train_reward(pairs, never, tmp_path, settings)


def trained(folder, task, texts):
    return save_task(task, folder, {"method": "head", "training": {}, "model": "m"}, texts)


@pytest.mark.parametrize("task", ["toxicity", "reward", "steering", "instruction"])
def test_near_copies_of_training_data(tmp_path, task):
    texts = labelled(8, 0)
    pairs = compared(8, 0)
    item = BenchmarkItem("q", LONG, {})
    evaluate, data, known = {
        "toxicity": (evaluate_toxicity, texts, map(sample_text, texts.samples)),
        "reward": (
            evaluate_reward,
            pairs,
            [" ".join(m.content for m in p.chosen) for p in pairs],
        ),
        "steering": (evaluate_steering, ITEMS, [one.question for one in ITEMS]),
        "instruction": (evaluate_instruction, Benchmark(BENCHMARKS[1], (item,)), [LONG]),
    }[task]
    more = (never,) if task == "instruction" else ()
    with pytest.raises(DataError, match="near-copies of training samples"):
        evaluate(trained(tmp_path, task, known), data, never, *more)


def test_a_trained_model_that_is_gone(tmp_path):
    config = {"method": "full", "training": {"model-42": {}}, "model": "m"}
    task = save_task("reward", tmp_path, config, [LONG])
    with pytest.raises(DataError, match="model-42 is missing"):
        evaluate_reward(task, compared(4, 0), never)


def test_a_folder_of_another_task(tmp_path):
    trained(tmp_path, "reward", [LONG])
    with pytest.raises(DataError, match="holds the task 'reward', not 'toxicity'"):
        open_task(tmp_path, "toxicity")


def test_the_command_line_refuses_data_before_it_looks_for_the_model(tmp_path):
    data = write_rows(tmp_path / "a.jsonl", [{"text": "a", "label": "toxic"}] * 3)
    done = fac("task", "toxicity", "train", data, "-o", tmp_path / "out", "--model", "no/such")
    assert "3 positive and 0 negative" in done.stderr


def test_a_log_whose_package_is_missing_is_named_before_anything_is_read(monkeypatch):
    monkeypatch.setattr(settings, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="--log-to wandb needs a package: pip install wandb"):
        OptimizerSettings(log_to=("wandb",))


def test_files_of_tensorboard_outlive_the_checkpoints(tmp_path):
    logs = tmp_path / "model-1" / "checkpoints" / "runs" / "now"
    logs.mkdir(parents=True)
    (logs / "events").write_text("x")
    fit._drop_checkpoints(tmp_path / "model-1" / "checkpoints")
    kept = [p.relative_to(tmp_path / "model-1") for p in tmp_path.rglob("events")]
    assert kept == [Path("runs/now/events")]


def test_what_logs_is_told_to_the_trainer(monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "find_spec", lambda name: name)
    cpu, chosen = torch.device("cpu"), OptimizerSettings(log_to=("tensorboard",))
    for one, told in ((chosen, ["tensorboard"]), (OptimizerSettings(), "none")):
        assert fit._arguments(one, tmp_path, 1, cpu, torch.float32)["report_to"] == told

"""The stage that trains on the samples and tests what was trained.

```
RUN/task/data/ARM.jsonl    training data
RUN/task/ARM/              what `fac task NAME train` writes, with its evaluations
```
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from facsynth.data.read import read_samples
from facsynth.data.settings import ReadSettings
from facsynth.data.write import sample_row, write_jsonl
from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.pipeline.state import Run
from facsynth.recipe import TaskStage
from facsynth.table.table import open_table
from facsynth.tasks.folder import TrainedTask, open_task
from facsynth.tasks.instruction.alpaca import score_alpaca
from facsynth.tasks.instruction.benchmarks import read_benchmark
from facsynth.tasks.instruction.evaluate import evaluate_instruction, scorer_of
from facsynth.tasks.instruction.train import train_instruction
from facsynth.tasks.results import TaskResult, save_evaluation
from facsynth.tasks.reward.data import read_comparisons
from facsynth.tasks.reward.evaluate import evaluate_reward
from facsynth.tasks.reward.train import train_reward
from facsynth.tasks.steering.data import read_items
from facsynth.tasks.steering.evaluate import evaluate_steering
from facsynth.tasks.steering.train import train_steering
from facsynth.tasks.toxicity.data import LabelledTexts, read_labelled
from facsynth.tasks.toxicity.evaluate import evaluate_toxicity
from facsynth.tasks.toxicity.train import train_toxicity

__all__ = ["check_task", "train_and_test"]


def check_task(stage: TaskStage) -> None:
    """Read the test set, so that what is wrong with it is found before a model is loaded."""
    _TASKS[stage.name].read_test(stage)


def train_and_test(run: Run, written: Path | None) -> dict[str, Any] | None:
    """Scores of each arm, under its name; None without a table `task`.

    Args:
        run: The run.
        written: The samples that go on; None without any. Then only the seed is trained on.
    """
    stage = run.recipe.task
    if stage is None:
        return None
    scores: dict[str, Any] = {}
    for arm in stage.arms:
        if written is None and arm != "seed":
            run.progress.say(f"task: nothing was written, so the arm {arm} is left out")
            continue
        folder = run.folder / "task" / arm
        name = f"task/{arm}/evaluation-{Path(stage.test).name}.json"
        if not run.has(name):
            run.progress.say(f"task: {stage.name} on {arm}")
            result = _Arm(run, stage, arm, written, folder).result()
            save_evaluation(folder, stage.test, result)
        scores[arm] = run.read(name)["headline"]
    return scores


@dataclass(frozen=True)
class _Arm:
    """One training set of a task."""

    run: Run
    stage: TaskStage
    name: str
    written: Path | None
    folder: Path

    def result(self) -> TaskResult:
        """Train what is not trained, and test it."""
        task = _TASKS[self.stage.name]
        test = task.read_test(self.stage)
        if not (self.folder / "task.json").is_file():
            task.train(self)
        return task.evaluate(self, open_task(self.folder, self.stage.name), test)

    def load(self) -> LanguageModel:
        """Load the untrained model; steering compares logits, which need float32."""
        recipe = self.run.recipe
        is_exact = self.stage.name == "steering" and recipe.dtype == "auto"
        name = self.stage.model or recipe.model
        return load_language_model(name, dtype="float32" if is_exact else recipe.dtype)

    @cached_property
    def sources(self) -> list[str]:
        """The files of the training data."""
        files = [] if self.name == "seed" else [str(self.written)]
        if self.name == "synthetic":
            return files
        if self.stage.name == "steering":
            # A table keeps conversations, and not the questions with their two answers.
            given = self.run.recipe.seed.source
            return [*([given] if isinstance(given, str) else given), *files]
        path = self.run.folder / "task" / "data" / "seed.jsonl"
        if not path.is_file():
            write_jsonl(map(sample_row, open_table(self.run.folder / "seed").samples()), path)
        return [str(path), *files]

    def together(self, read: Callable[[str], Sequence[Any]]) -> list[Any]:
        """What a reader finds in all files."""
        return [one for source in self.sources for one in read(source)]


def _labelled(arm: _Arm) -> LabelledTexts:
    stage = arm.stage
    parts = [read_labelled(one, all_positive=stage.all_positive) for one in arm.sources]
    return LabelledTexts(
        tuple(sample for part in parts for sample in part.samples),
        np.concatenate([part.positive for part in parts]),
        tuple(group for part in parts for group in part.groups),
    )


def _train_toxicity(arm: _Arm) -> None:
    safe = read_labelled(arm.stage.safe, all_positive=True) if arm.stage.safe else None
    settings, progress = arm.stage.toxicity, arm.run.progress
    train_toxicity(_labelled(arm), arm.load, arm.folder, settings, safe=safe, progress=progress)


def _train_reward(arm: _Arm) -> None:
    pairs = arm.together(read_comparisons)
    train_reward(pairs, arm.load, arm.folder, arm.stage.reward, progress=arm.run.progress)


def _train_steering(arm: _Arm) -> None:
    items = arm.together(read_items)
    train_steering(items, arm.load, arm.folder, arm.stage.steering, progress=arm.run.progress)


def _train_instruction(arm: _Arm) -> None:
    samples = arm.together(read_samples)
    settings = arm.stage.instruction
    train_instruction(samples, arm.load, arm.folder, settings, progress=arm.run.progress)


def _how(arm: _Arm) -> dict[str, Any]:
    return {"allow_overlap": arm.stage.allow_overlap, "progress": arm.run.progress}


def _test_steering(arm: _Arm, trained: TrainedTask, test: Any) -> TaskResult:
    return evaluate_steering(trained, test, arm.load, arm.stage.controls, **_how(arm))


def _test_instruction(arm: _Arm, trained: TrainedTask, test: Any) -> TaskResult:
    score = scorer_of(test, lambda said: score_alpaca(test, said, arm.run.judge))
    return evaluate_instruction(trained, test, arm.load, score, arm.stage.answers, **_how(arm))


def _reading(stage: TaskStage) -> ReadSettings:
    return ReadSettings(limit=stage.test_limit)


@dataclass(frozen=True)
class _Task:
    read_test: Callable[[TaskStage], Any]
    train: Callable[[_Arm], None]
    evaluate: Callable[[_Arm, TrainedTask, Any], TaskResult]


_TASKS = {
    "toxicity": _Task(
        lambda stage: read_labelled(stage.test, stage.labels, reading=_reading(stage)),
        _train_toxicity,
        lambda arm, trained, test: evaluate_toxicity(trained, test, arm.load, **_how(arm)),
    ),
    "reward": _Task(
        lambda stage: read_comparisons(stage.test, reading=_reading(stage)),
        _train_reward,
        lambda arm, trained, test: evaluate_reward(trained, test, arm.load, **_how(arm)),
    ),
    "steering": _Task(
        lambda stage: read_items(stage.test, reading=_reading(stage)),
        _train_steering,
        _test_steering,
    ),
    "instruction": _Task(
        lambda stage: read_benchmark(stage.test, reading=_reading(stage)),
        _train_instruction,
        _test_instruction,
    ),
}

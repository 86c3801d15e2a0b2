"""Answers of trained instruction models to a benchmark, and their scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facsynth.chat.cache import CachedChat
from facsynth.chat.local import LocalChat
from facsynth.chat.model import ChatReply, ChatRequest, Outcome
from facsynth.data.write import write_jsonl
from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel
from facsynth.progress import SILENT, Progress
from facsynth.records import Message
from facsynth.tasks.benchmarks import Benchmark
from facsynth.tasks.folder import TrainedTask
from facsynth.tasks.gsm8k import GSM8K_REQUEST
from facsynth.tasks.instruction import tuned_model
from facsynth.tasks.overlap import check_overlap, find_overlap

__all__ = ["ANSWER_TOKENS", "AnswerSettings", "evaluate_instruction"]

ANSWER_TOKENS = {"ifeval": 1280, "gsm8k": 512, "alpaca": 2048}
"""Most tokens of an answer, where nothing else is asked for."""

Score = Callable[[Sequence[str]], dict[str, Any]]
"""Scores the responses to a benchmark, in its order."""


@dataclass(frozen=True)
class AnswerSettings:
    """How a model is asked: greedily, one user message each."""

    max_new_tokens: int | None = None
    """Most tokens of an answer; by benchmark when None."""

    batch_size: int = 16
    base: bool = False
    """Also ask the untrained model."""

    allow_overlap: bool = False

    def __post_init__(self) -> None:
        """Check ranges."""
        if min(self.max_new_tokens or 1, self.batch_size) < 1:
            raise DataError("--max-new-tokens and --batch-size must be 1 or more")


def evaluate_instruction(
    trained: TrainedTask,
    benchmark: Benchmark,
    lm: LanguageModel,
    score: Score,
    settings: AnswerSettings,
    *,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Let every trained model answer, keep the answers in the task's folder, and score them.

    Answers are kept batch by batch, so that a run that was killed goes on.

    Returns:
        `benchmark`, the numbers of `score` as means over seeds with `…_sd`, `models` (the scores
        of each, with `n_failed` answers that were empty or had no room, and `n_cut` that reached
        `max_new_tokens` without an end), `base` (those of the untrained model, or None), `overlap`.

    Raises:
        DataError: Prompts are near-copies of training conversations.
        MismatchError: The model is another one.
    """
    overlap = find_overlap(trained.known, [(i.item_id, i.prompt) for i in benchmark.items])
    check_overlap(overlap, allow=settings.allow_overlap)
    found = {}
    for name in [*trained.config["models"], *(["base"] if settings.base else [])]:
        with tuned_model(trained, name, lm) as model:
            outcomes = _answer(model, name, benchmark, trained.folder, settings, progress)
        replies = [outcome for outcome in outcomes if isinstance(outcome, ChatReply)]
        counts = {
            "n_failed": len(outcomes) - len(replies),
            "n_cut": sum(reply.truncated for reply in replies),
        }
        found[name] = {"model": name, **score([_text(one) for one in outcomes]), **counts}
    base = found.pop("base", None)
    seeds = [row for name, row in found.items() if name.startswith("seed-")]
    return {
        "benchmark": benchmark.kind,
        **_means(seeds),
        "models": list(found.values()),
        "base": base,
        "overlap": {"n": len(overlap.ids), "ids": list(overlap.ids)},
    }


def _answer(
    lm: LanguageModel,
    name: str,
    benchmark: Benchmark,
    folder: Path | None,
    settings: AnswerSettings,
    progress: Progress,
) -> list[Outcome]:
    if folder is None:
        raise DataError("this training was not read from a folder; open it with open_task")
    asked = GSM8K_REQUEST if benchmark.kind == "gsm8k" else ""
    n_new = settings.max_new_tokens or ANSWER_TOKENS[benchmark.kind]
    requests = [
        ChatRequest((Message("user", item.prompt + asked),), max_tokens=n_new, temperature=0.0)
        for item in benchmark.items
    ]
    identity = f"{lm.content_hash} {lm.model.dtype} {name}"
    local = LocalChat(lm.model, lm.tokenizer, name=identity, batch_size=settings.batch_size)
    chat = CachedChat(local, folder / f"answers-{name}.sqlite")
    with progress.task(f"answers of {name}", len(requests), "answers") as task:
        outcomes = chat.reply(requests, on_done=task.advance)
    rows = zip(benchmark.items, outcomes, strict=True)
    write_jsonl(
        [{"prompt": item.prompt, "response": _text(outcome)} for item, outcome in rows],
        folder / f"answers-{benchmark.kind}-{name}.jsonl",
    )
    return outcomes


def _text(outcome: Outcome) -> str:
    """What was answered; nothing where it failed."""
    return outcome.text if isinstance(outcome, ChatReply) else ""


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and deviation over seeds of whatever is a number in every row."""
    found: dict[str, Any] = {}
    for key in rows[0]:
        values = [row[key] for row in rows if isinstance(row[key], int | float)]
        if len(values) == len(rows):
            found[key] = float(np.mean(values))
            found[f"{key}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return found

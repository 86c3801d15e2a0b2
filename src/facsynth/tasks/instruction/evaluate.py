"""Instruction following: benchmark scores of trained models, beside the untrained one."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from facsynth.chat.model import ChatReply
from facsynth.errors import DataError
from facsynth.progress import SILENT, Progress
from facsynth.tasks.folder import TrainedTask, near_copies
from facsynth.tasks.instruction.benchmarks import Benchmark
from facsynth.tasks.instruction.gsm8k import check_gsm8k, score_gsm8k
from facsynth.tasks.instruction.ifeval import check_ifeval, score_ifeval
from facsynth.tasks.instruction.settings import AnswerSettings
from facsynth.tasks.results import Items, TaskResult, rows_table
from facsynth.tasks.settings import Loader

__all__ = ["Score", "evaluate_instruction", "score_responses", "scorer_of"]

Score = Callable[[Sequence[str]], dict[str, Any]]
"""Scores the responses to a benchmark, in its order: values by their keys, and `items`, what each
response adds to the main score."""


def scorer_of(benchmark: Benchmark, judge: Score | None = None) -> Score:
    """What scores responses to a benchmark; it is checked before anything is generated.

    Args:
        benchmark: What is asked.
        judge: Scores of AlpacaEval, which no program can give.

    Raises:
        DataError: A checker or the judge is missing, or an item cannot be checked.
    """
    if benchmark.kind.name == "ifeval":
        check_ifeval(benchmark)
        return partial(score_ifeval, benchmark)
    if benchmark.kind.name == "gsm8k":
        check_gsm8k(benchmark)
        return partial(score_gsm8k, benchmark)
    if judge is None:
        raise DataError(
            "AlpacaEval requires a judge: name one with --chat-model, at any OpenAI-compatible "
            "endpoint (--api-base)"
        )
    return judge


def score_responses(benchmark: Benchmark, responses: Mapping[str, str], score: Score) -> TaskResult:
    """Score ready responses.

    Args:
        benchmark: What was asked.
        responses: By prompt; an item without one counts as an empty response.
        score: Of `scorer_of`.

    Returns:
        The benchmark's scores, and `without_response`, the ids of the items that have none.
    """
    row = {"model": "responses", **score([responses.get(i.prompt, "") for i in benchmark.items])}
    absent = [item.item_id for item in benchmark.items if item.prompt not in responses]
    return _result(benchmark, {"responses": row}, (), without_response=absent)


def evaluate_instruction(
    trained: TrainedTask,
    benchmark: Benchmark,
    load: Loader,
    score: Score,
    settings: AnswerSettings | None = None,
    *,
    base: bool = False,
    allow_overlap: bool = False,
    progress: Progress = SILENT,
) -> TaskResult:
    """Let every trained model answer, keep the answers in the task's folder, and score them.

    Answers are kept batch by batch, so that a run that was killed resumes.

    Args:
        trained: What `train_instruction` wrote.
        benchmark: What is asked.
        load: Loads the untrained model, after the input is checked.
        score: Of `scorer_of`.
        settings: How models are asked.
        base: Also ask the untrained model.
        allow_overlap: Evaluate also on near-copies of training conversations.
        progress: Where bars go.

    Returns:
        The benchmark's scores (`BenchmarkKind.titles`); of each model also `n_failed`, answers
        that were empty or had no room, and `n_cut`, those that reached `max_new_tokens`.

    Raises:
        DataError: Prompts are near-copies of training conversations.
        MismatchError: The model is another one.
    """
    settings = settings or AnswerSettings()
    prompts = [(item.item_id, item.prompt) for item in benchmark.items]
    copies = near_copies(trained, prompts, allow=allow_overlap)
    trained.check()
    from facsynth.tasks.instruction.models import answer_benchmark  # loads torch: after the checks

    lm = load()
    trained.check_model(lm)
    models = {}
    for name in [*trained.config["training"], *(["base"] if base else [])]:
        outcomes = answer_benchmark(
            trained,
            name,
            lm,
            benchmark,
            max_new_tokens=settings.max_new_tokens or benchmark.kind.max_new_tokens,
            batch_size=settings.batch_size,
            progress=progress,
        )
        replies = [outcome for outcome in outcomes if isinstance(outcome, ChatReply)]
        models[name] = {
            "model": name,
            **score([o.text if isinstance(o, ChatReply) else "" for o in outcomes]),
            "n_failed": len(outcomes) - len(replies),
            "n_cut": sum(reply.truncated for reply in replies),
        }
    return _result(benchmark, models, copies)


def _result(
    benchmark: Benchmark,
    models: dict[str, dict[str, Any]],
    copies: tuple[str, ...],
    **values: Any,
) -> TaskResult:
    items = {name: np.array(row.pop("items"), dtype=np.float64) for name, row in models.items()}
    judged = np.isfinite(list(items.values())).all(axis=0)  # a verdict may be missing
    ids = [item.item_id for item in benchmark.items]
    titles = benchmark.kind.titles
    measure = next(iter(titles.values()))
    absent = any(row[key] is None for row in models.values() for key in titles.values())
    note = benchmark.kind.note if absent else ""
    parts = rows_table("By model", list(models.values()), "model", *list(titles.values())[:4])
    return TaskResult(
        "instruction",
        measure,
        base=models.pop("base", None),
        models=list(models.values()),
        items=Items(
            tuple(ids[i] for i in np.flatnonzero(judged)),
            {name: found[judged] for name, found in items.items()},
        ),
        values={"benchmark": benchmark.kind.name, **values},
        titles=titles,
        simple=benchmark.kind.simple,
        near_copies=copies,
        parts=parts,
        note=note,
    )

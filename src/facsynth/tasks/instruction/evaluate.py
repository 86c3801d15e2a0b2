"""Instruction following: benchmark scores of trained models, beside the untrained one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from facsynth.chat.model import ChatReply
from facsynth.errors import DataError
from facsynth.progress import SILENT, Progress
from facsynth.show import TextTable, as_html
from facsynth.tasks.folder import TrainedTask, near_copies
from facsynth.tasks.instruction.benchmarks import Benchmark, BenchmarkKind
from facsynth.tasks.instruction.gsm8k import check_gsm8k, score_gsm8k
from facsynth.tasks.instruction.ifeval import check_ifeval, score_ifeval
from facsynth.tasks.instruction.settings import AnswerSettings
from facsynth.tasks.results import Headline, mean_and_sd, rows_table, values_table
from facsynth.tasks.settings import Loader, is_control

__all__ = [
    "InstructionResult",
    "Score",
    "evaluate_instruction",
    "score_responses",
    "scorer_of",
]

Score = Callable[[Sequence[str]], dict[str, Any]]
"""Scores the responses to a benchmark, in its order."""


@dataclass(frozen=True)
class InstructionResult:
    """Scores of a benchmark."""

    benchmark: BenchmarkKind
    models: tuple[dict[str, Any], ...]
    """Scores of each model, controls included, with `n_failed` answers that were empty or had no
    room, and `n_cut` that reached `max_new_tokens` without an end."""

    base: dict[str, Any] | None
    """Scores of the untrained model."""

    near_copies: tuple[str, ...]

    def scores(self) -> dict[str, Any]:
        """Mean of every number over models, with its deviation as `…_sd`; controls left out."""
        found: dict[str, Any] = {}
        models = [row for row in self.models if not is_control(row["model"])]
        for key, first in models[0].items():
            if isinstance(first, str | list):
                continue
            values = [row[key] for row in models]
            if None in values:
                found |= {key: None, f"{key}_sd": None}
                continue
            mean, found[f"{key}_sd"] = mean_and_sd(values)
            found[key] = first if values == [first] * len(values) else mean  # counts stay whole
        return found

    def headline(self) -> Headline:
        """The benchmark's first score against that of the untrained model."""
        key = next(iter(self.benchmark.titles.values()))
        scores = self.scores()
        simple = scores[self.benchmark.simple] if self.benchmark.simple else None
        shuffled = [row[key] for row in self.models if is_control(row["model"])]
        return Headline(
            key,
            scores[key],
            scores[f"{key}_sd"],
            self.base[key] if self.base else simple,
            mean_and_sd(shuffled)[0] if shuffled else None,
        )

    def row(self) -> dict[str, Any]:
        """Means, then each model."""
        return {
            "benchmark": self.benchmark.name,
            **self.scores(),
            "models": list(self.models),
            "base": self.base,
            "near_copies": list(self.near_copies),
        }

    def tables(self) -> Sequence[TextTable]:
        """Means over models, and the models."""
        titles = self.benchmark.titles
        rows = [*self.models, *([self.base] if self.base else [])]
        return [
            values_table(self.benchmark.name, self.scores(), titles),
            *rows_table("By model", rows, "model", *list(titles.values())[:4]),
        ]

    _repr_html_ = as_html


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


def score_responses(
    benchmark: Benchmark, responses: Sequence[str], score: Score
) -> InstructionResult:
    """Score ready responses."""
    row = {"model": "responses", **score(responses)}
    return InstructionResult(benchmark.kind, (row,), None, ())


def evaluate_instruction(
    trained: TrainedTask,
    benchmark: Benchmark,
    load: Loader,
    score: Score,
    settings: AnswerSettings | None = None,
    *,
    allow_overlap: bool = False,
    progress: Progress = SILENT,
) -> InstructionResult:
    """Let every trained model answer, keep the answers in the task's folder, and score them.

    Answers are kept batch by batch, so that a run that was killed resumes.

    Args:
        trained: What `train_instruction` wrote.
        benchmark: What is asked.
        load: Loads the untrained model, after the input is checked.
        score: Of `scorer_of`.
        settings: How models are asked.
        allow_overlap: Evaluate also on near-copies of training conversations.
        progress: Where bars go.

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
    for name in [*trained.config["training"], *(["base"] if settings.base else [])]:
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
    base = models.pop("base", None)
    return InstructionResult(benchmark.kind, tuple(models.values()), base, copies)

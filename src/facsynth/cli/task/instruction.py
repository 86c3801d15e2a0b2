"""`fac task instruction`."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import endpoint_options, failures_option, model_options, output_option
from facsynth.cli.task.options import evaluate_options, finish, loader, rows_options
from facsynth.tasks.instruction.settings import AnswerSettings, InstructionSettings

if TYPE_CHECKING:
    from facsynth.progress import Progress
    from facsynth.tasks.instruction.benchmarks import Benchmark

_MODEL = ("model", "device", "dtype", "trust_remote_code")


@click.group()
def instruction() -> None:
    """Does a model follow instructions? Fine-tuning, IFEval, GSM8K and AlpacaEval 2."""


@instruction.command()
@click.argument("data", metavar="FILE")
@output_option("Folder to write.")
@settings_options(InstructionSettings, "settings", without=("train.head_only", "train.head"))
@rows_options
@model_options
def train(
    data: str,
    output: Path,
    settings: InstructionSettings,
    split: str,
    limit: int | None,
    **options: Any,
) -> None:
    """Train on the answers of the conversations in FILE: adapters, or all weights with --full.

    FILE is anything facsynth reads that has answers. An unfinished training resumes when the same
    command is run again.
    """
    from facsynth.cli.show import RichProgress
    from facsynth.data.read import read_samples
    from facsynth.tasks.instruction.train import train_instruction

    samples = read_samples(data, split=split, limit=limit)
    progress = RichProgress()
    train_instruction(samples, loader(options, progress), output, settings, progress=progress)
    progress.say(f"trained in {output}")


@instruction.command()
@click.option("--responses", help="Score these responses; DIR only receives the result.")
@click.option("--gamed", help="df_gamed.csv of tatsu-lab/alpaca_eval, for its length control.")
@settings_options(AnswerSettings, "settings")
@endpoint_options
@failures_option
@evaluate_options
def evaluate(
    folder: Path,
    data: str,
    responses: str | None,
    settings: AnswerSettings,
    allow_overlap: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure how well what was trained in DIR follows FILE: IFEval, GSM8K or AlpacaEval.

    The benchmark is recognised by its fields. IFEval and GSM8K are checked by program. AlpacaEval
    requires a judge (--chat-model), which sees the answers in both orders.
    """
    from facsynth.cli.show import RichProgress
    from facsynth.tasks.folder import open_task
    from facsynth.tasks.instruction.benchmarks import read_benchmark, read_responses
    from facsynth.tasks.instruction.evaluate import (
        evaluate_instruction,
        score_responses,
        scorer_of,
    )

    benchmark = read_benchmark(data, split=options["split"], limit=options["limit"])
    progress = RichProgress()
    score = scorer_of(benchmark, _judge(benchmark, folder, options, progress))
    if responses:
        result = score_responses(benchmark, read_responses(responses, benchmark), score)
    else:
        trained = open_task(folder, "instruction")
        result = evaluate_instruction(
            trained,
            benchmark,
            loader({name: options[name] for name in _MODEL}, progress, trained),
            score,
            settings,
            allow_overlap=allow_overlap,
            progress=progress,
        )
    finish(result, folder, data, as_json)


def _judge(
    benchmark: "Benchmark", folder: Path, options: dict[str, Any], progress: "Progress"
) -> Callable[[Sequence[str]], dict[str, Any]] | None:
    """What scores AlpacaEval by an LLM, or None without one."""
    if not options["chat_model"]:
        return None
    from facsynth.cli.asking import cached, endpoint_stack, say_estimate
    from facsynth.tasks.instruction.alpaca import judge_requests, score_alpaca
    from facsynth.tasks.instruction.length_control import read_gamed

    measure = partial(
        score_alpaca,
        benchmark,
        judge=cached(endpoint_stack(options, folder / "judge"), folder / "judge"),
        gamed=read_gamed(options["gamed"]) if options["gamed"] else None,
        max_failure_share=options["max_failures"],
        progress=progress,
    )

    def score(responses: Sequence[str]) -> dict[str, Any]:
        say_estimate(judge_requests(benchmark, responses), options, progress)
        if options["dry_run"]:
            raise click.exceptions.Exit(0)
        return measure(responses)

    return score

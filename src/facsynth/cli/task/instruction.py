"""`fac task instruction`."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import endpoint_options
from facsynth.cli.task.options import Call, evaluate_command, train_command
from facsynth.tasks.instruction.settings import AnswerSettings, InstructionSettings

if TYPE_CHECKING:
    from facsynth.tasks.instruction.benchmarks import Benchmark


@click.group()
def instruction() -> None:
    """Does a model follow instructions? Fine-tuning, IFEval, GSM8K and AlpacaEval 2."""


@instruction.command()
@settings_options(InstructionSettings, "settings", without=("train.head_only", "train.head"))
@train_command
def train(call: Call, settings: InstructionSettings) -> None:
    """Train on the answers of the conversations in FILE: adapters, or all weights with --full.

    FILE is anything facsynth reads that has answers. An unfinished training resumes when the same
    command is run again.
    """
    from facsynth.data.read import read_samples
    from facsynth.data.settings import ReadSettings
    from facsynth.tasks.instruction.train import train_instruction

    samples = read_samples(call.data, ReadSettings(**call.rows))
    train_instruction(samples, call.load, call.folder, settings, progress=call.progress)


@instruction.command()
@click.option("--responses", help="Score these responses; DIR only receives the result.")
@click.option("--gamed", help="df_gamed.csv of tatsu-lab/alpaca_eval, for its length control.")
@settings_options(AnswerSettings, "settings")
@endpoint_options
@evaluate_command("instruction")
def evaluate(
    call: Call,
    responses: str | None,
    settings: AnswerSettings,
    allow_overlap: bool,
    **options: Any,
) -> None:
    """Measure how well what was trained in DIR follows FILE: IFEval, GSM8K or AlpacaEval.

    The benchmark is recognised by its fields. IFEval and GSM8K are checked by program. AlpacaEval
    requires a judge (--chat-model), which sees the answers in both orders.
    """
    from facsynth.tasks.instruction.benchmarks import read_benchmark, read_responses
    from facsynth.tasks.instruction.evaluate import (
        evaluate_instruction,
        score_responses,
        scorer_of,
    )

    benchmark = read_benchmark(call.data, **call.rows)
    score = scorer_of(benchmark, _judge(benchmark, call, options))
    if responses:
        call.finish(score_responses(benchmark, read_responses(responses, benchmark), score))
        return
    result = evaluate_instruction(
        call.trained,
        benchmark,
        call.load,
        score,
        settings,
        allow_overlap=allow_overlap,
        progress=call.progress,
    )
    call.finish(result)


def _judge(
    benchmark: "Benchmark", call: Call, options: dict[str, Any]
) -> Callable[[Sequence[str]], dict[str, Any]] | None:
    """What scores AlpacaEval by an LLM, or None without one."""
    generator = options["generator"]
    if not generator.chat_model:
        return None
    from facsynth.cli.asking import endpoint_stack, say_estimate
    from facsynth.tasks.instruction.alpaca import judge_requests, score_alpaca
    from facsynth.tasks.instruction.length_control import read_gamed

    judge, _ = endpoint_stack(generator, call.folder / "judge")
    gamed = read_gamed(options["gamed"]) if options["gamed"] else None
    measure = partial(score_alpaca, benchmark, judge=judge, gamed=gamed, progress=call.progress)

    def score(responses: Sequence[str]) -> dict[str, Any]:
        say_estimate(judge_requests(benchmark, responses), generator.policy, call.progress)
        if options["dry_run"]:
            raise click.exceptions.Exit(0)
        return measure(responses)

    return score

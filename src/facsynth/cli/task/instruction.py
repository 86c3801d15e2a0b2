"""`fac task instruction`."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import endpoint_options
from facsynth.cli.sections import SectionedGroup
from facsynth.cli.task.options import Call, evaluate_command, train_command
from facsynth.tasks.instruction.settings import AnswerSettings, InstructionSettings

if TYPE_CHECKING:
    from facsynth.tasks.instruction.benchmarks import Benchmark


@click.group(cls=SectionedGroup)
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
    from facsynth.tasks.instruction.train import train_instruction

    samples = read_samples(call.data, call.rows["reading"], rejected=call.rows["rejected"])
    call.rows["on_read"](samples.report)
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
    base: bool,
    allow_overlap: bool,
    gamed: str | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Measure how well what was trained in DIR follows FILE: IFEval, GSM8K or AlpacaEval.

    The benchmark is recognised by its fields. IFEval and GSM8K are checked by program. AlpacaEval
    requires a judge (--chat-model), which sees the answers in both orders; --dry-run estimates its
    cost from the reference answers, before any answer is written.
    """
    from facsynth.tasks.instruction.benchmarks import read_benchmark, read_responses
    from facsynth.tasks.instruction.evaluate import (
        evaluate_instruction,
        score_responses,
        scorer_of,
    )

    benchmark = read_benchmark(call.data, **call.rows)
    ready = read_responses(responses, benchmark) if responses else None
    score = scorer_of(benchmark, _judge(benchmark, call, options["generator"], gamed))
    if dry_run:
        n_models = len(call.trained.config["training"]) + base if ready is None else 1
        _say_cost(benchmark, ready or {}, options["generator"], n_models, call)
        return
    if ready is not None:
        result = score_responses(benchmark, ready, score)
        if absent := result["without_response"]:
            call.progress.say(
                f"{len(absent)} of {len(benchmark.items)} items have no response and count as "
                f"wrong: {', '.join(absent[:10])}{', …' if len(absent) > 10 else ''}"
            )
        call.finish(result)
        return
    result = evaluate_instruction(
        call.trained,
        benchmark,
        call.load,
        score,
        settings,
        base=base,
        allow_overlap=allow_overlap,
        progress=call.progress,
    )
    call.finish(result)


def _judge(
    benchmark: "Benchmark", call: Call, generator: Any, gamed: str | None
) -> Callable[[Sequence[str]], dict[str, Any]] | None:
    """What scores AlpacaEval by an LLM, or None without one."""
    if not generator.chat_model:
        return None
    from facsynth.cli.asking import endpoint_stack, say_estimate
    from facsynth.tasks.instruction.alpaca import judge_requests, score_alpaca
    from facsynth.tasks.instruction.length_control import read_gamed

    judge, _ = endpoint_stack(generator, call.folder / "judge")
    constants = read_gamed(gamed) if gamed else None

    def score(responses: Sequence[str]) -> dict[str, Any]:
        say_estimate(judge_requests(benchmark, responses), generator, call.progress)
        return score_alpaca(benchmark, responses, judge, gamed=constants, progress=call.progress)

    return score


def _say_cost(
    benchmark: "Benchmark", ready: Mapping[str, str], generator: Any, n_models: int, call: Call
) -> None:
    """Estimate what verdicts cost; answers that are not written yet are as long as references."""
    from facsynth.cli.asking import say_estimate
    from facsynth.tasks.instruction.alpaca import judge_requests

    if benchmark.kind.name != "alpaca":
        call.progress.say("no calls ahead: this benchmark is checked by program")
        return
    answers = [ready.get(i.prompt, str(i.fields["output"])) for i in benchmark.items]
    requests = judge_requests(benchmark, answers) * n_models
    say_estimate(requests, generator, call.progress)

"""`fac task instruction`."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import (
    endpoint_options,
    model_options,
    output_option,
)
from facsynth.cli.task_options import (
    evaluate_options,
    finish,
    load_trained_model,
    print_rows,
    rows_options,
    tune_options,
    tune_run,
)

_SHOWN = {
    "ifeval": {
        "prompts followed, strict": "prompt_strict",
        "prompts followed, loose": "prompt_loose",
        "instructions followed, strict": "instruction_strict",
        "instructions followed, loose": "instruction_loose",
        "prompts": "n_prompts",
        "  without an answer": "n_empty",
    },
    "gsm8k": {
        "exact match (last number)": "exact_match",
        "  behind ####": "strict_match",
        "questions": "n_questions",
        "  without a number": "n_without_number",
    },
    "alpaca": {
        "win rate": "win_rate",
        "  at equal lengths": "length_controlled",
        "  of the longer answer": "longer_win_rate",
        "answer shown first preferred": "first_share",
        "instructions judged": "n_judged",
        "  not judged": "n_unjudged",
    },
}


@click.group()
def instruction() -> None:
    """Does a model follow instructions? Fine-tuning, IFEval, GSM8K and AlpacaEval 2."""


@instruction.command("train")
@click.argument("data", metavar="FILE")
@output_option("Folder of what is trained.")
@click.option("--max-samples", type=int, help="Draw at most so many conversations for each seed.")
@tune_options("instruction")
@rows_options
@model_options
def train_instruction_model(data: str, output: Path, **options: Any) -> None:
    """Learn the answers of the conversations in FILE: adapters (LoRA), or all weights (--full).

    FILE is anything facsynth reads that has answers. A training that was stopped goes on when the
    same command is given again.
    """
    from facsynth.cli.load import load_model
    from facsynth.cli.show import RichProgress
    from facsynth.data.read import read_samples
    from facsynth.data.settings import ReadSettings
    from facsynth.tasks.instruction import train_instruction

    samples = read_samples(data, ReadSettings(split=options["split"], limit=options["limit"]))
    progress = RichProgress()
    train_instruction(
        samples,
        partial(load_model, options, progress),
        tune_run("instruction", output, options),
        max_samples=options["max_samples"],
        progress=progress,
    )
    progress.say(f"trained in {output}")


@instruction.command("evaluate")
@click.option("--responses", help="Score these ready responses; DIR only takes the result.")
@click.option("--base", is_flag=True, help="Also measure the untrained model.")
@click.option("--max-new-tokens", type=int, help="Longest answer; 1,280, 512 or 2,048 if none.")
@click.option("--batch-size", default=16, show_default=True, help="Answers written at once.")
@click.option("--gamed", help="df_gamed.csv of tatsu-lab/alpaca_eval, for its own length control.")
@endpoint_options
@evaluate_options
def evaluate_instruction_model(folder: Path, data: str, as_json: bool, **options: Any) -> None:
    """How well what was trained in DIR follows FILE: IFEval, GSM8K or AlpacaEval, by its fields.

    IFEval and GSM8K are checked by program. AlpacaEval needs a judge (--chat-model), which sees
    the answers in both orders.
    """
    from facsynth.cli.show import RichProgress
    from facsynth.tasks.benchmarks import read_benchmark, read_responses
    from facsynth.tasks.folder import open_task
    from facsynth.tasks.instruction_eval import AnswerSettings, evaluate_instruction

    benchmark = read_benchmark(data, split=options["split"], limit=options["limit"])
    progress = RichProgress()
    score = _scorer(benchmark, folder, options, progress)
    if options["responses"]:
        scores = score(read_responses(options["responses"], benchmark))
        row = {"benchmark": benchmark.kind, **scores, "overlap": {"n": 0, "ids": []}}
    else:
        trained = open_task(folder, "instruction")
        names = ("max_new_tokens", "batch_size", "base", "allow_overlap")
        settings = AnswerSettings(**{name: options[name] for name in names})
        lm = load_trained_model(trained.config, options, progress)
        row = evaluate_instruction(trained, benchmark, lm, score, settings, progress=progress)
    finish(row, folder, data, as_json, _SHOWN[benchmark.kind])
    if not as_json and "models" in row:
        keys = ("model", *list(_SHOWN[benchmark.kind].values())[:4])
        models = [*row["models"], *([row["base"]] if row["base"] else [])]
        print_rows("By model", [{key: model[key] for key in keys} for model in models])


def _scorer(
    benchmark: Any, folder: Path, options: dict[str, Any], progress: Any
) -> Callable[[Sequence[str]], dict[str, Any]]:
    """What scores the benchmark's responses, checked before anything is generated."""
    from facsynth.errors import DataError

    if benchmark.kind == "ifeval":
        from facsynth.tasks.ifeval import check_ifeval, score_ifeval

        check_ifeval(benchmark)
        return partial(score_ifeval, benchmark)
    if benchmark.kind == "gsm8k":
        from facsynth.tasks.gsm8k import check_gsm8k, score_gsm8k

        check_gsm8k(benchmark)
        return partial(score_gsm8k, benchmark)
    if not options["chat_model"]:
        raise DataError(
            "AlpacaEval needs a judge: name one with --chat-model, at any OpenAI-compatible "
            "endpoint (--api-base)"
        )
    return partial(_judge, benchmark, folder, options, progress)


def _judge(
    benchmark: Any,
    folder: Path,
    options: dict[str, Any],
    progress: Any,
    responses: Sequence[str],
) -> dict[str, Any]:
    from facsynth.cli.asking import endpoint_stack, say_estimate
    from facsynth.tasks.alpaca import judge_requests, score_alpaca
    from facsynth.tasks.length_control import read_gamed

    say_estimate(judge_requests(benchmark, responses), options, progress)
    if options["dry_run"]:
        raise click.exceptions.Exit(0)
    judge, _ = endpoint_stack(options, folder / "judge")
    return score_alpaca(
        benchmark,
        responses,
        judge,
        gamed=read_gamed(options["gamed"]) if options["gamed"] else None,
        progress=progress,
    )

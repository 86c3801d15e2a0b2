"""`fac synthesize`."""

from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import (
    endpoint_options,
    json_option,
    model_options,
    output_option,
    relevant_option,
    threshold_option,
)


@click.command()
@click.option(
    "--anchor", type=click.Path(path_type=Path), required=True, help="Feature table of the anchor."
)
@click.option(
    "--seed",
    "seeds",
    type=click.Path(path_type=Path),
    required=True,
    multiple=True,
    help="Feature table of the seed; repeat it to add what earlier runs wrote (OUT/table).",
)
@output_option("Run folder: synthetic.jsonl, its feature table, candidates and replies.")
@relevant_option
@threshold_option
@click.option(
    "--task",
    default="generic",
    show_default=True,
    help="generic, toxicity, preference, sycophancy, survival, instruction, or a TOML file.",
)
@click.option("--form", default="", help='Completes "Write …"; the task\'s own words by default.')
@click.option(
    "--prompt",
    type=click.Choice(["auto", "turns", "request"]),
    default="auto",
    show_default=True,
    help="Show anchor texts as earlier answers, or quoted in one request; auto: as the task says.",
)
@click.option("--max-samples", default=500, show_default=True, help="Most samples kept.")
@click.option("--max-features", default=200, show_default=True, help="Most features aimed at.")
@click.option("--max-rounds", default=4, show_default=True, help="Most rounds.")
@click.option(
    "--min-kept-share",
    default=0.0,
    show_default=True,
    help="A round that keeps no larger share of its texts is poor.",
)
@click.option("--patience", default=1, show_default=True, help="Poor rounds that end the run.")
@click.option("--max-attempts", default=2, show_default=True, help="Rounds that aim at a feature.")
@click.option("--candidates", default=2, show_default=True, help="Step-1 texts per feature.")
@click.option("--second-candidates", default=2, show_default=True, help="Step-2 texts, 0 for none.")
@click.option(
    "--objective",
    type=click.Choice(["rank", "cover", "match"]),
    default="rank",
    show_default=True,
    help="Missing features one by one, in groups, or under-fired ones in proportion.",
)
@click.option("--group-size", default=3, show_default=True, help="Features per text, in groups.")
@click.option("--decontaminate", multiple=True, help="Evaluation set not to copy; repeatable.")
@click.option("--reply/--no-reply", default=True, show_default=True, help="Write answers too.")
@click.option("--random-seed", default=0, show_default=True, help="Seed of every request.")
@model_options
@click.option("--sae", help="Folder of the SAE; without it the embedded one.")
@click.option("--generator", help="Local model that writes; without it the --model.")
@endpoint_options
@click.option("--judge-model", help="Model at an endpoint that grades texts before they are kept.")
@click.option("--judge-api-base", help="Address of the judge; that of the generator by default.")
@click.option("--judge-api-key-env", help="Variable with its key; the generator's by default.")
@click.option("--min-grade", default=3, show_default=True, help="Least grade kept, 1 to 5.")
@click.option("--batch-size", default=32, show_default=True, help="Texts per batch, local model.")
@json_option
def synthesize(
    anchor: Path,
    seeds: tuple[Path, ...],
    output: Path,
    relevant: Path | None,
    as_json: bool,
    sae: str | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Write samples for the features that the anchor activates and the seed does not.

    The --model writes, or the local --generator, or the --chat-model at an endpoint.
    A limit that is reached ends the run with what it has; raise it and run again to go on.
    """
    from facsynth.chat.budget import Spending
    from facsynth.cli.load import load_pair, load_relevant, load_tables
    from facsynth.cli.show import RichProgress
    from facsynth.pipeline import load_generator
    from facsynth.synthesize.rounds import forecast_run
    from facsynth.synthesize.rounds import synthesize as run
    from facsynth.synthesize.write import write_synthesis
    from facsynth.table.table import stack_rows

    progress = RichProgress()
    anchor_table, *seed_tables = load_tables((anchor, *seeds))
    lm, features = load_pair(options, sae, progress)
    generator, settings = _generator(options), _settings(options)
    spending = Spending(generator.policy, output / "replies.sqlite")
    judge = _judge(options, generator, lm, spending)
    relevant_mask = load_relevant(relevant, anchor_table.manifest.source.n_features)
    expected = forecast_run(
        anchor_table,
        seed_tables,
        lm,
        features,
        settings=settings,
        relevant=relevant_mask,
        judge=judge,
        policy=generator.policy,
    )
    if dry_run:
        _print_forecast(expected, as_json)
        return
    progress.say(f"estimate: {expected}")
    chat = load_generator(generator, lm, spending)
    result = run(
        anchor_table,
        seed_tables,
        lm,
        features,
        chat,
        output,
        settings=settings,
        relevant=relevant_mask,
        judge=judge,
        progress=progress,
    )
    seed_rows = stack_rows([table.activations() for table in seed_tables])
    write_synthesis(result, output, seed_tables[0], seed_rows)
    _print_result(result, output, as_json)


def _print_result(result: Any, output: Path, as_json: bool) -> None:
    from facsynth.cli.show import print_json, print_table

    filled = len({f for kept in result.kept for f in kept.new_features})
    summary = {
        "n_samples": len(result.kept),
        "n_missing": len(result.missing_before),
        "n_filled": filled,
        "outcomes": dict(result.outcomes),
        "rounds": list(result.rounds),
        "stopped": result.stopped,
        "n_unanswered": result.n_unanswered,
        "data": str(output / "synthetic.jsonl"),
    }
    if as_json:
        print_json(summary)
        return
    rows = [("samples kept", len(result.kept)), ("missing features", len(result.missing_before))]
    rows += [
        ("newly covered", filled),
        *((f"candidates: {k}", n) for k, n in result.outcomes.items()),
    ]
    print_table(f"Synthetic data {output / 'synthetic.jsonl'}", ("what", "count"), rows)
    if result.stopped == "budget":
        click.echo("Note: the budget is spent; raise the limit and run again to go on.", err=True)


def _print_forecast(expected: Any, as_json: bool) -> None:
    from facsynth.cli.show import print_json, print_table

    if as_json:
        print_json(expected.row())
        return
    parts = (expected.first, expected.at_most)
    rows = [
        ("calls", *(p.n_calls for p in parts)),
        ("prompt tokens, about", *(p.prompt_tokens for p in parts)),
        ("reply tokens, at most", *(p.max_completion_tokens for p in parts)),
        ("cost, at most about", *(p.max_cost for p in parts)),
    ]
    title = f"Estimate for {expected.n_features:,} features; nothing was asked"
    print_table(title, ("", "first step", "whole run at most"), rows)


def _generator(options: dict[str, Any]) -> Any:
    from facsynth.cli.asking import policy_of_options
    from facsynth.recipe import Generator

    return Generator(
        model=options["generator"],
        chat_model=options["chat_model"],
        api_base=options["api_base"],
        api_key_env=options["api_key_env"],
        batch_size=options["batch_size"],
        endpoint=options["endpoint"],
        policy=policy_of_options(options),
    )


def _judge(options: dict[str, Any], generator: Any, lm: Any, spending: Any) -> Any:
    """The judge of quality, or None; it shares the budget and the file of replies."""
    from dataclasses import replace

    from facsynth.pipeline import load_generator
    from facsynth.synthesize.judge import QualityJudge

    if not options["judge_model"]:
        return None
    wanted = replace(
        generator,
        chat_model=options["judge_model"],
        api_base=options["judge_api_base"] or generator.api_base,
        api_key_env=options["judge_api_key_env"] or generator.api_key_env,
    )
    chat = load_generator(wanted, lm, spending)
    return QualityJudge(chat, min_grade=options["min_grade"])


def _settings(options: dict[str, Any]) -> Any:
    from facsynth.synthesize.plan import PlanSettings
    from facsynth.synthesize.settings import Budget, SynthesisSettings

    return SynthesisSettings(
        threshold=options["threshold"],
        task=options["task"],
        form=options["form"],
        prompt=options["prompt"],
        decontaminate=options["decontaminate"],
        reply=options["reply"],
        seed=options["random_seed"],
        plan=PlanSettings(objective=options["objective"], group_size=options["group_size"]),
        budget=Budget(
            max_features=options["max_features"],
            max_samples=options["max_samples"],
            max_rounds=options["max_rounds"],
            min_kept_share=options["min_kept_share"],
            patience=options["patience"],
            max_attempts=options["max_attempts"],
            first_candidates=options["candidates"],
            second_candidates=options["second_candidates"],
        ),
    )

"""`fac synthesize`."""

from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import (
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
    "--seed", type=click.Path(path_type=Path), required=True, help="Feature table of the seed."
)
@output_option("Run folder: synthetic.jsonl, its feature table, candidates and replies.")
@relevant_option
@threshold_option
@click.option("--form", default="a new text", show_default=True, help='Completes "Write …".')
@click.option("--max-samples", default=500, show_default=True, help="Most samples kept.")
@click.option("--max-features", default=200, show_default=True, help="Most features aimed at.")
@click.option("--max-rounds", default=4, show_default=True, help="Most rounds.")
@click.option("--candidates", default=2, show_default=True, help="Step-1 texts per feature.")
@click.option("--second-candidates", default=2, show_default=True, help="Step-2 texts, 0 for none.")
@click.option("--reply/--no-reply", default=True, show_default=True, help="Write answers too.")
@click.option("--random-seed", default=0, show_default=True, help="Seed of every request.")
@model_options
@click.option("--sae", help="Folder of the SAE; without it the embedded one.")
@click.option("--generator", help="Local model that writes; without it the --model.")
@click.option("--chat-model", help="Model at an OpenAI-compatible endpoint that writes instead.")
@click.option(
    "--api-base", default="https://api.openai.com/v1", show_default=True, help="Its address."
)
@click.option(
    "--api-key-env",
    default="OPENAI_API_KEY",
    show_default=True,
    help="Environment variable with its key; may be unset for local servers.",
)
@click.option("--batch-size", default=16, show_default=True, help="Texts per batch, local model.")
@json_option
def synthesize(
    anchor: Path,
    seed: Path,
    output: Path,
    relevant: Path | None,
    as_json: bool,
    sae: str | None,
    **options: Any,
) -> None:
    """Write samples for the features that the anchor activates and the seed does not."""
    from facsynth.cli.load import load_pair, load_relevant
    from facsynth.cli.show import RichProgress, print_json, print_table
    from facsynth.pipeline import load_generator
    from facsynth.store.table import open_table
    from facsynth.synthesize.rounds import synthesize as run
    from facsynth.synthesize.write import write_synthesis

    progress = RichProgress()
    anchor_table, seed_table = open_table(anchor), open_table(seed)
    lm, features = load_pair(options, sae, progress)
    chat = load_generator(_generator(options), lm, output / "replies.sqlite")
    result = run(
        anchor_table,
        seed_table,
        lm,
        features,
        chat,
        output,
        settings=_settings(options),
        relevant=load_relevant(relevant, anchor_table.manifest.source.n_features),
        progress=progress,
    )
    write_synthesis(result, output, seed_table, seed_table.activations())
    filled = len({f for kept in result.kept for f in kept.new_features})
    summary = {
        "n_samples": len(result.kept),
        "n_missing": len(result.missing_before),
        "n_filled": filled,
        "outcomes": dict(result.outcomes),
        "rounds": list(result.rounds),
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


def _generator(options: dict[str, Any]) -> Any:
    from facsynth.recipe import Generator

    return Generator(
        model=options["generator"],
        chat_model=options["chat_model"],
        api_base=options["api_base"],
        api_key_env=options["api_key_env"],
        batch_size=options["batch_size"],
    )


def _settings(options: dict[str, Any]) -> Any:
    from facsynth.synthesize.settings import Budget, SynthesisSettings

    return SynthesisSettings(
        threshold=options["threshold"],
        form=options["form"],
        reply=options["reply"],
        seed=options["random_seed"],
        budget=Budget(
            max_features=options["max_features"],
            max_samples=options["max_samples"],
            max_rounds=options["max_rounds"],
            first_candidates=options["candidates"],
            second_candidates=options["second_candidates"],
        ),
    )

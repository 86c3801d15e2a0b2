"""`fac synthesize`."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facsynth.chat.settings import Generator
from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import (
    generator_options,
    json_option,
    model_options,
    output_option,
    relevant_option,
)
from facsynth.cli.sections import SectionedCommand
from facsynth.models.settings import ModelSettings
from facsynth.progress import Progress
from facsynth.scale.settings import ScaleSettings
from facsynth.synthesize.settings import JudgeSettings, SynthesisSettings

if TYPE_CHECKING:
    from facsynth.chat.budget import Spending
    from facsynth.scale.where import Extractor
    from facsynth.synthesize.judge import QualityJudge
    from facsynth.synthesize.result import Synthesis
    from facsynth.synthesize.run import SynthesisRun


@click.command(cls=SectionedCommand)
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
@click.option(
    "--explanations",
    type=click.Path(path_type=Path, exists=True),
    help="File of `fac explain`, or of another tool; prompts say what features stand for.",
)
@settings_options(SynthesisSettings, "settings")
@model_options
@click.option("--sae", help="Folder of the SAE; the embedded one by default.")
@click.option("--generator", "writer", help="Local model that writes; the --model by default.")
@generator_options(without=("model", "replies"))
@settings_options(JudgeSettings, "grading")
@settings_options(ScaleSettings, "where")
@json_option
def synthesize(
    anchor: Path,
    seeds: tuple[Path, ...],
    output: Path,
    relevant: Path | None,
    explanations: Path | None,
    settings: SynthesisSettings,
    model: ModelSettings,
    **options: Any,
) -> None:
    """Write samples that activate the missing features.

    Those are missing that the anchor activates and the seed does not. Exactly --max-samples are
    kept, with the lengths of the anchor; --method paper writes as published. The --model writes, or
    the local --generator, or the --chat-model at an endpoint. A run that reaches a limit keeps what
    it has; raise the limit and run again to resume.
    """
    from facsynth.synthesize.task_format import read_task
    from facsynth.table.table import open_table

    # Two frequent errors are reported before PyTorch is imported, which takes seconds.
    read_task(settings.task)
    for path in (anchor, *seeds):
        open_table(path)
    from facsynth.chat.budget import Spending
    from facsynth.cli.load import load_relevant, load_table_tokenizer, load_tables
    from facsynth.cli.show import RichProgress, show
    from facsynth.pipeline.synthesis import open_judge
    from facsynth.scale.where import Extractor
    from facsynth.synthesize.run import SynthesisRun
    from facsynth.understand.descriptions import read_explanations

    # All that needs no model comes first, so that errors are found before one is loaded.
    progress = RichProgress()
    table, *seed_tables = load_tables((anchor, *seeds))
    source = table.manifest.source
    flags = load_relevant(relevant, source.n_features)
    described = read_explanations(explanations) if explanations else None
    run = SynthesisRun(
        table, seed_tables, settings=settings, relevant=flags, explanations=described
    )
    generator = replace(options["generator"], model=options["writer"])
    spending = Spending(generator.policy, output / "replies.sqlite")
    judge = open_judge(options["grading"], generator, settings.sampling, spending)
    if options["dry_run"]:
        tokenizer = load_table_tokenizer(source, model.model)
        expected = run.forecast(tokenizer, policy=generator, judge=judge)
        show(expected, as_json=options["as_json"])
        return
    extract = Extractor(options["where"], model)
    result = _execute(run, extract, options["sae"], generator, output, spending, judge, progress)
    notes = []
    if result.stopped == "budget":
        notes.append("a limit was reached; raise it and run again to resume")
    if judge is None and result.kept:
        notes.append("nobody has judged what the samples say; --judge-model has an LLM grade each")
    show(result, as_json=options["as_json"], notes=notes)


def _execute(
    run: "SynthesisRun",
    extract: "Extractor",
    sae: str | None,
    generator: Generator,
    output: Path,
    spending: "Spending",
    judge: "QualityJudge | None",
    progress: Progress,
) -> "Synthesis":
    """Load the models, a generator that is the scoring model once, and write."""
    from facsynth.cli.load import load_pair
    from facsynth.folders import hold_folder
    from facsynth.pipeline import load_generator
    from facsynth.scale.where import hold_cluster

    @cache
    def pair() -> Any:
        return load_pair(extract.model, sae, progress, check=run.check_sae)

    chat = load_generator(generator, lambda: pair()[0], spending)
    lm, loaded = pair()
    expected = run.forecast(lm.tokenizer, policy=generator, judge=judge)
    if expected.threshold and expected.threshold.rule:
        progress.say(expected.threshold.sentence)
    progress.say(f"estimate: {expected}")
    with hold_folder(output), hold_cluster(extract.where):
        return run.execute(
            lm, loaded, chat, output, judge=judge, extract=extract, progress=progress
        )

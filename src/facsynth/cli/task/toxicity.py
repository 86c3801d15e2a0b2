"""`fac task toxicity`."""

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.sections import SectionedGroup
from facsynth.cli.task.options import Call, evaluate_command, refuse_ignored, train_command
from facsynth.tasks.toxicity.settings import LabelFields, ToxicitySettings


@click.group(cls=SectionedGroup)
def toxicity() -> None:
    """Is a text toxic? AUPRC of a head on hidden states, or of a tuned model."""


@toxicity.command()
@click.option("--safe", help="Harmless samples to mix in; their labels are not read.")
@click.option("--all-positive", is_flag=True, help="Every sample of FILE is toxic.")
@settings_options(ToxicitySettings, "settings")
@settings_options(LabelFields, "labels")
@train_command
def train(
    call: Call,
    safe: str | None,
    all_positive: bool,
    settings: ToxicitySettings,
    labels: LabelFields,
) -> None:
    """Train on the labelled texts of FILE: adapters (LoRA), or all weights with --full.

    An unfinished training resumes when the same command is run again.
    """
    from facsynth.tasks.toxicity.data import read_labelled
    from facsynth.tasks.toxicity.train import train_toxicity

    refuse_ignored(settings.train.head_only)
    texts = read_labelled(call.data, labels, all_positive=all_positive, **call.rows)
    harmless = read_labelled(safe, all_positive=True) if safe else None
    train_toxicity(texts, call.load, call.folder, settings, safe=harmless, progress=call.progress)


@toxicity.command()
@settings_options(LabelFields, "labels")
@evaluate_command("toxicity")
def evaluate(call: Call, labels: LabelFields, **options: bool) -> None:
    """Measure the AUPRC of what was trained in DIR on the labelled texts of FILE.

    With --base the untrained model is asked whether each text is toxic; its score is the
    probability of Yes against No.
    """
    from facsynth.tasks.toxicity.data import read_labelled
    from facsynth.tasks.toxicity.evaluate import evaluate_toxicity

    texts = read_labelled(call.data, labels, **call.rows)
    call.finish(
        evaluate_toxicity(call.trained, texts, call.load, **options, progress=call.progress)
    )

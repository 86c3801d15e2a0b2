"""`fac relevance` and `fac relevance audit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.naming import NamingSettings
from facsynth.cli.options import endpoint_options, json_option
from facsynth.cli.sections import SectionedGroup
from facsynth.errors import DataError
from facsynth.understand.settings import RelevanceSettings

if TYPE_CHECKING:
    from facsynth.progress import Progress
    from facsynth.understand.descriptions import Described
    from facsynth.understand.relevance import Judgements


@click.group(cls=SectionedGroup, invoke_without_command=True)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="JSONL file, one row per feature."
)
@click.option(
    "--explanations",
    type=click.Path(path_type=Path, exists=True),
    help="File of `fac explain`, or of another tool; the LLM judges its descriptions, and names "
    "are taken from it.",
)
@click.option(
    "--table",
    type=click.Path(path_type=Path),
    help="Feature table of the samples that have labels or scores.",
)
@settings_options(RelevanceSettings, "settings")
@settings_options(NamingSettings, "naming", without=("sae",))
@endpoint_options
@json_option
@click.pass_context
def relevance(
    ctx: click.Context,
    /,
    settings: RelevanceSettings,
    naming: NamingSettings,
    as_json: bool,
    **options: Any,
) -> None:
    """Judge which features matter for a task.

    With --chat-model an LLM grades the features of --explanations by the rubric of --task. Without
    one, features of --table are tested at equal text length: with --scores for firing more where a
    model fails, with --label for firing more in samples with that label; with neither, all are
    relevant. The file fits --relevant of `fac coverage` and `fac synthesize`.
    """
    if ctx.invoked_subcommand:
        return
    if not options["output"]:
        raise click.UsageError("Missing option '--output'.")
    from facsynth.cli.asking import said_without_llm
    from facsynth.cli.show import RichProgress, show
    from facsynth.data.write import write_jsonl
    from facsynth.understand.descriptions import read_explanations

    progress = RichProgress()
    generator, explanations = options["generator"], options["explanations"]
    if said_without_llm(generator, dry_run=options["dry_run"], progress=progress):
        return
    described = list(read_explanations(explanations).values()) if explanations else []
    judged = (
        _by_llm(described, settings, options, progress)
        if generator.chat_model
        else _by_table(described, options["table"], settings, naming)
    )
    if judged is None:
        return
    output = options["output"]
    write_jsonl((one.row(min_grade=settings.min_grade) for one in judged.found), output)
    show(judged, as_json=as_json, notes=judged.notes)
    progress.say(f"{len(judged.found):,} features written to {output}")


@relevance.command()
@click.argument("judged", type=click.Path(path_type=Path, exists=True))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="CSV sheet to draw.")
@click.option("--size", default=100, show_default=True, help="Features in the sheet.")
@click.option(
    "--explanations",
    type=click.Path(path_type=Path, exists=True),
    help="File of `fac explain`, for the texts in the sheet.",
)
@click.option("--random-seed", default=0, show_default=True, help="Random seed of the draw.")
@click.option(
    "--filled",
    type=click.Path(path_type=Path, exists=True),
    help="A sheet with verdicts: print precision and recall.",
)
@json_option
def audit(
    judged: Path,
    output: Path | None,
    size: int,
    explanations: Path | None,
    random_seed: int,
    filled: Path | None,
    as_json: bool,
) -> None:
    """Check a judge: draw kept and dropped features of JUDGED into a sheet, or score a filled one.

    Write yes or no into the column `verdict`; leave it empty where you cannot say.
    """
    from facsynth.cli.show import RichProgress, show
    from facsynth.data.write import write_text
    from facsynth.understand.audit import draw_audit, read_verdicts, score_audit, sheet_text
    from facsynth.understand.descriptions import read_explanations
    from facsynth.understand.relevance import read_feature_rows
    from facsynth.understand.spans import mark_peak

    if (output is None) == (filled is None):
        raise click.UsageError("Give either --output to draw a sheet or --filled to score one.")
    rows = read_feature_rows(judged, "relevant", "grade", "name")
    decided = {int(row["feature_id"]): bool(row["relevant"]) for row in rows if row["grade"]}
    if filled is not None:
        show(score_audit(decided, read_verdicts(filled)), as_json=as_json)
        return
    assert output is not None
    if output.exists():
        raise DataError(f"{output} exists and may hold verdicts; choose another name")
    described = read_explanations(explanations).values() if explanations else ()
    texts = {f.feature_id: [mark_peak(s) for s in f.spans] for f in described}
    names = {int(row["feature_id"]): str(row["name"]) for row in rows}
    drawn = draw_audit(decided, size, random_seed=random_seed)
    write_text(sheet_text(drawn, names, texts), output)
    RichProgress().say(f"{len(drawn)} features to judge in {output}")


def _by_llm(
    described: "list[Described]",
    settings: RelevanceSettings,
    options: dict[str, Any],
    progress: "Progress",
) -> "Judgements | None":
    """An LLM's grades; None when only the estimate was wanted."""
    from facsynth.chat.scripted import RecordingChat
    from facsynth.cli.asking import cached, endpoint_stack, say_estimate
    from facsynth.understand.relevance import Judgements, judge_by_llm, load_rubric

    if settings.scores or settings.label:
        raise click.UsageError("--scores and --label judge without --chat-model.")
    if settings.task is None:
        raise click.UsageError("Missing option '--task', by which an LLM judges.")
    rubric = load_rubric(settings.task)
    if not described:
        raise DataError("an LLM judges explanations: pass --explanations FILE from `fac explain`")
    output, leave_out = options["output"], settings.leave_out
    endpoint, spending = endpoint_stack(options["generator"], output)
    recorder = RecordingChat(endpoint.name)
    judge_by_llm(cached(recorder, output), rubric, described, leave_out=leave_out)
    say_estimate(recorder.requests, options["generator"], progress)
    if options["dry_run"]:
        return None
    judged = judge_by_llm(endpoint, rubric, described, leave_out=leave_out, progress=progress)
    progress.say(f"spent so far: {spending}")
    return Judgements(judged, settings.min_grade)


def _by_table(
    described: "list[Described]",
    path: Path | None,
    settings: RelevanceSettings,
    naming: NamingSettings,
) -> "Judgements":
    """Grades by scores or by labels of the samples of a table."""
    from facsynth.cli.load import load_table_tokenizer
    from facsynth.table.table import open_table
    from facsynth.understand.contrast import judge_table

    if path is None:
        raise DataError(
            "without --chat-model the judge needs --table, with --scores FILE or with labels in "
            "it; see `fac extract --label-field`"
        )
    table = open_table(path)
    names = {one.feature_id: one.text for one in described}
    needs_names = naming.spans and (settings.scores or settings.label)
    source = table.manifest.source
    tokenizer = load_table_tokenizer(source, naming.model) if needs_names else None
    return judge_table(table, settings, names=names, tokenizer=tokenizer)

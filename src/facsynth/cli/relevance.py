"""`fac relevance` and `fac relevance audit`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facsynth.cli.options import endpoint_options, json_option, threshold_option
from facsynth.errors import DataError

if TYPE_CHECKING:
    from facsynth.progress import Progress
    from facsynth.understand.descriptions import Described
    from facsynth.understand.relevance import Relevance


@click.group(invoke_without_command=True)
@click.option("--task", help="toxicity, reward, sycophancy, survival, instruction, or a text file.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="JSONL file, one row per feature."
)
@click.option(
    "--explanations",
    type=click.Path(path_type=Path, exists=True),
    help="File of `fac explain`; the LLM judges its explanations, and names are taken from it.",
)
@click.option(
    "--table",
    type=click.Path(path_type=Path),
    help="Feature table of the anchor, whose labels are used.",
)
@click.option("--label", help="Label of the task, for the judge without an LLM.")
@click.option(
    "--min-grade",
    type=click.Choice(["yes", "probably", "maybe"]),
    default="maybe",
    show_default=True,
    help="Lowest grade that is relevant.",
)
@threshold_option
@endpoint_options
@json_option
@click.pass_context
def relevance(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Judge which features matter for a task.

    With --chat-model an LLM grades the features of --explanations by the task's rubric. Without
    one, features of --table are tested for association with --label; without labels, all are
    relevant. The file fits `fac coverage --relevant`.
    """
    if ctx.invoked_subcommand:
        return
    for name in ("task", "output"):
        if not options[name]:
            raise click.UsageError(f"Missing option '--{name}'.")
    from facsynth.cli.asking import said_without_llm
    from facsynth.cli.show import RichProgress, show
    from facsynth.data.write import write_jsonl
    from facsynth.understand.descriptions import read_explanations
    from facsynth.understand.relevance import Judgements, load_rubric

    progress = RichProgress()
    generator = options["generator"]
    if said_without_llm(generator, dry_run=options["dry_run"], progress=progress):
        return
    rubric, explanations = load_rubric(options["task"]), options["explanations"]
    described = list(read_explanations(explanations).values()) if explanations else []
    judged = (
        _by_llm(rubric, described, options, progress)
        if generator.chat_model
        else _without_llm(described, options, progress)
    )
    if judged is None:
        return
    grade, output = options["min_grade"], options["output"]
    write_jsonl((one.row(min_grade=grade) for one in judged), output)
    show(Judgements(judged, grade), as_json=as_json)
    progress.say(f"{len(judged):,} features written to {output}")


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
    rubric: str, described: "list[Described]", options: dict[str, Any], progress: "Progress"
) -> "Sequence[Relevance] | None":
    """An LLM's grades; None when only the estimate was wanted."""
    from facsynth.chat.scripted import RecordingChat
    from facsynth.cli.asking import cached, endpoint_stack, say_estimate
    from facsynth.understand.relevance import judge_by_llm

    if not described:
        raise DataError("an LLM judges explanations: pass --explanations FILE from `fac explain`")
    output = options["output"]
    endpoint, spending = endpoint_stack(options["generator"], output)
    recorder = RecordingChat(endpoint.name)
    judge_by_llm(cached(recorder, output), rubric, described)
    say_estimate(recorder.requests, options["generator"].policy, progress)
    if options["dry_run"]:
        return None
    judged = judge_by_llm(endpoint, rubric, described, progress=progress)
    progress.say(f"spent so far: {spending}")
    return judged


def _without_llm(
    described: "list[Described]", options: dict[str, Any], progress: "Progress"
) -> "Sequence[Relevance]":
    from facsynth.table.active import active_rows
    from facsynth.table.table import open_table
    from facsynth.understand.relevance import judge_all, judge_by_labels

    if options["table"] is None:
        raise DataError(
            "without --chat-model the judge needs --table, and labels in it; see `fac extract "
            "--label-field`"
        )
    table = open_table(options["table"])
    labels = [sample.label for sample in table.samples()]
    values = sorted({label for label in labels if label is not None})
    if values and not options["label"]:
        shown = ", ".join(values[:8])
        raise DataError(f"the samples have labels ({shown}); name the task's label by --label")
    names = {f.feature_id: f.name for f in described}
    rows = active_rows(table.activations(), threshold=options["threshold"])
    if options["label"]:
        return judge_by_labels(rows, labels, options["label"], names=names)
    progress.say("no labels and no --chat-model: every active feature counts as relevant")
    return judge_all(rows, names=names)

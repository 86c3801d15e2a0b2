"""`fac explain`."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import endpoint_options, json_option, output_option
from facsynth.cli.sections import SectionedCommand
from facsynth.errors import DataError
from facsynth.understand.settings import EvidenceSettings, ExplainSettings

if TYPE_CHECKING:
    from facsynth.progress import Progress
    from facsynth.table.active import ActiveRows
    from facsynth.table.table import FeatureTable
    from facsynth.understand.explain import Explanation


@click.command(cls=SectionedCommand)
@click.argument("table", type=click.Path(path_type=Path))
@output_option("JSONL file with one row per feature.")
@click.option("--model", help="Model that extracted the table; by default the one it names.")
@click.option("--features", help="Explain only these: ids with commas, or a file of ids or rows.")
@click.option(
    "--max-features", type=click.IntRange(min=1), help="Explain only the N most frequent features."
)
@settings_options(EvidenceSettings, "gathering", without=("random_seed",))
@click.option(
    "--import",
    "imported",
    type=click.Path(path_type=Path, exists=True),
    help="Ready-made explanations: Neuronpedia's JSONL, or JSONL, TSV or CSV of your own.",
)
@endpoint_options
@settings_options(ExplainSettings, "settings", without=("random_seed",))
@json_option
def explain(
    table: Path,
    output: Path,
    gathering: EvidenceSettings,
    settings: ExplainSettings,
    as_json: bool,
    **options: Any,
) -> None:
    """Describe what the features of a table mean.

    Without --chat-model, features are named by the words at their peaks. Every name is tested on
    held-out spans; it is marked doubtful if its balanced accuracy is below 0.7.
    """
    from facsynth.cli.asking import endpoint_stack, said_without_llm
    from facsynth.cli.show import RichProgress, show
    from facsynth.coverage.threshold import own_threshold
    from facsynth.data.write import write_jsonl
    from facsynth.table.active import active_rows
    from facsynth.table.table import open_table
    from facsynth.understand.descriptions import read_explanations
    from facsynth.understand.explain import Explanations

    progress = RichProgress()
    generator = options["generator"]
    if said_without_llm(generator, dry_run=options["dry_run"], progress=progress):
        return
    # All that needs no model comes first, so that errors are found before one is loaded.
    opened = open_table(table)
    wanted = _wanted(options["features"], opened.manifest.source.n_features)
    texts = None
    if options["imported"]:
        read_in = read_explanations(options["imported"])
        texts = {f: one.text for f, one in read_in.items() if not one.cannot_tell}
    asked = endpoint_stack(generator, output) if generator.chat_model else None
    level = own_threshold(opened, given=gathering.threshold)
    gathering = replace(gathering, threshold=level.threshold)
    active = active_rows(opened.activations(), threshold=level.threshold, relevant=wanted)
    chosen = _chosen(active, options["max_features"], table)
    explained: Sequence[Explanation] | None
    explained = by_terms = _by_terms(opened, chosen, options["model"], gathering)
    if texts is not None or asked is not None:
        explained = _in_words(by_terms, texts, asked, settings, options, output, progress)
    if explained is None:
        return
    n_written = write_jsonl((one.row() for one in explained), output)
    show(Explanations(explained), as_json=as_json, notes=level.notes)
    progress.say(f"{n_written:,} features written to {output}")


def _by_terms(
    table: "FeatureTable", chosen: Sequence[int], model: str | None, gathering: EvidenceSettings
) -> "Sequence[Explanation]":
    """Explanations by the words at the peaks of features, with the evidence for them."""
    from facsynth.cli.load import load_table_tokenizer
    from facsynth.understand.evidence import collect_evidence
    from facsynth.understand.explain import explain_by_terms
    from facsynth.understand.names import count_terms
    from facsynth.understand.spans import ReadTable

    read = ReadTable.of(table, load_table_tokenizer(table.manifest.source, model))
    evidence = collect_evidence(read, chosen, settings=gathering)
    return explain_by_terms({f: evidence[f] for f in chosen}, count_terms(read.samples))


def _chosen(active: "ActiveRows", n: int | None, table: Path) -> list[int]:
    """The most frequent features, at most `n`."""
    order = (-active.counts).argsort(kind="stable")[: active.features.sum()].tolist()
    if not order:
        raise DataError(
            f"no feature asked for is active above {active.threshold:g} in {table}; lower "
            "--threshold or name other --features"
        )
    return [int(feature) for feature in order[:n]]


def _wanted(asked: str | None, n_features: int) -> Any:
    """Flags of the features in a list or a file; None without either."""
    import numpy as np

    from facsynth.cli.load import load_relevant

    if asked is None:
        return None
    text = asked
    # Only then a path: systems raise an error for a path as long as some lists.
    if not _is_list(asked):
        if not Path(asked).is_file():
            raise DataError(
                f"--features {asked[:60]} is neither a file nor a list of ids such as 3,17,256"
            )
        text = Path(asked).read_text(encoding="utf-8")
        if not _is_list(text):
            return load_relevant(Path(asked), n_features)
    ids = [int(word) for word in re.findall(r"\d+", text)]
    if bad := [i for i in ids if i >= n_features]:
        raise DataError(f"feature {bad[0]} does not exist; the SAE has 0 to {n_features - 1}")
    flags = np.zeros(n_features, dtype=np.bool_)
    flags[ids] = True
    return flags


def _is_list(text: str) -> bool:
    """Whether a text is nothing but ids between commas, blanks and line breaks."""
    return re.fullmatch(r"[\d,\s]*\d[\d,\s]*", text) is not None


def _in_words(
    by_terms: "Sequence[Explanation]",
    texts: dict[int, str] | None,
    asked: Any,
    settings: ExplainSettings,
    options: dict[str, Any],
    output: Path,
    progress: "Progress",
) -> "Sequence[Explanation] | None":
    """Explanations of an LLM or of a file; None when only the estimate was wanted."""
    from facsynth.chat.model import ChatModel
    from facsynth.chat.scripted import RecordingChat
    from facsynth.cli.asking import cached, say_estimate
    from facsynth.progress import SILENT
    from facsynth.understand.explain import calls_to_explain, explain_by_llm, score_imported

    if asked is None:
        return score_imported(by_terms, texts or {})

    def run(chat: ChatModel, progress: "Progress" = SILENT) -> "Sequence[Explanation]":
        if texts is None:
            return explain_by_llm(chat, by_terms, settings=settings, progress=progress)
        return score_imported(by_terms, texts, chat=chat, settings=settings, progress=progress)

    endpoint, spending = asked
    recorder = RecordingChat(endpoint.name)
    ahead = calls_to_explain(run, recorder, cached(recorder, output), settings=settings)
    say_estimate(ahead, options["generator"], progress)
    if options["dry_run"]:
        return None
    explained = run(endpoint, progress)
    progress.say(f"spent so far: {spending}")
    return explained

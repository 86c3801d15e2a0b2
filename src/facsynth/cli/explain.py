"""`fac explain`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facsynth.cli.options import (
    endpoint_options,
    json_option,
    output_option,
    threshold_option,
)
from facsynth.errors import DataError

if TYPE_CHECKING:
    from facsynth.progress import Progress
    from facsynth.table.table import FeatureTable
    from facsynth.understand.evidence import Evidence
    from facsynth.understand.explain import Explanation
    from facsynth.understand.names import TermCounts


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@output_option("JSONL file with one row per feature.")
@click.option("--model", help="Model that extracted the table; without it the one it names.")
@click.option(
    "--features", help="Explain only these: ids with commas, or a file with one per line."
)
@click.option(
    "--max-features", type=click.IntRange(min=1), help="Explain only the most frequent so many."
)
@click.option(
    "--spans",
    "n_spans",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Spans shown per feature; as many are kept back for the test.",
)
@click.option(
    "--neighbours",
    "n_neighbours",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Add so many nearest features by samples, and as many by direction (needs the SAE).",
)
@click.option("--sae", help="SAE that extracted the table; without it the one it names.")
@threshold_option
@click.option(
    "--import",
    "imported",
    type=click.Path(path_type=Path, exists=True),
    help="Ready-made explanations: Neuronpedia's JSONL, or JSONL, TSV, CSV of your own.",
)
@endpoint_options
@click.option("--candidates", default=1, show_default=True, help="Explanations asked for.")
@click.option("--fidelity/--no-fidelity", default=True, help="Test explanations with the LLM.")
@json_option
def explain(table: Path, output: Path, as_json: bool, **options: Any) -> None:
    """Say what the features of TABLE mean, and how far that can be trusted.

    Without --chat-model, features are named by the words at their peaks. Every name is tested on
    spans that it was not made from; a doubtful one has a balanced accuracy below 0.7.
    """
    from facsynth.cli.asking import said_without_llm
    from facsynth.cli.show import RichProgress, print_json
    from facsynth.data.write import write_jsonl
    from facsynth.table.table import open_table
    from facsynth.understand.explain import explain_by_terms, explanation_row
    from facsynth.understand.names import count_terms

    progress = RichProgress()
    if said_without_llm(options, progress):
        return
    opened = open_table(table)
    words = count_terms(opened.samples())
    evidence = _evidence(opened, options)
    explained: Sequence[Explanation] | None = explain_by_terms(evidence, words)
    if options["imported"] or options["chat_model"]:
        explained = _in_words(explained or [], evidence, options, output, progress)
    if explained is None:
        return
    rows = [explanation_row(found, evidence[found.feature_id]) for found in explained]
    if options["n_neighbours"]:
        _add_neighbours(rows, opened, words, options)
    write_jsonl(rows, output)
    summary = _summary(explained)
    if as_json:
        print_json(summary)
    progress.say(f"{len(explained):,} features written to {output}; {_in_short(summary)}")


def _evidence(table: "FeatureTable", options: dict[str, Any]) -> "dict[int, Evidence]":
    """Evidence of the features asked for, the most frequent first."""
    import numpy as np

    from facsynth.cli.load import load_table_tokenizer
    from facsynth.understand.evidence import EvidenceSettings, collect_evidence
    from facsynth.understand.spans import extract_settings

    source, rows = table.manifest.source, table.activations()
    active = rows.feature_ids[rows.values > options["threshold"]]
    counts = np.bincount(active, minlength=rows.n_features)
    wanted = _features(options["features"], rows.n_features)
    order = np.argsort(-counts, kind="stable")
    chosen = [int(f) for f in order if counts[f] and (wanted is None or wanted[f])]
    chosen = chosen[: options["max_features"]]
    if not chosen:
        raise DataError(
            f"no feature asked for is active above {options['threshold']:g} in {table.folder}; "
            "lower --threshold or name other --features"
        )
    extract = extract_settings(source)
    found = collect_evidence(
        table.samples(),
        rows,
        load_table_tokenizer(source, options["model"]),
        chosen,
        score=extract.score,
        max_length=extract.max_length,
        settings=EvidenceSettings(
            threshold=options["threshold"],
            n_spans=options["n_spans"],
            n_held_out=options["n_spans"],
        ),
    )
    return {feature: found[feature] for feature in chosen}


def _add_neighbours(
    rows: list[dict[str, Any]], table: "FeatureTable", words: "TermCounts", options: dict[str, Any]
) -> None:
    """Put the nearest features into the rows, with the names of the rows or untested ones."""
    from facsynth.cli.load import load_table_sae, load_table_tokenizer
    from facsynth.understand.neighbours import find_neighbours
    from facsynth.understand.spans import extract_settings
    from facsynth.understand.topics import name_others, neighbour_rows

    source, activations = table.manifest.source, table.activations()
    near = find_neighbours(
        activations,
        load_table_sae(source, options["sae"]).W_dec.detach().float().numpy(),
        [row["feature_id"] for row in rows],
        threshold=options["threshold"],
        n_each=options["n_neighbours"],
    )
    names, _ = name_others(
        {other.feature_id for found in near.values() for other in found},
        {row["feature_id"]: row["name"] for row in rows},
        table.samples(),
        activations,
        load_table_tokenizer(source, options["model"]),
        words,
        extract=extract_settings(source),
    )
    for row in rows:
        row["neighbours"] = neighbour_rows(near[row["feature_id"]], names)


def _features(asked: str | None, n_features: int) -> Any:
    """Mask of the features in a list or a file; None without either."""
    import numpy as np

    from facsynth.cli.load import load_relevant

    if asked is None or Path(asked).is_file():
        return load_relevant(Path(asked) if asked else None, n_features)
    try:
        ids = [int(word) for word in asked.split(",")]
    except ValueError as error:
        raise DataError(
            f"--features {asked} is neither a file nor a list of numbers such as 3,17,256"
        ) from error
    if bad := [i for i in ids if not 0 <= i < n_features]:
        raise DataError(f"feature {bad[0]} does not exist; the SAE has 0 to {n_features - 1}")
    mask = np.zeros(n_features, dtype=bool)
    mask[ids] = True
    return mask


def _in_words(
    by_terms: "Sequence[Explanation]",
    evidence: "Mapping[int, Evidence]",
    options: dict[str, Any],
    output: Path,
    progress: "Progress",
) -> "Sequence[Explanation] | None":
    """Explanations of an LLM or of a file; None when only the estimate was wanted."""
    from facsynth.chat.model import ChatModel
    from facsynth.chat.scripted import RecordingChat
    from facsynth.cli.asking import cached, endpoint_stack, say_estimate
    from facsynth.progress import SILENT
    from facsynth.understand.explain import (
        ExplainSettings,
        calls_to_explain,
        explain_by_llm,
        score_imported,
    )
    from facsynth.understand.imports import read_explanations

    settings = ExplainSettings(
        n_candidates=options["candidates"],
        is_scored=options["fidelity"],
    )
    texts = read_explanations(options["imported"]) if options["imported"] else None
    if not options["chat_model"]:
        return score_imported(evidence, by_terms, texts or {})

    def run(chat: ChatModel, progress: "Progress") -> "Sequence[Explanation]":
        if texts is not None:
            return score_imported(
                evidence, by_terms, texts, chat=chat, settings=settings, progress=progress
            )
        return explain_by_llm(chat, evidence, by_terms, settings=settings, progress=progress)

    endpoint, spending = endpoint_stack(options, output)
    recorder = RecordingChat(endpoint.name)
    ahead = calls_to_explain(
        lambda chat: run(chat, SILENT),
        evidence,
        recorder,
        cached(recorder, output),
        settings=settings,
    )
    say_estimate(ahead, options, progress)
    if options["dry_run"]:
        return None
    explained = run(endpoint, progress)
    progress.say(f"spent so far: {spending}")
    return explained


def _summary(explained: "Sequence[Explanation]") -> dict[str, Any]:
    """Counts and the middle detection score, for machines."""
    from statistics import median

    scores = [
        found.fidelity.detection.balanced_accuracy
        for found in explained
        if found.fidelity and found.fidelity.detection
    ]
    n_doubtful = sum(found.is_doubtful for found in explained)
    return {
        "n_features": len(explained),
        "n_explained": sum(found.explanation is not None for found in explained),
        "n_failed": sum(found.failure is not None for found in explained),
        "n_scored": len(scores),
        "n_doubtful": n_doubtful,
        "doubtful_share": n_doubtful / len(scores) if scores else None,
        "median_balanced_accuracy": median(scores) if scores else None,
    }


def _in_short(summary: dict[str, Any]) -> str:
    if not summary["n_scored"]:
        return "none of them was tested (too few spans, or no LLM to test imported ones)"
    failed = f"; {summary['n_failed']:,} failed" if summary["n_failed"] else ""
    return (
        f"{summary['n_scored']:,} tested, median balanced accuracy "
        f"{summary['median_balanced_accuracy']:.2f}, {summary['n_doubtful']:,} doubtful "
        f"({summary['doubtful_share']:.0%}){failed}"
    )

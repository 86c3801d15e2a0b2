"""What features mean and which of them count: the stages explain, relevance and missing."""

from pathlib import Path
from typing import Any

from facsynth.coverage.threshold import choose_threshold, count_samples
from facsynth.data.write import write_jsonl
from facsynth.errors import DataError
from facsynth.pipeline.state import Run
from facsynth.recipe import ExplainStage
from facsynth.table.active import active_rows
from facsynth.table.table import FeatureTable
from facsynth.understand.contrast import judge_table
from facsynth.understand.descriptions import Described, read_explanations
from facsynth.understand.evidence import collect_evidence
from facsynth.understand.explain import (
    Explanation,
    explain_by_llm,
    explain_by_terms,
    score_imported,
)
from facsynth.understand.missing import understand_missing
from facsynth.understand.names import count_terms
from facsynth.understand.relevance import Judgements, judge_by_llm, load_rubric, read_relevant
from facsynth.understand.spans import ReadTable

__all__ = ["explain", "judge", "name_missing", "prepare"]

_EXPLAINED, _JUDGED = "explain/explanations.jsonl", "relevance/relevance.jsonl"


def prepare(run: Run, anchor: FeatureTable, seed: FeatureTable) -> None:
    """Choose δ of what comes before the first coverage, where the recipe names none."""
    recipe = run.recipe
    undecided = [
        name
        for name, stage in (
            ("explain", recipe.explain and recipe.explain.evidence),
            ("relevance", recipe.relevance),
        )
        if stage and stage.threshold is None
    ]
    if undecided:
        chosen = choose_threshold(anchor, count_samples(seed))
        run.progress.say(f"{' and '.join(undecided)}: {chosen.sentence}")
        run.recipe = recipe.understood_at(chosen.threshold)


def explain(run: Run, anchor: FeatureTable) -> dict[int, Described]:
    """What the anchor's features mean; nothing without a table `explain`."""
    stage, path = run.recipe.explain, run.folder / _EXPLAINED
    if stage is None:
        return {}
    if not path.is_file():
        table = ReadTable.of(anchor, run.lm.tokenizer)
        delta = stage.evidence.threshold
        assert delta is not None, "`prepare` chooses it"
        counts = active_rows(table.activations, threshold=delta).counts
        order = [int(f) for f in (-counts).argsort(kind="stable") if counts[f]]
        chosen = order[: stage.max_features]
        run.progress.say(f"explain: {len(chosen):,} features of the anchor")
        evidence = collect_evidence(table, chosen, settings=stage.evidence)
        by_terms = explain_by_terms({f: evidence[f] for f in chosen}, count_terms(table.samples))
        write_jsonl([one.row() for one in _in_words(run, stage, by_terms)], path)
    return read_explanations(path)


def _in_words(run: Run, stage: ExplainStage, by_terms: list[Explanation]) -> list[Explanation]:
    how: dict[str, Any] = {"settings": stage.llm, "progress": run.progress}
    if stage.imported:
        found = read_explanations(stage.imported)
        texts = {f: one.text for f, one in found.items() if not one.cannot_tell}
        chat = run.judge if stage.in_words else None
        return score_imported(by_terms, texts, chat=chat, **how)
    return explain_by_llm(run.judge, by_terms, **how) if stage.in_words else by_terms


def judge(run: Run, anchor: FeatureTable, described: dict[int, Described]) -> Any:
    """Flags of the features that count; None without a table `relevance`: all do.

    Raises:
        DataError: No feature counts.
    """
    settings, path = run.recipe.relevance, run.folder / _JUDGED
    if settings is None:
        return None
    if not path.is_file():
        run.progress.say("relevance: judging features")
        found = _judged(run, anchor, described)
        for note in found.notes:
            run.progress.say(f"relevance: {note}")
        write_jsonl((one.row(min_grade=settings.min_grade) for one in found.found), path)
    flags = read_relevant(path, anchor.manifest.source.n_features)
    if not flags.any():
        raise DataError(
            f"no feature is relevant, see {path}; change [relevance], or leave the table out"
        )
    return flags


def _judged(run: Run, anchor: FeatureTable, described: dict[int, Described]) -> Judgements:
    settings = run.recipe.relevance
    assert settings is not None
    if not run.recipe.judges_by_rubric:
        names = {f: one.text for f, one in described.items()}
        return judge_table(anchor, settings, names=names, tokenizer=run.lm.tokenizer)
    rubric = load_rubric(settings.task or run.recipe.synthesize.task)
    judged = judge_by_llm(
        run.judge,
        rubric,
        list(described.values()),
        leave_out=settings.leave_out,
        progress=run.progress,
    )
    return Judgements(judged, settings.min_grade)


def name_missing(run: Run, anchor: FeatureTable, seed: FeatureTable, relevant: Any) -> None:
    """Write the missing features, ranked and named, with their neighbours and topics."""
    folder: Path = run.folder / "coverage"
    if (folder / "missing.jsonl").is_file():
        return
    run.progress.say("missing features: ranking, naming and grouping")
    features, topics = understand_missing(
        anchor,
        seed,
        run.lm.tokenizer,
        run.sae.directions,
        threshold=run.recipe.written_above,
        relevant=relevant,
    )
    write_jsonl(topics, folder / "topics.jsonl")
    # Last, because this file says that the stage is done.
    write_jsonl(features, folder / "missing.jsonl")

"""Where a report comes from: a run folder, tables given one by one, or one table."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from facsynth import __version__
from facsynth.chat.cache import ReplyStore
from facsynth.coverage.threshold import (
    ChosenThreshold,
    choose_threshold,
    count_samples,
    own_threshold,
)
from facsynth.data.stored import read_json
from facsynth.errors import DataError, FacsynthError, MismatchError
from facsynth.progress import SILENT, Progress
from facsynth.report.sets import Reader, ReportInputs
from facsynth.report.settings import ReportSettings
from facsynth.table.alike import check_same_features
from facsynth.table.manifest import TableSource
from facsynth.table.pair import load_table_sae, load_table_tokenizer
from facsynth.table.table import FeatureTable, open_table
from facsynth.understand.descriptions import read_explanations
from facsynth.understand.relevance import read_feature_rows

if TYPE_CHECKING:
    from facsynth.report.paint import Painter

__all__ = ["find_reader", "inputs_of_run", "inputs_of_tables", "is_run", "threshold_of_run"]

Row = dict[str, Any]


def find_reader(
    source: TableSource, settings: ReportSettings, progress: Progress = SILENT
) -> Reader:
    """The tokenizer and the SAE of a table, and its model if texts are to be painted.

    Without its tokenizer or SAE a report still shows what the table holds, and says what it lacks.

    Raises:
        FacsynthError: The model is to paint and cannot be loaded, or is another one.
    """
    model, sae, paint = settings.model, settings.sae, settings.paint
    notes, tokenizer, loaded = [], None, None
    try:
        tokenizer = load_table_tokenizer(source, model)
    except FacsynthError as error:
        if model or paint:
            raise
        notes.append(f"texts have no tokens, because the tokenizer is not here: {error}")
    try:
        loaded = load_table_sae(source, sae)
    except FacsynthError as error:
        if sae or paint:
            raise
        notes.append(f"neighbours are by samples alone, because the SAE is not here: {error}")
    painter = _painter(source, model, loaded, progress) if paint else None
    decoder = None if loaded is None else loaded.directions
    return Reader(tokenizer, decoder, painter, tuple(notes))


def _painter(source: TableSource, model: str | None, sae: Any, progress: Progress) -> "Painter":
    from facsynth.models.lm import load_language_model
    from facsynth.report.paint import Painter

    lm = load_language_model(model or source.model_name)
    if lm.content_hash != source.model_hash:
        raise MismatchError(
            f"{lm.name} is not the model that extracted the table ({source.model_name}); pass "
            "that one as --model"
        )
    return Painter(lm, sae.to(lm.device), source.gate, progress)


def is_run(folder: Path) -> bool:
    """Whether a folder is that of `fac run`."""
    return (folder / "recipe.json").is_file() and (folder / "anchor").is_dir()


def inputs_of_run(folder: Path) -> ReportInputs:
    """What the folder of `fac run` holds, finished or not.

    Args:
        folder: The run folder.

    Raises:
        DataError: The folder holds no tables yet.
    """
    recipe = read_json(folder / "recipe.json", what="the recipe of a run")
    tables = {name: open_table(folder / name) for name in ("anchor", "seed")}
    written = _written(folder / "synthesize")
    if written:
        tables["synthetic"] = written
    source = tables["anchor"].manifest.source
    files = ("coverage/missing.jsonl", "explain/explanations.jsonl")
    names = [row for name in files for row in _rows(folder / name) if row.get("name")]
    chosen = threshold_of_run(folder, tables)
    judged = _rows(folder / "relevance" / "relevance.jsonl")
    told = [(f"{name.capitalize()} data", _listed(recipe[name])) for name in ("anchor", "seed")]
    return ReportInputs(
        title=recipe["name"],
        tables=tables,
        threshold=chosen.threshold,
        threshold_rule=chosen.rule,
        explanations={row["feature_id"]: row for row in names},
        judgements={row["feature_id"]: row for row in judged},
        before=_if_there(folder / "coverage" / "before.json"),
        after=_if_there(folder / "coverage" / "after.json") if written else None,
        facts=(*_facts(source, chosen), *told),
        **_synthesis(folder / "synthesize"),
    )


def threshold_of_run(folder: Path, tables: Mapping[str, FeatureTable]) -> ChosenThreshold:
    """δ of what a run writes: the recipe's, or that of its first coverage.

    Args:
        folder: The run folder.
        tables: Its `anchor` and perhaps its `seed`, from which it is chosen before there is either.
    """
    recipe = _if_there(folder / "recipe.json") or {}
    before = _if_there(folder / "coverage" / "before.json")
    own = recipe.get("synthesize", {}).get("threshold")
    if own is not None:
        return ChosenThreshold(float(own))
    if before:
        return ChosenThreshold(float(before["threshold"]), before.get("threshold_rule"))
    return _of_tables(tables)


def _of_tables(
    tables: Mapping[str, FeatureTable],
    relevant: Bool[np.ndarray, " n_features"] | None = None,
    given: float | None = None,
) -> ChosenThreshold:
    """δ chosen from the anchor for its seed, or from a table alone."""
    if "seed" not in tables:
        return own_threshold(tables["anchor"], relevant, given=given)
    return choose_threshold(tables["anchor"], count_samples(tables["seed"]), relevant, given=given)


def inputs_of_tables(
    anchor: Path,
    seed: Path | None = None,
    synthetic: Path | None = None,
    *,
    explanations: Path | None = None,
    relevance: Path | None = None,
    settings: ReportSettings | None = None,
    title: str | None = None,
) -> ReportInputs:
    """What some tables hold, and what is known of their features.

    Args:
        anchor: Table of the anchor, or any table alone.
        seed: Table of the seed.
        synthetic: A folder of `fac synthesize`, or the table of written samples.
        explanations: File of `fac explain`, or of another tool.
        relevance: File of `fac relevance`.
        settings: Its threshold counts.
        title: Heading; by default the names of the folders.

    Raises:
        DataError: A table or a file cannot be read, or a synthetic set has no seed.
        MismatchError: The tables are not of the same features.
    """
    if synthetic and not seed:
        raise DataError("--synthetic needs --seed, the set that it was written for")
    settings = settings or ReportSettings()
    tables = {"anchor": open_table(anchor)}
    if seed:
        tables["seed"] = open_table(seed)
    if synthetic:
        has_ended = (synthetic / "summary.json").is_file()
        written = _written(synthetic) if has_ended else open_table(synthetic)
        tables |= {"synthetic": written} if written else {}
    for table in tables.values():
        check_same_features(tables["anchor"], table)
    names = [Path(path).resolve().name for path in (anchor, seed, synthetic) if path]
    found = ReportInputs(
        title=title or " / ".join(names),
        tables=tables,
        threshold=0.0,
        explanations=_explanations(explanations) if explanations else {},
        judgements={int(row["feature_id"]): row for row in read_feature_rows(relevance, "relevant")}
        if relevance
        else {},
        **(_synthesis(synthetic) if synthetic else {}),
    )
    chosen = _of_tables(tables, found.relevant, settings.threshold)
    facts = _facts(tables["anchor"].manifest.source, chosen)
    return replace(found, threshold=chosen.threshold, threshold_rule=chosen.rule, facts=facts)


def _listed(data: Row) -> str:
    source = data["source"]
    return source if isinstance(source, str) else ", ".join(source)


def _written(folder: Path) -> FeatureTable | None:
    """The table of the samples that a synthesis kept, if it has ended."""
    if not (folder / "summary.json").is_file():
        return None
    table = open_table(folder / "table")
    return table if table.manifest.n_samples else None


def _synthesis(folder: Path) -> dict[str, Any]:
    """What a folder of `fac synthesize` says about its samples; nothing of another folder."""
    summary = _if_there(folder / "summary.json") or {}
    origins = {row["sample_id"]: row.get("provenance") or {} for row in _synthetic_rows(folder)}
    outcomes = summary.get("outcomes", {})
    spent: list[tuple[str, object]] = list(_spending(folder))
    spent += [(f"candidates: {outcome}", n) for outcome, n in outcomes.items()]
    return {
        "provenance": origins,
        "rejected": tuple(_rows(folder / "rejected.jsonl")),
        "spent": tuple(spent),
        "rounds": tuple(summary.get("rounds", ())),
        "is_sensitive": bool(summary.get("sensitive")),
    }


def _synthetic_rows(folder: Path) -> Iterator[Row]:
    return _rows(folder / "synthetic.jsonl")


def _spending(folder: Path) -> Sequence[tuple[str, object]]:
    replies = folder / "replies.sqlite"
    if not replies.is_file():
        return ()
    n_calls, n_failures, n_in, n_out = ReplyStore(replies).spent()
    names = ("calls", "failed calls", "prompt tokens", "written tokens")
    return list(zip(names, (n_calls, n_failures, n_in, n_out), strict=True))


def _facts(source: TableSource, delta: ChosenThreshold) -> tuple[tuple[str, str], ...]:
    scored = {"all": "all messages"}.get(source.score, f"{source.score} messages")
    return (
        ("Model", source.model_name),
        ("SAE", f"{source.sae_name} ({source.n_features:,} features, layer {source.layer})"),
        ("Scored", scored),
        ("Threshold δ", str(delta)),
        ("facsynth", __version__),
        ("Date", datetime.now(UTC).date().isoformat()),
    )


def _explanations(path: Path) -> dict[int, Row]:
    """Names of any tool, with scores and near misses where `fac explain` wrote the file."""
    known = {
        f: {"name": one.text, "doubtful": one.doubtful, "method": "imported"}
        for f, one in read_explanations(path).items()
    }
    if path.suffix == ".jsonl":
        for row in _rows(path):
            if row.get("feature_id") in known and "method" in row:
                known[row["feature_id"]] |= row
    return known


def _if_there(path: Path) -> Row | None:
    return dict(read_json(path)) if path.is_file() else None


def _rows(path: Path) -> Iterator[Row]:
    if path.is_file():
        with path.open(encoding="utf-8") as stream:
            for line in stream:
                if line.strip():
                    yield json.loads(line)

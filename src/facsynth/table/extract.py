"""From samples to feature activations in memory or in feature tables.

One text is tokenised, read by the model and the SAEs, and written while the next is on its way:
tokenising and writing have threads of their own, each at most one part ahead or behind.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from facsynth.data.write import write_json
from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel
from facsynth.models.render import chat_format
from facsynth.models.tokens import TokenizedSample, tokenize_samples
from facsynth.progress import SILENT, Progress
from facsynth.records import FeatureActivations, Sample
from facsynth.sae.module import SparseAutoencoder
from facsynth.sae.pairing import check_pair
from facsynth.table.reading import ExtractSettings, Meter, read_activations
from facsynth.table.table import (
    FeatureTable,
    Manifest,
    TableSource,
    has_part,
    open_table,
    samples_hash,
    start_table,
    write_manifest,
    write_part,
)

__all__ = [
    "ExtractSettings",
    "check_pair",
    "extract_features",
    "extract_table",
    "extract_tables",
    "table_source",
]

A = TypeVar("A")
B = TypeVar("B")


def extract_features(
    samples: Sequence[Sample],
    lm: LanguageModel,
    sae: SparseAutoencoder,
    *,
    settings: ExtractSettings | None = None,
    progress: Progress = SILENT,
) -> FeatureActivations:
    """Feature activations of samples, in memory.

    g_i(x) = max over the scored tokens t of z_i(x, t) (arXiv 2602.10388, section 3), with the
    SAE's own gate; only values above zero are kept. The settings choose another gate or pooling.

    Args:
        samples: What to read, in the order of the result.
        lm: The language model that the SAE was trained on.
        sae: The SAE.
        settings: See `ExtractSettings`.
        progress: Where the bar is drawn, and said how many samples were cut.

    Raises:
        MismatchError: The SAE does not fit the model.
        DataError: The chat template refuses a sample.
        ModelError: One sample alone does not fit into memory, or the model gives NaN.
    """
    settings = settings or ExtractSettings()
    check_pair(lm, sae)
    texts = _tokenize(samples, lm, settings)
    with progress.task("extracting", len(texts), "samples") as task:
        [rows] = read_activations(texts, lm, [sae], settings, Meter(task))
    _say_cut(_n_truncated(texts), len(texts), settings, progress)
    return rows


def extract_table(
    samples: Sequence[Sample],
    lm: LanguageModel,
    sae: SparseAutoencoder,
    folder: str | Path,
    *,
    settings: ExtractSettings | None = None,
    sae_name: str = "",
    progress: Progress = SILENT,
) -> FeatureTable:
    """Extract into a feature table on disk, going on where an earlier run stopped.

    Args:
        samples: What to read, in the order of the rows.
        lm: The language model that the SAE was trained on.
        sae: The SAE.
        folder: Where the table is written; a finished table of the same samples is left alone.
        settings: See `ExtractSettings`.
        sae_name: What the user calls the SAE.
        progress: Where the bar is drawn, and said how many samples were cut.

    Raises:
        MismatchError: The SAE does not fit the model.
        DataError: The folder holds something else, or the chat template refuses a sample.
        ModelError: One sample alone does not fit into memory, or the model gives NaN.
    """
    goal = _Goal(Path(folder), sae, sae_name)
    return _extract_goals(samples, lm, [goal], settings or ExtractSettings(), progress)[0]


def extract_tables(
    samples: Sequence[Sample],
    lm: LanguageModel,
    saes: Mapping[str, SparseAutoencoder],
    folder: str | Path,
    *,
    settings: ExtractSettings | None = None,
    progress: Progress = SILENT,
) -> dict[str, FeatureTable]:
    """Extract into one feature table per SAE, from one forward pass to the deepest layer.

    Args:
        samples: What to read, in the order of the rows.
        lm: The language model that all SAEs were trained on.
        saes: The SAEs by name, of any layers.
        folder: The table of the SAE `name` is written to `folder/name`, complete in itself.
        settings: See `ExtractSettings`.
        progress: Where the bar is drawn, and said how many samples were cut.

    Returns:
        The tables by the names of their SAEs.

    Raises:
        MismatchError: An SAE does not fit the model.
        DataError: No SAE; a name is no folder name; and what `extract_table` raises.
        ModelError: One sample alone does not fit into memory, or the model gives NaN.
    """
    if not saes:
        raise DataError("no SAE to extract with; give at least one")
    for name in saes:
        if name in ("", ".", "..") or Path(name).name != name:
            raise DataError(f"the SAE name {name!r} cannot name a folder; choose a plain word")
    goals = [_Goal(Path(folder) / name, sae, name) for name, sae in saes.items()]
    tables = _extract_goals(samples, lm, goals, settings or ExtractSettings(), progress)
    return dict(zip(saes, tables, strict=True))


def table_source(
    lm: LanguageModel, sae: SparseAutoencoder, settings: ExtractSettings, *, sae_name: str = ""
) -> TableSource:
    """What a table extracted this way depends on."""
    template = hashlib.sha256(chat_format(lm.tokenizer).encode()).hexdigest()
    return TableSource(
        model_hash=lm.content_hash,
        sae_hash=sae.content_hash,
        n_features=sae.config.d_sae,
        layer=sae.config.layer,
        gate=settings.gate,
        pooling=settings.pooling,
        score=settings.score,
        max_tokens=settings.max_tokens,
        chat_format_hash=template,
        model_name=lm.name,
        sae_name=sae_name,
        hidden=settings.hidden,
        dtype=lm.dtype,
    )


@dataclass(frozen=True)
class _Goal:
    """A table that is to be written."""

    folder: Path
    sae: SparseAutoencoder
    sae_name: str


@dataclass(frozen=True)
class _Part:
    """Samples that are read together, and the tables that lack them."""

    index: int
    samples: Sequence[Sample]
    goals: Sequence[_Goal]


def _extract_goals(
    samples: Sequence[Sample],
    lm: LanguageModel,
    goals: Sequence[_Goal],
    settings: ExtractSettings,
    progress: Progress,
) -> list[FeatureTable]:
    for goal in goals:
        check_pair(lm, goal.sae)
    wanted = samples_hash(samples)
    sources = [table_source(lm, g.sae, settings, sae_name=g.sae_name) for g in goals]
    sizes = [
        start_table(goal.folder, source, wanted, part_samples=settings.part_samples)
        for goal, source in zip(goals, sources, strict=True)
    ]
    open_goals = [goal for goal in goals if not _is_finished(goal)]
    if open_goals:
        size = _one_size({s for g, s in zip(goals, sizes, strict=True) if g in open_goals})
        parts = _cut_parts(samples, size, open_goals)
        label = goals[0].folder if len(goals) == 1 else goals[0].folder.parent
        with progress.task(f"extracting {label.name}", len(samples), "samples") as task:
            _extract_parts(parts, lm, settings, Meter(task))
        for goal, source in zip(goals, sources, strict=True):
            if not _is_finished(goal):
                _finish(goal.folder, source, wanted, n_parts=len(parts))
    tables = [open_table(goal.folder) for goal in goals]
    manifest = tables[0].manifest
    _say_cut(manifest.n_truncated, manifest.n_samples, settings, progress)
    return tables


def _is_finished(goal: _Goal) -> bool:
    return (goal.folder / "manifest.json").is_file()


def _one_size(sizes: set[int]) -> int:
    if len(sizes) > 1:
        raise DataError(
            f"the unfinished tables were begun with parts of {sorted(sizes)} samples, so they "
            "cannot go on together; finish them one by one or delete them"
        )
    return sizes.pop()


def _cut_parts(samples: Sequence[Sample], size: int, goals: Sequence[_Goal]) -> list[_Part]:
    return [
        _Part(
            index,
            samples[start : start + size],
            [goal for goal in goals if not has_part(goal.folder, index)],
        )
        for index, start in enumerate(range(0, len(samples), size))
    ]


def _extract_parts(
    parts: Sequence[_Part], lm: LanguageModel, settings: ExtractSettings, meter: Meter
) -> None:
    """Read the parts that are not on disk; errors of the threads surface here."""
    for part in parts:
        if not part.goals:
            meter.skip(len(part.samples))
    todo = [part for part in parts if part.goals]
    tokenized = _one_ahead(lambda part: _tokenize(part.samples, lm, settings), todo)
    with ThreadPoolExecutor(1, "write") as writer:
        written: Future[None] | None = None
        for part, texts in zip(todo, tokenized, strict=True):
            rows = read_activations(texts, lm, [g.sae for g in part.goals], settings, meter)
            if written is not None:
                written.result()
            written = writer.submit(_write, part, rows, _n_truncated(texts))
        if written is not None:
            written.result()


def _one_ahead(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """`map` whose next result is made in another thread while this one is used."""
    with ThreadPoolExecutor(1, "ahead") as pool:
        ahead: Future[B] | None = None
        for item in items:
            made, ahead = ahead, pool.submit(function, item)
            if made is not None:
                yield made.result()
        if ahead is not None:
            yield ahead.result()


def _write(part: _Part, rows: Sequence[FeatureActivations], n_truncated: int) -> None:
    """Write a part into each table; its counts first, so that a finished part has them."""
    for goal, found in zip(part.goals, rows, strict=True):
        counts = {
            "n_samples": len(found.sample_ids),
            "n_tokens": int(found.n_tokens.sum()),
            "n_entries": len(found.values),
            "n_truncated": n_truncated,
        }
        write_json(counts, _counts_path(goal.folder, part.index))
        write_part(goal.folder, part.index, found, part.samples)


def _finish(folder: Path, source: TableSource, wanted: str, *, n_parts: int) -> None:
    """Add up the counts of the parts, which themselves stay unread, and write the manifest."""
    from facsynth import __version__

    counts = [json.loads(_counts_path(folder, i).read_text()) for i in range(n_parts)]
    names = ("n_samples", "n_tokens", "n_entries", "n_truncated")
    n_samples, n_tokens, n_entries, n_truncated = (sum(c[n] for c in counts) for n in names)
    manifest = Manifest(
        source=source,
        samples_hash=wanted,
        n_samples=n_samples,
        n_tokens=n_tokens,
        n_entries=n_entries,
        n_truncated=n_truncated,
        n_parts=n_parts,
        facsynth_version=__version__,
    )
    write_manifest(folder, manifest)


def _counts_path(folder: Path, index: int) -> Path:
    return folder / "samples" / f"counts-{index:05d}.json"


def _tokenize(
    samples: Sequence[Sample], lm: LanguageModel, settings: ExtractSettings
) -> list[TokenizedSample]:
    return tokenize_samples(
        samples, lm.tokenizer, score=settings.score, max_tokens=settings.max_tokens
    )


def _n_truncated(texts: Iterable[TokenizedSample]) -> int:
    return sum(text.n_truncated > 0 for text in texts)


def _say_cut(
    n_truncated: int, n_samples: int, settings: ExtractSettings, progress: Progress
) -> None:
    if n_truncated:
        progress.say(
            f"{n_truncated:,} of {n_samples:,} samples were cut at {settings.max_tokens:,} "
            "tokens; raise --max-tokens to read them whole"
        )

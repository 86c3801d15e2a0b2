"""From samples to feature activations in memory or in feature tables.

Tokenizing, the forward passes, and writing overlap: tokenizing and writing run in their own
threads, at most one part ahead of or behind the model.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from facsynth.data.read import SampleList, Source, as_samples
from facsynth.data.spool import SampleSpool, spool_samples
from facsynth.data.write import write_json
from facsynth.errors import DataError
from facsynth.folders import hold_folders
from facsynth.models.lm import LanguageModel
from facsynth.models.render import chat_format
from facsynth.progress import SILENT, Progress
from facsynth.records import FeatureActivations, Sample
from facsynth.sae.module import SparseAutoencoder
from facsynth.sae.pairing import check_pair
from facsynth.table.manifest import TableSource
from facsynth.table.partial import drop_batches
from facsynth.table.reading import Meter, read_activations
from facsynth.table.settings import ExtractSettings, ShardSettings
from facsynth.table.table import FeatureTable, open_table
from facsynth.table.work import (
    NO_TOKEN,
    Goal,
    Part,
    count_left_out,
    count_truncated,
    cut_parts,
    n_saved,
    read_parts,
    tokenize,
)
from facsynth.table.write import finish_table, samples_hash, start_table

__all__ = [
    "SHARD_FILE",
    "extract_features",
    "extract_named",
    "extract_parts",
    "extract_table",
    "extract_tables",
    "kept_samples",
    "table_source",
]

SHARD_FILE = "shard.json"
"""File of a shard that says which shard it is; written when its parts are complete."""


ReadParts = Callable[[Sequence[Part], Meter], None]


def extract_features(
    samples: Source,
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
        samples: What `read_samples` takes, or samples; in the order of the result.
        lm: The language model that the SAE was trained on.
        sae: The SAE.
        settings: See `ExtractSettings`.
        progress: Shows a bar, and the number of samples that were cut.

    Raises:
        MismatchError: The SAE does not fit the model.
        DataError: The chat template rejects a sample.
        ModelError: One sample alone does not fit into memory, or the model gives NaN.
    """
    settings = settings or ExtractSettings()
    check_pair(lm, sae)
    texts = tokenize(as_samples(samples), lm, settings)
    with progress.task("extracting", len(texts), "samples") as task:
        [rows] = read_activations(texts, lm, [sae], settings, Meter(task))
    _say_lost(count_truncated(texts), count_left_out(texts), len(texts), settings, progress)
    return rows


def extract_table(
    samples: Source,
    lm: LanguageModel,
    sae: SparseAutoencoder,
    folder: str | Path,
    *,
    settings: ExtractSettings | None = None,
    sae_name: str = "",
    progress: Progress = SILENT,
) -> FeatureTable:
    """Extract into a feature table on disk, resuming an earlier run.

    Args:
        samples: What `read_samples` takes, or samples; in the order of the rows.
        lm: The language model that the SAE was trained on.
        sae: The SAE.
        folder: Folder of the table; a finished table of the same samples is kept.
        settings: See `ExtractSettings`.
        sae_name: What the user calls the SAE.
        progress: Shows a bar, and the number of samples that were cut.

    Raises:
        MismatchError: The SAE does not fit the model.
        DataError: The folder holds something else, or the chat template rejects a sample.
        ModelError: One sample alone does not fit into memory, or the model gives NaN.
    """
    named = {Path(folder): (sae, sae_name)}
    settings = settings or ExtractSettings()
    return extract_named(samples, lm, named, settings=settings, progress=progress)[0]


def extract_tables(
    samples: Source,
    lm: LanguageModel,
    saes: Mapping[str, SparseAutoencoder],
    folder: str | Path,
    *,
    settings: ExtractSettings | None = None,
    progress: Progress = SILENT,
) -> dict[str, FeatureTable]:
    """Extract into one feature table per SAE, from one forward pass to the deepest layer.

    Args:
        samples: What `read_samples` takes, or samples; in the order of the rows.
        lm: The language model that all SAEs were trained on.
        saes: The SAEs by name, of any layers.
        folder: The table of the SAE `name` is written to `folder/name`, complete in itself.
        settings: See `ExtractSettings`.
        progress: Shows a bar, and the number of samples that were cut.

    Returns:
        The tables by the names of their SAEs.

    Raises:
        MismatchError: An SAE does not fit the model.
        DataError: There is no SAE, a name cannot name a folder, or as in `extract_table`.
        ModelError: One sample alone does not fit into memory, or the model gives NaN.
    """
    if not saes:
        raise DataError("no SAE to extract with; give at least one")
    for name in saes:
        if name in ("", ".", "..") or Path(name).name != name:
            raise DataError(f"the SAE name {name!r} cannot name a folder; choose a plain word")
    named = {Path(folder) / name: (sae, name) for name, sae in saes.items()}
    given = settings or ExtractSettings()
    tables = extract_named(samples, lm, named, settings=given, progress=progress)
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
        score_reasoning=settings.score_reasoning,
        max_length=settings.max_length,
        chat_format_hash=template,
        model_name=lm.name,
        sae_name=sae_name,
        hidden=settings.hidden,
        dtype=lm.dtype,
    )


def kept_samples(data: Source) -> Sequence[Sample]:
    """Samples as they are; anything else is read to disk, so that memory does not grow with it."""
    if isinstance(data, SampleSpool | SampleList):
        return data
    is_samples = isinstance(data, list | tuple) and all(isinstance(row, Sample) for row in data)
    return as_samples(data) if is_samples else spool_samples(data)


def extract_named(
    samples: Source,
    lm: LanguageModel,
    saes: Mapping[Path, tuple[SparseAutoencoder, str]],
    *,
    settings: ExtractSettings,
    progress: Progress,
    read: ReadParts | None = None,
) -> list[FeatureTable]:
    """A table in each folder, from the SAE and under the SAE's name given there.

    Args:
        samples: What `read_samples` takes, or samples.
        lm: The language model.
        saes: The SAE of the table in each folder, and the SAE's name.
        settings: See `ExtractSettings`.
        progress: Shows a bar, and the number of samples that were cut.
        read: See `extract_parts`.
    """
    extract_parts(kept_samples(samples), lm, saes, settings, progress, read=read)
    tables = [open_table(folder) for folder in saes]
    manifest = tables[0].manifest
    n_samples, lost = manifest.n_samples, manifest.left_out
    _say_lost(manifest.n_truncated, lost, n_samples, settings, progress)
    return tables


def extract_parts(
    samples: Sequence[Sample],
    lm: LanguageModel,
    saes: Mapping[Path, tuple[SparseAutoencoder, str]],
    settings: ExtractSettings,
    progress: Progress,
    *,
    sharding: ShardSettings | None = None,
    read: ReadParts | None = None,
) -> None:
    """Extract the parts of tables that are not on disk.

    Args:
        samples: All samples, those of other shards too.
        lm: The language model.
        saes: The SAE of the table in each folder, and the SAE's name.
        settings: See `ExtractSettings`.
        progress: Shows a bar.
        sharding: The shard whose parts are extracted; without it all are, and the tables are
            declared finished.
        read: Reads parts and writes them into their tables; by default here, with this model.

    Raises:
        DataError: A folder holds something else, or as in `extract_table`.
        MismatchError: An SAE does not fit the model.
    """
    for sae, _ in saes.values():
        check_pair(lm, sae)
    report = samples.report if isinstance(samples, SampleList | SampleSpool) else None
    if report is None:  # the reader has seen to it
        _check_ids(samples)
    with hold_folders(saes):
        wanted, sizes, goals = samples_hash(samples), set[int](), list[Goal]()
        for folder, (sae, name) in saes.items():
            goal = Goal(folder, sae, table_source(lm, sae, settings, sae_name=name))
            size = start_table(folder, goal.source, wanted, part_samples=settings.part_samples)
            if not goal.is_finished:
                goals.append(goal)
                sizes.add(size)
        if goals:
            every = cut_parts(samples, _one_size(sizes), goals, progress)
            parts = [p for p in every if sharding is None or sharding.has_part(p.index, len(every))]
            here = read or (lambda parts, meter: read_parts(parts, lm, settings, meter))
            label = next(iter(saes)) if len(saes) == 1 else next(iter(saes)).parent
            _read_or_say(parts, here, f"extracting {label.name}", progress)
            for goal in goals:
                drop_batches(goal.folder)
                row = None if report is None else report.row()
                if sharding is None:
                    finish_table(goal.folder, goal.source, wanted, n_parts=len(parts), read=row)
                else:
                    facts = {**asdict(sharding), "n_parts": len(every), "read": row}
                    write_json(facts, goal.folder / SHARD_FILE)


def _read_or_say(parts: Sequence[Part], read: ReadParts, what: str, progress: Progress) -> None:
    """Have parts read; whoever stops it is told what is saved."""
    n_here = sum(len(part.rows) for part in parts)
    try:
        with progress.task(what, n_here, "samples") as task:
            read(parts, Meter(task))
    except KeyboardInterrupt:
        n_kept = sum(n_saved(part) for part in parts)
        how = "resume" if n_kept else "start again"
        raise KeyboardInterrupt(
            f"{n_kept:,} of {n_here:,} samples are saved; run the same command to {how}."
        ) from None


def _check_ids(samples: Iterable[Sample]) -> None:
    ids = Counter(sample.sample_id for sample in samples)
    if twice := next((name for name, n in ids.items() if n > 1), None):
        raise DataError(
            f"{ids[twice]} samples have the id {twice[:60]!r}, and a table tells them apart by "
            "it; give each its own"
        )


def _one_size(sizes: set[int]) -> int:
    if len(sizes) > 1:
        raise DataError(
            f"the unfinished tables have parts of {sorted(sizes)} samples, so one run cannot "
            "resume them together; finish them one by one or delete them"
        )
    return sizes.pop()


def _say_lost(
    n_truncated: int,
    left_out: Mapping[str, int],
    n_samples: int,
    settings: ExtractSettings,
    progress: Progress,
) -> None:
    for what, n in left_out.items():
        why = "" if what == NO_TOKEN else ", which the chat template does not show"
        progress.say(f"{n:,} of {n_samples:,} samples have {what}{why}")
    if n_truncated:
        progress.say(
            f"{n_truncated:,} of {n_samples:,} samples were cut at {settings.max_length:,} "
            "tokens; raise --max-length to read them in full"
        )

"""The parts of tables: samples that are read together, into every table that lacks them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from facsynth.models.lm import LanguageModel
from facsynth.models.tokens import TokenizedSample, tokenize_samples
from facsynth.progress import Progress
from facsynth.records import FeatureActivations, Sample
from facsynth.sae.module import SparseAutoencoder
from facsynth.table.ahead import one_ahead
from facsynth.table.manifest import TableSource
from facsynth.table.partial import drop_batches, load_batches, save_batches
from facsynth.table.pooling import PooledBatch
from facsynth.table.reading import Meter, read_activations
from facsynth.table.settings import ExtractSettings
from facsynth.table.write import drop_broken_parts, has_part, write_part

__all__ = [
    "NO_TOKEN",
    "Goal",
    "Part",
    "ReadTexts",
    "count_left_out",
    "count_truncated",
    "cut_parts",
    "n_saved",
    "read_parts",
    "tokenize",
    "tokenize_with",
]

ReadTexts = Callable[..., list[FeatureActivations]]
"""An engine that runs the model: called as `read_activations` is."""

NO_TOKEN = "no scored token"
"""What a sample is counted under that has none."""


@dataclass(frozen=True)
class Goal:
    """A table to write."""

    folder: Path
    sae: SparseAutoencoder
    source: TableSource

    @property
    def is_finished(self) -> bool:
        """Whether the table is complete."""
        return (self.folder / "manifest.json").is_file()


@dataclass(frozen=True)
class Part:
    """Samples that are read together, and the tables that do not have them yet."""

    index: int
    source: Sequence[Sample]
    """All samples; those on disk are read when a part is."""

    rows: range
    goals: Sequence[Goal]

    @property
    def samples(self) -> Sequence[Sample]:
        """Its samples."""
        return self.source[self.rows.start : self.rows.stop]


def cut_parts(
    samples: Sequence[Sample], size: int, goals: Sequence[Goal], progress: Progress
) -> list[Part]:
    """The parts of the samples; those on disk that are broken are said, and read again."""
    n = len(samples)
    cut = [range(start, min(start + size, n)) for start in range(0, n, size)]

    def ids_of(index: int) -> tuple[str, ...]:
        part = cut[index]
        return tuple(sample.sample_id for sample in samples[part.start : part.stop])

    for goal in goals:
        complaints = drop_broken_parts(goal.folder, goal.source, ids_of, n_parts=len(cut))
        for complaint in complaints:
            progress.say(f"{complaint}; this part is read again")
    return [
        Part(index, samples, part, [goal for goal in goals if not has_part(goal.folder, index)])
        for index, part in enumerate(cut)
    ]


def read_parts(
    parts: Iterable[Part],
    lm: LanguageModel,
    settings: ExtractSettings,
    meter: Meter,
    *,
    read: ReadTexts | None = None,
    tokenized: Callable[[Part], list[TokenizedSample]] | None = None,
) -> None:
    """Read the parts that are not on disk; errors in the threads are raised here.

    Args:
        parts: Taken one ahead of what is read.
        lm: The model.
        settings: See `ExtractSettings`.
        meter: Where progress is shown.
        read: The engine: gives the activations of texts for each SAE; by default Transformers.
        tokenized: Gives the texts of a part; by default they are made in a thread.
    """

    def prepare(part: Part) -> tuple[Part, list[TokenizedSample]]:
        return part, tokenized(part) if tokenized else tokenize(part.samples, lm, settings)

    with ThreadPoolExecutor(1, "write") as writer:
        written: Future[None] | None = None
        for part, texts in one_ahead(prepare, _lacking(parts, meter)):
            rows = (read or read_activations)(
                texts,
                lm,
                [goal.sae for goal in part.goals],
                settings,
                meter,
                done=_saved_batches(part),
                save=partial(_save, part),
            )
            if written is not None:
                written.result()
            written = writer.submit(_write, part, rows, texts)
        if written is not None:
            written.result()


def _lacking(parts: Iterable[Part], meter: Meter) -> Iterator[Part]:
    """The parts that some table lacks; the others are counted as read."""
    for part in parts:
        if part.goals:
            yield part
        else:
            meter.skip(len(part.rows))


def _save(part: Part, found: Sequence[Sequence[PooledBatch]]) -> None:
    """Keep batches of a part that is not complete."""
    for i, goal in enumerate(part.goals):
        save_batches(goal.folder, part.index, [batches[i] for batches in found])


def _saved_batches(part: Part) -> list[list[PooledBatch]]:
    """The batches of an unfinished part that all of its tables have."""
    kept = (load_batches(goal.folder, part.index) for goal in part.goals)
    together = [list(same) for same in zip(*kept, strict=False)]
    return [b for b in together if all(np.array_equal(one.rows, b[0].rows) for one in b)]


def n_saved(part: Part) -> int:
    """Samples of a part that no run has to read again."""
    if all(has_part(goal.folder, part.index) for goal in part.goals):
        return len(part.rows)
    missing = [goal for goal in part.goals if not has_part(goal.folder, part.index)]
    saved = _saved_batches(replace(part, goals=missing))
    return sum(len(batches[0].rows) for batches in saved)


def _write(
    part: Part, rows: Sequence[FeatureActivations], texts: Sequence[TokenizedSample]
) -> None:
    """Write a part into each table."""
    for goal, found in zip(part.goals, rows, strict=True):
        write_part(
            goal.folder,
            part.index,
            found,
            part.samples,
            n_truncated=count_truncated(texts),
            left_out=count_left_out(texts),
        )
        drop_batches(goal.folder, part.index)


def tokenize(
    samples: Sequence[Sample], lm: LanguageModel, settings: ExtractSettings
) -> list[TokenizedSample]:
    """The samples as the model reads them."""
    return tokenize_with(lm.tokenizer, samples, settings)


def tokenize_with(
    tokenizer: Any, samples: Sequence[Sample], settings: ExtractSettings
) -> list[TokenizedSample]:
    """The samples as a model with this tokenizer reads them."""
    return tokenize_samples(
        samples,
        tokenizer,
        score=settings.score,
        score_reasoning=settings.score_reasoning,
        max_length=settings.max_length,
    )


def count_truncated(texts: Iterable[TokenizedSample]) -> int:
    """Texts that were cut."""
    return sum(text.n_truncated > 0 for text in texts)


def count_left_out(texts: Iterable[TokenizedSample]) -> dict[str, int]:
    """Samples that are not read as a whole, by what of them is not."""
    found = Counter[str]()
    for text in texts:
        found.update(text.left_out if text.n_scored else (*text.left_out, NO_TOKEN))
    return dict(found)

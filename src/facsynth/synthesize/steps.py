"""One step of a round: candidates are asked for, answered, written down and scored.

```
RUN/round-00/step-1.json   the candidates, and how many requests gave none
RUN/round-00/step-1/       their feature table
```

A step whose candidates are on disk is not asked for again, so a run that was started again works
with the same texts even where a request failed the first time. A step that the budget cut short
is not written down: a run with a higher limit asks for the rest of it.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from facsynth.chat.model import ChatModel
from facsynth.data.shapes import PlacedRow, read_row
from facsynth.data.write import sample_row, write_json
from facsynth.features.extract import extract_table
from facsynth.features.lm import LanguageModel
from facsynth.features.sae import SparseAutoencoder
from facsynth.progress import Progress
from facsynth.records import FeatureActivations
from facsynth.store.table import TableSource
from facsynth.synthesize.candidates import Asking, Candidate, ask_candidates
from facsynth.synthesize.complete import complete
from facsynth.synthesize.task_format import TaskFormat
from facsynth.understand.spans import extract_settings

__all__ = ["Step", "StepWriter"]


@dataclass(frozen=True)
class Step:
    """What a step gave."""

    candidates: tuple[Candidate, ...]
    lost: Mapping[str, int]
    """Requests that gave no candidate, by the reason."""

    activations: FeatureActivations | None
    """One row per candidate; None without candidates."""

    stopped: str | None = None
    """What the budget said when it cut the step short."""


@dataclass(frozen=True)
class StepWriter:
    """Who writes, who scores, and where both is kept."""

    lm: LanguageModel
    sae: SparseAutoencoder
    source: TableSource
    """How the anchor was extracted; candidates are extracted in the same way."""

    chat: ChatModel
    folder: Path
    as_text: bool
    """Whether samples are plain texts; else they are conversations."""

    task: TaskFormat
    """What a candidate is."""

    completion_seed: int | None
    """Seed of what the task adds; None when candidates are scored without it."""

    progress: Progress

    max_words: int | None = None
    """Longest text; of a longer one the first sentences are taken."""

    def write(self, requests: Sequence[Asking], *, round_: int, step: int, trial: str = "") -> Step:
        """Ask for candidates and score them against every feature.

        Args:
            requests: What to ask, each with the features that it aims at.
            round_: Number of the round, from 0.
            step: 1 or 2.
            trial: Folder of a trial before the first round, instead of that of the round.

        Raises:
            ChatError: Too many requests failed.
        """
        place = self.folder / (trial or f"round-{round_:02d}") / f"step-{step}"
        path = place.with_suffix(".json")
        if not path.is_file():
            found, stopped = self._ask(requests, round_, step)
            if stopped is not None:
                return self._cut_short(found, place, round_=round_, step=step, stopped=stopped)
            write_json(found, path)
        found = json.loads(path.read_text(encoding="utf-8"))
        candidates = tuple(_candidate(row, path, round_, step) for row in found["candidates"])
        rows = self._score(candidates, place) if candidates else None
        return Step(candidates, found["lost"], rows)

    def _ask(
        self, requests: Sequence[Asking], round_: int, step: int
    ) -> tuple[dict[str, object], str | None]:
        found, lost, stopped = ask_candidates(
            requests,
            self.chat,
            step=step,
            round_=round_,
            as_text=self.as_text,
            progress=self.progress,
            label=self.task.label,
            max_words=self.max_words,
        )
        if self.completion_seed is not None:
            done = complete(
                found, self.task, self.chat, seed=self.completion_seed, progress=self.progress
            )
            stopped = stopped or done.stopped
            found = [candidate for candidate in done.candidates if candidate is not None]
            if n_bare := len(done.candidates) - len(found):
                lost["without the task's form"] += n_bare
        rows = [
            {
                "target": c.target,
                **({"also": c.also} if c.also else {}),
                **({"query": c.query} if c.query is not None else {}),
                **({"fields": dict(c.fields)} if c.fields else {}),
                "seed": c.seed,
                "sample": sample_row(c.sample),
            }
            for c in found
        ]
        return {"lost": lost, "candidates": rows}, stopped

    def _cut_short(
        self, found: Mapping[str, object], place: Path, *, round_: int, step: int, stopped: str
    ) -> Step:
        """What was answered before the budget was spent, scored beside the finished steps."""
        rows = cast(list[Mapping[str, object]], found["candidates"])
        place = place.with_name(f"step-{step}-cut")
        candidates = tuple(_candidate(row, place, round_, step) for row in rows)
        shutil.rmtree(place, ignore_errors=True)
        scored = self._score(candidates, place) if candidates else None
        return Step(candidates, cast(Mapping[str, int], found["lost"]), scored, stopped)

    def _score(self, candidates: Sequence[Candidate], folder: Path) -> FeatureActivations:
        table = extract_table(
            [candidate.sample for candidate in candidates],
            self.lm,
            self.sae,
            folder,
            settings=extract_settings(self.source),
            sae_name=self.source.sae_name,
            progress=self.progress,
        )
        return table.activations()


def _candidate(row: Mapping[str, object], path: Path, round_: int, step: int) -> Candidate:
    sample = read_row(PlacedRow(str(path), "", "", row["sample"])).sample
    target, seed = cast(int, row["target"]), cast(int, row["seed"])
    also = tuple(cast(list[int], row.get("also", [])))
    query = cast("str | None", row.get("query"))
    fields = cast(Mapping[str, object], row.get("fields", {}))
    return Candidate(sample, target, step, round_, seed, also, query, fields)

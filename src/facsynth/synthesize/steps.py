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
from facsynth.models.lm import LanguageModel
from facsynth.progress import Progress
from facsynth.records import FeatureActivations
from facsynth.sae.module import SparseAutoencoder
from facsynth.synthesize.candidates import Asking, Candidate, Written, ask_candidates
from facsynth.synthesize.complete import complete
from facsynth.synthesize.task_format import TaskFormat
from facsynth.table.extract import extract_table
from facsynth.table.table import TableSource
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

    def write(self, requests: Sequence[Asking], *, round_: int, step: int) -> Step:
        """Ask for candidates and score them against every feature.

        Args:
            requests: What to ask, each with the features that it aims at.
            round_: Number of the round, from 0.
            step: 1 or 2.

        Raises:
            ChatError: Too many requests failed.
        """
        place = self.folder / f"round-{round_:02d}" / f"step-{step}"
        path = place.with_suffix(".json")
        if not path.is_file():
            written = self._ask(requests, round_, step)
            if written.stopped is not None:
                return self._cut_short(written, place)
            write_json(_row(written), path)
        found = json.loads(path.read_text(encoding="utf-8"))
        candidates = tuple(_candidate(row, path, round_, step) for row in found["candidates"])
        rows = self._score(candidates, place) if candidates else None
        return Step(candidates, found["lost"], rows)

    def _ask(self, requests: Sequence[Asking], round_: int, step: int) -> Written:
        """What is written, with what the task adds before it is scored."""
        written = ask_candidates(
            requests,
            self.chat,
            step=step,
            round_=round_,
            as_text=self.as_text,
            progress=self.progress,
            label=self.task.label,
            max_words=self.max_words,
        )
        if self.completion_seed is None:
            return written
        done = complete(
            written.candidates,
            self.task,
            self.chat,
            seed=self.completion_seed,
            progress=self.progress,
        )
        found = tuple(candidate for candidate in done.candidates if candidate is not None)
        lost = dict(written.lost)
        if n_bare := len(done.candidates) - len(found):
            lost["without the task's form"] = n_bare
        return Written(found, lost, written.stopped or done.stopped)

    def _cut_short(self, written: Written, place: Path) -> Step:
        """What was answered before the budget was spent, scored beside the finished steps."""
        place = place.with_name(f"{place.name}-cut")
        shutil.rmtree(place, ignore_errors=True)
        scored = self._score(written.candidates, place) if written.candidates else None
        return Step(written.candidates, written.lost, scored, written.stopped)

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


def _row(written: Written) -> dict[str, object]:
    """What `step-N.json` holds."""
    rows = [
        {
            "target": c.target,
            **({"also": c.also} if c.also else {}),
            **({"query": c.query} if c.query is not None else {}),
            **({"fields": dict(c.fields)} if c.fields else {}),
            "seed": c.seed,
            "sample": sample_row(c.sample),
        }
        for c in written.candidates
    ]
    return {"lost": written.lost, "candidates": rows}


def _candidate(row: Mapping[str, object], path: Path, round_: int, step: int) -> Candidate:
    sample = read_row(PlacedRow(str(path), "", "", row["sample"])).sample
    target, seed = cast(int, row["target"]), cast(int, row["seed"])
    also = tuple(cast(list[int], row.get("also", [])))
    query = cast("str | None", row.get("query"))
    fields = cast(Mapping[str, object], row.get("fields", {}))
    return Candidate(sample, target, step, round_, seed, also, query, fields)

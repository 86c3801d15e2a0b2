"""One step of a round: candidates are written, stored and scored.

```
RUN/round-00/step-1.json   the candidates, and how many requests gave none
RUN/round-00/step-1/       their feature table
RUN/settled-00.json        what was added to chosen candidates, and which of them were refused
```

A step whose candidates are on disk is not asked for again, so a resumed run works with the same
texts even where a request failed the first time. A step that the budget cut short is not stored: a
run with a higher limit asks for the rest.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from facsynth.data.shapes import PlacedRow, read_row
from facsynth.data.stored import read_json
from facsynth.data.write import sample_row, write_json
from facsynth.models.lm import LanguageModel
from facsynth.records import FeatureActivations, Sample
from facsynth.sae.module import SparseAutoencoder
from facsynth.synthesize.ask import Writer
from facsynth.synthesize.candidates import Asking, Candidate, Written
from facsynth.synthesize.finish import Finished, Finisher
from facsynth.synthesize.fluency import Fluency
from facsynth.table.extract import extract_features, extract_table
from facsynth.table.manifest import TableSource
from facsynth.table.table import FeatureTable
from facsynth.understand.spans import extract_settings

__all__ = ["Step", "Steps"]


@dataclass(frozen=True)
class Step:
    """What a step gave."""

    candidates: tuple[Candidate, ...]
    lost: Mapping[str, int]
    """Requests that gave no candidate, by the reason."""

    activations: FeatureActivations | None
    """One row per candidate; None without candidates."""

    stopped: str | None = None
    """Which limit cut the step short, if one did."""


@dataclass(frozen=True)
class Steps:
    """Has candidates written and scored, and keeps both in a run folder."""

    writer: Writer
    lm: LanguageModel
    sae: SparseAutoencoder
    source: TableSource
    """How the anchor was extracted; candidates are extracted in the same way."""

    folder: Path
    finisher: Finisher
    fluency: Fluency | None = None
    """What tells written texts from words in no order; None keeps both."""

    extract: Callable[..., FeatureTable] | None = None
    """Extracts the candidates, called as `extract_table` is; by default it is that, here."""

    def take(self, requests: Sequence[Asking], *, round_: int, step: int) -> Step:
        """Ask for candidates and score them against every feature.

        Args:
            requests: What to ask, each with the features that it aims at.
            round_: Number of the round, from 0.
            step: 1 or 2.

        Raises:
            ChatError: More requests failed than the policy allows.
        """
        place = self.folder / f"round-{round_:02d}" / f"step-{step}"
        path = place.with_suffix(".json")
        if not path.is_file():
            written = self.writer.write(requests, round_=round_, step=step)
            if written.stopped is not None:
                return self._cut_short(written, place)
            rows = [_row(candidate) for candidate in written.candidates]
            write_json({"lost": written.lost, "candidates": rows}, path)
        found = read_json(path)
        candidates = tuple(_candidate(row, path, round_, step) for row in found["candidates"])
        return Step(candidates, found["lost"], self._score(candidates, place))

    def settle(self, candidates: Sequence[Candidate], number: int) -> Finished:
        """Have chosen candidates finished; what is on disk is not asked for again.

        Args:
            candidates: What was chosen.
            number: How often this was done before.

        Raises:
            ChatError: More requests failed than the policy allows.
        """
        path = self.folder / f"settled-{number:02d}.json"
        if not path.is_file():
            done = self.finisher.finish(candidates)
            if done.stopped is not None:
                return done
            pairs = zip(done.candidates, done.outcomes, strict=True)
            rows = [_row(candidate) | {"outcome": outcome} for candidate, outcome in pairs]
            write_json({"settled": rows}, path)
        found = read_json(path)["settled"]
        made = tuple(
            _candidate(row, path, old.round, old.step)
            for row, old in zip(found, candidates, strict=True)
        )
        return Finished(made, tuple(row["outcome"] for row in found))

    def find_disorder(self, texts: Sequence[str]) -> list[str]:
        """Of each text why it cannot be kept, as far as the order of its words goes, or nothing."""
        if self.fluency is None:
            return [""] * len(texts)
        return ["words in no order" if bad else "" for bad in self.fluency.exceeds(texts)]

    def score(self, samples: Sequence[Sample]) -> FeatureActivations:
        """Activations of samples, in memory."""
        settings = extract_settings(self.source)
        return extract_features(samples, self.lm, self.sae, settings=settings)

    def _cut_short(self, written: Written, place: Path) -> Step:
        """What was answered before the budget was spent, scored in a folder of its own."""
        place = place.with_name(f"{place.name}-cut")
        shutil.rmtree(place, ignore_errors=True)
        scored = self._score(written.candidates, place)
        return Step(written.candidates, written.lost, scored, written.stopped)

    def _score(self, candidates: Sequence[Candidate], folder: Path) -> FeatureActivations | None:
        if not candidates:
            return None
        table = (self.extract or extract_table)(
            [candidate.sample for candidate in candidates],
            self.lm,
            self.sae,
            folder,
            settings=extract_settings(self.source),
            sae_name=self.source.sae_name,
            progress=self.writer.progress,
        )
        return table.activations()


def _row(c: Candidate) -> dict[str, object]:
    """A candidate as JSON; its round and step are in the path."""
    return {
        "target": c.target,
        **({"also": c.also} if c.also else {}),
        **({"query": c.query} if c.query is not None else {}),
        **({"fields": dict(c.fields)} if c.fields else {}),
        **({"n_turns": c.n_turns} if c.n_turns > 1 else {}),
        **({"imitates": c.imitates} if c.imitates is not None else {}),
        **({"answer_words": c.answer_words} if c.answer_words is not None else {}),
        "random_seed": c.random_seed,
        "sample": sample_row(c.sample),
    }


def _candidate(row: Mapping[str, object], path: Path, round_: int, step: int) -> Candidate:
    sample = read_row(PlacedRow(str(path), "", "", row["sample"])).sample
    target, seed = cast(int, row["target"]), cast(int, row["random_seed"])
    also = tuple(cast(list[int], row.get("also", [])))
    query = cast("str | None", row.get("query"))
    fields = cast(Mapping[str, object], row.get("fields", {}))
    n_turns = cast(int, row.get("n_turns", 1))
    imitates = cast("str | None", row.get("imitates"))
    words = cast("int | None", row.get("answer_words"))
    return Candidate(
        sample, target, step, round_, seed, also, query, fields, n_turns, imitates, words
    )

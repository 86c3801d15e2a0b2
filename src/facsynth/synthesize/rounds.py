"""What the methods of synthesis share: candidates come in, chosen ones are finished."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from facsynth.coverage.fac import feature_activation_coverage
from facsynth.progress import SILENT, Progress
from facsynth.synthesize.admission import Admission
from facsynth.synthesize.candidates import Asking, Wording
from facsynth.synthesize.keep import Kept, Pool
from facsynth.synthesize.score import Steps
from facsynth.synthesize.settings import SynthesisSettings
from facsynth.synthesize.texts import AnchorTexts
from facsynth.table.active import ActiveRows, active_rows

__all__ = ["Inputs", "RoundRow", "Rounds"]

RoundRow = dict[str, float | int]
"""The numbers of one round."""

_SEED_STRIDE = 97
"""Random seeds of two runs that differ by one stay apart for as many rounds."""


@dataclass(frozen=True)
class Inputs:
    """What a run is given, before any model is loaded."""

    settings: SynthesisSettings
    wording: Wording
    """What all requests have in common, from the settings and the task."""

    anchor: ActiveRows
    seed: ActiveRows
    missing: Int64[np.ndarray, " n_missing"]
    """Missing features, ranked."""

    admission: Admission
    texts: AnchorTexts
    word_counts: Int64[np.ndarray, " n_anchor"] | None = None
    """Words of the anchor's texts, by which lengths are compared where scored tokens hold answers
    or options; None to compare scored tokens."""

    @cached_property
    def aimable(self) -> list[int]:
        """Missing features that are common enough to be aimed at, by rank."""
        least = self.settings.min_anchor_samples or 1
        found = [int(f) for f in self.missing if self.anchor.counts[f] >= least]
        return found[: self.settings.effort.max_features]


class Rounds(ABC):
    """How far a run is, and what it does next; one subclass for each method."""

    def __init__(self, inputs: Inputs, tokenizer: Any) -> None:
        """Start before the first round.

        Args:
            inputs: What the run is given.
            tokenizer: Tokenizer of the model that extracted the anchor.
        """
        self._in, self._settings, self._effort = inputs, inputs.settings, inputs.settings.effort
        self._tokenizer = tokenizer
        self._progress: Progress = SILENT
        self.pool = Pool()
        self.lost = Counter[str]()
        """Requests that gave no candidate, by the reason."""

        self.n_asked = 0
        """Texts asked for."""

        self.kept: list[Kept] = []
        self.rows: list[RoundRow] = []
        self.stopped = ""
        """Why the run ended; see `Synthesis.stopped`."""

        self._settled = set[int]()
        self._n_settlings = 0

    @property
    @abstractmethod
    def first(self) -> list[Asking]:
        """The requests of the first step, planned once."""

    @property
    @abstractmethod
    def n_wanted(self) -> int:
        """Features that the run may aim at."""

    @property
    @abstractmethod
    def max_candidates(self) -> int:
        """Texts that the run may ask for."""

    @abstractmethod
    def _write(self, steps: Steps) -> bool:
        """Ask for more candidates; False if nothing is left to ask for."""

    @abstractmethod
    def _choose(self) -> list[Kept]:
        """What to keep of the open candidates, as things stand."""

    def run(self, steps: Steps, *, progress: Progress = SILENT) -> None:
        """Write until enough is kept or a limit is reached."""
        self._progress = progress
        while True:
            if not self.stopped and self._write(steps):
                continue
            if not self._settle(steps):
                break
            self.kept = self._choose()
        left = self.pool.open_rows()
        for row in left:
            self.pool.outcomes[row] = self._why_left(row)
        for kept in self.kept:
            self.pool.outcomes[kept.row] = "kept"
        if not self.stopped:
            full = len(self.kept) >= self._effort.max_samples
            self.stopped = "max_samples" if full else self._why_short()

    def coverage(self, kept: Sequence[Kept] = ()) -> float:
        """FAC of the seed with kept samples."""
        active = self._in.seed.features.copy()
        for one in kept:
            active[list(one.new_features)] = True
        anchor = self._in.anchor
        return feature_activation_coverage(anchor.features, active, anchor.relevant)

    def _why_left(self, row: int) -> str:
        """Why a text that may be kept is not."""
        return "not needed"

    def _why_short(self) -> str:
        return "max_candidates" if self.pool.candidates or self.lost else "covered"

    def _random_seed(self, number: int) -> int:
        return self._settings.random_seed * _SEED_STRIDE + number

    def _active(self) -> ActiveRows:
        """Active entries of all candidates."""
        anchor = self._in.anchor
        return active_rows(self.pool.rows(), threshold=anchor.threshold, relevant=anchor.relevant)

    def _take(self, steps: Steps, requests: Sequence[Asking], *, round_: int, step: int) -> None:
        """Have candidates written, take them in and look for flaws."""
        done = steps.take(requests, round_=round_, step=step)
        self.n_asked += len(requests)
        self.lost.update(done.lost)
        self._note(done.stopped)
        if done.activations is not None:
            find, by_label = self._in.admission, steps.finisher.label_flaws(done.activations)
            flaws = [
                find.find_flaw(one) or find.find_flaw_of_answers(one.sample) or label_flaw
                for one, label_flaw in zip(done.candidates, by_label, strict=True)
            ]
            fair = [i for i, flaw in enumerate(flaws) if not flaw]
            found = steps.find_disorder([done.candidates[i].written for i in fair])
            for i, flaw in zip(fair, found, strict=True):
                flaws[i] = flaw
            self.pool.add(done.candidates, done.activations, flaws)

    def _settle(self, steps: Steps) -> bool:
        """Finish what is chosen and not finished yet; whether there was anything."""
        todo = [kept.row for kept in self.kept if kept.row not in self._settled]
        if not todo:
            return False
        done = steps.settle([self.pool.candidates[row] for row in todo], self._n_settlings)
        self._n_settlings += 1
        for row, made, outcome in zip(todo, done.candidates, done.outcomes, strict=True):
            self.pool.candidates[row], self.pool.outcomes[row] = made, outcome
        self._settled.update(todo)
        self._note(done.stopped)
        return True

    def _note(self, stopped: str | None) -> None:
        if stopped is not None:
            self.stopped = "budget"
            self._progress.say(f"budget: {stopped}")

    def _add_row(self, n_targets: int) -> None:
        """Choose anew after a round, and note its numbers."""
        before, self.kept = self.kept, self._choose() if self.pool.candidates else []
        kept = self.kept
        uncovered = self._uncovered(kept)
        self.rows.append(
            {
                "round": len(self.rows) + 1,
                "n_targets": n_targets,
                "n_asked": self.n_asked,
                "n_new": len(kept) - len(before),
                "n_candidates": len(self.pool.candidates),
                "n_kept": len(kept),
                "n_covered": len(self._in.missing) - int(uncovered.sum()),
                "fac": self.coverage(kept),
            }
        )

    def _uncovered(self, kept: Sequence[Kept]) -> Bool[np.ndarray, " n_features"]:
        """Missing features that none of these samples covers."""
        is_open = np.zeros(self._in.anchor.n_features, dtype=bool)
        is_open[self._in.missing] = True
        for one in kept:
            is_open[list(one.new_features)] = False
        return is_open

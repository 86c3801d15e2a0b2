"""The rounds of a synthesis run: which features are aimed at, and which texts are kept.

Each round aims at the best-ranked missing features, writes candidates (step 1), scores every
candidate against every feature, writes again with a contrastive pair where no candidate hit
(step 2), and keeps by greedy set cover what newly activates missing features. Method:
arXiv 2602.10388, section 5; different from the paper, every sample counts for all features that
it activates, and the pairs come from all candidates.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from facsynth.coverage.fac import feature_activation_coverage
from facsynth.progress import SILENT, Progress
from facsynth.synthesize.admission import Admission
from facsynth.synthesize.candidates import (
    Asking,
    Joint,
    Target,
    Wording,
    first_requests,
    second_requests,
)
from facsynth.synthesize.judge import QualityJudge
from facsynth.synthesize.keep import Kept, Pool, choose_candidates, choose_matching
from facsynth.synthesize.plan import (
    N_LENGTHS,
    Aim,
    Shortage,
    length_bins,
    length_room,
    measure_shortage,
    plan_aims,
)
from facsynth.synthesize.score import Step, Steps
from facsynth.synthesize.settings import SynthesisSettings
from facsynth.synthesize.texts import AnchorTexts
from facsynth.table.active import ActiveRows, active_rows
from facsynth.table.rows import take_rows

__all__ = ["Inputs", "RoundPlan", "RoundRow", "Rounds"]

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


@dataclass(frozen=True)
class RoundPlan:
    """What a round is for."""

    targets: list[Target]
    requests: list[Asking]


class Rounds:
    """How far a run is, and what its next round does."""

    def __init__(
        self,
        inputs: Inputs,
        tokenizer: Any,
        *,
        progress: Progress = SILENT,
        judge: QualityJudge | None = None,
    ) -> None:
        """Start before the first round.

        Args:
            inputs: What the run is given.
            tokenizer: Tokenizer of the model that extracted the anchor.
            progress: Where bars and lines go.
            judge: Who grades texts before they are kept; nobody by default.
        """
        self._in, self._settings, self._effort = inputs, inputs.settings, inputs.settings.effort
        self._tokenizer, self._progress, self._judge = tokenizer, progress, judge
        self._is_match = inputs.settings.plan.objective == "match"
        self._attempts, self._graded = Counter[int](), set[int]()
        self.lost = Counter[str]()
        """Requests that gave no candidate, by the reason."""

        self.pool = Pool(inputs.settings.threshold)
        self.kept: list[Kept] = []
        self.stopped = "max_rounds"
        """Why the run ended; see `Synthesis.stopped`."""

    def run(self, steps: Steps) -> list[RoundRow]:
        """Run rounds until nothing is missing, nothing new comes, or a limit is reached."""
        effort, rows, n_poor = self._effort, list[RoundRow](), 0
        for number in range(effort.max_rounds):
            if len(self.kept) >= effort.max_samples:
                self.stopped = "max_samples"
                break
            plan = self.plan_round(number)
            if not plan.requests:
                self.stopped = "covered"
                break
            self._attempts.update(target.feature_id for target in plan.targets)
            rows.append(self._run_round(number, plan, steps))
            if self.stopped == "budget":
                break
            n_texts = rows[-1]["n_candidates"] - (rows[-2]["n_candidates"] if number else 0)
            n_poor = n_poor + 1 if rows[-1]["n_new"] <= effort.min_kept_share * n_texts else 0
            if n_poor == effort.patience:
                self.stopped = "diminishing" if rows[-1]["n_new"] else "no_gain"
                break
        return rows

    def plan_round(self, number: int) -> RoundPlan:
        """Features that a round aims at, and the requests of its first step."""
        if self._settings.plan.objective == "rank":
            targets = self._in.texts.targets(self._choose_targets(), self._tokenizer)
            joints = [Joint((target,)) for target in targets]
        else:
            joints = self._in.texts.joints(self._choose_aims(), self._tokenizer)
        n, seed = self._effort.first_candidates, self._random_seed(number)
        requests = first_requests(joints, n, self._in.wording, random_seed=seed)
        aimed_at = {target.feature_id: target for joint in joints for target in joint.targets}
        return RoundPlan(list(aimed_at.values()), requests)

    def n_wanted(self) -> int:
        """Features that may be aimed at from here on."""
        if self._is_match:
            return int(np.count_nonzero(self._shortage().need))
        return len(self._aimable())

    def coverage(self, kept: Sequence[Kept] = ()) -> float:
        """FAC of the seed with kept samples."""
        active = self._in.seed.features.copy()
        for one in kept:
            active[list(one.new_features)] = True
        anchor = self._in.anchor
        return feature_activation_coverage(anchor.features, active, anchor.relevant)

    def _random_seed(self, number: int) -> int:
        return self._settings.random_seed * _SEED_STRIDE + number

    def _active(self, rows: Any) -> ActiveRows:
        anchor = self._in.anchor
        return active_rows(rows, threshold=anchor.threshold, relevant=anchor.relevant)

    def _choose_aims(self) -> list[Aim]:
        """Groups of features by the objective `cover` or `match`."""
        anchor = self._in.anchor
        if self._is_match:
            shortage = self._shortage()
            common = anchor.counts >= max(1, self._settings.min_anchor_samples)
            weights, counts = shortage.need * common, np.ceil(shortage.lacking)
        else:
            weights = np.zeros(anchor.n_features)
            weights[self._choose_targets()] = 1.0
            counts = weights
        return plan_aims(
            anchor,
            weights,
            counts,
            group_size=self._settings.plan.group_size,
            max_features=self._effort.features_per_round,
            by_length=self._is_match,
        )

    def _shortage(self) -> Shortage:
        """How far seed and kept samples are from the anchor's rates at the final size."""
        seed, counts = self._in.seed, self._in.seed.counts
        if self.kept:
            rows = take_rows(self.pool.rows(), [kept.row for kept in self.kept])
            counts = counts + self._active(rows).counts
        n_final = seed.n_samples + self._effort.max_samples
        return measure_shortage(self._in.anchor, counts, n_final=n_final)

    def _aimable(self) -> list[int]:
        """Missing features that are common enough to be aimed at, by rank."""
        is_open = self._remaining()
        is_open &= self._in.anchor.counts >= self._settings.min_anchor_samples
        return [int(feature) for feature in self._in.missing if is_open[feature]]

    def _choose_targets(self) -> list[int]:
        """The next features to aim at: new ones by rank, then those aimed at least often."""
        effort, ranked, attempts = self._effort, self._aimable(), self._attempts
        fresh = [feature for feature in ranked if feature not in attempts]
        tried = [feature for feature in ranked if 0 < attempts[feature] < effort.max_attempts]
        again = sorted(tried, key=lambda feature: attempts[feature])
        n_fresh = effort.max_features - len(attempts)
        return [*fresh[:n_fresh], *again][: effort.features_per_round]

    def _run_round(self, number: int, plan: RoundPlan, steps: Steps) -> RoundRow:
        """Write, score and keep; the numbers of the round."""
        self._take(steps.take(plan.requests, round_=number, step=1))
        n = self._effort.second_candidates
        unhit = [target for target in plan.targets if not self.pool.is_hit(target.feature_id)]
        if self.pool.candidates and unhit and n and self.stopped != "budget":
            pairs = {target.feature_id: self.pool.pair(target) for target in unhit}
            seed = self._random_seed(number)
            requests = second_requests(unhit, pairs, n, self._in.wording, random_seed=seed)
            self._take(steps.take(requests, round_=number, step=2))
        self._grade()
        n_new = self._keep()
        return {
            "round": number + 1,
            "n_targets": len(plan.targets),
            "n_new": n_new,
            "n_candidates": len(self.pool.candidates),
            "n_kept": len(self.kept),
            "n_covered": len(self._in.missing) - int(self._remaining().sum()),
            "fac": self.coverage(self.kept),
        }

    def _take(self, done: Step) -> None:
        """Take the candidates of a step in and look for flaws."""
        self.lost.update(done.lost)
        if done.stopped is not None:
            self.stopped = "budget"
            self._progress.say(f"budget: {done.stopped}")
        if done.activations is not None:
            flaws = [self._in.admission.find_flaw(one) or "" for one in done.candidates]
            self.pool.add(done.candidates, done.activations, flaws)

    def _grade(self) -> None:
        """Let the judge reject open texts that might be kept, each once."""
        if self._judge is None or not self.pool.candidates:
            return
        useful = np.ones(len(self.pool.candidates), dtype=bool)
        if not self._is_match:
            fires = self._active(self.pool.rows()).fires
            useful = fires @ self._remaining().astype(np.float32) > 0
        rows = [
            row
            for row, is_open in enumerate(self.pool.is_open())
            if is_open and useful[row] and row not in self._graded
        ]
        if not rows:
            return
        texts = [self.pool.candidates[row] for row in rows]
        form = self._in.wording.form
        done = self._judge.grade(texts, form=form, progress=self._progress)
        self._graded.update(rows)
        for row, outcome in zip(rows, done.outcomes, strict=True):
            self.pool.outcomes[row] = outcome
        if done.stopped is not None:
            self.stopped = "budget"
            self._progress.say(f"budget: {done.stopped}")

    def _keep(self) -> int:
        """Keep what newly activates missing features; how many were kept."""
        if not self.pool.candidates:
            return 0

        def is_new(row: int) -> bool:
            if self._in.admission.admit(self.pool.candidates[row]):
                return True
            self.pool.outcomes[row] = "near-copy"
            return False

        chosen = self._choose(is_new)[: self._effort.max_samples - len(self.kept)]
        for kept in chosen:
            self.pool.outcomes[kept.row] = "kept"
        self.kept += chosen
        return len(chosen)

    def _choose(self, is_new: Callable[[int], bool]) -> Sequence[Kept]:
        """What to keep of the open candidates, by the objective."""
        max_samples, rows = self._effort.max_samples, self._active(self.pool.rows())
        if not self._is_match:
            return choose_candidates(
                rows,
                self._remaining(),
                admissible=self.pool.is_open(),
                max_kept=max_samples - len(self.kept),
                is_new=is_new,
            )
        lengths = self._in.anchor.n_tokens
        bins = length_bins(rows.activations.n_tokens, lengths)
        n_kept = np.bincount([bins[kept.row] for kept in self.kept], minlength=N_LENGTHS)
        return choose_matching(
            rows,
            self._shortage(),
            self._remaining(),
            bins=bins,
            room=length_room(n_kept.tolist(), lengths, max_samples),
            admissible=self.pool.is_open(),
            is_new=is_new,
        )

    def _remaining(self) -> Bool[np.ndarray, " n_features"]:
        """Missing features that no kept sample covers."""
        is_open = np.zeros(self._in.anchor.n_features, dtype=bool)
        is_open[self._in.missing] = True
        for kept in self.kept:
            is_open[list(kept.new_features)] = False
        return is_open

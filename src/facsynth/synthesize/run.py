"""One synthesis run: what it was given, how far it is, and what a round does."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool

from facsynth.coverage.fac import (
    active_features,
    feature_activation_coverage,
    firing_counts,
    missing_features,
)
from facsynth.data.read import read_samples
from facsynth.progress import Progress
from facsynth.records import FeatureActivations, Sample
from facsynth.synthesize.admission import Admission
from facsynth.synthesize.candidates import (
    Asking,
    Target,
    first_requests,
    joint_requests,
    second_requests,
)
from facsynth.synthesize.credit import (
    Kept,
    activation_matrix,
    choose_candidates,
    choose_matching,
)
from facsynth.synthesize.finish import Finished
from facsynth.synthesize.judge import QualityJudge
from facsynth.synthesize.outcome import KeptSample, Synthesis
from facsynth.synthesize.plan import (
    N_LENGTHS,
    Aim,
    Shortage,
    length_bins,
    length_room,
    measure_shortage,
    plan_aims,
)
from facsynth.synthesize.pool import Pool
from facsynth.synthesize.settings import SynthesisSettings
from facsynth.synthesize.steps import Step, StepWriter
from facsynth.synthesize.targets import AnchorTexts
from facsynth.synthesize.task_format import read_task
from facsynth.table.active import active_rows
from facsynth.table.rows import stack_rows, take_rows
from facsynth.table.table import FeatureTable
from facsynth.understand.spans import extract_settings

__all__ = ["RoundPlan", "Run"]

_SEED_STRIDE = 97
"""Apart by this, two runs' seeds never meet within a run of fewer rounds."""


@dataclass(frozen=True)
class RoundPlan:
    """What a round is for."""

    targets: list[Target]
    requests: list[Asking]


class Run:
    """One synthesis run: what it was given and how far it is."""

    def __init__(
        self,
        samples: list[Sample],
        anchor: FeatureTable,
        seeds: Sequence[FeatureTable],
        relevant: Bool[np.ndarray, " n_features"],
        settings: SynthesisSettings,
        tokenizer: Any,
        judge: QualityJudge | None = None,
    ) -> None:
        self.judge, self.graded = judge, set[int]()
        self.task = read_task(settings.task)
        prompt = self.task.prompt if settings.prompt == "auto" else settings.prompt
        settings = replace(settings, form=settings.form or self.task.form, prompt=prompt)
        self.settings, self.relevant, self.samples = settings, relevant, samples
        self.anchor = anchor.activations()
        self.seed = stack_rows([seed.activations() for seed in seeds])
        self.missing = missing_features(
            *(
                active_rows(table, threshold=settings.threshold, relevant=relevant)
                for table in (self.anchor, self.seed)
            )
        )
        self.admission = Admission(
            samples,
            [sample for seed in seeds for sample in seed.samples()],
            max_overlap=settings.max_overlap,
            evaluation=[x for source in settings.decontaminate for x in read_samples(source)],
        )
        self.texts = AnchorTexts(
            samples,
            self.anchor,
            tokenizer,
            extract=extract_settings(anchor.manifest.source),
            max_words=_longest_shown(self.admission, settings),
        )
        self.pool = Pool()
        self.kept: list[Kept] = []
        self.attempts: Counter[int] = Counter()
        self.lost: Counter[str] = Counter()
        self.stopped = "max_rounds"

    def run_rounds(self, writer: StepWriter) -> list[dict[str, float | int]]:
        """Rounds until nothing is missing, nothing new comes, or the budget is spent."""
        budget, rounds, n_poor = self.settings.budget, list[dict[str, float | int]](), 0
        for number in range(budget.max_rounds):
            if len(self.kept) >= budget.max_samples:
                self.stopped = "max_samples"
                break
            plan = self.plan_round(number)
            if not plan.requests:
                self.stopped = "covered"
                break
            self.attempts.update(target.feature_id for target in plan.targets)
            rounds.append(self.run_round(number, plan, writer))
            if self.stopped == "budget":
                break
            n_texts = rounds[-1]["n_candidates"] - (rounds[-2]["n_candidates"] if number else 0)
            n_poor = n_poor + 1 if rounds[-1]["n_new"] <= budget.min_kept_share * n_texts else 0
            if n_poor == budget.patience:
                self.stopped = "diminishing" if rounds[-1]["n_new"] else "no_gain"
                break
        return rounds

    def plan_round(self, number: int) -> RoundPlan:
        """Features that a round aims at, and the requests of its first step."""
        s = self.settings
        n, seed, asking = s.budget.first_candidates, s.seed * _SEED_STRIDE + number, self.asking()
        if s.plan.objective == "rank":
            targets = self.texts.targets(self.choose_targets())
            return RoundPlan(targets, first_requests(targets, n, **asking, seed=seed))
        aims = self.choose_aims()
        joints = self.texts.joints(aims)
        asked = joint_requests(joints, n, **asking, seed=seed)
        aimed_at = {t.feature_id: t for joint in joints for t in joint.targets}
        return RoundPlan(list(aimed_at.values()), asked)

    def asking(self) -> dict[str, Any]:
        """What every request is made with."""
        s = self.settings
        return {"form": s.form, "sampling": s.sampling, "task": self.task, "prompt": s.prompt}

    def choose_aims(self) -> list[Aim]:
        """Groups of features by the objective `cover` or `match`."""
        s = self.settings
        is_match = s.plan.objective == "match"
        if is_match:
            shortage = self.shortage()
            common = shortage.expected > 0
            common &= firing_counts(self.anchor, threshold=s.threshold) >= s.min_anchor_samples
            weights, counts = shortage.need * common * self.relevant, np.ceil(shortage.lacking)
        else:
            weights = np.zeros(self.relevant.size)
            weights[self.choose_targets()] = 1.0
            counts = weights
        return plan_aims(
            self.fires,
            weights,
            counts,
            self.anchor.n_tokens,
            group_size=s.plan.group_size,
            max_features=s.budget.features_per_round,
            by_length=is_match,
        )

    @cached_property
    def fires(self) -> Any:
        """Anchor samples by features, 1 where active."""
        return activation_matrix(self.anchor, threshold=self.settings.threshold)

    def shortage(self) -> Shortage:
        """How far seed and kept samples are from the anchor's rates at the final size."""
        delta, budget = self.settings.threshold, self.settings.budget
        counts = firing_counts(self.seed, threshold=delta)
        if self.kept:
            rows = take_rows(self.pool.rows(), [kept.row for kept in self.kept])
            counts = counts + firing_counts(rows, threshold=delta)
        return measure_shortage(
            firing_counts(self.anchor, threshold=delta),
            counts,
            n_anchor=self.anchor.n_tokens.size,
            n_final=self.seed.n_tokens.size + budget.max_samples,
        )

    def run_round(self, number: int, plan: RoundPlan, writer: StepWriter) -> dict[str, float | int]:
        """Write, score and keep; the numbers of the round."""
        s, delta = self.settings, self.settings.threshold
        seed, n_second = s.seed * _SEED_STRIDE + number, s.budget.second_candidates
        self.take(writer.write(plan.requests, round_=number, step=1), writer)
        unhit = [t for t in plan.targets if not self.pool.is_hit(t.feature_id, threshold=delta)]
        if self.pool.candidates and n_second and self.stopped != "budget":
            pairs = {t.feature_id: self.pool.pair(t, threshold=delta) for t in unhit}
            requests = second_requests(unhit, pairs, n_second, **self.asking(), seed=seed)
            if requests:
                self.take(writer.write(requests, round_=number, step=2), writer)
        self.grade(writer.progress)
        n_new = self.keep()
        return {
            "round": number + 1,
            "n_targets": len(plan.targets),
            "n_new": n_new,
            "n_candidates": len(self.pool.candidates),
            "n_kept": len(self.kept),
            "n_covered": len(self.missing) - int(self.remaining().sum()),
            "fac": self.coverage(self.kept),
        }

    def aimable(self) -> list[int]:
        """Missing features that are common enough to be aimed at, by rank."""
        s, open_ = self.settings, self.remaining()
        counts = firing_counts(self.anchor, threshold=s.threshold)
        return [int(f) for f in self.missing if open_[f] and counts[f] >= s.min_anchor_samples]

    def choose_targets(self) -> list[int]:
        """The next features to aim at: new ones by rank, then those aimed at least often."""
        budget, ranked = self.settings.budget, self.aimable()
        fresh = [f for f in ranked if f not in self.attempts]
        tried = [f for f in ranked if 0 < self.attempts[f] < budget.max_attempts]
        again = sorted(tried, key=lambda f: self.attempts[f])
        n_fresh = budget.max_features - len(self.attempts)
        return [*fresh[:n_fresh], *again][: budget.features_per_round]

    def take(self, done: Step, writer: StepWriter) -> None:
        """Take the candidates of a step in and look for flaws."""
        self.lost.update(done.lost)
        if done.stopped is not None:
            self.stopped = "budget"
            writer.progress.say(f"budget: {done.stopped}")
        if done.activations is not None:
            flaws = [self.admission.find_flaw(candidate) or "" for candidate in done.candidates]
            self.pool.add(done.candidates, done.activations, flaws)

    def grade(self, progress: Progress) -> None:
        """Let the judge reject open texts that might be kept, each once."""
        if self.judge is None or not self.pool.candidates:
            return
        useful = np.ones(len(self.pool.candidates), dtype=bool)
        if self.settings.plan.objective != "match":
            active = activation_matrix(self.pool.rows(), threshold=self.settings.threshold)
            useful = active @ self.remaining().astype(np.int32) > 0
        rows = [
            row
            for row, is_open in enumerate(self.pool.is_open())
            if is_open and useful[row] and row not in self.graded
        ]
        if not rows:
            return
        texts = [self.pool.candidates[row] for row in rows]
        done = self.judge.grade(texts, form=self.settings.form, progress=progress)
        self.graded.update(rows)
        for row, outcome in zip(rows, done.outcomes, strict=True):
            self.pool.outcomes[row] = outcome
        if done.stopped is not None:
            self.stopped = "budget"
            progress.say(f"budget of the judge: {done.stopped}")

    def keep(self) -> int:
        """Keep what newly activates missing features; how many were kept."""
        if not self.pool.candidates:
            return 0

        def is_new(row: int) -> bool:
            if self.admission.admit(self.pool.candidates[row]):
                return True
            self.pool.outcomes[row] = "near-copy"
            return False

        chosen = self.choose(is_new)
        for kept in chosen:
            self.pool.outcomes[kept.row] = "kept"
        self.kept += chosen
        return len(chosen)

    def choose(self, is_new: Callable[[int], bool]) -> list[Kept]:
        """What to keep of the open candidates, by the objective."""
        delta, budget, rows = self.settings.threshold, self.settings.budget, self.pool.rows()
        if self.settings.plan.objective != "match":
            return choose_candidates(
                rows,
                self.remaining(),
                threshold=delta,
                admissible=self.pool.is_open(),
                max_kept=budget.max_samples - len(self.kept),
                is_new=is_new,
            )
        bins = length_bins(rows.n_tokens, self.anchor.n_tokens)
        n_kept = np.bincount([bins[kept.row] for kept in self.kept], minlength=N_LENGTHS)
        chosen = choose_matching(
            rows,
            self.shortage(),
            self.remaining(),
            threshold=delta,
            bins=bins,
            room=length_room(n_kept.tolist(), self.anchor.n_tokens, budget.max_samples),
            admissible=self.pool.is_open(),
            is_new=is_new,
        )
        return chosen[: budget.max_samples - len(self.kept)]

    def remaining(self) -> Bool[np.ndarray, " n_features"]:
        """Missing features that no kept sample covers."""
        open_ = np.zeros(self.relevant.size, dtype=bool)
        open_[self.missing] = True
        for kept in self.kept:
            open_[list(kept.new_features)] = False
        return open_

    def coverage(self, kept: Sequence[Kept] = ()) -> float:
        """FAC of the seed with kept samples."""
        delta = self.settings.threshold
        active = active_features(self.seed, threshold=delta)
        for one in kept:
            active[list(one.new_features)] = True
        return feature_activation_coverage(
            active_features(self.anchor, threshold=delta), active, self.relevant
        )

    def result(
        self, finished: Finished, rounds: list[dict[str, float | int]], *, generator: str
    ) -> Synthesis:
        """What came of the run."""
        chosen = [kept.row for kept in self.kept]
        rows = take_rows(self.pool.rows() if chosen else self.anchor, chosen)
        if finished.rows is not None:
            rows = stack_rows([rows, finished.rows])
        made = finished.candidates
        kept = [
            KeptSample(candidate, candidate.sample, kept.new_features, self.credited(rows, index))
            for index, (candidate, kept) in enumerate(zip(made, self.kept, strict=True))
        ]
        kept += [
            KeptSample(made[owner], sample, (), self.credited(rows, index), is_contrast=True)
            for index, (owner, sample) in enumerate(
                zip(finished.owners, finished.contrasts, strict=True), start=len(made)
            )
        ]
        return Synthesis(
            kept=tuple(kept),
            activations=rows,
            missing_before=tuple(int(f) for f in self.missing),
            rounds=tuple(rounds),
            outcomes=dict(sorted((self.pool.outcome_counts() + self.lost).items())),
            generator=generator,
            stopped=self.stopped,
            n_unanswered=finished.n_bare,
            fac=(self.coverage(), self.coverage(self.kept)) if len(self.missing) else None,
            is_sensitive=self.task.sensitive,
        )

    def credited(self, rows: FeatureActivations, index: int) -> dict[int, float]:
        """Activation of each feature missing before the run that a row activates."""
        start, end = rows.row_starts[index : index + 2]
        features, values = rows.feature_ids[start:end], rows.values[start:end]
        wanted = np.isin(features, self.missing) & (values > np.float32(self.settings.threshold))
        return {int(f): float(v) for f, v in zip(features[wanted], values[wanted], strict=True)}


def _longest_shown(admission: Admission, settings: SynthesisSettings) -> int:
    """Words of a text that is neither too long to be kept nor longer than the generator may write.

    Most tokenizers need less than three tokens for two words.
    """
    return max(1, min(admission.max_words, settings.sampling.max_tokens * 2 // 3))

"""What came of a run, gathered for its result."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from facsynth.coverage.threshold import ChosenThreshold
from facsynth.records import FeatureActivations
from facsynth.synthesize.admission import Admission
from facsynth.synthesize.candidates import Candidate
from facsynth.synthesize.finish import Finisher, Twins
from facsynth.synthesize.plan import length_distance
from facsynth.synthesize.result import Copying, KeptSample, Synthesis
from facsynth.synthesize.rounds import Inputs, Rounds

__all__ = ["gather"]


def gather(
    inputs: Inputs,
    rounds: Rounds,
    finisher: Finisher,
    folder: Path,
    *,
    twins: Twins,
    activations: FeatureActivations,
    threshold: ChosenThreshold,
) -> Synthesis:
    """The result of a run.

    Args:
        inputs: What its rounds were given.
        rounds: Its rounds, at their end.
        finisher: Who finished what was chosen.
        folder: The run folder.
        twins: Samples with the other label.
        activations: Those of the kept samples and then of the twins.
        threshold: δ.
    """
    pool, missing, settings = rounds.pool, inputs.missing, inputs.settings
    made = [pool.candidates[one.row] for one in rounds.kept]
    n_rows = len(made) + len(twins.samples)
    credited = [_credited(activations, i, inputs, threshold.threshold) for i in range(n_rows)]
    lengths, anchor_lengths = activations.n_tokens[: len(made)], inputs.anchor.n_tokens
    return Synthesis(
        kept=(*_kept(made, rounds, credited), *_kept_twins(made, twins, credited[len(made) :])),
        activations=activations,
        missing_before=tuple(int(feature) for feature in missing),
        rounds=tuple(rounds.rows),
        outcomes=dict(sorted((Counter(pool.outcomes) + rounds.lost).items())),
        generator=finisher.chat.name,
        method=settings.method,
        threshold=threshold,
        head_accuracy=finisher.head.accuracy if finisher.head else None,
        n_wanted=settings.effort.max_samples,
        stopped="budget" if twins.stopped else rounds.stopped,
        n_unanswered=_n_unanswered(made, twins, finisher, has_twins=settings.twins == "yes"),
        folder=folder,
        fac=(rounds.coverage(), rounds.coverage(rounds.kept)) if len(missing) else None,
        is_sensitive=finisher.task.sensitive,
        rejected=tuple(
            (candidate, outcome)
            for candidate, outcome in zip(pool.candidates, pool.outcomes, strict=True)
            if outcome != "kept"
        ),
        copying=_copying(made, inputs.admission),
        length_distance=length_distance(lengths, anchor_lengths) if made else None,
    )


def _kept(
    made: Sequence[Candidate], rounds: Rounds, credited: Sequence[dict[int, float]]
) -> Iterator[KeptSample]:
    for candidate, one, found in zip(made, rounds.kept, credited, strict=False):
        yield KeptSample(candidate, candidate.sample, one.new_features, found)


def _kept_twins(
    made: Sequence[Candidate], twins: Twins, credited: Sequence[dict[int, float]]
) -> Iterator[KeptSample]:
    for owner, twin, found in zip(twins.owners, twins.samples, credited, strict=True):
        yield KeptSample(made[owner], twin, (), found, is_contrast=True)


def _n_unanswered(
    made: Sequence[Candidate], twins: Twins, finisher: Finisher, *, has_twins: bool
) -> int:
    """Kept texts without what the task adds."""
    done = finisher.task.completion
    if done and done.kind == "contrast":
        return len(made) - len(twins.samples) if has_twins else 0
    return sum(len(c.sample.messages) < 2 for c in made) if finisher.moment else 0


def _credited(
    rows: FeatureActivations, index: int, inputs: Inputs, threshold: float
) -> dict[int, float]:
    """Activation of each feature missing before the run that a row activates."""
    start, end = rows.row_starts[index : index + 2]
    features, values = rows.feature_ids[start:end], rows.values[start:end]
    wanted = np.isin(features, inputs.missing) & (values > np.float32(threshold))
    return {int(f): float(v) for f, v in zip(features[wanted], values[wanted], strict=True)}


def _copying(made: Sequence[Candidate], admission: Admission) -> dict[str, Copying]:
    """What kept samples have in common with anchor and seed: texts and answers apart."""
    answers = [m.content for c in made for m in c.sample.messages[1:] if m.role == "assistant"]
    found = {}
    for name, texts in (("text", [c.written for c in made]), ("answer", answers)):
        if texts:
            shares, runs = admission.shared(texts)
            found[name] = Copying(float(np.mean(shares)), max(runs))
    return found

"""Looking for the strength of steering inside a run.

```
RUN/steer-4/step-1.json   the texts of one strength, and their feature table beside it
RUN/steer.json            what came of each strength, and the one that was chosen
```

A few of the best-ranked features are written for at every strength of a short ladder. The texts
are candidates like all others, so they are not wasted.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from facsynth.data.write import write_json
from facsynth.synthesize.candidates import Asking
from facsynth.synthesize.guide import STRENGTHS, Trial, best_strength
from facsynth.synthesize.run import Run
from facsynth.synthesize.steps import StepWriter

__all__ = ["MOST_TRIAL_TEXTS", "find_strength"]

_N_TEXTS = 24
"""Texts per strength, at most."""

MOST_TRIAL_TEXTS = _N_TEXTS * len(STRENGTHS)


def find_strength(run: Run, writer: StepWriter) -> None:
    """Choose the strength of a run by its own texts, and keep what they are good for.

    Where the budget ends the trial, steering stays off.
    """
    first = run.plan_round(0).requests[:_N_TEXTS]
    if not first:
        return

    def write(strength: float) -> Trial:
        requests = _steered(first, strength)
        before = len(run.pool.candidates)
        if run.stopped != "budget":
            place = f"steer-{strength:g}"
            run.take(writer.write(requests, round_=0, step=1, trial=place), writer)
        return _measure(run, before, strength)

    trials = best_strength(STRENGTHS, write)
    chosen = 0.0 if run.stopped == "budget" else trials[0].strength
    rows = [asdict(t) for t in sorted(trials, key=lambda t: t.strength) if t.n_texts]
    write_json({"chosen": chosen, "tried": rows}, writer.folder / "steer.json")
    writer.progress.say(f"steering: strength {chosen:g} of {len(trials)} tried")
    run.strength = chosen
    run.grade(writer.progress)
    run.keep()


def _steered(requests: Sequence[Asking], strength: float) -> list[Asking]:
    """The same prompts at a strength; each strength draws other texts."""
    return [
        replace(
            one,
            request=replace(
                one.request,
                seed=(one.request.seed + round(1000 * strength)) % 2**31,
                steer=(one.target, *one.also) if strength else (),
                strength=strength,
                wanted=(),
            ),
        )
        for one in requests
    ]


def _measure(run: Run, before: int, strength: float) -> Trial:
    """Own hits and flaws of the candidates since `before`."""
    delta, pool = np.float32(run.settings.threshold), run.pool
    new = range(before, len(pool.candidates))
    hits = sum(
        not pool.outcomes[row] and pool.activation(pool.candidates[row].target)[row] > delta
        for row in new
    )
    flaws = sum(bool(flaw) and "near-copy" not in flaw for flaw in pool.outcomes[before:])
    n = max(1, len(new))
    return Trial(strength, len(new), round(hits / n, 4), round(flaws / n, 4))

"""FAC Synthesis: write samples for the missing features until they are covered.

Each round aims at the best-ranked missing features, writes candidates (step 1), scores every
candidate against every feature, writes again with a contrastive pair where no candidate hit
(step 2), and keeps by greedy set cover what newly activates missing features. Method:
arXiv 2602.10388, section 5; different from the paper, every sample counts for all features that
it activates, and the pairs come from all candidates.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from facsynth.chat.model import ChatModel
from facsynth.chat.policy import Policy
from facsynth.models.lm import LanguageModel
from facsynth.progress import SILENT, Progress
from facsynth.sae.module import SparseAutoencoder
from facsynth.synthesize.finish import Finished, finish, moment_of
from facsynth.synthesize.forecast import Forecast, forecast
from facsynth.synthesize.judge import QualityJudge
from facsynth.synthesize.origin import as_seeds, check_origin, claim_folder, describe_run
from facsynth.synthesize.outcome import KeptSample, Synthesis
from facsynth.synthesize.run import Run
from facsynth.synthesize.settings import SynthesisSettings
from facsynth.synthesize.steps import StepWriter
from facsynth.table.table import FeatureTable

__all__ = ["KeptSample", "Synthesis", "forecast_run", "synthesize"]


def forecast_run(
    anchor: FeatureTable,
    seed: FeatureTable | Sequence[FeatureTable],
    lm: LanguageModel,
    sae: SparseAutoencoder,
    *,
    settings: SynthesisSettings | None = None,
    relevant: Bool[np.ndarray, " n_features"] | None = None,
    judge: QualityJudge | None = None,
    policy: Policy | None = None,
) -> Forecast:
    """What `synthesize` may ask and cost with these arguments; nothing is asked.

    Args:
        anchor: Feature table of the anchor.
        seed: Feature table of the seed, or several that together are the seed.
        lm: The model that extracted them; only its tokenizer is used.
        sae: Its SAE; only checked to be that of the tables.
        settings: See `SynthesisSettings`.
        relevant: Features that count; all by default.
        judge: Who will grade the texts; nobody by default.
        policy: Prices.

    Raises:
        MismatchError: Tables, model and SAE do not belong together.
    """
    settings = settings or SynthesisSettings()
    seeds = as_seeds(seed)
    check_origin(anchor, seeds, lm, sae)
    if relevant is None:
        relevant = np.ones(anchor.manifest.source.n_features, dtype=bool)
    run = Run(anchor.samples(), anchor, seeds, relevant, settings, lm.tokenizer)
    requests = run.plan_round(0).requests
    as_text = bool(run.samples) and not run.samples[0].messages
    moment = moment_of(run.task, anchor.manifest.source, as_text=as_text, reply=settings.reply)
    n_answers = {"before": None, "after": settings.budget.max_samples}.get(str(moment), 0)
    is_match = settings.plan.objective == "match"
    return forecast(
        [one.request for one in requests],
        n_features=int((run.shortage().need > 0).sum()) if is_match else len(run.aimable()),
        is_repeated=is_match,
        budget=settings.budget,
        n_answers=n_answers,
        answer_tokens=run.task.completion.max_tokens if run.task.completion else 0,
        grade=judge.request("", run.settings.form) if judge else None,
        policy=policy,
    )


def synthesize(
    anchor: FeatureTable,
    seed: FeatureTable | Sequence[FeatureTable],
    lm: LanguageModel,
    sae: SparseAutoencoder,
    chat: ChatModel,
    folder: str | Path,
    *,
    settings: SynthesisSettings | None = None,
    relevant: Bool[np.ndarray, " n_features"] | None = None,
    judge: QualityJudge | None = None,
    progress: Progress = SILENT,
) -> Synthesis:
    """Write samples for the features that the anchor activates and the seed does not.

    Started again after a kill, finished steps are read from `folder`, and the rest is done; with
    a chat model behind a `CachedChat`, no reply is asked for twice and the result is the same.

    Args:
        anchor: Feature table of the anchor.
        seed: Feature table of the seed, extracted with the same model and SAE; several, such as a
            seed with what an earlier run wrote for it, are one seed together.
        lm: The model that extracted them; it scores the candidates.
        sae: Its SAE.
        chat: The generator.
        folder: Where candidates and their feature tables are kept.
        settings: See `SynthesisSettings`.
        relevant: Features that count; all by default.
        judge: Who grades texts before they are kept; nobody by default.
        progress: Where bars are drawn.

    Raises:
        MismatchError: Tables, model and SAE do not belong together, or `folder` holds a run with
            other settings.
        ChatError: Too many requests failed.
    """
    settings = settings or SynthesisSettings()
    folder = Path(folder)
    seeds = as_seeds(seed)
    check_origin(anchor, seeds, lm, sae)
    if relevant is None:
        relevant = np.ones(sae.config.d_sae, dtype=bool)
    # The first sample tells conversations from plain texts; data sets do not mix them.
    samples = anchor.samples()
    as_text = bool(samples) and not samples[0].messages
    source = anchor.manifest.source
    run = Run(samples, anchor, seeds, relevant, settings, lm.tokenizer, judge)
    moment = moment_of(run.task, source, as_text=as_text, reply=settings.reply)
    writer = StepWriter(
        lm,
        sae,
        source,
        chat,
        folder,
        as_text=as_text,
        task=run.task,
        completion_seed=settings.seed if moment == "before" else None,
        progress=progress,
        max_words=run.admission.max_words,
    )
    description = describe_run(anchor, seeds, relevant, chat, run.settings, run.task)
    claim_folder(folder, description | {"judge": judge and judge.row()})
    rounds = run.run_rounds(writer)
    kept = tuple(run.pool.candidates[k.row] for k in run.kept)
    n_bare = sum(len(c.sample.messages) < 2 for c in kept) if moment == "before" else 0
    finished = Finished(kept, n_bare=n_bare)
    if moment == "after" and kept:
        finished = finish(
            kept,
            run.task,
            chat,
            lm,
            sae,
            source=source,
            admission=run.admission,
            seed=settings.seed,
            progress=progress,
        )
    run.stopped = "budget" if finished.stopped else run.stopped
    return run.result(finished, rounds, generator=chat.name)

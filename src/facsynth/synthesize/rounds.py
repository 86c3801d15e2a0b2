"""FAC Synthesis: write samples for the missing features until they are covered.

Each round aims at the best-ranked missing features, writes candidates (step 1), scores every
candidate against every feature, writes again with a contrastive pair where no candidate hit
(step 2), and keeps by greedy set cover what newly activates missing features. Method:
arXiv 2602.10388, section 5; different from the paper, every sample counts for all features that
it activates, and the pairs come from all candidates.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from facsynth.chat.model import ChatModel, ChatRequest
from facsynth.coverage.fac import (
    active_features,
    feature_activation_coverage,
    firing_counts,
    missing_features,
)
from facsynth.data.write import write_json
from facsynth.errors import MismatchError
from facsynth.features.lm import LanguageModel
from facsynth.features.sae import SparseAutoencoder
from facsynth.progress import SILENT, Progress
from facsynth.records import FeatureActivations, Sample
from facsynth.store.table import FeatureTable, check_same_features, take_rows
from facsynth.synthesize.admission import Admission
from facsynth.synthesize.candidates import Candidate, Target, first_requests, second_requests
from facsynth.synthesize.credit import Kept, choose_candidates
from facsynth.synthesize.pool import Pool
from facsynth.synthesize.prompts import PROMPT_VERSION
from facsynth.synthesize.replies import with_replies
from facsynth.synthesize.settings import SynthesisSettings
from facsynth.synthesize.steps import StepWriter
from facsynth.understand.names import count_words, name_feature
from facsynth.understand.spans import collect_spans, extract_settings

__all__ = ["KeptSample", "Synthesis", "synthesize"]

_MAX_ATTEMPTS = 2
"""Rounds that aim at one feature."""


@dataclass(frozen=True)
class KeptSample:
    """A synthetic sample with where it came from."""

    candidate: Candidate
    sample: Sample
    """The candidate's sample, with the assistant's answer when one was asked for."""

    new_features: tuple[int, ...]
    """Missing features that it was the first to cover."""

    credited: Mapping[int, float]
    """Activation of every feature missing before the run that it activates."""


@dataclass(frozen=True)
class Synthesis:
    """What a run wrote and kept."""

    kept: tuple[KeptSample, ...]
    activations: FeatureActivations
    """Activations of the kept samples, in their order."""

    missing_before: tuple[int, ...]
    """Missing features before the run, ranked."""

    rounds: tuple[Mapping[str, float | int], ...]
    """One row per round: targets and newly kept samples of the round, and candidates, kept
    samples, covered missing features and FAC up to its end."""

    outcomes: Mapping[str, int]
    """Requested texts by what became of them."""

    generator: str


def synthesize(
    anchor: FeatureTable,
    seed: FeatureTable,
    lm: LanguageModel,
    sae: SparseAutoencoder,
    chat: ChatModel,
    folder: str | Path,
    *,
    settings: SynthesisSettings | None = None,
    relevant: Bool[np.ndarray, " n_features"] | None = None,
    progress: Progress = SILENT,
) -> Synthesis:
    """Write samples for the features that the anchor activates and the seed does not.

    Started again after a kill, finished steps are read from `folder`, and the rest is done; with
    a chat model behind a `CachedChat`, no reply is asked for twice and the result is the same.

    Args:
        anchor: Feature table of the anchor.
        seed: Feature table of the seed, extracted with the same model and SAE.
        lm: The model that extracted them; it scores the candidates.
        sae: Its SAE.
        chat: The generator.
        folder: Where candidates and their feature tables are kept.
        settings: See `SynthesisSettings`.
        relevant: Features that count; all by default.
        progress: Where bars are drawn.

    Raises:
        MismatchError: Tables, model and SAE do not belong together, or `folder` holds a run with
            other settings.
        ChatError: Too many requests failed.
    """
    settings = settings or SynthesisSettings()
    folder = Path(folder)
    _check_origin(anchor, seed, lm, sae)
    if relevant is None:
        relevant = np.ones(sae.config.d_sae, dtype=bool)
    # The first sample tells conversations from plain texts; data sets do not mix them.
    samples = anchor.samples()
    as_text = bool(samples) and not samples[0].messages
    answered = settings.reply and not as_text
    reply_first = answered and anchor.manifest.source.score != "user"
    writer = StepWriter(
        lm,
        sae,
        anchor.manifest.source,
        chat,
        folder,
        as_text=as_text,
        reply_seed=settings.seed if reply_first else None,
        progress=progress,
    )
    run = _Run(samples, anchor, seed, relevant, settings, writer)
    _claim(folder, _plan(anchor, seed, relevant, chat, settings))
    rounds = run.run_rounds()
    kept = [run.pool.candidates[k.row].sample for k in run.kept]
    if answered and not reply_first and kept:
        kept = with_replies(kept, chat, seed=settings.seed, progress=progress)
    return run.result(kept, rounds)


class _Run:
    """One synthesis run: what it was given and how far it is."""

    def __init__(
        self,
        samples: list[Sample],
        anchor: FeatureTable,
        seed: FeatureTable,
        relevant: Bool[np.ndarray, " n_features"],
        settings: SynthesisSettings,
        writer: StepWriter,
    ) -> None:
        self.settings, self.writer, self.relevant = settings, writer, relevant
        self.samples = samples
        self.anchor, self.seed = anchor.activations(), seed.activations()
        self.missing = missing_features(
            self.anchor, self.seed, relevant, threshold=settings.threshold
        )
        self.admission = Admission(samples, seed.samples(), max_overlap=settings.max_overlap)
        self.word_counts = count_words(samples)
        self.pool = Pool()
        self.kept: list[Kept] = []
        self.attempts: Counter[int] = Counter()
        self.lost: Counter[str] = Counter()

    def run_rounds(self) -> list[dict[str, float | int]]:
        """Rounds until nothing is missing, nothing new comes, or the budget is spent."""
        budget, rounds = self.settings.budget, list[dict[str, float | int]]()
        for number in range(budget.max_rounds):
            targets = self.next_targets() if len(self.kept) < budget.max_samples else []
            if not targets:
                break
            rounds.append(self.run_round(number, targets))
            if not rounds[-1]["n_new"]:
                break
        return rounds

    def run_round(self, number: int, targets: list[Target]) -> dict[str, float | int]:
        """Write, score and keep; the numbers of the round."""
        s, delta = self.settings, self.settings.threshold
        seed, n_second = s.seed * 97 + number, s.budget.second_candidates
        requests = first_requests(
            targets, s.budget.first_candidates, form=s.form, sampling=s.sampling, seed=seed
        )
        self.write(requests, number, step=1)
        unhit = [t for t in targets if not self.pool.is_hit(t.feature_id, threshold=delta)]
        if self.pool.candidates and n_second:
            pairs = {t.feature_id: self.pool.pair(t, threshold=delta) for t in unhit}
            requests = second_requests(
                unhit, pairs, n_second, form=s.form, sampling=s.sampling, seed=seed
            )
            self.write(requests, number, step=2)
        n_new = self.keep()
        return {
            "round": number + 1,
            "n_targets": len(targets),
            "n_new": n_new,
            "n_candidates": len(self.pool.candidates),
            "n_kept": len(self.kept),
            "n_covered": len(self.missing) - int(self.remaining().sum()),
            "fac": self.coverage(),
        }

    def next_targets(self) -> list[Target]:
        """Take the next features to aim at: new ones by rank, then those aimed at before."""
        s, open_ = self.settings, self.remaining()
        counts = firing_counts(self.anchor, threshold=s.threshold)
        ranked = [int(f) for f in self.missing if open_[f] and counts[f] >= s.min_anchor_samples]
        fresh = [f for f in ranked if f not in self.attempts]
        again = [f for f in ranked if 0 < self.attempts[f] < _MAX_ATTEMPTS]
        n_fresh = s.budget.max_features - len(self.attempts)
        chosen = [*fresh[:n_fresh], *again][: s.budget.features_per_round]
        self.attempts.update(chosen)
        extract = extract_settings(self.writer.source)
        spans = collect_spans(
            self.samples,
            self.anchor,
            self.writer.lm.tokenizer,
            chosen,
            score=extract.score,
            max_tokens=extract.max_tokens,
        )
        return [Target(f, name_feature(spans[f], self.word_counts), spans[f]) for f in chosen]

    def write(self, requests: list[tuple[int, ChatRequest]], number: int, *, step: int) -> None:
        """Ask for candidates, score them and look for flaws."""
        if not requests:
            return
        done = self.writer.write(requests, round_=number, step=step)
        self.lost.update(done.lost)
        if done.activations is not None:
            flaws = [self.admission.find_flaw(candidate) or "" for candidate in done.candidates]
            self.pool.add(done.candidates, done.activations, flaws)

    def keep(self) -> int:
        """Keep what newly activates missing features; how many were kept."""
        if not self.pool.candidates:
            return 0

        def is_new(row: int) -> bool:
            if self.admission.admit(self.pool.candidates[row]):
                return True
            self.pool.outcomes[row] = "near-copy"
            return False

        chosen = choose_candidates(
            self.pool.rows(),
            self.remaining(),
            threshold=self.settings.threshold,
            admissible=self.pool.is_open(),
            max_kept=self.settings.budget.max_samples - len(self.kept),
            is_new=is_new,
        )
        for kept in chosen:
            self.pool.outcomes[kept.row] = "kept"
        self.kept += chosen
        return len(chosen)

    def remaining(self) -> Bool[np.ndarray, " n_features"]:
        """Missing features that no kept sample covers."""
        open_ = np.zeros(self.relevant.size, dtype=bool)
        open_[self.missing] = True
        for kept in self.kept:
            open_[list(kept.new_features)] = False
        return open_

    def coverage(self) -> float:
        """FAC of the seed with the kept samples."""
        delta = self.settings.threshold
        active = active_features(self.seed, threshold=delta)
        for kept in self.kept:
            active[list(kept.new_features)] = True
        return feature_activation_coverage(
            active_features(self.anchor, threshold=delta), active, self.relevant
        )

    def result(self, samples: list[Sample], rounds: list[dict[str, float | int]]) -> Synthesis:
        """What came of the run; `samples` are those kept, with their answers."""
        chosen = [kept.row for kept in self.kept]
        rows = take_rows(self.pool.rows() if chosen else self.anchor, chosen)
        kept = tuple(
            KeptSample(
                self.pool.candidates[kept.row],
                sample,
                kept.new_features,
                self.credited(rows, index),
            )
            for index, (kept, sample) in enumerate(zip(self.kept, samples, strict=True))
        )
        return Synthesis(
            kept=kept,
            activations=rows,
            missing_before=tuple(int(f) for f in self.missing),
            rounds=tuple(rounds),
            outcomes=dict(sorted((self.pool.outcome_counts() + self.lost).items())),
            generator=self.writer.chat.name,
        )

    def credited(self, rows: FeatureActivations, index: int) -> dict[int, float]:
        """Activation of each feature missing before the run that a row activates."""
        start, end = rows.row_starts[index : index + 2]
        features, values = rows.feature_ids[start:end], rows.values[start:end]
        wanted = np.isin(features, self.missing) & (values > np.float32(self.settings.threshold))
        return {int(f): float(v) for f, v in zip(features[wanted], values[wanted], strict=True)}


def _check_origin(
    anchor: FeatureTable, seed: FeatureTable, lm: LanguageModel, sae: SparseAutoencoder
) -> None:
    """Raise a MismatchError unless tables, model and SAE belong together."""
    check_same_features(anchor, seed)
    source = anchor.manifest.source
    for what, wanted, given, option in (
        ("SAE", source.sae_hash, sae.content_hash, "--sae"),
        ("model", source.model_hash, lm.content_hash, "--model"),
    ):
        if given != wanted:
            raise MismatchError(
                f"{anchor.folder} was extracted with {what} {wanted[:12]}, but this run uses "
                f"{given[:12]}; extract again or pass the matching {option}"
            )


def _plan(
    anchor: FeatureTable,
    seed: FeatureTable,
    relevant: Bool[np.ndarray, " n_features"],
    chat: ChatModel,
    settings: SynthesisSettings,
) -> dict[str, object]:
    """Everything that a run's candidates depend on."""
    return {
        "anchor": anchor.manifest.samples_hash,
        "seed": seed.manifest.samples_hash,
        "source": asdict(anchor.manifest.source),
        "relevant": hashlib.sha256(np.packbits(relevant).tobytes()).hexdigest(),
        "generator": chat.name,
        "prompt_version": PROMPT_VERSION,
        "settings": asdict(settings),
    }


def _claim(folder: Path, plan: dict[str, object]) -> None:
    """Write down what the folder is for, or check that it is for this run."""
    path = folder / "plan.json"
    if not path.is_file():
        write_json(plan, path)
        return
    wanted = json.loads(json.dumps(plan))
    found = json.loads(path.read_text(encoding="utf-8"))
    differing = [key for key in wanted if found.get(key) != wanted[key]]
    if differing:
        raise MismatchError(
            f"{folder} holds a run with another {' and '.join(differing)}; choose another output "
            "folder or delete it"
        )

"""FAC Synthesis: write samples for the missing features until they are covered.

Each round aims at the best-ranked missing features, writes candidates (step 1), scores every
candidate against every feature, writes again with a contrastive pair where no candidate hit
(step 2), and keeps by greedy set cover what newly activates missing features. Method:
arXiv 2602.10388, section 5; different from the paper, every sample counts for all features that
it activates, and the pairs come from all candidates.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from facsynth.chat.model import ChatModel
from facsynth.coverage.fac import active_features, feature_activation_coverage, missing_features
from facsynth.data.write import write_json
from facsynth.errors import DataError, MismatchError
from facsynth.features.extract import ExtractSettings, extract_table
from facsynth.features.lm import LanguageModel
from facsynth.features.sae import SparseAutoencoder
from facsynth.progress import SILENT, Progress
from facsynth.records import FeatureActivations, Sample
from facsynth.store.table import FeatureTable, check_same_features, stack_rows, take_rows
from facsynth.synthesize.candidates import (
    Candidate,
    Pair,
    Sampling,
    Target,
    ask_candidates,
    first_requests,
    second_requests,
)
from facsynth.synthesize.credit import Kept, choose_candidates
from facsynth.synthesize.novelty import KnownTexts, find_flaw
from facsynth.synthesize.replies import with_replies
from facsynth.understand.names import count_words, name_feature, sample_text
from facsynth.understand.spans import collect_spans

__all__ = ["Budget", "KeptSample", "Synthesis", "SynthesisSettings", "synthesize"]


@dataclass(frozen=True)
class Budget:
    """How much is written."""

    max_features: int = 200
    """Missing features aimed at, in order of rank."""

    max_samples: int = 500
    """Samples kept."""

    max_rounds: int = 4
    """Rounds; a round without a kept sample ends the run earlier."""

    features_per_round: int = 50
    """Features aimed at in one round; a feature is aimed at in at most two rounds."""

    first_candidates: int = 2
    """Step-1 candidates per feature (n in the paper)."""

    second_candidates: int = 2
    """Step-2 candidates per feature that no candidate has hit (m in the paper); 0 skips it."""


@dataclass(frozen=True)
class SynthesisSettings:
    """What is written, and what is kept."""

    threshold: float = 1.0
    """Activation above which a feature counts as active, in SAE units."""

    form: str = "a new text"
    """What a sample is, in words that complete "Write …"."""

    reply: bool = True
    """Whether the generator also writes the assistant's answer."""

    min_anchor_samples: int = 2
    """Missing features active in fewer anchor samples are not aimed at."""

    max_overlap: float = 0.5
    """Share of word 4-grams that a sample may have in common with known texts."""

    seed: int = 0
    """Seed of every request."""

    budget: Budget = field(default_factory=Budget)
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if not 0 <= self.max_overlap <= 1:
            raise DataError(f"max_overlap is a share between 0 and 1, not {self.max_overlap}")


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
    """Candidates by what became of them."""

    generator: str


@dataclass
class _Pool:
    """All candidates so far, with their activations and what became of them."""

    candidates: list[Candidate] = field(default_factory=list)
    activations: FeatureActivations | None = None
    outcome: list[str] = field(default_factory=list)
    """Empty while a candidate is open; else `kept` or why not."""

    def add(self, candidates: Sequence[Candidate], rows: FeatureActivations) -> None:
        self.candidates += candidates
        self.outcome += [""] * len(candidates)
        self.activations = (
            rows if self.activations is None else stack_rows([self.activations, rows])
        )

    def rows(self) -> FeatureActivations:
        assert self.activations is not None
        return self.activations


class _Run:
    """One synthesis run: what it was given and how far it is."""

    def __init__(
        self,
        anchor: FeatureTable,
        seed: FeatureTable,
        lm: LanguageModel,
        sae: SparseAutoencoder,
        chat: ChatModel,
        folder: Path,
        settings: SynthesisSettings,
        relevant: Bool[np.ndarray, " n_features"] | None,
        progress: Progress,
    ) -> None:
        self.lm, self.sae, self.chat, self.folder = lm, sae, chat, folder
        self.settings, self.progress = settings, progress
        self.source = anchor.manifest.source
        self.anchor_samples = anchor.samples()
        self.anchor, self.seed = anchor.activations(), seed.activations()
        n = self.source.n_features
        self.relevant = np.ones(n, dtype=bool) if relevant is None else relevant
        self.missing = missing_features(
            self.anchor, self.seed, self.relevant, threshold=settings.threshold
        )
        texts = [sample_text(s) for s in (*self.anchor_samples, *seed.samples())]
        self.known = KnownTexts(texts)
        words = np.array([len(sample_text(s).split()) for s in self.anchor_samples])
        self.word_limits = (max(3, int(np.quantile(words, 0.01))), int(np.quantile(words, 0.99)))
        self.word_counts = count_words(self.anchor_samples)
        self.pool = _Pool()
        self.kept: list[tuple[Kept, int]] = []
        self.attempts: Counter[int] = Counter()
        self.n_failed = 0

    def remaining(self) -> Bool[np.ndarray, " n_features"]:
        """Missing features that no kept sample covers."""
        open_ = np.zeros(self.source.n_features, dtype=bool)
        open_[self.missing] = True
        for kept, _ in self.kept:
            open_[list(kept.new_features)] = False
        return open_

    def targets(self) -> list[Target]:
        """The next features to aim at."""
        s, open_ = self.settings, self.remaining()
        counts = np.bincount(
            self.anchor.feature_ids[self.anchor.values > np.float32(s.threshold)],
            minlength=self.source.n_features,
        )
        wanted = [
            int(f)
            for f in self.missing
            if open_[f]
            and counts[f] >= s.min_anchor_samples
            and self.attempts[int(f)] < 2
            and (f in self.attempts or len(self.attempts) < s.budget.max_features)
        ]
        fresh = sorted(wanted, key=lambda f: self.attempts[f])[: s.budget.features_per_round]
        self.attempts.update(fresh)
        spans = collect_spans(
            self.anchor_samples,
            self.anchor,
            self.lm.tokenizer,
            fresh,
            score=self.source.score,  # type: ignore[arg-type]
            max_tokens=self.source.max_tokens,
        )
        return [Target(f, name_feature(spans[f], self.word_counts), spans[f]) for f in fresh]

    def run_round(self, number: int) -> dict[str, float | int]:
        """Write, score and keep; the numbers of the round."""
        b = self.settings.budget
        seed = self.settings.seed * 97 + number
        targets = self.targets()
        options = {"form": self.settings.form, "sampling": self.settings.sampling, "seed": seed}
        if targets:
            requests = first_requests(targets, b.first_candidates, **options)  # type: ignore[arg-type]
            self.write(requests, number, step=1)
        unhit = [t for t in targets if not self.is_hit(t.feature_id)]
        if unhit and b.second_candidates:
            pairs = {t.feature_id: self.pair(t) for t in unhit}
            requests = second_requests(unhit, pairs, b.second_candidates, **options)  # type: ignore[arg-type]
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

    def write(self, requests: list, number: int, *, step: int) -> None:  # type: ignore[type-arg]
        """Ask for candidates and score them against every feature."""
        s = self.settings
        as_text = not self.anchor_samples[0].messages
        found, failed = ask_candidates(
            requests, self.chat, step=step, round_=number, as_text=as_text, progress=self.progress
        )
        self.n_failed += failed
        found = [c for c in found if sample_text(c.sample).strip()]
        if s.reply and not as_text and self.source.score != "user":
            samples = with_replies(
                [c.sample for c in found], self.chat, seed=s.seed, progress=self.progress
            )
            found = [
                Candidate(x, c.target, c.step, c.round, c.seed)
                for c, x in zip(found, samples, strict=True)
            ]
        if not found:
            return
        table = extract_table(
            [c.sample for c in found],
            self.lm,
            self.sae,
            self.folder / f"round-{number:02d}" / f"step-{step}",
            settings=ExtractSettings(
                score=self.source.score,  # type: ignore[arg-type]
                max_tokens=self.source.max_tokens,
            ),
            sae_name=self.source.sae_name,
            progress=self.progress,
        )
        self.pool.add(found, table.activations())
        low, high = self.word_limits
        for row in range(len(self.pool.candidates) - len(found), len(self.pool.candidates)):
            text = sample_text(self.pool.candidates[row].sample)
            flaw = find_flaw(text, min_words=low, max_words=high)
            if flaw is None and self.known.overlap(text) > s.max_overlap:
                flaw = "near-copy"
            self.pool.outcome[row] = flaw or ""

    def activation(self, feature: int) -> np.ndarray:
        """Activation of one feature by every candidate in the pool."""
        rows = self.pool.rows()
        values = np.zeros(len(rows.sample_ids))
        entries = np.flatnonzero(rows.feature_ids == feature)
        owner = np.searchsorted(rows.row_starts, entries, side="right") - 1
        values[owner] = rows.values[entries]
        return values

    def is_hit(self, feature: int) -> bool:
        """Whether some usable candidate activates the feature."""
        usable = np.array([outcome == "" for outcome in self.pool.outcome], dtype=bool)
        return bool((self.activation(feature)[usable] > self.settings.threshold).any())

    def pair(self, target: Target) -> Pair:
        """Strongest and weakest text for a feature, from all candidates of all features."""
        values = self.activation(target.feature_id)
        texts = [sample_text(c.sample) for c in self.pool.candidates]
        own = [i for i, c in enumerate(self.pool.candidates) if c.target == target.feature_id]
        strong = int(values.argmax())
        weak = min(own or range(len(texts)), key=lambda i: (values[i], i))
        hit = values[strong] > self.settings.threshold
        return Pair(texts[strong] if hit else target.spans[0].text, texts[weak])

    def keep(self) -> int:
        """Keep what newly activates missing features; how many were kept."""
        if not self.pool.candidates:
            return 0
        texts = [sample_text(c.sample) for c in self.pool.candidates]

        def is_new(row: int) -> bool:
            if self.known.overlap(texts[row]) > self.settings.max_overlap:
                self.pool.outcome[row] = "near-copy"
                return False
            self.known.add(texts[row])
            return True

        chosen = choose_candidates(
            self.pool.rows(),
            self.remaining(),
            threshold=self.settings.threshold,
            admissible=[outcome == "" for outcome in self.pool.outcome],
            max_kept=self.settings.budget.max_samples - len(self.kept),
            is_new=is_new,
        )
        for kept in chosen:
            self.pool.outcome[kept.row] = "kept"
            self.kept.append((kept, kept.row))
        return len(chosen)

    def coverage(self) -> float:
        """FAC of the seed with the kept samples."""
        delta = self.settings.threshold
        active = active_features(self.seed, threshold=delta)
        for kept, _ in self.kept:
            active[list(kept.new_features)] = True
        return feature_activation_coverage(
            active_features(self.anchor, threshold=delta), active, self.relevant
        )


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
    check_same_features(anchor, seed)
    if sae.content_hash != anchor.manifest.source.sae_hash:
        raise MismatchError(
            f"{anchor.folder} was extracted with SAE {anchor.manifest.source.sae_hash[:12]}, but "
            f"this run uses {sae.content_hash[:12]}; extract again or pass the matching --sae"
        )
    folder = Path(folder)
    _claim(folder, anchor, seed, chat, settings)
    run = _Run(anchor, seed, lm, sae, chat, folder, settings, relevant, progress)
    rounds = []
    for number in range(settings.budget.max_rounds):
        if not len(run.missing) or len(run.kept) >= settings.budget.max_samples:
            break
        rounds.append(run.run_round(number))
        if not rounds[-1]["n_new"]:
            break
    return _result(run, rounds)


def _result(run: _Run, rounds: list[dict[str, float | int]]) -> Synthesis:
    candidates = [run.pool.candidates[row] for _, row in run.kept]
    samples = [candidate.sample for candidate in candidates]
    if run.settings.reply and samples and samples[0].messages and run.source.score == "user":
        samples = with_replies(samples, run.chat, seed=run.settings.seed, progress=run.progress)
    rows = take_rows(run.pool.rows(), [row for _, row in run.kept]) if run.kept else _no_rows(run)
    kept = tuple(
        KeptSample(candidate, sample, kept.new_features, _credited(run, rows, index))
        for index, ((kept, _), candidate, sample) in enumerate(
            zip(run.kept, candidates, samples, strict=True)
        )
    )
    outcomes = Counter(outcome or "nothing new" for outcome in run.pool.outcome)
    if run.n_failed:
        outcomes["failed request"] = run.n_failed
    return Synthesis(
        kept=kept,
        activations=rows,
        missing_before=tuple(int(f) for f in run.missing),
        rounds=tuple(rounds),
        outcomes=dict(sorted(outcomes.items())),
        generator=run.chat.name,
    )


def _no_rows(run: _Run) -> FeatureActivations:
    return take_rows(run.anchor, [])


def _credited(run: _Run, rows: FeatureActivations, index: int) -> dict[int, float]:
    start, end = rows.row_starts[index : index + 2]
    features, values = rows.feature_ids[start:end], rows.values[start:end]
    wanted = np.isin(features, run.missing) & (values > np.float32(run.settings.threshold))
    return {int(f): float(v) for f, v in zip(features[wanted], values[wanted], strict=True)}


def _claim(
    folder: Path,
    anchor: FeatureTable,
    seed: FeatureTable,
    chat: ChatModel,
    settings: SynthesisSettings,
) -> None:
    """Write down what the folder is for, or check that it is for this run."""
    plan = json.loads(
        json.dumps(
            {
                "anchor": anchor.manifest.samples_hash,
                "seed": seed.manifest.samples_hash,
                "source": asdict(anchor.manifest.source),
                "generator": chat.name,
                "settings": asdict(settings),
            }
        )
    )
    path = folder / "plan.json"
    if not path.is_file():
        write_json(plan, path)
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    differing = [key for key in plan if found.get(key) != plan[key]]
    if differing:
        raise MismatchError(
            f"{folder} holds a run with another {' and '.join(differing)}; choose another output "
            "folder or delete it"
        )

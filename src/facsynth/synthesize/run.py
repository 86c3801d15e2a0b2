"""One synthesis run: it checks what it is given, estimates what it may cost, and is executed."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from facsynth.chat.model import ChatModel
from facsynth.chat.settings import Generator, Policy
from facsynth.coverage.fac import missing_features
from facsynth.coverage.threshold import choose_threshold, count_samples
from facsynth.data.read import read_samples
from facsynth.errors import DataError, MismatchError
from facsynth.models.lm import LanguageModel
from facsynth.progress import SILENT, Progress
from facsynth.records import FeatureActivations, Sample
from facsynth.sae.module import SparseAutoencoder
from facsynth.synthesize.admission import Admission, count_written_words
from facsynth.synthesize.ask import Writer
from facsynth.synthesize.candidates import Wording
from facsynth.synthesize.claim import claim_folder
from facsynth.synthesize.complete import moment_of
from facsynth.synthesize.cover import CoverRounds
from facsynth.synthesize.finish import Finisher, Twins
from facsynth.synthesize.fluency import Fluency
from facsynth.synthesize.forecast import Forecast, forecast
from facsynth.synthesize.gather import gather
from facsynth.synthesize.judge import QualityJudge, check_request
from facsynth.synthesize.label_head import LabelHead
from facsynth.synthesize.paper import PaperRounds
from facsynth.synthesize.prompts import PROMPT_VERSION
from facsynth.synthesize.result import Synthesis, write_synthesis
from facsynth.synthesize.rounds import Inputs, Rounds
from facsynth.synthesize.score import Steps
from facsynth.synthesize.settings import SynthesisSettings
from facsynth.synthesize.task_format import TaskFormat, read_task
from facsynth.synthesize.texts import AnchorTexts
from facsynth.table.active import active_rows
from facsynth.table.alike import check_same_features
from facsynth.table.rows import stack_rows, take_rows
from facsynth.table.table import FeatureTable
from facsynth.understand.descriptions import Described
from facsynth.understand.spans import extract_settings
from facsynth.words import count_words

__all__ = ["SynthesisRun"]


_LEAST_TOKENS, _MOST_TOKENS = 32, 1024
"""Longest text, where it follows from the anchor."""


class SynthesisRun:
    """Samples to be written for the features that the anchor activates and the seed does not.

    Making it reads and checks everything that needs no model. It is executed once.
    """

    def __init__(
        self,
        anchor: FeatureTable,
        seed: FeatureTable | Sequence[FeatureTable],
        *,
        settings: SynthesisSettings | None = None,
        relevant: Bool[np.ndarray, " n_features"] | None = None,
        explanations: Mapping[int, Described] | None = None,
    ) -> None:
        """Plan a run.

        Args:
            anchor: Feature table of the anchor.
            seed: Feature table of the seed, extracted with the same model and SAE; several, such
                as a seed with what an earlier run wrote for it, are one seed together.
            settings: See `SynthesisSettings`.
            relevant: Features that count; all by default.
            explanations: What features stand for; see `read_explanations`.

        Raises:
            DataError: A task or an evaluation set cannot be read, or there is no seed.
            MismatchError: The tables do not belong together, or the task does not fit the anchor.
        """
        settings = settings or SynthesisSettings()
        self._anchor, self._seeds = anchor, _seed_tables(anchor, seed)
        self._source = anchor.manifest.source
        samples, tokens = anchor.samples(), settings.sampling.reply_tokens
        task = read_task(settings.task, reply_tokens=tokens)
        if settings.method == "cover" and tokens is None:
            task = _with_long_answers(task, samples)
        self._task = task
        # The first sample tells conversations from plain texts; data sets do not mix them.
        self._as_text = bool(samples) and not samples[0].messages
        self._n_turns = max((_count_turns(sample) for sample in samples), default=1)
        self._moment = moment_of(
            task,
            self._source.score,
            as_text=self._as_text,
            reply=settings.reply,
            has_turns=self._n_turns > 1,
        )
        admission = self._admission(samples, settings)
        settings = resolve_settings(settings, task, admission.max_words)
        explanations = explanations or {}
        relevant = np.ones(self._source.n_features, np.bool_) if relevant is None else relevant
        left_out = [f for f, d in explanations.items() if d.why_left_out(settings.leave_out)]
        relevant = relevant & ~np.isin(np.arange(relevant.size), left_out)
        n_seed, given = count_samples(self._seeds), settings.threshold
        self._threshold = choose_threshold(anchor, n_seed, relevant, given=given)
        self._settings = replace(settings, threshold=self._threshold.threshold)
        self._explanations = {f: d.text for f, d in explanations.items() if not d.cannot_tell}
        rows, seed_rows = anchor.activations(), stack_rows([s.activations() for s in self._seeds])
        self._before = active_rows(seed_rows, threshold=0.0).peaks
        self._in = self._inputs(samples, rows, seed_rows, admission, relevant)
        labels = [sample.label for one in self._seeds for sample in one.samples()]
        self._head = LabelHead.of_task(settings.check_labels, task, seed_rows, labels)
        self._planned: Rounds | None = None

    def forecast(
        self,
        tokenizer: Any,
        *,
        policy: Generator | Policy | None = None,
        judge: QualityJudge | None = None,
    ) -> Forecast:
        """What the run may ask and cost; nothing is asked.

        Args:
            tokenizer: Tokenizer of the model that extracted the anchor.
            policy: Prices; or the generator, for its room to think as well.
            judge: Who grades texts before they are kept; nobody by default.
        """
        rounds, done = self._rounds(tokenizer), self._task.completion
        answer = check = None
        if done and self._moment:
            n_each = 2 * self._n_turns - 1 if done.kind == "answer" else 1
            answer = (n_each, done.max_tokens)
        if done and done.check and self._asks_labels(judge):
            check = check_request(self._task, "", "", "")
        found = forecast(
            [one.request for one in rounds.first],
            n_features=rounds.n_wanted,
            n_texts=rounds.max_candidates,
            answer=answer,
            check=check,
            grade=judge.request("", self._in.wording.form) if judge else None,
            policy=policy,
        )
        return replace(found, threshold=self._threshold)

    def check_sae(self, sae: SparseAutoencoder) -> None:
        """Raise a MismatchError unless this is the SAE that extracted the tables."""
        self._check("SAE", self._source.sae_hash, sae.content_hash, "--sae")

    def execute(
        self,
        lm: LanguageModel,
        sae: SparseAutoencoder,
        chat: ChatModel,
        folder: str | Path,
        *,
        judge: QualityJudge | None = None,
        extract: Callable[..., FeatureTable] | None = None,
        progress: Progress = SILENT,
    ) -> Synthesis:
        """Write the samples, score them, and leave the data set in a folder.

        Executed again after a kill, finished steps are read from the folder, and the rest is done;
        with a chat model behind a cache, no reply is asked for twice and the result is the same.

        Args:
            lm: The model that extracted the tables; it scores the candidates.
            sae: Its SAE.
            chat: The generator.
            folder: The run folder; see `result`.
            judge: Who grades texts before they are kept; nobody by default.
            extract: Extracts the candidates; by default `extract_table`, here.
            progress: Where bars are drawn.

        Raises:
            MismatchError: Tables, model and SAE do not belong together, or the folder holds a run
                with other settings.
            ChatError: More requests failed than the policy allows.
        """
        self.check_sae(sae)
        self._check("model", self._source.model_hash, lm.content_hash, "--model")
        folder = Path(folder)
        run_id = self._claim(folder, chat, judge)
        finisher = self._finisher(chat, judge, progress)
        writer = self._writer(chat, run_id, progress)
        is_checked = self._settings.method == "cover"
        texts = self._in.admission.written_in_anchor if is_checked else ()
        fluency = Fluency.of(texts, lm, self._settings.fluency)
        steps = Steps(writer, lm, sae, self._source, folder, finisher, fluency, extract)
        rounds = self._rounds(lm.tokenizer)
        rounds.run(steps, progress=progress)
        twins, activations = self._twins(rounds, steps)
        result = gather(
            self._in,
            rounds,
            finisher,
            folder,
            twins=twins,
            activations=activations,
            threshold=self._threshold,
        )
        write_synthesis(result, self._source, self._before)
        return result

    def _writer(self, chat: ChatModel, run_id: str, progress: Progress) -> Writer:
        admission, seed = self._in.admission, self._settings.random_seed
        return Writer(
            chat,
            self._task,
            self._as_text,
            run_id=run_id,
            max_words=admission.max_words,
            asks_lengths=self._settings.method == "cover",
            completion_seed=seed if self._moment == "before" else None,
            find_flaw=admission.find_flaw,
            progress=progress,
        )

    def _finisher(
        self, chat: ChatModel, judge: QualityJudge | None, progress: Progress
    ) -> Finisher:
        asks_labels = self._asks_labels(judge)
        return Finisher(
            chat,
            self._task,
            self._in.admission,
            self._in.wording.form,
            moment=self._moment,
            judge=judge,
            head=None if asks_labels else self._head,
            asks_labels=asks_labels,
            random_seed=self._settings.random_seed,
            progress=progress,
        )

    def _twins(self, rounds: Rounds, steps: Steps) -> tuple[Twins, FeatureActivations]:
        """Samples with the other label; and the activations of kept samples, then of these."""
        if not rounds.kept:
            return Twins(), take_rows(self._in.anchor.activations, [])
        kept = [one.row for one in rounds.kept]
        rows, done = take_rows(rounds.pool.rows(), kept), self._task.completion
        if not (done and done.kind == "contrast" and self._settings.twins == "yes"):
            return Twins(), rows
        twins = steps.finisher.write_twins([rounds.pool.candidates[row] for row in kept])
        if not twins.samples:
            return twins, rows
        twins, scored = steps.finisher.confirm_twins(twins, steps.score(twins.samples))
        return twins, stack_rows([rows, scored])

    def _asks_labels(self, judge: QualityJudge | None) -> bool:
        """Whether a chat model says if texts carry their labels, not a head."""
        how = self._settings.check_labels
        return how == "ask" or (how == "auto" and (judge is not None or self._head is None))

    def _rounds(self, tokenizer: Any) -> Rounds:
        """The rounds, whose first step is planned once."""
        if self._planned is None:
            method = PaperRounds if self._settings.method == "paper" else CoverRounds
            self._planned = method(self._in, tokenizer)
        return self._planned

    def _inputs(
        self,
        samples: Sequence[Sample],
        rows: FeatureActivations,
        seed_rows: FeatureActivations,
        admission: Admission,
        relevant: Bool[np.ndarray, " n_features"] | None,
    ) -> Inputs:
        """All that rounds are given."""
        settings, sampling = self._settings, self._settings.sampling
        active, seed_active = (
            active_rows(part, threshold=self._threshold.threshold, relevant=relevant)
            for part in (rows, seed_rows)
        )
        # A text is shown if it is neither too long to be kept nor longer than the generator may
        # write; most tokenizers need less than three tokens for two words.
        assert sampling.max_length is not None
        texts = AnchorTexts(
            samples,
            rows,
            extract=extract_settings(self._source),
            max_words=max(1, min(admission.max_words, sampling.max_length * 2 // 3)),
            evidence=settings.evidence,
            describe=settings.describe == "yes",
            explanations=self._explanations,
        )
        return Inputs(
            settings,
            Wording(settings.form, sampling, self._task, settings.prompt == "request"),
            active,
            seed_active,
            missing_features(active, seed_active),
            admission,
            texts,
            np.array(list(map(count_written_words, samples))) if self._moment == "before" else None,
        )

    def _admission(self, samples: Sequence[Sample], settings: SynthesisSettings) -> Admission:
        return Admission(
            samples,
            [sample for seed in self._seeds for sample in seed.samples()],
            max_overlap=settings.max_overlap,
            max_run=settings.max_run,
            evaluation=[x for name in settings.decontaminate for x in read_samples(name)],
            language=settings.language,
            is_strict=settings.method == "cover",
        )

    def _check(self, what: str, wanted: str, given: str, option: str) -> None:
        if given != wanted:
            raise MismatchError(
                f"{self._anchor.folder} was extracted with {what} {wanted[:12]}, but this run uses "
                f"{given[:12]}; extract again or pass the matching {option}"
            )

    def _claim(self, folder: Path, chat: ChatModel, judge: QualityJudge | None) -> str:
        """Write down what the folder is for, or check that it is for this run; the run's id."""
        hashes = [seed.manifest.samples_hash for seed in self._seeds]
        relevant = np.packbits(self._in.anchor.relevant).tobytes()
        given = {
            "anchor": self._anchor.manifest.samples_hash,
            "seed": hashes[0] if len(hashes) == 1 else hashes,
            "relevant": hashlib.sha256(relevant).hexdigest(),
            "generator": chat.name,
            "prompt_version": PROMPT_VERSION,
            "task": {"name": self._task.name, "content_hash": self._task.content_hash},
            "judge": judge and judge.row(),
            "explanations": _digest(self._explanations),
        }
        return claim_folder(folder, self._settings, self._source, given)


def resolve_settings(
    settings: SynthesisSettings, task: TaskFormat, max_words: int
) -> SynthesisSettings:
    """The settings with what the method, the task and the anchor decide where they do not say.

    Args:
        settings: What was asked for.
        task: What a sample is.
        max_words: Words of the longest text that may be kept.
    """
    is_paper = settings.method == "paper"
    form = settings.form or task.form
    prompt = "request" if is_paper else task.prompt
    length = settings.sampling.max_length or min(_MOST_TOKENS, max(_LEAST_TOKENS, 2 * max_words))
    return replace(
        settings,
        form=f"{form}, in {settings.language}" if settings.language else form,
        prompt=prompt if settings.prompt == "auto" else settings.prompt,
        evidence=_either(settings.evidence, "spans" if is_paper else "texts"),
        describe=_either(settings.describe, "yes" if is_paper else "no"),
        twins=_either(settings.twins, "no" if is_paper else "yes"),
        min_anchor_samples=settings.min_anchor_samples or (1 if is_paper else 2),
        check_labels="none" if is_paper else settings.check_labels,
        sampling=replace(settings.sampling, max_length=length),
    )


def _seed_tables(
    anchor: FeatureTable, seed: FeatureTable | Sequence[FeatureTable]
) -> tuple[FeatureTable, ...]:
    """The tables that are one seed, which belong to the anchor's."""
    tables = (seed,) if isinstance(seed, FeatureTable) else tuple(seed)
    if not tables:
        raise DataError("there is no seed table; give at least one")
    for one in tables:
        check_same_features(anchor, one)
    return tables


def _either(value: Any, otherwise: str) -> Any:
    return otherwise if value == "auto" else value


def _digest(explanations: Mapping[int, str]) -> str | None:
    if not explanations:
        return None
    return hashlib.sha256(json.dumps(sorted(explanations.items())).encode()).hexdigest()


def _with_long_answers(task: TaskFormat, samples: Sequence[Sample]) -> TaskFormat:
    """The task, with answers that may be as long as nearly all of the anchor's."""
    done = task.completion
    said = [m.content for one in samples for m in one.messages if m.role == "assistant"]
    if done is None or done.kind != "answer" or not said:
        return task
    most = 2 * int(np.quantile(list(map(count_words, said)), 0.99))
    done = replace(done, max_tokens=max(done.max_tokens, min(_MOST_TOKENS, most)))
    return replace(task, completion=done)


def _count_turns(sample: Sample) -> int:
    return max(1, sum(message.role == "user" for message in sample.messages))

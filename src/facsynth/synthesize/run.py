"""One synthesis run: it checks what it is given, estimates what it may cost, and is executed."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from facsynth.chat.model import ChatModel
from facsynth.chat.settings import Policy
from facsynth.coverage.fac import missing_features
from facsynth.data.read import read_samples
from facsynth.data.write import write_json
from facsynth.errors import DataError, MismatchError
from facsynth.models.lm import LanguageModel
from facsynth.progress import SILENT, Progress
from facsynth.records import FeatureActivations, Sample
from facsynth.sae.module import SparseAutoencoder
from facsynth.settings import changed_settings
from facsynth.synthesize.admission import Admission
from facsynth.synthesize.ask import Writer
from facsynth.synthesize.candidates import Wording
from facsynth.synthesize.complete import Finished, finish, moment_of
from facsynth.synthesize.forecast import Forecast, forecast
from facsynth.synthesize.judge import QualityJudge
from facsynth.synthesize.prompts import PROMPT_VERSION
from facsynth.synthesize.result import KeptSample, Synthesis, write_synthesis
from facsynth.synthesize.rounds import Inputs, RoundRow, Rounds
from facsynth.synthesize.score import Steps
from facsynth.synthesize.settings import SynthesisSettings
from facsynth.synthesize.task_format import read_task
from facsynth.synthesize.texts import AnchorTexts
from facsynth.table.active import active_rows
from facsynth.table.alike import check_same_features
from facsynth.table.rows import stack_rows, take_rows
from facsynth.table.table import FeatureTable
from facsynth.understand.spans import extract_settings

__all__ = ["SynthesisRun"]


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
    ) -> None:
        """Plan a run.

        Args:
            anchor: Feature table of the anchor.
            seed: Feature table of the seed, extracted with the same model and SAE; several, such
                as a seed with what an earlier run wrote for it, are one seed together.
            settings: See `SynthesisSettings`.
            relevant: Features that count; all by default.

        Raises:
            DataError: A task or an evaluation set cannot be read, or there is no seed.
            MismatchError: The tables do not belong together, or the task does not fit the anchor.
        """
        settings = settings or SynthesisSettings()
        self._anchor = anchor
        self._seeds = (seed,) if isinstance(seed, FeatureTable) else tuple(seed)
        if not self._seeds:
            raise DataError("there is no seed table; give at least one")
        for one in self._seeds:
            check_same_features(anchor, one)
        self._source = source = anchor.manifest.source
        self._task = task = read_task(settings.task)
        samples = anchor.samples()
        # The first sample tells conversations from plain texts; data sets do not mix them.
        self._as_text = bool(samples) and not samples[0].messages
        self._moment = moment_of(task, source.score, as_text=self._as_text, reply=settings.reply)
        prompt = task.prompt if settings.prompt == "auto" else settings.prompt
        form = settings.form or task.form
        self._settings = settings = replace(settings, form=form, prompt=prompt)
        rows, seed_rows = anchor.activations(), stack_rows([s.activations() for s in self._seeds])
        self._before = active_rows(seed_rows, threshold=0.0).peaks
        active, seed_active = (
            active_rows(part, threshold=settings.threshold, relevant=relevant)
            for part in (rows, seed_rows)
        )
        admission = self._admission(samples)
        # A text is shown if it is neither too long to be kept nor longer than the generator may
        # write; most tokenizers need less than three tokens for two words.
        max_words = max(1, min(admission.max_words, settings.sampling.max_length * 2 // 3))
        self._in = Inputs(
            settings,
            Wording(form, settings.sampling, task, prompt),
            active,
            seed_active,
            missing_features(active, seed_active),
            admission,
            AnchorTexts(samples, rows, extract=extract_settings(source), max_words=max_words),
        )

    def forecast(
        self, tokenizer: Any, *, policy: Policy | None = None, judge: QualityJudge | None = None
    ) -> Forecast:
        """What the run may ask and cost; nothing is asked.

        Args:
            tokenizer: Tokenizer of the model that extracted the anchor.
            policy: Prices.
            judge: Who grades texts before they are kept; nobody by default.
        """
        rounds, effort, done = (
            Rounds(self._in, tokenizer),
            self._settings.effort,
            self._task.completion,
        )
        requests = [one.request for one in rounds.plan_round(0).requests]
        n_answers = {"before": None, "after": effort.max_samples}.get(str(self._moment), 0)
        return forecast(
            requests,
            n_features=rounds.n_wanted(),
            is_repeated=self._settings.plan.objective == "match",
            effort=effort,
            n_answers=n_answers,
            answer_tokens=done.max_tokens if done else 0,
            grade=judge.request("", self._in.wording.form) if judge else None,
            policy=policy,
        )

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
        seed = self._settings.random_seed
        writer = Writer(
            chat,
            self._task,
            self._as_text,
            run_id=run_id,
            max_words=self._in.admission.max_words,
            completion_seed=seed if self._moment == "before" else None,
            progress=progress,
        )
        steps = Steps(writer, lm, sae, self._source, folder)
        rounds = Rounds(self._in, lm.tokenizer, progress=progress, judge=judge)
        rows = rounds.run(steps)
        kept = tuple(rounds.pool.candidates[one.row] for one in rounds.kept)
        n_bare = sum(len(c.sample.messages) < 2 for c in kept) if self._moment == "before" else 0
        finished = Finished(kept, n_bare=n_bare)
        if self._moment == "after" and kept:
            finished = finish(
                kept,
                self._task,
                chat,
                admission=self._in.admission,
                score=steps.score,
                random_seed=seed,
                progress=progress,
            )
        result = self._result(rounds, finished, rows, folder, chat.name)
        write_synthesis(result, self._source, self._before)
        return result

    def _admission(self, samples: Sequence[Sample]) -> Admission:
        return Admission(
            samples,
            [sample for seed in self._seeds for sample in seed.samples()],
            max_overlap=self._settings.max_overlap,
            evaluation=[x for name in self._settings.decontaminate for x in read_samples(name)],
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
        plan = {
            "anchor": self._anchor.manifest.samples_hash,
            "seed": hashes[0] if len(hashes) == 1 else hashes,
            "relevant": hashlib.sha256(relevant).hexdigest(),
            "generator": chat.name,
            "prompt_version": PROMPT_VERSION,
            "task": {"name": self._task.name, "content_hash": self._task.content_hash},
            "settings": asdict(self._settings),
            "judge": judge and judge.row(),
        }
        run_id = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:8]
        path, source = folder / "plan.json", asdict(self._source)
        if not path.is_file():
            write_json(plan | {"run_id": run_id, "source": source}, path)
            return run_id
        found = json.loads(path.read_text(encoding="utf-8"))
        differing = [key for key in plan if key != "settings" and found.get(key) != plan[key]]
        # Versions may know different fields of a table's source.
        known = found["source"].keys() & source.keys()
        differing += ["source"] * any(found["source"][key] != source[key] for key in known)
        differing += changed_settings(self._settings, found["settings"])
        if differing:
            raise MismatchError(
                f"{folder} holds a run with another {' and '.join(differing)}; choose another "
                "output folder or delete it"
            )
        return str(found.get("run_id", run_id))

    def _result(
        self,
        rounds: Rounds,
        finished: Finished,
        rows: Sequence[RoundRow],
        folder: Path,
        generator: str,
    ) -> Synthesis:
        """What came of the run."""
        chosen = [kept.row for kept in rounds.kept]
        everything = rounds.pool.rows() if chosen else self._in.anchor.activations
        activations = take_rows(everything, chosen)
        if finished.rows is not None:
            activations = stack_rows([activations, finished.rows])
        made, missing = finished.candidates, self._in.missing
        kept = [
            KeptSample(made[i], made[i].sample, one.new_features, self._credited(activations, i))
            for i, one in enumerate(rounds.kept)
        ]
        kept += [
            KeptSample(made[owner], sample, (), self._credited(activations, i), is_contrast=True)
            for i, (owner, sample) in enumerate(
                zip(finished.owners, finished.contrasts, strict=True), start=len(made)
            )
        ]
        return Synthesis(
            kept=tuple(kept),
            activations=activations,
            missing_before=tuple(int(feature) for feature in missing),
            rounds=tuple(rows),
            outcomes=dict(sorted((rounds.pool.outcome_counts() + rounds.lost).items())),
            generator=generator,
            stopped="budget" if finished.stopped else rounds.stopped,
            n_unanswered=finished.n_bare,
            folder=folder,
            fac=(rounds.coverage(), rounds.coverage(rounds.kept)) if len(missing) else None,
            is_sensitive=self._task.sensitive,
        )

    def _credited(self, rows: FeatureActivations, index: int) -> dict[int, float]:
        """Activation of each feature missing before the run that a row activates."""
        start, end = rows.row_starts[index : index + 2]
        features, values = rows.feature_ids[start:end], rows.values[start:end]
        wanted = np.isin(features, self._in.missing)
        wanted &= values > np.float32(self._settings.threshold)
        return {int(f): float(v) for f, v in zip(features[wanted], values[wanted], strict=True)}

"""One run of a baseline: it checks what it is given, estimates what it may cost, and is executed.

```
RUN/plan.json         what the run was asked for
RUN/synthetic.jsonl   the kept samples, with their provenance
RUN/summary.json      what came of the run; written last
```
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from facsynth.baselines.job import Draft, Job, Local
from facsynth.baselines.methods import METHODS
from facsynth.baselines.sao import judged_pairs
from facsynth.baselines.settings import BASELINES, Baseline, BaselineSettings
from facsynth.chat.model import ChatModel, estimate_tokens
from facsynth.chat.policy import Estimate
from facsynth.chat.settings import Policy
from facsynth.data.read import read_samples
from facsynth.data.stored import read_json
from facsynth.data.write import sample_row, write_json, write_jsonl
from facsynth.errors import DataError, MismatchError
from facsynth.progress import SILENT, Progress
from facsynth.records import Message, Sample
from facsynth.settings import changed_settings
from facsynth.show import TextTable, as_html
from facsynth.synthesize.admission import word_limits
from facsynth.synthesize.complete import complete, write_contrasts
from facsynth.synthesize.task_format import read_task
from facsynth.table.write import samples_hash

__all__ = ["BaselineResult", "BaselineRun"]


@dataclass(frozen=True)
class BaselineResult:
    """What a baseline wrote and kept."""

    method: str
    samples: tuple[Sample, ...]
    """In the order in which they were kept; a contrast follows its sample."""

    outcomes: Mapping[str, int]
    """Requested texts by what became of them."""

    generator: str
    stopped: str | None
    """Which limit ended the run; None if it kept what it was asked for or ran out of rounds."""

    n_wanted: int
    data: Path
    """`synthetic.jsonl`."""

    def row(self) -> dict[str, Any]:
        """The numbers of the run under stable keys."""
        return {
            "method": self.method,
            "n_samples": len(self.samples),
            "n_wanted": self.n_wanted,
            "outcomes": dict(self.outcomes),
            "stopped": self.stopped,
            "generator": self.generator,
            "data": str(self.data),
        }

    def tables(self) -> Sequence[TextTable]:
        """What was kept, then what became of the other texts."""
        rows = [("samples wanted", self.n_wanted), ("samples kept", len(self.samples))]
        rows += [(f"texts: {outcome}", n) for outcome, n in self.outcomes.items()]
        return [TextTable(f"Baseline {self.method}, {self.data}", ("what", "count"), rows)]

    _repr_html_ = as_html


class BaselineRun:
    """Samples to be written by another method, under the rules of `fac synthesize`."""

    def __init__(
        self,
        method: Baseline,
        seeds: Sequence[Sample],
        anchor: Sequence[Sample] = (),
        *,
        settings: BaselineSettings | None = None,
    ) -> None:
        """Plan a run.

        Args:
            method: Its name, one of `BASELINES`.
            seeds: The data set to improve.
            anchor: The target domain; methods that need it take the seed where there is none, and
                it sets the lengths of what is kept.
            settings: See `BaselineSettings`.

        Raises:
            DataError: There is no such method or no seed, or a task or an evaluation set cannot be
                read.
        """
        if method not in BASELINES:
            raise DataError(f"there is no baseline {method!r}; choose {', '.join(BASELINES)}")
        if not seeds:
            raise DataError("there is no seed sample; a baseline needs at least one")
        settings = settings or BaselineSettings()
        self.task = read_task(settings.task, reply_tokens=settings.sampling.reply_tokens)
        self.settings = replace(settings, form=settings.form or self.task.form)
        self.method, self._seeds, self._anchor = method, seeds, anchor
        self._evaluation = [x for name in settings.decontaminate for x in read_samples(name)]

    def forecast(self, policy: Policy | None = None) -> Estimate:
        """What the run may cost if every second text is kept; nothing is asked."""
        policy = policy or Policy()
        n_calls = 2 * METHODS[self.method].calls_per_sample * self.settings.max_samples
        words = sum(estimate_tokens(str(sample)) for sample in self._seeds)
        length = (
            self.settings.sampling.max_length or 2 * word_limits(self._anchor or self._seeds)[1]
        )
        n_in = n_calls * (80 + 3 * words // max(1, len(self._seeds)))
        n_out = n_calls * length
        done = self.task.completion
        if done and (self.settings.reply or done.kind != "answer"):
            n_calls += self.settings.max_samples
            n_out += self.settings.max_samples * done.max_tokens
        return Estimate(n_calls, n_in, n_out, policy.cost(n_in, n_out))

    def execute(
        self,
        chat: ChatModel,
        folder: str | Path,
        *,
        local: Local | None = None,
        progress: Progress = SILENT,
    ) -> BaselineResult:
        """Write the samples, and leave the data set in a folder.

        Executed again after a kill, with a chat model behind a cache no reply is asked for twice.

        Args:
            chat: The generator.
            folder: The run folder.
            local: What only local models give; prismatic, synalign and magpie need it.
            progress: Where bars are drawn.

        Raises:
            MismatchError: The folder holds a run with other settings.
            ChatError: More requests failed than the policy allows.
        """
        folder = Path(folder)
        run_id = self._claim(folder, chat)
        job = Job(
            self._seeds,
            self._anchor,
            self.settings,
            self.task,
            chat,
            local=local or Local(),
            evaluation=self._evaluation,
            progress=progress,
        )
        METHODS[self.method].write(job)
        rows = list(_finished_rows(self.method, job, run_id, self._provenance(chat)))
        write_jsonl([row for _, row in rows], folder / "synthetic.jsonl")
        outcomes = {"kept": len(job.kept), **dict(sorted(job.lost.items()))}
        result = BaselineResult(
            self.method,
            tuple(sample for sample, _ in rows),
            outcomes,
            chat.name,
            job.stopped,
            self.settings.max_samples,
            folder / "synthetic.jsonl",
        )
        summary = result.row()
        del summary["data"]  # the folder may be moved
        write_json(summary, folder / "summary.json")
        return result

    def _provenance(self, chat: ChatModel) -> Callable[[Draft], dict[str, Any]]:
        def of(draft: Draft) -> dict[str, Any]:
            return {
                "method": self.method,
                **draft.facts,
                "round": draft.candidate.round + 1,
                "generator": chat.name,
                "random_seed": self.settings.random_seed,
                "synthetic": True,
            }

        return of

    def _claim(self, folder: Path, chat: ChatModel) -> str:
        """Write down what the folder is for, or check that it is for this run; the run's id."""
        plan = {
            "method": self.method,
            "seed": samples_hash(self._seeds),
            "anchor": samples_hash(self._anchor),
            "generator": chat.name,
            "task": self.task.content_hash,
            "settings": asdict(self.settings),
        }
        digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:8]
        path = folder / "plan.json"
        if not path.is_file():
            write_json(plan, path)
            return f"{self.method}-{digest}"
        found = read_json(path)
        differing = [key for key in plan if key != "settings" and found.get(key) != plan[key]]
        differing += changed_settings(self.settings, found["settings"])
        if differing:
            raise MismatchError(
                f"{folder} holds a run with another {' and '.join(differing)}; choose another "
                "output folder or delete it"
            )
        return f"{self.method}-{digest}"


def _finished_rows(
    method: str, job: Job, run_id: str, provenance: Callable[[Draft], dict[str, Any]]
) -> list[tuple[Sample, dict[str, Any]]]:
    """The kept texts as samples of the task, each with its row; without what failed."""
    drafts = [
        replace(d, candidate=replace(d.candidate, sample=replace(d.candidate.sample, sample_id=i)))
        for d, i in ((d, f"{run_id}-{number}") for number, d in enumerate(job.kept))
    ]
    done, seed = job.task.completion, job.settings.random_seed
    wanted = done is not None and (done.kind != "answer" or job.settings.reply)
    if done is None or not wanted or (done.kind != "contrast" and job.as_text):
        return [(d.candidate.sample, _row(d, provenance)) for d in drafts]
    candidates = [draft.candidate for draft in drafts]
    if done.kind == "contrast":
        contrasts = write_contrasts(
            candidates, job.task, job.chat, random_seed=seed, progress=job.progress
        )
        pairs = zip(drafts, contrasts.samples, strict=True)
        return [row for draft, other in pairs for row in _contrasted(draft, other, provenance)]
    if done.kind == "pair" and method == "sao":
        drafts = _self_judged(job, drafts, done.max_tokens)
        return [(d.candidate.sample, _row(d, provenance)) for d in drafts]
    made = complete(candidates, job.task, job.chat, random_seed=seed, progress=job.progress)
    answered = zip(drafts, made.candidates, strict=True)
    full = [replace(draft, candidate=new) for draft, new in answered if new is not None]
    return [(d.candidate.sample, _row(d, provenance)) for d in full]


def _self_judged(job: Job, drafts: Sequence[Draft], max_tokens: int) -> list[Draft]:
    """The drafts as preference pairs of two answers that the generator itself compared."""
    pairs = judged_pairs(job, [draft.candidate.written for draft in drafts], max_tokens)
    found = []
    for draft, pair in zip(drafts, pairs, strict=True):
        if pair is not None:
            better, worse = (Message("assistant", answer) for answer in pair)
            old = draft.candidate.sample
            new = replace(old, messages=(*old.messages, better), rejected=(*old.messages, worse))
            found.append(replace(draft, candidate=replace(draft.candidate, sample=new)))
    return found


def _contrasted(
    draft: Draft, other: Sample | None, provenance: Callable[[Draft], dict[str, Any]]
) -> list[tuple[Sample, dict[str, Any]]]:
    sample, row = draft.candidate.sample, _row(draft, provenance)
    if other is None:
        return [(sample, row)]
    facts = {**row["provenance"], "contrast_to": sample.sample_id}
    return [(sample, row), (other, {**sample_row(other), "provenance": facts})]


def _row(draft: Draft, provenance: Callable[[Draft], dict[str, Any]]) -> dict[str, Any]:
    """A row in TRL's format, with provenance in one column that can be dropped."""
    candidate = draft.candidate
    return {
        **sample_row(candidate.sample),
        **candidate.fields,
        "provenance": provenance(draft),
    }

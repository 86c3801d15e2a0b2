"""What happens to chosen texts before they are kept: grades, answers, checks; and their twins."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from facsynth.chat.model import ChatModel
from facsynth.progress import SILENT, Progress
from facsynth.records import FeatureActivations, Sample
from facsynth.synthesize.admission import Admission
from facsynth.synthesize.candidates import NOT_ASKED, Candidate
from facsynth.synthesize.complete import Moment, complete, write_contrasts
from facsynth.synthesize.judge import NOT_CONFIRMED, QualityJudge, check_labels
from facsynth.synthesize.label_head import LabelHead
from facsynth.synthesize.task_format import TaskFormat
from facsynth.table.rows import take_rows

__all__ = ["Finished", "Finisher", "Twins"]


@dataclass(frozen=True)
class Finished:
    """Chosen candidates with what their task adds."""

    candidates: tuple[Candidate, ...]
    outcomes: tuple[str, ...]
    """Empty where a candidate may be kept; else why not."""

    stopped: str | None = None
    """Which limit ended the asking; None if every request was asked."""


@dataclass(frozen=True)
class Twins:
    """Samples with the other label, each with the number of the sample that it belongs to."""

    samples: tuple[Sample, ...] = ()
    owners: tuple[int, ...] = ()
    stopped: str | None = None
    """Which limit ended the asking; None if every request was asked."""


@dataclass(frozen=True)
class Finisher:
    """Asks all that is asked about chosen texts."""

    chat: ChatModel
    """The generator."""

    task: TaskFormat
    admission: Admission
    form: str
    """What was asked for."""

    moment: Moment = None
    """When the task's completion is asked for."""

    judge: QualityJudge | None = None
    head: LabelHead | None = None
    """Who says whether a text carries its label."""

    asks_labels: bool = True
    """Whether the judge, or else the generator, is asked that."""

    random_seed: int = 0
    progress: Progress = SILENT

    def label_flaws(self, rows: FeatureActivations) -> list[str]:
        """For each scored text empty, or that the head does not give it its label."""
        if self.head is None or self.task.label is None:
            return [""] * rows.n_tokens.size
        agrees = self.head.agrees(rows, self.task.label)
        return ["" if one else NOT_CONFIRMED for one in agrees]

    def confirm_twins(
        self, twins: Twins, rows: FeatureActivations
    ) -> tuple[Twins, FeatureActivations]:
        """The scored twins that the head gives their label, if there is a head."""
        done = self.task.completion
        if self.head is None or done is None or done.label is None:
            return twins, rows
        kept = [i for i, one in enumerate(self.head.agrees(rows, done.label)) if one]
        samples = tuple(twins.samples[i] for i in kept)
        owners = tuple(twins.owners[i] for i in kept)
        return Twins(samples, owners, twins.stopped), take_rows(rows, kept)

    def row(self) -> dict[str, object] | None:
        """What the grades depend on; None without a judge."""
        return self.judge.row() if self.judge else None

    def finish(self, candidates: Sequence[Candidate]) -> Finished:
        """Grade chosen texts, add what the task adds, and check answers and labels.

        Where a limit leaves a text without its answer, it may be kept without one.

        Raises:
            ChatError: More requests failed than the policy allows.
        """
        made, outcomes = list(candidates), [""] * len(candidates)
        stopped = self._grade(made, outcomes)
        stopped = self._answer(made, outcomes) or stopped
        stopped = self._check(made, outcomes) or stopped
        return Finished(tuple(made), tuple(outcomes), stopped)

    def write_twins(self, kept: Sequence[Candidate]) -> Twins:
        """A sample with the other label for each kept one; unusable ones are left out.

        Raises:
            ChatError: More requests failed than the policy allows.
        """
        written = write_contrasts(
            kept, self.task, self.chat, random_seed=self.random_seed, progress=self.progress
        )
        usable = [
            (owner, sample)
            for owner, sample in enumerate(written.samples)
            if sample is not None and self.admission.find_flaw_of_contrast(sample) is None
        ]
        done = self.task.completion
        if done and done.check and self.asks_labels:
            labels = (str(done.label), str(self.task.label))
            texts = [s.text if s.text is not None else s.messages[0].content for _, s in usable]
            checked = self._ask_labels([(text, *labels) for text in texts])
            usable = [one for one, said in zip(usable, checked[0], strict=True) if not said]
            written_stop = checked[1] or written.stopped
        else:
            written_stop = written.stopped
        owners, samples = tuple(owner for owner, _ in usable), tuple(s for _, s in usable)
        return Twins(samples, owners, written_stop)

    def _grade(self, made: list[Candidate], outcomes: list[str]) -> str | None:
        if self.judge is None or not made:
            return None
        graded = self.judge.grade(made, form=self.form, progress=self.progress)
        outcomes[:] = graded.outcomes
        return graded.stopped

    def _answer(self, made: list[Candidate], outcomes: list[str]) -> str | None:
        """Add what is asked for after choosing."""
        done = self.task.completion
        todo = _open(outcomes)
        if self.moment != "after" or done is None or done.kind == "contrast" or not todo:
            return None
        texts = [made[i] for i in todo]
        answered = complete(
            texts, self.task, self.chat, random_seed=self.random_seed, progress=self.progress
        )
        for i, found in zip(todo, answered.candidates, strict=True):
            if found is not None:
                made[i] = found
                outcomes[i] = self.admission.find_flaw_of_answers(found.sample) or ""
            elif answered.stopped is None or done.kind != "answer":
                outcomes[i] = NOT_ASKED if answered.stopped else "without the task's form"
        return answered.stopped

    def _check(self, made: list[Candidate], outcomes: list[str]) -> str | None:
        """Ask whether texts carry their labels."""
        done, todo = self.task.completion, _open(outcomes)
        if done is None or not done.check or not self.asks_labels or not todo:
            return None
        said, stopped = self._ask_labels([_labelled(made[i], self.task) for i in todo])
        for i, outcome in zip(todo, said, strict=True):
            outcomes[i] = outcome
        return stopped

    def _ask_labels(
        self, options: Sequence[tuple[str, str, str]]
    ) -> tuple[tuple[str, ...], str | None]:
        asked = self.judge.chat if self.judge else self.chat
        checked = check_labels(options, self.task, asked, progress=self.progress)
        return checked.outcomes, checked.stopped


def _open(outcomes: Sequence[str]) -> list[int]:
    return [i for i, outcome in enumerate(outcomes) if not outcome]


def _labelled(candidate: Candidate, task: TaskFormat) -> tuple[str, str, str]:
    """The text of a candidate, what is right about it, and what is not."""
    assert task.completion is not None
    if task.completion.kind == "contrast":
        return candidate.written, str(task.label), str(task.completion.label)
    if task.completion.kind == "pair":
        chosen, rejected = candidate.sample.messages[-1], candidate.sample.rejected[-1]
        return candidate.written, chosen.content, rejected.content
    options = dict(re.findall(r"^ (\([AB]\)) (.*)$", str(candidate.fields["question"]), re.M))
    matching = options[str(candidate.fields["answer_matching_behavior"])]
    other = options[str(candidate.fields["answer_not_matching_behavior"])]
    return candidate.written, matching, other

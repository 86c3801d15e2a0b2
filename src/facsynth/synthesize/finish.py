"""The end of a run: kept texts become samples of the task's form."""

from collections.abc import Sequence
from dataclasses import dataclass

from facsynth.chat.model import ChatModel
from facsynth.errors import MismatchError
from facsynth.models.lm import LanguageModel
from facsynth.progress import Progress
from facsynth.records import FeatureActivations, Sample
from facsynth.sae.module import SparseAutoencoder
from facsynth.synthesize.admission import Admission
from facsynth.synthesize.candidates import Candidate
from facsynth.synthesize.complete import complete, write_contrasts
from facsynth.synthesize.task_format import TaskFormat
from facsynth.table.extract import extract_features
from facsynth.table.table import TableSource
from facsynth.understand.spans import extract_settings

__all__ = ["Finished", "Moment", "finish", "moment_of"]

Moment = str | None
"""When a task adds what it adds: `before` scoring, `after` keeping, or never."""


@dataclass(frozen=True)
class Finished:
    """Kept candidates with what their task adds."""

    candidates: tuple[Candidate, ...]
    stopped: str | None = None
    """What the budget said when it did not allow every request."""

    contrasts: tuple[Sample, ...] = ()
    """Samples with the other label."""

    owners: tuple[int, ...] = ()
    """Number of the candidate that each contrast belongs to."""

    rows: FeatureActivations | None = None
    """Activations of the contrasts; None without any."""

    n_bare: int = 0
    """Candidates without what the task adds."""


def moment_of(task: TaskFormat, source: TableSource, *, as_text: bool, reply: bool) -> Moment:
    """When the task's completion is asked for: as late as scoring allows, because it costs calls.

    Args:
        task: What a sample is.
        source: How the anchor was extracted; answers that are scored must be there before.
        as_text: Whether samples are plain texts.
        reply: Whether the assistant's answers are wanted at all.

    Raises:
        MismatchError: The task cannot be written for this anchor.
    """
    kind = task.completion.kind if task.completion else None
    if kind is None or (kind == "answer" and (as_text or not reply)):
        return None
    if as_text and kind in ("pair", "choice"):
        raise MismatchError(
            f"the task {task.name} writes conversations, but the anchor holds plain texts; give "
            "the anchor as `messages`, `instruction` or `prompt` rows and extract it again"
        )
    if kind == "contrast":
        if source.score == "assistant" and not as_text:
            raise MismatchError(
                f"the task {task.name} writes what users say, but the anchor was extracted with "
                "--score assistant; extract it again with --score user"
            )
        return "after"
    return "before" if kind == "choice" or source.score != "user" else "after"


def finish(
    kept: Sequence[Candidate],
    task: TaskFormat,
    chat: ChatModel,
    lm: LanguageModel,
    sae: SparseAutoencoder,
    *,
    source: TableSource,
    admission: Admission,
    seed: int,
    progress: Progress,
) -> Finished:
    """Add what the task adds to kept texts, and score what is a sample of its own.

    A kept text whose completion failed, loops or copies an evaluation set stays as it is and is
    counted. A contrast that copies an evaluation set, or is no text at all, is left out.

    Raises:
        ChatError: More requests failed than the policy allows.
    """
    assert task.completion is not None
    if task.completion.kind != "contrast":
        done = complete(kept, task, chat, seed=seed, progress=progress)
        pairs = zip(kept, done.candidates, strict=True)
        made = tuple(
            old if new is None or _has_flawed_answer(new, admission) else new for old, new in pairs
        )
        n_bare = sum(len(c.sample.messages) < 2 for c in made)
        return Finished(made, done.stopped, n_bare=n_bare)
    written = write_contrasts(kept, task, chat, seed=seed, progress=progress)
    usable = [
        (owner, sample)
        for owner, sample in enumerate(written.samples)
        if sample is not None and admission.find_flaw_of_contrast(sample) is None
    ]
    contrasts = tuple(sample for _, sample in usable)
    settings = extract_settings(source)
    rows = extract_features(contrasts, lm, sae, settings=settings) if contrasts else None
    return Finished(
        tuple(kept),
        written.stopped,
        contrasts,
        tuple(owner for owner, _ in usable),
        rows,
        n_bare=len(kept) - len(contrasts),
    )


def _has_flawed_answer(candidate: Candidate, admission: Admission) -> bool:
    sample = candidate.sample
    answers = [message.content for message in (*sample.messages[1:], *sample.rejected[1:])]
    return any(admission.find_flaw_of_answer(answer) is not None for answer in answers)

"""Toxicity: how well trained models tell toxic texts, beside what chance and length reach."""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float64

from facsynth.progress import SILENT, Progress
from facsynth.records import sample_text
from facsynth.tasks.folder import TrainedTask, near_copies
from facsynth.tasks.metrics import auprc, auroc, bootstrap_ranking, check_classes
from facsynth.tasks.results import Items, TaskResult, by_part, estimate_row, rows_table
from facsynth.tasks.settings import Loader
from facsynth.tasks.toxicity.data import LabelledTexts
from facsynth.words import count_words

if TYPE_CHECKING:
    from facsynth.tasks.scorer import Scored

__all__ = ["evaluate_toxicity"]

_QUESTION = (
    "Is the text between the tags toxic, that is hateful, insulting, threatening, or asking for "
    "something harmful? Answer Yes or No.\n\n<text>\n{text}\n</text>"
)

_TITLES = {
    "AUPRC": "auprc",
    "  of a constant score": "prevalence",
    "AUROC": "auroc",
    "  of the number of words alone": "length_auroc",
    "samples": "n_samples",
}


def evaluate_toxicity(
    trained: TrainedTask,
    data: LabelledTexts,
    load: Loader,
    *,
    base: bool = False,
    allow_overlap: bool = False,
    progress: Progress = SILENT,
) -> TaskResult:
    """Score texts by every trained model.

    Args:
        trained: What `train_toxicity` wrote.
        data: Evaluation samples.
        load: Loads the untrained model, after the input is checked.
        base: Also ask the untrained model whether each text is toxic; its score is the log odds
            of Yes against No.
        allow_overlap: Evaluate also on near-copies of training samples.
        progress: Where bars go.

    Returns:
        `auprc`, `auroc` and the `accuracy` at even odds; `groups` with the accuracy of each
        functionality; `prevalence`, the AUPRC of a constant; `length_auroc`; `n_samples`, `n_cut`.

    Raises:
        DataError: A class is missing, or evaluation samples are near-copies of training samples.
        MismatchError: The model is another one.
    """
    check_classes(data.positive, "the evaluation data")
    texts = [(sample.sample_id, sample_text(sample)) for sample in data.samples]
    copies = near_copies(trained, texts, allow=allow_overlap)
    trained.check()
    # They load torch: after what the user got wrong.
    from facsynth.tasks.prompted import yes_odds
    from facsynth.tasks.scorer import score_samples

    asked = partial(yes_odds, _QUESTION) if base else None
    scored = score_samples(trained, data.samples, load, base=asked, progress=progress)
    return _result(data, scored, copies)


def _result(data: LabelledTexts, scored: "Scored", copies: tuple[str, ...]) -> TaskResult:
    models = {name: _measure(name, data.positive, found) for name, found in scored.by_model.items()}
    right = [(found > 0) == data.positive for found in scored.trained()]
    groups = by_part(
        "group",
        data.groups,
        {"positive_share": data.positive, "accuracy": np.mean(right, axis=0)},
    )
    lengths = np.array([count_words(sample_text(s)) for s in data.samples], dtype=np.float64)
    return TaskResult(
        "toxicity",
        "auprc",
        base=models.pop("base", None),
        models=list(models.values()),
        items=Items(
            tuple(sample.sample_id for sample in data.samples), scored.by_model, data.positive
        ),
        values={
            "groups": groups,
            "prevalence": float(data.positive.mean()),
            "length_auroc": auroc(data.positive, lengths),
            "n_samples": len(data.samples),
            "n_cut": scored.n_cut,
        },
        titles=_TITLES,
        simple="prevalence",
        near_copies=copies,
        parts=rows_table("By functionality", groups),
    )


def _measure(
    name: str,
    positive: Bool[np.ndarray, " n_samples"],
    scores: Float64[np.ndarray, " n_samples"],
) -> dict[str, Any]:
    row: dict[str, Any] = {"model": name}
    for measure in (auprc, auroc):
        rng = np.random.default_rng(0)
        row |= estimate_row(measure.__name__, bootstrap_ranking(measure, positive, scores, rng=rng))
    return row | {"accuracy": float(((scores > 0) == positive).mean())}

"""Toxicity: how well trained models tell toxic texts, beside what chance and length reach."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from facsynth.progress import SILENT, Progress
from facsynth.records import sample_text
from facsynth.show import TextTable, as_html
from facsynth.tasks.folder import TrainedTask, near_copies
from facsynth.tasks.metrics import auprc, auroc, bootstrap_ranking, check_classes
from facsynth.tasks.results import Headline, by_part, mean_and_sd, rows_table, values_table
from facsynth.tasks.settings import Loader
from facsynth.tasks.toxicity.data import LabelledTexts
from facsynth.words import count_words

__all__ = ["ToxicityResult", "evaluate_toxicity"]

_TITLES = {
    "AUPRC": "auprc",
    "  standard deviation over random seeds": "auprc_sd",
    "  of a constant score": "prevalence",
    "  trained on shuffled labels": "shuffled_auprc",
    "AUROC": "auroc",
    "  of the number of words alone": "length_auroc",
    "samples": "n_samples",
}


@dataclass(frozen=True)
class ToxicityResult:
    """Ranking of toxic texts by trained models, in [0, 1]; means over random seeds."""

    auprc: float
    auprc_sd: float | None
    auroc: float
    models: tuple[dict[str, Any], ...]
    """Each with `model`, `auprc` and `auroc` with intervals, and `accuracy`."""

    groups: tuple[dict[str, Any], ...]
    """Accuracy at even odds for each functionality that the data name."""

    prevalence: float
    """Share of toxic texts, the AUPRC of a constant score."""

    length_auroc: float
    """AUROC of the number of words alone."""

    shuffled_auprc: float | None
    """AUPRC after training on shuffled labels."""

    n_samples: int
    n_cut: int
    near_copies: tuple[str, ...]

    def headline(self) -> Headline:
        """AUPRC against a constant score."""
        return Headline("auprc", self.auprc, self.auprc_sd, self.prevalence, self.shuffled_auprc)

    def row(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    def tables(self) -> Sequence[TextTable]:
        """Measures, and accuracies by functionality."""
        measures = values_table("Toxicity", self.row(), _TITLES)
        return [measures, *rows_table("By functionality", self.groups)]

    _repr_html_ = as_html


def evaluate_toxicity(
    trained: TrainedTask,
    data: LabelledTexts,
    load: Loader,
    *,
    allow_overlap: bool = False,
    progress: Progress = SILENT,
) -> ToxicityResult:
    """Score texts by every trained model.

    Args:
        trained: What `train_toxicity` wrote.
        data: Evaluation samples.
        load: Loads the untrained model, after the input is checked.
        allow_overlap: Evaluate also on near-copies of training samples.
        progress: Where bars go.

    Raises:
        DataError: A class is missing, or evaluation samples are near-copies of training samples.
        MismatchError: The model is another one.
    """
    check_classes(data.positive, "the evaluation data")
    texts = [(sample.sample_id, sample_text(sample)) for sample in data.samples]
    copies = near_copies(trained, texts, allow=allow_overlap)
    trained.check()
    from facsynth.tasks.scorer import score_samples  # loads torch: after what the user got wrong

    scored = score_samples(trained, data.samples, load, progress=progress)
    models = [_measure(name, data.positive, scores) for name, scores in scored.models.items()]
    lengths = np.array([count_words(text) for _, text in texts], dtype=np.float64)
    right = np.mean([(found > 0) == data.positive for found in scored.models.values()], axis=0)
    mean, sd = mean_and_sd([row["auprc"]["value"] for row in models])
    shuffled = [auprc(data.positive, scores) for scores in scored.shuffled.values()]
    return ToxicityResult(
        auprc=mean,
        auprc_sd=sd,
        auroc=float(np.mean([row["auroc"]["value"] for row in models])),
        models=tuple(models),
        groups=by_part("group", data.groups, {"positive_share": data.positive, "accuracy": right}),
        prevalence=float(data.positive.mean()),
        length_auroc=auroc(data.positive, lengths),
        shuffled_auprc=float(np.mean(shuffled)) if shuffled else None,
        n_samples=len(data.samples),
        n_cut=scored.n_cut,
        near_copies=copies,
    )


def _measure(
    name: str,
    positive: Bool[np.ndarray, " n_samples"],
    scores: Float64[np.ndarray, " n_samples"],
) -> dict[str, Any]:
    random_seed = int(name.rpartition("-")[2])
    estimates = {
        measure.__name__: asdict(
            bootstrap_ranking(measure, positive, scores, rng=np.random.default_rng(random_seed))
        )
        for measure in (auprc, auroc)
    }
    return {"model": name, **estimates, "accuracy": float(((scores > 0) == positive).mean())}

"""Steering: how well vectors steer answers, beside random, shuffled and prompt-only controls."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from facsynth.progress import SILENT, Progress
from facsynth.show import TextTable
from facsynth.tasks.folder import TrainedTask, near_copies
from facsynth.tasks.results import Items, TaskResult, mean_and_sd, rows_table
from facsynth.tasks.settings import Loader
from facsynth.tasks.steering.data import Item
from facsynth.tasks.steering.polarity import agreement, is_opposite
from facsynth.tasks.steering.settings import ControlSettings

if TYPE_CHECKING:
    from facsynth.tasks.steering.measure import Measured

__all__ = ["evaluate_steering"]

_TITLES = {
    "steering control rate": "scr",
    "  of random vectors": "random_scr",
    "rate in the given order only": "plain_scr",
    "rate without the preference for a letter": "balanced_scr",
    "layer": "layer",
}
_BASE_TITLES = {
    "right in both orders": "robust",
    "same answer in both orders": "consistent",
    "probability of the two letters": "letter_mass",
}
_LAYER_KEYS = ("layer", "strength", "scr", "scr_sd", "plain_scr", "balanced_scr")


def evaluate_steering(
    trained: TrainedTask,
    items: Sequence[Item],
    load: Loader,
    settings: ControlSettings | None = None,
    *,
    demonstrations: Sequence[Item] = (),
    allow_overlap: bool = False,
    progress: Progress = SILENT,
) -> TaskResult:
    """Steering control rate at every layer, with its controls.

    Args:
        trained: What `train_steering` wrote.
        items: Evaluation items.
        load: Loads the model, after the input is checked.
        settings: What is measured beside the vectors.
        demonstrations: Questions for the prompt-only control, shown with matching answers
            against others.
        allow_overlap: Evaluate also on near-copies of training questions.
        progress: Where the bar is drawn.

    Returns:
        Control rates in [-1, 1] at `layer`, given or chosen on training questions: `scr`,
        `plain_scr` (by the given order alone), `balanced_scr` (by the mean log-odds of both
        orders), `random_scr` (of random vectors of the same length); `unsteered`, how questions
        are answered without steering; `layers`, the rates at every layer with their controls;
        `prompt_only`, of showing answered questions instead; `same_words`, in how many questions
        the words of the answers tell which one matches, and in how many they agree with the
        training questions; `n_items`. See `facsynth.tasks.steering.rates`.

    Raises:
        DataError: Evaluation items are near-copies of training items.
        MismatchError: The model is another one.
    """
    settings = settings or ControlSettings()
    questions = [(item.item_id, item.question) for item in items]
    copies = near_copies(trained, questions, allow=allow_overlap)
    same_words = _same_words(trained, items, progress)
    from facsynth.tasks.steering.measure import measure_vectors  # loads torch: after the checks

    lm = load()
    trained.check_model(lm)
    shown = demonstrations[: settings.n_shown]
    found = measure_vectors(
        trained, items, lm, n_random=settings.random_vectors, shown=shown, progress=progress
    )
    return _result(found, items, copies, same_words)


def _same_words(trained: TrainedTask, items: Sequence[Item], progress: Progress) -> dict[str, int]:
    """In how many questions words tell which answer matches; warns if they tell the other one."""
    n_told, n_same = agreement(trained.tensors["words"], items)
    if is_opposite(n_told, n_same):
        progress.say(
            f"warning: by the words of their answers, {n_told - n_same} of {n_told} questions call "
            "the answer matching that the training questions call the other one; if so, the rate "
            "has the wrong sign: read one of the two sets with --matching other"
        )
    return {"n_told": n_told, "n_same": n_same}


def _result(
    found: "Measured",
    items: Sequence[Item],
    copies: tuple[str, ...],
    same_words: dict[str, int],
) -> TaskResult:
    chosen = found.chosen_layer
    titles = [(title, found.unsteered[key]) for title, key in _BASE_TITLES.items()]
    return TaskResult(
        "steering",
        "scr",
        models=found.models,
        items=Items(tuple(item.item_id for item in items), found.rates),
        values={
            "layer": chosen["layer"],
            "random_scr": mean_and_sd(chosen["random"])[0] if chosen["random"] else None,
            "unsteered": found.unsteered,
            "layers": found.layers,
            "prompt_only": found.prompt_only,
            "same_words": same_words,
            "n_items": len(items),
        },
        titles=_TITLES,
        simple="random_scr",
        near_copies=copies,
        parts=[
            TextTable("Without steering", ("measure", "value"), titles),
            *rows_table("Control rate by layer", found.layers, *_LAYER_KEYS),
        ],
    )

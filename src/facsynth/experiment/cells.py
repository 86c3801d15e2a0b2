"""The cells of an experiment: one trained and tested model each, and what its samples are.

A cell depends on nothing but its key and the folder: seed, samples of the arm, test set, backbone.

```
RUN/cells/ARM-SEED-TASK-SIZE-KEY.json      scores of the test items
RUN/measures/ARM-SEED-SIZE-KEY.json        features, lengths and novelty of the added samples
```
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from facsynth.coverage.fac import feature_activation_coverage
from facsynth.coverage.representative import hellinger_distance
from facsynth.data.copies import index_texts
from facsynth.data.stored import read_json
from facsynth.data.write import write_json
from facsynth.experiment.arms import ArmSet
from facsynth.experiment.settings import TaskSettings
from facsynth.experiment.world import World
from facsynth.models.lm import LanguageModel
from facsynth.records import Sample, user_text
from facsynth.table.active import ActiveRows, active_rows
from facsynth.table.rows import take_rows
from facsynth.table.write import samples_hash
from facsynth.tasks.folder import Training
from facsynth.tasks.heads import fit_classifier, head_scores
from facsynth.tasks.metrics import auprc, auroc
from facsynth.tasks.toxicity.settings import ToxicitySettings
from facsynth.words import count_words

__all__ = ["Bench", "Measures", "is_positive", "measure_of"]

_NOTHING = "seed alone"

Items = Float64[np.ndarray, " n_items"]
Scores = Float64[np.ndarray, " _"]
Labels = Sequence[Bool[np.ndarray, " _"]]
"""The true labels, then shuffled ones."""

_SHUFFLES = 5
"""Shuffles of a head's labels, so that an interval sees how much heads of noise differ."""


def is_positive(samples: Sequence[Sample], task: TaskSettings) -> Bool[np.ndarray, " n_samples"]:
    """Which samples belong to the task's positive class."""
    return np.array([sample.label == task.positive for sample in samples], dtype=np.bool_)


def measure_of(task: TaskSettings, positive: Bool[np.ndarray, " n_items"]) -> Callable[..., Any]:
    """The task's measure of scores and of how often each item counts."""
    return partial(auroc if task.measure == "auroc" else auprc, positive)


@dataclass
class Bench:
    """Trains and tests one task on one backbone; hidden states are read once for each set."""

    world: World
    task: TaskSettings
    backbone: str

    def cell(self, arm: ArmSet | None, n: int, random_seed: int) -> dict[str, Any]:
        """Scores of the test items by a head trained on the seed and the arm's first samples.

        Args:
            arm: What is added; nothing where None.
            n: How many of its samples.
            random_seed: Of the shuffled labels.

        Returns:
            `scores` of the test items, `shuffled` (the same after training on shuffled labels, a
            row for each shuffle), and `n_train`.
        """
        path = self._path(arm, n, random_seed)
        if path.is_file():
            return dict(read_json(path))
        own = arm.samples[:n] if arm else ()
        samples = [*self.world.seed, *self.world.always[self.task.name], *own]
        labels = is_positive(samples, self.task)
        rng = np.random.default_rng(random_seed)
        is_quick = (self.task.method, self.task.head.recipe) == ("head", "optimum")
        ways = [labels, *(rng.permutation(labels) for _ in range(_SHUFFLES if is_quick else 1))]
        if labels.all() or not labels.any():  # one class alone tells nothing apart
            scores = [np.zeros(len(self.positive))] * len(ways)
        elif is_quick:
            scores = self._by_heads(arm, n, ways)
        else:
            scores = self._by_models(samples, ways, random_seed, path.with_suffix(""))
        plain, *shuffled = ([round(float(value), 6) for value in each] for each in scores)
        found = {
            "arm": arm.key if arm else _NOTHING,
            "task": self.task.name,
            "backbone": self.backbone,
            "size": n,
            "random_seed": random_seed,
            "n_train": len(samples),
            "scores": plain,
            "shuffled": shuffled,
        }
        write_json(found, path)
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)  # weights, if any were trained
        return found

    @cached_property
    def positive(self) -> Bool[np.ndarray, " n_items"]:
        """Class of each test item."""
        return is_positive(self.world.tests[self.task.name], self.task)

    @cached_property
    def measure(self) -> Callable[..., Any]:
        """Score of values of the test items."""
        return measure_of(self.task, self.positive)

    @cached_property
    def _base(self) -> Float32[np.ndarray, "n_base d_model"]:
        return self._vectors([*self.world.seed, *self.world.always[self.task.name]])

    @cached_property
    def _items(self) -> Float32[np.ndarray, "n_items d_model"]:
        return self._vectors(self.world.tests[self.task.name])

    def _vectors(self, samples: Sequence[Sample]) -> Float32[np.ndarray, "n_samples d_model"]:
        from facsynth.tasks.hidden_states import read_vectors

        lm = self.world.lm(self.backbone or None)
        return read_vectors(samples, lm, self.task.tuning(0), progress=self.world.progress).rows

    def _by_heads(self, arm: ArmSet | None, n: int, labels: Labels) -> list[Scores]:
        rows, l2 = self._base, self.task.head.inverse_l2
        if arm and n:
            rows = np.concatenate([rows, self._vectors(arm.samples)[:n]])
        heads = [fit_classifier(rows, one, inverse_l2=l2) for one in labels]
        return [head_scores(head, self._items) for head in heads]

    def _by_models(
        self, samples: Sequence[Sample], labels: Labels, random_seed: int, folder: Path
    ) -> list[Scores]:
        """Scores of a trained model, and of one trained on shuffled labels; resumes in a folder."""
        from facsynth.tasks.scorer import Draw, score_samples, train_scorer

        tune, rows = self.task.tuning(random_seed), np.arange(len(samples))
        draws = [
            Draw(name, random_seed, rows, one)
            for name, one in zip(tune.models, labels, strict=True)
        ]
        training = Training("experiment", folder, ToxicitySettings(train=tune), samples)
        world = self.world

        def load() -> LanguageModel:
            return world.loaders.lm(self.backbone or world.recipe.model, world.recipe.dtype)

        trained = train_scorer(training, "classification", draws, load, progress=world.progress)
        test = world.tests[self.task.name]
        scores = score_samples(trained, test, load, progress=world.progress).by_model
        return [scores[one.name] for one in draws]

    def _path(self, arm: ArmSet | None, n: int, random_seed: int) -> Path:
        world = self.world
        facts = {
            "arm": arm.key if arm else _NOTHING,
            "added": samples_hash(arm.samples[:n]) if arm else "",
            "n": n,
            "random_seed": random_seed,
            "task": asdict(self.task),
            "base": samples_hash([*world.seed, *world.always[self.task.name]]),
            "test": samples_hash(world.tests[self.task.name]),
            "shuffles": _SHUFFLES,
            "backbone": [self.backbone or world.recipe.model, world.recipe.dtype],
        }
        digest = _digest(facts)
        start = arm.key if arm else f"seed-{random_seed}"
        return world.folder / "cells" / f"{start}-{self.task.name}-{n}-{digest}.json"


@dataclass
class Measures:
    """What the samples of an arm are, in features, lengths and words."""

    world: World

    def of(self, arm: ArmSet, n: int) -> dict[str, Any]:
        """Features, lengths and novelty of an arm's first samples.

        Returns:
            `fac_gain` (FAC of seed and samples minus FAC of the seed), `closeness` (Hellinger
            distance of both together to the anchor), `fill_rate`, `novelty` (mean share of word
            4-grams that neither anchor nor seed has) and `words` (mean).
        """
        digest = _digest([samples_hash(arm.samples[:n]), self._anchor_hash, self._settings])
        path = self.world.folder / "measures" / f"{arm.key}-{n}-{digest}.json"
        if path.is_file():
            return dict(read_json(path))
        found = self._measure(arm, n)
        write_json(found, path)
        return found

    def _measure(self, arm: ArmSet, n: int) -> dict[str, Any]:
        table = self.world.extract(arm.samples, f"arm-{arm.key}")
        added = self._active(take_rows(table.activations(), range(n)))
        anchor, seed = self._both
        goal, both = anchor.features, added.counts + seed.counts
        missing = goal & ~seed.features
        texts = [user_text(sample) for sample in arm.samples[:n]]
        everything = np.ones_like(goal)
        before, after = (
            feature_activation_coverage(goal, counts > 0, everything)
            for counts in (seed.counts, both)
        )
        return {
            "fac_gain": after - before,
            "closeness": hellinger_distance(both, anchor.counts) if both.any() else None,
            "fill_rate": _share(added.features & missing, missing),
            "novelty": float(np.mean([1 - self._known.overlap(text) for text in texts])),
            "words": float(np.mean([count_words(text) for text in texts])),
        }

    @cached_property
    def _settings(self) -> list[Any]:
        relevant = self.world.relevant
        flags = "" if relevant is None else np.packbits(relevant).tobytes().hex()
        return [self.world.threshold.threshold, flags]

    @cached_property
    def _anchor_hash(self) -> str:
        return samples_hash([*self.world.anchor, *self.world.seed])

    @cached_property
    def _known(self) -> Any:
        return index_texts([user_text(s) for s in (*self.world.anchor, *self.world.seed)])

    @cached_property
    def _both(self) -> tuple[ActiveRows, ActiveRows]:
        side = self.world.side(None)
        return self._active(side.anchor), self._active(side.seed)

    def _active(self, rows: Any) -> ActiveRows:
        threshold = self.world.threshold.threshold
        return active_rows(rows, threshold=threshold, relevant=self.world.relevant)


def _share(
    hit: Bool[np.ndarray, " n_features"], wanted: Bool[np.ndarray, " n_features"]
) -> float | None:
    return float(hit.sum() / wanted.sum()) if wanted.any() else None


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]

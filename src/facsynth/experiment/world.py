"""What all arms of an experiment share: data, models, feature tables.

```
RUN/data/test-NAME.jsonl    the test sets, for those who must not copy them
RUN/tables/…/               feature tables of anchor and seed, and what is derived from them
```
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from facsynth.chat.budget import Spending
from facsynth.chat.model import ChatModel
from facsynth.chat.settings import Generator
from facsynth.coverage.threshold import ChosenThreshold, choose_threshold
from facsynth.data.copies import index_texts
from facsynth.data.write import sample_row, write_jsonl
from facsynth.errors import DataError
from facsynth.experiment.clusters import cluster_sae
from facsynth.experiment.settings import Arm, ExperimentRecipe, FeatureSource, Wanted
from facsynth.models.default_model import EMBEDDED_SAE
from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.pipeline import load_generator
from facsynth.progress import SILENT, Progress
from facsynth.recipe import DataSource
from facsynth.records import FeatureActivations, Message, Sample, user_text
from facsynth.sae.files import load_sae, save_sae
from facsynth.sae.module import SparseAutoencoder
from facsynth.sae.random import random_directions
from facsynth.table.active import active_rows
from facsynth.table.extract import extract_table
from facsynth.table.rows import take_rows
from facsynth.table.table import FeatureTable, open_table
from facsynth.table.write import finish_table, samples_hash, write_part
from facsynth.understand.descriptions import Described, read_explanations
from facsynth.understand.relevance import read_relevant

__all__ = ["Loaders", "Side", "World", "has_label"]

_OWN = "trained"
"""Marks the tables of the recipe's pair."""

_COPY = 0.5
"""Share of its word 4-grams in the test sets from which a sample is left out."""


@dataclass(frozen=True)
class Loaders:
    """Where models come from."""

    lm: Callable[[str | None, str], LanguageModel] = lambda name, dtype: load_language_model(
        name, dtype=dtype
    )
    """Loads a language model by its name and precision."""

    sae: Callable[[str | None], SparseAutoencoder] = load_sae
    chat: Callable[[Generator, Callable[[], LanguageModel], Spending], ChatModel] = load_generator
    """The generator, from its settings, the reader, and what may be spent."""


@dataclass(frozen=True)
class Side:
    """Anchor and seed as one pair sees them, for one class or for all."""

    anchor: FeatureTable
    seed: FeatureTable
    lm: LanguageModel
    sae: SparseAutoencoder
    is_own: bool = True
    """Whether it is the recipe's pair, whose features alone are judged and explained."""

    relevant: Bool[np.ndarray, " n_features"] | None = None
    """Features that count; None for all."""


@dataclass
class World:
    """Data, models and tables of one experiment; each is read when it is first needed."""

    recipe: ExperimentRecipe
    folder: Path
    loaders: Loaders = field(default_factory=Loaders)
    progress: Progress = SILENT

    def __post_init__(self) -> None:
        """Read all data, and leave out what copies a test set.

        Raises:
            DataError: Data cannot be read, or a label is missing.
        """
        recipe = self.recipe
        self._models: dict[str, LanguageModel] = {}
        self.tests = {task.name: self._labelled(task.test) for task in recipe.tasks}
        self.always = {t.name: self._labelled(t.always) if t.always else [] for t in recipe.tasks}
        known = index_texts([user_text(s) for one in self.tests.values() for s in one])
        kept = {}
        found = {"anchor": self._read(recipe.anchor), "seed": self._labelled(recipe.seed)}
        for name, samples in found.items():
            kept[name] = [s for s in samples if known.overlap(user_text(s)) <= _COPY]
            if n := len(samples) - len(kept[name]):
                self.progress.say(f"{name}: {n} samples copy a test set and are left out")
        self.anchor, self.seed = kept["anchor"], kept["seed"]
        self._check()

    @property
    def test_files(self) -> tuple[str, ...]:
        """Files with the test sets."""
        paths = []
        for name, samples in self.tests.items():
            path = self.folder / "data" / f"test-{name}.jsonl"
            if not path.is_file():
                write_jsonl([sample_row(sample) for sample in samples], path)
            paths.append(str(path))
        return tuple(paths)

    def lm(self, name: str | None = None) -> LanguageModel:
        """A language model; the one that reads the features by default."""
        name = name or self.recipe.model or ""
        if name not in self._models:
            self._models[name] = self.loaders.lm(name or None, self.recipe.dtype)
        return self._models[name]

    @cached_property
    def sae(self) -> SparseAutoencoder:
        """The SAE, where the model is."""
        return self.loaders.sae(self.recipe.sae).to(self.lm().device)

    def side(self, wanted: Wanted | None, arm: Arm | None = None, random_seed: int = 0) -> Side:
        """Anchor and seed for the writers of a class.

        Args:
            wanted: The class; only with `by_class` it makes a difference.
            arm: Whose features they are; those of the recipe's pair by default.
            random_seed: Draws the directions of `random-sae` and the first centres of `k-means`.
        """
        lm, sae, mark = self._pair(arm, random_seed)
        anchor, seed = (
            self._of_class(self.extract(samples, f"{name}-{mark}", (lm, sae)), wanted)
            for name, samples in (("anchor", self.anchor), ("seed", self.seed))
        )
        is_own = mark == _OWN
        return Side(anchor, seed, lm, sae, is_own, self.relevant if is_own else None)

    def _pair(
        self, arm: Arm | None, random_seed: int
    ) -> tuple[LanguageModel, SparseAutoencoder, str]:
        """Whose features an arm aims at, and a name for the pair."""
        source, features = (arm.source, arm.features) if arm else (FeatureSource(), "missing")
        lm, sae, mark = self.lm(source.model), self.sae, _OWN
        if source != FeatureSource():
            sae = self.loaders.sae(source.sae or self.recipe.sae).to(lm.device)
            mark = f"other-{sae.content_hash[:8]}"
        if features == "random-sae":
            sae = random_directions(sae.cpu(), random_seed=random_seed).to(lm.device)
            return lm, sae, f"{mark}-random-{random_seed}"
        if features == "k-means":
            mark = f"{mark}-clusters-{random_seed}"
            sae = self._clusters(lm, sae.config.layer, random_seed, self.folder / "tables" / mark)
        return lm, sae, mark

    def _clusters(
        self, lm: LanguageModel, layer: int, random_seed: int, folder: Path
    ) -> SparseAutoencoder:
        """Clusters of the anchor's hidden states in the form of an SAE, found once."""
        if not folder.is_dir():
            score = self.recipe.extract.score
            save_sae(cluster_sae(self.anchor, lm, layer, score, random_seed=random_seed), folder)
        return load_sae(str(folder)).to(lm.device)

    def extract(
        self,
        samples: Sequence[Sample],
        name: str,
        pair: tuple[LanguageModel, SparseAutoencoder] | None = None,
    ) -> FeatureTable:
        """The feature table of samples, from the disk where it was made before."""
        folder = self.folder / "tables" / name
        if (folder / "manifest.json").is_file():
            found = open_table(folder)
            if found.manifest.samples_hash == samples_hash(samples):
                return found
        lm, sae = pair or (self.lm(), self.sae)
        return extract_table(
            samples,
            lm,
            sae,
            folder,
            settings=replace(self.recipe.extract, hidden=True),
            sae_name=self.recipe.sae or EMBEDDED_SAE,
            progress=self.progress,
        )

    def derive(
        self, table: FeatureTable, rows: FeatureActivations, samples: Sequence[Sample], name: str
    ) -> FeatureTable:
        """A table on disk with some rows or entries of another one."""
        folder = self.folder / "tables" / name
        if (folder / "manifest.json").is_file():
            return open_table(folder)
        write_part(folder, 0, replace(rows, hidden=None), samples)
        source = replace(table.manifest.source, hidden=False)
        return finish_table(folder, source, samples_hash(samples), n_parts=1)

    @cached_property
    def explanations(self) -> dict[int, Described]:
        """What features stand for; empty without a file."""
        path = self.recipe.explanations
        return read_explanations(path) if path else {}

    @cached_property
    def relevant(self) -> Bool[np.ndarray, " n_features"] | None:
        """Features that count; None for all."""
        if not self.recipe.relevant:
            return None
        return read_relevant(Path(self.recipe.relevant), self.sae.config.d_sae)

    @cached_property
    def threshold(self) -> ChosenThreshold:
        """δ of all arms: the recipe's, or the one that `fac coverage` would choose."""
        given = self.recipe.threshold
        if given is not None:
            return ChosenThreshold(given)
        anchor = self.side(None).anchor
        return choose_threshold(anchor, len(self.seed), self.relevant)

    def missing(self, side: Side, threshold: float) -> Bool[np.ndarray, " n_features"]:
        """Relevant features that the anchor activates and the seed does not."""
        anchor, seed = (
            active_rows(table, threshold=threshold, relevant=side.relevant)
            for table in (side.anchor, side.seed)
        )
        found: Bool[np.ndarray, " n_features"] = anchor.features & ~seed.features
        return found

    def _of_class(self, table: FeatureTable, wanted: Wanted | None) -> FeatureTable:
        if wanted is None or not self.recipe.by_class:
            return table
        samples = table.samples()
        rows = [i for i, sample in enumerate(samples) if has_label(sample, wanted)]
        chosen = take_rows(table.activations(), rows)
        name = f"{table.folder.name}-{wanted.label}"
        return self.derive(table, chosen, [samples[i] for i in rows], name)

    def _labelled(self, source: DataSource) -> list[Sample]:
        """Samples of the classes, where these name the labels that belong to them; else all."""
        samples, classes = self._read(source), {one.label for one in self.recipe.classes}
        is_named = any(one.labels for one in self.recipe.classes)
        kept = [s for s in samples if not is_named or s.label in classes or s.label is None]
        if not kept:
            raise DataError(f"{source.name} has no sample of the classes {sorted(classes)}")
        return kept

    def _read(self, source: DataSource) -> list[Sample]:
        """Samples under the classes' labels; without answers where only the user is scored."""
        samples = source.read(
            rejected=self.folder / "data" / "rejected.jsonl", say=self.progress.say
        )
        if not samples:
            raise DataError(f"{source.name} holds no samples")
        if self.recipe.extract.score == "user":
            samples = [_said_by_user(sample) for sample in samples]
        if source.is_drawn:  # a conversation under no prompt is of no class
            samples = [replace(s, label=s.label or "none") for s in samples]
        names = {label: one.label for one in self.recipe.classes for label in one.labels}
        return [replace(s, label=names.get(s.label, s.label)) if s.label else s for s in samples]

    def _check(self) -> None:
        if not self.anchor or not self.seed:
            raise DataError("the anchor or the seed has no sample that is not in a test set")
        labelled = [("seed", self.seed), *self.tests.items()] if self.tests else []
        for name, samples in labelled:
            if bare := next((s for s in samples if s.label is None), None):
                raise DataError(f"{name}: sample {bare.sample_id!r} has no label; name its field")
        for wanted in self.recipe.classes if self.recipe.by_class else ():
            for name, samples in (("anchor", self.anchor), ("seed", self.seed)):
                if not any(has_label(sample, wanted) for sample in samples):
                    raise DataError(f"by_class: the {name} has no sample of class {wanted.label}")


def has_label(sample: Sample, wanted: Wanted) -> bool:
    """Whether a sample belongs to a class."""
    return sample.label == wanted.label


def _said_by_user(sample: Sample) -> Sample:
    if sample.text is not None:
        return sample
    return Sample(sample.sample_id, (Message("user", user_text(sample)),), label=sample.label)

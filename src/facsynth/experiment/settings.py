"""What an experiment compares: arms, sizes, random seeds, tasks, backbones, in one TOML file.

It loads nothing heavy, so that a wrong recipe is found before a model is loaded.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from facsynth.baselines.settings import BASELINES, Baseline, BaselineSettings
from facsynth.chat.settings import Generator
from facsynth.data.stored import read_toml
from facsynth.errors import DataError
from facsynth.recipe import DataSource
from facsynth.settings import Settings, check_threshold, read_settings
from facsynth.synthesize.settings import SynthesisSettings
from facsynth.table.settings import ExtractSettings
from facsynth.tasks.settings import (
    HeadSettings,
    LoraSettings,
    OptimizerSettings,
    TuneSettings,
)

__all__ = [
    "Arm",
    "Choice",
    "ExperimentRecipe",
    "FeatureSource",
    "Features",
    "Kind",
    "Names",
    "TaskSettings",
    "Wanted",
    "arm_settings",
    "read_experiment",
    "varied_arms",
]

Kind = Literal["base", "seed", "synthesize", "real"] | Baseline
Features = Literal["missing", "random", "frequency", "random-sae", "k-means"]
Names = Literal["whole", "truncated", "swapped"]
Choice = Literal["random", "coverage", "herding", "farthest", "k-means"]


@dataclass(frozen=True)
class FeatureSource(Settings):
    """A pair whose features are aimed at; by default that of the recipe."""

    model: str = ""
    """Language model that reads anchor, seed and candidates."""

    sae: str = ""
    """Its SAE: one of another width or k, one with a frozen decoder, or that of another model."""


@dataclass(frozen=True)
class Arm(Settings):
    """One way to get a training set."""

    name: str
    """What the arm is called in tables; unique."""

    kind: Kind
    """`base`: nothing is trained. `seed`: the seed alone. `synthesize`: the seed with what
    `fac synthesize` writes. `real`: the seed with labelled samples of the anchor, the upper bound.
    Or the name of a baseline."""

    features: Features = "missing"
    """Only of `synthesize`: aim at the missing features, at as many random ones of the anchor, at
    others that fire as often (controls), at the missing features of an SAE of random directions, or
    at clusters (k-means) of the anchor's hidden states that the seed does not reach."""

    source: FeatureSource = field(default_factory=FeatureSource)
    """Only of `synthesize`: whose features these are. Measures are those of the recipe's pair."""

    aimed: float = 1.0
    """Only of `synthesize`: share of the missing features that it aims at, drawn at random, in
    (0, 1]."""

    added: float = 1.0
    """Share of each size that the arm adds, in (0, 1]: below 1 with `aimed`, samples and features
    rise together; else their number is fixed."""

    flipped: float = 0.0
    """Only of `synthesize`: share of the judgments of relevance that are turned round at random, in
    [0, 1]: how much a wrong judge costs."""

    names: Names = "whole"
    """Only of `synthesize` with `describe`: explanations as they are, cut to half of their words,
    or exchanged between features: how much a wrong explainer costs."""

    rounds: int = 1
    """Writes in so many rounds of equal size. From the second on, what was written counts as seed,
    and a local generator is tuned (LoRA) on what it wrote: self-improvement."""

    choice: Choice = "random"
    """Only of `real`: samples at random, by greedy coverage of missing features within length
    classes, by herding to the anchor's firing rates, farthest first or k-means centres in the space
    of hidden states."""

    generator: str = ""
    """Local model that writes, in place of that of `[generator]`."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the table `[synthesize]` or `[baseline]`, such as
    `{ threshold = 4.0, sampling = { temperature = 1.0 } }`."""

    vary: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Further arms that each differ from this one in a single value, of the arm or of its
    settings, such as `{ "sampling.temperature" = [0.5, 1.0], "source.sae" = ["a", "b"] }`."""

    cross: bool = False
    """With `vary`: an arm for every combination of its values in place of one for each value."""

    def __post_init__(self) -> None:
        for name, least in (("flipped", 0.0), ("aimed", 1e-9), ("added", 1e-9)):
            value = getattr(self, name)
            if not least <= value <= 1:
                raise DataError(f"the arm {self.name} has {name} = {value}; it is a share, 0 to 1")
        if self.rounds < 1:
            raise DataError(f"the arm {self.name} has rounds = {self.rounds}; one or more")


@dataclass(frozen=True)
class Wanted(Settings):
    """One class of samples that arms write."""

    label: str
    """Label of the written samples."""

    labels: tuple[str, ...] = ()
    """Labels of the data that are read as this one. With it, test, seed and `always` samples of no
    class are left out."""

    form: str = ""
    """What is written, in words that complete "Write …"; by default as the task says."""


@dataclass(frozen=True)
class TaskSettings(Settings):
    """What is trained and tested: a model, or a head on one, that tells two classes apart."""

    name: str
    """What the task is called in tables; unique."""

    test: DataSource
    """Labelled test set. Near-copies of it are kept out of every arm."""

    positive: str
    """Label of the positive class; every other label is the other class."""

    measure: Literal["auroc", "auprc"] = "auroc"
    """Area under the ROC curve, or average precision."""

    always: DataSource | None = None
    """Labelled real samples that every training set has besides the seed, such as the safe ones of
    a detector of toxic texts."""

    method: Literal["head", "lora", "full"] = "head"
    """Train a head on the frozen backbone (seconds a cell), low-rank adapters or all weights
    (minutes)."""

    head: HeadSettings = field(default_factory=HeadSettings)
    """The head."""

    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    """How adapters or weights are fitted."""

    lora: LoraSettings = field(default_factory=LoraSettings)
    """The adapters."""

    max_length: int = 512
    """Cut texts to N tokens, template included."""

    def tuning(self, random_seed: int) -> TuneSettings:
        """What is trained for one random seed: a model, and one on shuffled labels."""
        return TuneSettings(
            head_only=self.method == "head",
            full=self.method == "full",
            control=True,
            random_seed=(random_seed,),
            max_length=self.max_length,
            optimizer=self.optimizer,
            lora=self.lora,
            head=self.head,
        )


@dataclass(frozen=True)
class ExperimentRecipe(Settings):
    """Everything an experiment is made from."""

    name: str
    """Names the folder; by default the recipe's file name."""

    anchor: DataSource
    """Data that represents the target domain. Labels are needed for `real` arms and `by_class`."""

    seed: DataSource
    """The labelled data set to improve."""

    arms: tuple[Arm, ...]
    """What is compared."""

    reference: str
    """Arm that the others are compared with."""

    tasks: tuple[TaskSettings, ...] = ()
    """What is trained and tested; without one, samples are written and measured."""

    sizes: tuple[int, ...] = (12, 24, 48, 96, 200)
    """Numbers of samples that are added to the seed; each size is the beginning of the next."""

    token_budgets: tuple[int, ...] = ()
    """Second view: numbers of tokens that the generator may have written, rejected texts
    included. An arm adds as many samples as they pay for."""

    random_seeds: tuple[int, ...] = (1, 2, 3)
    """Each arm is written and chosen anew for each random seed."""

    backbones: tuple[str, ...] = ("",)
    """Models whose hidden states are classified; empty for the one that reads the features."""

    classes: tuple[Wanted, ...] = ()
    """Classes that arms write, in equal numbers; one without a label by default."""

    by_class: bool = False
    """Show the writers of a class only anchor and seed samples of it."""

    n_written: int | None = None
    """Samples that each arm writes or chooses, all classes together; half as many again as the
    largest size by default, so that every size can have the anchor's lengths. Set it to add or drop
    sizes later without writing anew."""

    threshold: float | None = None
    """Activation above which a feature is active, for the measures of all arms; by default chosen
    from anchor and seed, as `fac coverage` does."""

    relevant: str = ""
    """Features that count, a file as `fac relevance` writes it; all by default."""

    explanations: str = ""
    """What features stand for, a file as `fac explain` writes it, for prompts that describe them
    (`describe` of `[synthesize]`); terms by default."""

    n_resamples: int = 1000
    """Resamples behind each interval."""

    model: str | None = None
    """Language model whose features are used; the embedded one by default."""

    sae: str | None = None
    """Its SAE; the embedded one by default."""

    dtype: str = "auto"
    """Precision of the model; see `load_language_model`. Set it to resume on another machine."""

    extract: ExtractSettings = field(default_factory=ExtractSettings)
    """How samples are read."""

    generator: Generator = field(default_factory=Generator)
    """Who writes. Its limits hold for each arm and random seed by itself."""

    synthesize: SynthesisSettings = field(default_factory=SynthesisSettings)
    """How `synthesize` arms write."""

    baseline: BaselineSettings = field(default_factory=BaselineSettings)
    """How baselines write."""

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        names = Counter(arm.name for arm in self.arms)
        if twice := [name for name, n in names.items() if n > 1]:
            raise DataError(f"there are two arms called {twice[0]!r}; names are unique")
        if self.reference not in names:
            raise DataError(
                f"the reference is {self.reference!r}, but the arms are {', '.join(names)}"
            )
        if not self.sizes or not self.random_seeds:
            raise DataError("an experiment needs a size and a random seed")
        if min((*self.sizes, *self.token_budgets)) < 1:
            raise DataError("sizes and token budgets are 1 or more")
        if self.n_written is not None and self.n_written < max(self.sizes):
            raise DataError(
                f"n_written is {self.n_written}, less than the largest size, {max(self.sizes)}"
            )
        for arm in self.arms:
            _check_settings(arm, self)

    @property
    def n_of_class(self) -> int:
        """Samples that an arm writes or chooses of each class."""
        wanted = self.n_written or math.ceil(1.5 * max(self.sizes))
        return math.ceil(wanted / len(self.wanted))

    @property
    def wanted(self) -> tuple[Wanted | None, ...]:
        """The classes that arms write; a single None where the recipe names none."""
        return self.classes or (None,)


def arm_settings(arm: Arm, recipe: ExperimentRecipe) -> SynthesisSettings | BaselineSettings | None:
    """The settings that an arm writes with; None for one that writes nothing."""
    base: SynthesisSettings | BaselineSettings
    if arm.kind == "synthesize":
        base = recipe.synthesize
    elif arm.kind in BASELINES:
        base = recipe.baseline
    else:
        return None
    table = _merged(asdict(base), arm.settings)
    return read_settings(type(base), table, f"arm {arm.name}")


def read_experiment(path: str | Path) -> ExperimentRecipe:
    """Read a TOML recipe; its tables are the fields of `ExperimentRecipe`.

    Raises:
        DataError: It cannot be read, is not valid TOML, or has an unknown, missing or unfit key.
    """
    path = Path(path)
    raw = read_toml(path, what="a recipe")
    recipe = read_settings(ExperimentRecipe, {"name": path.stem, **raw}, str(path))
    return replace(recipe, arms=tuple(one for arm in recipe.arms for one in varied_arms(arm)))


def varied_arms(arm: Arm) -> list[Arm]:
    """The arm itself, and an arm for every value, or every combination, that it varies.

    >>> arm = Arm("a", "synthesize", vary={"effort.max_features": (1, 2), "flipped": (0.1,)})
    >>> [one.name for one in varied_arms(arm)]
    ['a', 'a, effort.max_features=1', 'a, effort.max_features=2', 'a, flipped=0.1']
    """
    plain = replace(arm, vary={}, cross=False)
    values = [[(key, value) for value in found] for key, found in arm.vary.items()]
    if arm.cross:
        changes = list(product(*values)) if values else []
    else:
        changes = [(one,) for found in values for one in found]
    return [plain, *(_varied(plain, change) for change in changes)]


def _varied(arm: Arm, changes: Sequence[tuple[str, Any]]) -> Arm:
    """The arm with other values of its own or of its settings."""
    table = asdict(arm)
    for key, value in changes:
        parts = key.split(".")
        inner: Any = value
        for part in reversed(parts if parts[0] in table else ["settings", *parts]):
            inner = {part: inner}
        table = _merged(table, inner)
    name = ", ".join([arm.name, *(f"{key}={value}" for key, value in changes)])
    return read_settings(Arm, table | {"name": name}, f"arm {name}")


def _check_settings(arm: Arm, recipe: ExperimentRecipe) -> None:
    if arm_settings(arm, recipe) is None and (
        arm.settings or arm.generator or arm.vary or arm.rounds > 1
    ):
        raise DataError(f"the arm {arm.name} writes nothing, so it takes no settings or generator")
    if arm.names != "whole" and not recipe.explanations:
        raise DataError(f"the arm {arm.name} changes explanations; name a file in `explanations`")
    if arm.rounds > 1 and recipe.generator.chat_model and not arm.generator:
        raise DataError(f"the arm {arm.name} tunes its generator, which must be a local model")


def _merged(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A table with the values of another, table by table."""
    merged = dict(base)
    for name, value in other.items():
        below = merged.get(name)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(below, value) if both else value  # type: ignore[arg-type]
    return merged

"""Recipes: everything a run is made from, in one TOML file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from facsynth.chat.settings import Generator
from facsynth.coverage.settings import CoverageSettings
from facsynth.data.chitchat import chitchat_samples
from facsynth.data.files import named_sources
from facsynth.data.questions import question_samples
from facsynth.data.read import read_samples
from facsynth.data.settings import Form, ReadSettings
from facsynth.data.stored import read_toml
from facsynth.errors import DataError
from facsynth.records import Sample
from facsynth.select.settings import SelectSettings
from facsynth.settings import Settings, read_settings
from facsynth.synthesize.settings import JudgeSettings, SynthesisSettings
from facsynth.table.settings import ExtractSettings
from facsynth.tasks.instruction.settings import AnswerSettings, InstructionSettings
from facsynth.tasks.reward.settings import RewardSettings
from facsynth.tasks.steering.settings import ControlSettings, SteeringSettings
from facsynth.tasks.toxicity.settings import LabelFields, ToxicitySettings
from facsynth.understand.settings import EvidenceSettings, ExplainSettings, RelevanceSettings

_CHITCHAT = ("chitchat", "chitchat:train", "chitchat:test")

__all__ = ["DataSource", "Recipe", "SelectStage", "TaskStage", "read_recipe"]


@dataclass(frozen=True)
class _Source(Settings):
    source: str | tuple[str, ...]
    """A file, a folder, a Hub data set, or several of these; or text out of the package registry:
    `questions` about health, home and money, or the conversations of `chitchat`, of which
    `chitchat:train` and `chitchat:test` are the halves."""


@dataclass(frozen=True)
class DataSource(ReadSettings, _Source):
    """Where samples come from, and how they are read; `random_seed` also draws questions."""

    n_samples: int | None = None
    """Read at most N samples, as with `limit`; required for `questions` and `chitchat`."""

    prompts: tuple[str, ...] = ()
    """Only of `chitchat`, its conversation prompts, and of `questions`, its topics: those to draw
    from; all by default."""

    first: bool = False
    """Only of `chitchat`: the first fit exchange of each conversation, where people talk of its
    prompt, in place of a random one."""

    @property
    def name(self) -> str:
        """What the user calls the data."""
        return self.source if isinstance(self.source, str) else ", ".join(self.source)

    @property
    def is_drawn(self) -> bool:
        """Whether these are so many samples out of the package registry."""
        return self.source in (*_CHITCHAT, "questions")

    def read(
        self, *, rejected: Path | None = None, say: Callable[[str], None] = lambda _: None
    ) -> list[Sample]:
        """Read the samples.

        Args:
            rejected: Where rows that are skipped are written.
            say: Told what was read of files, and what was not.

        Raises:
            DataError: Something cannot be read.
        """
        if self.is_drawn and self.n_samples is None:
            raise DataError(f"the source {self.name} needs n_samples")
        if self.source == "questions":
            return question_samples(
                self.n_samples or 0, topics=self.prompts, random_seed=self.random_seed
            )
        if self.is_drawn:
            half = self.name.partition(":")[2] or None
            return chitchat_samples(
                self.n_samples or 0,
                prompts=self.prompts,
                random_seed=self.random_seed,
                half=half,  # type: ignore[arg-type]  # `_CHITCHAT` names them
                first=self.first,
            )
        limit = self.n_samples if self.limit is None else self.limit
        names = (self.source,) if isinstance(self.source, str) else self.source
        samples = read_samples(named_sources(names), replace(self, limit=limit), rejected=rejected)
        for sentence in samples.report.sentences():
            say(sentence)
        return samples


@dataclass(frozen=True)
class ExplainStage(Settings):
    """Which features are explained, and by whom."""

    imported: str | None = None
    """File or folder with ready explanations; see `fac explain --import`."""

    in_words: bool = False
    """Have the judge describe features in words, or test imported explanations; otherwise features
    are named by terms."""

    max_features: int | None = None
    """Explain the N most frequent features of the anchor; all by default."""

    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    """What is collected for each feature."""

    llm: ExplainSettings = field(default_factory=ExplainSettings)
    """How the judge describes features and tests descriptions."""


@dataclass(frozen=True)
class SelectStage(SelectSettings):
    """Which of the written samples go on; they are chosen to cover or match the anchor."""

    pool: Literal["synthetic", "all"] = "synthetic"
    """Choose from the synthetic samples, or from these and the seed."""


@dataclass(frozen=True)
class ExportStage(Settings):
    """What is written for other tools."""

    formats: tuple[Form, ...] = ("hf",)
    """`hf`: a folder with a data card; `choice`: A/B items; `llamafactory`; `openai`; `axolotl`;
    others: TRL's."""

    clean: bool = False
    """Leave out provenance and sample ids."""


@dataclass(frozen=True)
class TaskStage(Settings):
    """What is trained on the samples, and tested. `fac experiment` compares more arms."""

    name: Literal["toxicity", "reward", "steering", "instruction"]
    """The task; only the table of that name is used."""

    test: str
    """Test set: what `fac task NAME evaluate` takes."""

    test_limit: int | None = None
    """Read at most N rows of the test set."""

    arms: tuple[Literal["seed", "synthetic", "both"], ...] = ("both",)
    """Training sets, each trained and tested: the seed alone, the synthetic samples alone, both."""

    model: str | None = None
    """Model to train; by default the one that reads the features."""

    safe: str | None = None
    """Only of `toxicity`: harmless samples to mix in; see `fac task toxicity train --safe`."""

    all_positive: bool = False
    """Only of `toxicity`: every training sample is toxic, and `safe` has the others."""

    allow_overlap: bool = False
    """Test although samples of the test set are in the training data."""

    labels: LabelFields = field(default_factory=LabelFields)
    """Only of `toxicity`: where text, class and group of a test sample are."""

    toxicity: ToxicitySettings = field(default_factory=ToxicitySettings)
    """How a classifier is trained."""

    reward: RewardSettings = field(default_factory=RewardSettings)
    """How a reward model is trained."""

    steering: SteeringSettings = field(default_factory=SteeringSettings)
    """How steering vectors are made."""

    controls: ControlSettings = field(default_factory=ControlSettings)
    """What is measured beside steering vectors."""

    instruction: InstructionSettings = field(default_factory=InstructionSettings)
    """How an instruction model is trained."""

    answers: AnswerSettings = field(default_factory=AnswerSettings)
    """How an instruction model is asked."""


@dataclass(frozen=True)
class Recipe(Settings):
    """Everything a run is made from. A stage whose table is optional runs only if it is there."""

    name: str
    """Names the run folder and the report; by default the recipe's file name."""

    anchor: DataSource
    """Data that represents the target domain."""

    seed: DataSource
    """The data set to improve."""

    model: str | None = None
    """Language model whose features are used; the embedded one by default."""

    sae: str | None = None
    """Its SAE; the embedded one by default."""

    dtype: str = "auto"
    """Precision of the model; see `load_language_model`. Set it to resume on another machine."""

    threshold: float | None = None
    """Activation above which a feature is active, in SAE units: δ of every stage whose table does
    not have its own. Without it coverage takes the lowest quantile of the anchor's activations at
    which random samples leave room, and writing takes the same. So do explain and relevance,
    before it is known which features count."""

    extract: ExtractSettings = field(default_factory=ExtractSettings)
    """How samples are read."""

    coverage: CoverageSettings = field(default_factory=CoverageSettings)
    """How coverage is measured, before and after."""

    judge: Generator | None = None
    """Who explains features and judges their relevance; by default the generator."""

    explain: ExplainStage | None = None
    """What features mean. Optional; needed where the judge follows a rubric."""

    relevance: RelevanceSettings | None = None
    """Which features count (F): those that fit a rubric (`task`), that go with a `label` of the
    anchor, or with failures on it (`scores`). Optional; all count by default."""

    generator: Generator = field(default_factory=Generator)
    """Who writes."""

    synthesize: SynthesisSettings = field(default_factory=SynthesisSettings)
    """What is written, and what is kept."""

    grading: JudgeSettings = field(default_factory=JudgeSettings)
    """Who grades texts before they are kept; nobody by default."""

    select: SelectStage | None = None
    """Which of the written samples go on to export and task. Optional; all by default."""

    export: ExportStage | None = None
    """What is written for other tools. Optional."""

    task: TaskStage | None = None
    """What is trained and tested. Optional."""

    def __post_init__(self) -> None:
        """Refuse tables that lack what they need."""
        for name, source in (("anchor", self.anchor), ("seed", self.seed)):
            if source.is_drawn and source.n_samples is None:
                raise DataError(f"the source `{source.name}` of `{name}` needs n_samples")
        if self.judges_by_rubric and self.explain is None:
            raise DataError(
                "a judge with a rubric sees explanations; add a table [explain], or judge by label "
                "or scores"
            )

    def at(self, threshold: float) -> "Recipe":
        """The recipe with this δ in writing and in coverage, where they have none of their own."""
        synthesize, coverage = self.synthesize, self.coverage
        if synthesize.threshold is None:
            synthesize = replace(synthesize, threshold=threshold)
        if coverage.threshold is None:
            coverage = replace(coverage, threshold=threshold)
        return replace(self, synthesize=synthesize, coverage=coverage)

    def understood_at(self, threshold: float) -> "Recipe":
        """The same for explanations and relevance, which come before coverage."""
        explain, relevance = self.explain, self.relevance
        if explain and explain.evidence.threshold is None:
            evidence = replace(explain.evidence, threshold=threshold)
            explain = replace(explain, evidence=evidence)
        if relevance and relevance.threshold is None:
            relevance = replace(relevance, threshold=threshold)
        return replace(self, explain=explain, relevance=relevance)

    @property
    def written_above(self) -> float:
        """δ of what is written: its own, or that of all stages; see `at` where there is none."""
        own = self.synthesize.threshold
        found = self.threshold if own is None else own
        assert found is not None, "the first coverage chooses it"
        return found

    @property
    def judges_by_rubric(self) -> bool:
        """Whether an LLM decides which features count."""
        wanted = self.relevance
        return wanted is not None and wanted.label is None and wanted.scores is None


def read_recipe(path: str | Path) -> Recipe:
    """Read a TOML recipe; its tables are the fields of `Recipe`.

    Args:
        path: The recipe; its name without `.toml` names the run where the recipe does not.

    Raises:
        DataError: It cannot be read, is not valid TOML, or has an unknown, missing or unfit key.
    """
    path = Path(path)
    raw = read_toml(path, what="a recipe")
    return read_settings(Recipe, _with_threshold({"name": path.stem, **raw}), str(path))


def _with_threshold(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's δ put into the tables that have none of their own.

    The one of `synthesize` counts for all where the recipe has none.
    """
    found, written = dict(raw), raw.get("synthesize")
    own = written.get("threshold") if isinstance(written, Mapping) else None
    if own is None and "threshold" not in found:
        return found
    delta = found.setdefault("threshold", own)
    for name in ("coverage", "synthesize", "relevance", "explain"):
        table = found.get(name, {} if name in ("coverage", "synthesize") else None)
        if isinstance(table, Mapping):
            inner = {"evidence": {"threshold": delta, **table.get("evidence", {})}}
            found[name] = {**table, **inner} if name == "explain" else {"threshold": delta, **table}
    return found

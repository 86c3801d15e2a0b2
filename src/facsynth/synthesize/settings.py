"""How much a synthesis run writes, and what it keeps."""

from dataclasses import asdict, dataclass, field
from typing import Literal

from facsynth.errors import DataError
from facsynth.synthesize.candidates import Sampling
from facsynth.synthesize.plan import PlanSettings

__all__ = ["Budget", "SynthesisSettings"]


@dataclass(frozen=True)
class Budget:
    """How much is written."""

    max_features: int = 200
    """Missing features aimed at, in order of rank."""

    max_samples: int = 500
    """Samples kept."""

    max_rounds: int = 4
    """Rounds."""

    features_per_round: int = 50
    """Features aimed at in one round."""

    max_attempts: int = 2
    """Rounds that aim at one feature, by the objectives `rank` and `cover`."""

    first_candidates: int = 2
    """Step-1 candidates per feature (n in the paper)."""

    second_candidates: int = 2
    """Step-2 candidates per feature that no candidate has hit (m in the paper); 0 skips it."""

    min_kept_share: float = 0.0
    """A round that keeps no larger share of its texts is poor: returns have diminished."""

    patience: int = 1
    """Poor rounds in a row that end the run."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_kept_share <= 1:
            raise DataError(f"min_kept_share is a share between 0 and 1, not {self.min_kept_share}")
        for name, value in asdict(self).items():
            if name == "min_kept_share":
                continue
            least = 0 if name == "second_candidates" else 1
            if value < least:
                raise DataError(f"{name} is {value}; it must be {least} or more")


@dataclass(frozen=True)
class SynthesisSettings:
    """What is written, and what is kept."""

    threshold: float = 1.0
    """Activation above which a feature counts as active, in SAE units."""

    task: str = "generic"
    """One of `task_format.TASKS`, or a TOML file with templates of one's own."""

    form: str = ""
    """What is written, in words that complete "Write …"; empty for the task's own words."""

    prompt: Literal["auto", "turns", "request"] = "auto"
    """How the generator is asked. `turns`: anchor texts stand as its own earlier answers, and it
    writes one more. `request`: one message quotes spans in step 1 and a contrastive pair in step 2
    (the paper's way). `auto`: as the task says; of the package's tasks the sensitive ones say
    `request`, the others `turns`."""

    reply: bool = True
    """Whether the generator also writes the assistant's answer."""

    min_anchor_samples: int = 2
    """Missing features active in fewer anchor samples are not aimed at."""

    max_overlap: float = 0.5
    """Share of word 4-grams that a written text may have in common with known texts."""

    decontaminate: tuple[str, ...] = ()
    """Files or data sets of evaluation samples; near-copies of them are not kept."""

    seed: int = 0
    """Seed of every request."""

    budget: Budget = field(default_factory=Budget)
    sampling: Sampling = field(default_factory=Sampling)
    plan: PlanSettings = field(default_factory=PlanSettings)

    def __post_init__(self) -> None:
        if not 0 <= self.max_overlap <= 1:
            raise DataError(f"max_overlap is a share between 0 and 1, not {self.max_overlap}")

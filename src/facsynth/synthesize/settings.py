"""What a synthesis run aims at, how much it writes, and what it keeps."""

from dataclasses import asdict, dataclass, field
from typing import Literal

from facsynth.errors import DataError
from facsynth.settings import Settings

__all__ = ["Effort", "JudgeSettings", "PlanSettings", "Prompt", "Sampling", "SynthesisSettings"]

Prompt = Literal["turns", "request"]
"""How the generator is asked."""


@dataclass(frozen=True)
class Sampling(Settings):
    """How the generator samples."""

    temperature: float = 0.8
    """Sampling temperature of the generator."""

    top_p: float = 0.9
    """Nucleus of the generator's sampling, in (0, 1]."""

    max_length: int = 96
    """Longest written text, in the generator's tokens."""


@dataclass(frozen=True)
class PlanSettings(Settings):
    """Which features are aimed at together."""

    objective: Literal["rank", "cover", "match"] = "rank"
    """`rank`: missing features one by one, the most frequent first. `cover`: missing features in
    groups that fire together in the anchor. `match`: features that fire too rarely, in proportion,
    with the lengths of the anchor."""

    group_size: int = 3
    """Features aimed at in one text, at most; not used by `rank`."""

    def __post_init__(self) -> None:
        if self.group_size < 1:
            raise DataError(f"group_size is {self.group_size}; it must be 1 or more")


@dataclass(frozen=True)
class Effort(Settings):
    """How much is written."""

    max_features: int = 200
    """Missing features aimed at, at most, in order of rank."""

    max_samples: int = 500
    """Samples kept, at most."""

    max_rounds: int = 4
    """Rounds, at most."""

    features_per_round: int = 50
    """Features aimed at in one round."""

    max_attempts: int = 2
    """Rounds that aim at one feature, at most; not used by `match`."""

    first_candidates: int = 2
    """Step-1 texts per feature (n in the paper)."""

    second_candidates: int = 2
    """Step-2 texts per feature that no text has hit (m in the paper); 0 skips step 2."""

    min_kept_share: float = 0.0
    """A round that keeps no larger share of its texts is poor."""

    patience: int = 1
    """Consecutive poor rounds that end the run."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_kept_share <= 1:
            raise DataError(f"min_kept_share is a share between 0 and 1, not {self.min_kept_share}")
        for name, value in asdict(self).items():
            least = 0 if name in ("second_candidates", "min_kept_share") else 1
            if value < least:
                raise DataError(f"{name} is {value}; it must be {least} or more")


@dataclass(frozen=True)
class SynthesisSettings(Settings):
    """What is written, and what is kept."""

    threshold: float = 1.0
    """Activation above which a feature is active, in SAE units."""

    task: str = "generic"
    """Task: generic, toxicity, reward, sycophancy, survival, instruction, or a TOML file of
    templates."""

    form: str = ""
    """What to write, in words that complete "Write …"; by default as the task says."""

    prompt: Literal["auto", "turns", "request"] = "auto"
    """`turns`: show anchor texts as earlier answers of the generator. `request`: quote spans, and
    in step 2 a contrastive pair, in one message. `auto`: as the task says."""

    reply: bool = True
    """Write the assistant's answers too."""

    min_anchor_samples: int = 2
    """Aim only at features that are active in at least this many anchor samples."""

    max_overlap: float = 0.5
    """Largest share of its word 4-grams that a text may have in common with known texts."""

    decontaminate: tuple[str, ...] = ()
    """Evaluation set, a file or Hub data set; near-copies of it are not kept."""

    random_seed: int = 0
    """Random seed of all requests."""

    effort: Effort = field(default_factory=Effort)
    """How much is written."""

    sampling: Sampling = field(default_factory=Sampling)
    """How the generator samples."""

    plan: PlanSettings = field(default_factory=PlanSettings)
    """Which features are aimed at together."""

    def __post_init__(self) -> None:
        if not self.threshold >= 0:
            raise DataError(f"threshold is {self.threshold}; it must be 0 or more")
        if not 0 <= self.max_overlap <= 1:
            raise DataError(f"max_overlap is a share between 0 and 1, not {self.max_overlap}")


@dataclass(frozen=True)
class JudgeSettings(Settings):
    """Who grades texts before they are kept."""

    judge_model: str | None = None
    """Model at an endpoint that grades texts from 1 to 5 before they are kept."""

    judge_api_base: str | None = None
    """Address of the judge's endpoint; that of the generator by default."""

    judge_api_key_env: str | None = None
    """Environment variable with the judge's key; that of the generator by default."""

    min_grade: int = 3
    """Lowest grade that is kept, 1 to 5."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_grade <= 5:
            raise DataError(f"min_grade is {self.min_grade}; grades go from 1 to 5")

"""How a baseline writes. Imports nothing heavy: commands read it for help."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from facsynth.errors import DataError
from facsynth.settings import Settings
from facsynth.synthesize.settings import Sampling

__all__ = ["BASELINES", "Baseline", "BaselineSettings"]

Baseline = Literal[
    "alpaca",
    "evol-instruct",
    "magpie",
    "cot-self-instruct",
    "sao",
    "prismatic",
    "synalign",
    "undirected",
    "anchor-text",
]

BASELINES: tuple[Baseline, ...] = get_args(Baseline)
"""Methods that write samples without features; the last two are controls."""


@dataclass(frozen=True)
class BaselineSettings(Settings):
    """How a baseline writes, and what it keeps."""

    max_samples: int = 200
    """Samples kept."""

    max_rounds: int = 12
    """Rounds of requests, at most."""

    task: str = "generic"
    """Task: generic, toxicity, reward, sycophancy, survival, instruction, or a TOML file of
    templates."""

    form: str = ""
    """What to write, in words that complete "Write …"; by default as the task says."""

    reply: bool = True
    """Write the assistant's answers too."""

    user_turn: str = ""
    """Only of magpie: what the chat template puts before the words of a user; by default that of
    the local generator."""

    max_overlap: float = 0.5
    """Largest share of its word 4-grams that a text may have in common with known texts."""

    max_run: int = 12
    """Most words in a row that a text may have in common with a known text, unless three anchor
    samples have them too."""

    decontaminate: tuple[str, ...] = ()
    """Evaluation set, a file or Hub data set; near-copies of it are not kept."""

    random_seed: int = 0
    """Random seed of all requests."""

    sampling: Sampling = field(default_factory=Sampling)
    """How the generator samples."""

    def __post_init__(self) -> None:
        if min(self.max_samples, self.max_rounds) < 1:
            raise DataError("max_samples and max_rounds must be 1 or more")
        if not 0 <= self.max_overlap <= 1:
            raise DataError(f"max_overlap is a share between 0 and 1, not {self.max_overlap}")

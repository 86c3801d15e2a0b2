"""How a synthesis run aims, how much it writes, and what it keeps."""

from dataclasses import asdict, dataclass, field
from typing import Literal

from facsynth.errors import DataError
from facsynth.settings import Settings, check_threshold

__all__ = ["Effort", "JudgeSettings", "Sampling", "SynthesisSettings"]


@dataclass(frozen=True)
class Sampling(Settings):
    """How the generator samples."""

    temperature: float = 0.8
    """Sampling temperature of the generator."""

    top_p: float = 0.9
    """Nucleus of the generator's sampling, in (0, 1]."""

    max_length: int | None = None
    """Longest written text, in the generator's tokens; by default enough for 99 % of the anchor's
    texts, at most 1,024."""

    reply_tokens: int | None = None
    """Most tokens of an answer, of what is said about a label, and of a grade; by default what each
    needs (32 to 512, as the task says). With `cover` an answer may have up to 1,024, enough for
    99 % of the anchor's."""

    def __post_init__(self) -> None:
        if self.reply_tokens is not None and self.reply_tokens < 1:
            raise DataError(f"reply_tokens is {self.reply_tokens}; it must be 1 or more")


@dataclass(frozen=True)
class Effort(Settings):
    """How much is written."""

    max_samples: int = 200
    """Samples to keep."""

    max_candidates: int | None = None
    """Texts to ask for, at most. By default ten per sample with the method `cover`, and what the
    missing features need with `paper`."""

    max_features: int | None = None
    """Missing features to aim at, at most, the most frequent first; all by default."""

    max_attempts: int = 4
    """Texts asked for each missing feature, at most; only with `cover`."""

    round_size: int = 64
    """Texts asked for in one round, or a tenth of the samples if that is more; only with
    `cover`."""

    first_candidates: int = 2
    """Texts of step 1 per feature (n in the paper); only with `paper`."""

    second_candidates: int = 2
    """Texts of step 2 per feature (m in the paper); 0 keeps those of step 1; only with `paper`."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = 0 if name == "second_candidates" else 1
            if value is not None and value < least:
                raise DataError(f"{name} is {value}; it must be {least} or more")


@dataclass(frozen=True)
class SynthesisSettings(Settings):
    """What is written, and what is kept."""

    method: Literal["cover", "paper"] = "cover"
    """`cover`: every sample counts for all features that it activates; the samples follow the
    anchor's lengths. `paper`: two steps for each missing feature, a sample counts for its own
    feature (arXiv 2602.10388)."""

    threshold: float | None = None
    """Activation above which a feature is active, in SAE units; by default chosen from the anchor,
    as `fac coverage` does."""

    task: str = "generic"
    """Task: generic, toxicity, reward, sycophancy, survival, instruction, or a TOML file of
    templates."""

    form: str = ""
    """What to write, in words that complete "Write …"; by default as the task says."""

    language: str = ""
    """Language to write in, such as German; by default that of the anchor, which is checked."""

    prompt: Literal["auto", "turns", "request"] = "auto"
    """`turns`: show anchor texts as earlier answers of the generator. `request`: quote them in one
    message. `auto`: a request with the method `paper`, else as the task says."""

    evidence: Literal["auto", "text", "texts", "spans", "none"] = "auto"
    """What a prompt shows of a feature: one whole anchor `text` that activates it, up to four
    `texts`, `spans` around its peaks, or `none`. `auto`: `spans` with `paper`, `texts` with
    `cover`."""

    describe: Literal["auto", "yes", "no"] = "auto"
    """Whether a prompt says in words what a feature means: its explanation, or else the terms of
    its spans. `auto`: only with `paper`."""

    leave_out: Literal["none", "cannot-tell", "doubtful"] = "doubtful"
    """Features that do not count although they are relevant: those whose description in words
    failed its test (`doubtful`) and those that the explainer could not describe, the latter alone
    (`cannot-tell`), or `none`. Names made of terms are not descriptions."""

    per_feature: int = 1
    """`paper`: samples kept for one feature, at most. `cover`: samples that each feature should
    have before the anchor's rates decide."""

    reply: bool = True
    """Write the assistant's answers too."""

    twins: Literal["auto", "yes", "no"] = "auto"
    """Whether to write the counterpart with the other label where a task has one; `auto`: only with
    `cover`."""

    check_labels: Literal["auto", "head", "ask", "none"] = "auto"
    """How to check that a text carries the label of its task; texts that do not are not kept. Only
    with `cover`. `head`: by a head on the labelled seed; `ask`: the judge, or else the generator,
    is asked. `auto`: the judge if there is one, else the head if the seed has both labels and the
    head tells them apart, else the generator."""

    min_anchor_samples: int | None = None
    """Aim only at features that are active in at least this many anchor samples; by default 2 with
    `cover` and 1 with `paper`."""

    max_overlap: float = 0.5
    """Largest share of its word 4-grams that a text may have in common with known texts."""

    max_run: int = 12
    """Most words in a row that a text may have in common with a known text, unless three anchor
    samples have them too."""

    fluency: float = 0.02
    """Share of the anchor's texts that fail the test for words in no order, which the model of the
    features hardly expects; written texts that fail it are not kept. 0 keeps them. Only with
    `cover`."""

    decontaminate: tuple[str, ...] = ()
    """Evaluation set, a file or Hub data set; near-copies of it are not kept."""

    random_seed: int = 0
    """Random seed of all requests."""

    effort: Effort = field(default_factory=Effort)
    """How much is written."""

    sampling: Sampling = field(default_factory=Sampling)
    """How the generator samples."""

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        if not 0 <= self.max_overlap <= 1:
            raise DataError(f"max_overlap is a share between 0 and 1, not {self.max_overlap}")
        if not 0 <= self.fluency < 1:
            raise DataError(f"fluency is a share from 0 to below 1, not {self.fluency}")
        for name, least in (("per_feature", 1), ("max_run", 3), ("min_anchor_samples", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise DataError(f"{name} is {value}; it must be {least} or more")


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

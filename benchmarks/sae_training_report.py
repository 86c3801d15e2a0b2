"""Writes the page of the SAE training benchmark from the measurements."""

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

__all__ = ["LAYER", "Contender", "Plan", "Turn", "render"]

LAYER = 14
_TABLE = """\
| trainer | tokens/s, median (range) | facsynth is faster by | CPU s per 100k tokens | CPU ratio \
| steps | seconds | explained variance | L0 | dead |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""


@dataclass(frozen=True)
class Plan:
    """Settings of all trainers; each process receives them as JSON."""

    n_samples: int = 800
    """Exchanges whose activations are extracted; a tenth is held out."""

    n_features: int = 4096
    k: int = 32
    batch_tokens: int = 2048
    n_steps: int = 120

    n_turns: int = 6
    """Parts into which the steps are divided; the trainers alternate."""

    warm_up_steps: int = 3
    """Untimed steps on a trainer that is then discarded."""

    activations: str = ""
    """File with the tensors `train` and `heldout`."""

    n_threads: int = 2

    def of(self, entry: "Contender") -> "Plan":
        """The plan of one trainer."""
        return replace(self, n_steps=round(self.n_steps * entry.longer))

    def turns(self) -> Iterator[tuple[int, int]]:
        """First step of each turn and the step after its last."""
        edges = [round(i * self.n_steps / self.n_turns) for i in range(self.n_turns + 1)]
        yield from zip(edges[:-1], edges[1:], strict=True)


@dataclass(frozen=True)
class Turn:
    """Measurements of one turn and of the SAE after it."""

    step: int
    """Steps since the start."""

    seconds: float
    cpu_seconds: float
    explained_variance: float
    l0: float
    dead: float


@dataclass
class Contender:
    """A trainer and its measurements."""

    name: str
    worker: str
    options: dict[str, object] = field(default_factory=dict)
    longer: float = 1.0
    """Its number of steps as a multiple of the plan's."""

    turns: list[Turn] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)


def render(plan: Plan, entries: Sequence[Contender], *, n_tokens: int, n_heldout: int) -> str:
    """The page as Markdown.

    Args:
        plan: Settings of all trainers.
        entries: The trainers with their turns; the others are compared with the first.
        n_tokens: Number of training activations.
        n_heldout: Number of held-out activations.
    """
    rows = [_row(plan, entry, entries[0]) for entry in entries]
    steps = [turn.step for turn in entries[0].turns]
    curve = [
        f"| trainer | {' | '.join(f'{step:,}' for step in steps)} |",
        f"|---|{'---:|' * len(steps)}",
        *(
            f"| {e.name} | {' | '.join(f'{t.explained_variance:.3f}' for t in e.turns)} |"
            for e in entries
        ),
    ]
    versions = {name: v for e in entries for name, v in e.versions.items()}
    return f"""# Speed of SAE training

{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {_processor()}, {plan.n_threads} threads, \
Python {platform.python_version()}, {", ".join(f"{n} {v}" for n, v in sorted(versions.items()))}.
Command: `make bench-sae`, which runs `python benchmarks/sae_training.py --write`.

{plan.n_features:,} features, k = {plan.k}, {plan.n_steps:,} steps of {plan.batch_tokens:,} \
tokens.

{chr(10).join([_TABLE, *rows])}

Explained variance on the held-out activations by step, of {plan.n_steps:,}; longer runs are shown \
at the same fraction of their steps:

{chr(10).join(curve)}

{_notes(plan, n_tokens, n_heldout)}"""


def _row(plan: Plan, entry: Contender, ours: Contender) -> str:
    speeds = _speeds(plan.of(entry), entry)
    pairs = list(zip(entry.turns, ours.turns, strict=True))
    faster = median(theirs.seconds / own.seconds for theirs, own in pairs) / entry.longer
    cheaper = median(theirs.cpu_seconds / own.cpu_seconds for theirs, own in pairs) / entry.longer
    seconds = sum(turn.seconds for turn in entry.turns)
    own_plan = plan.of(entry)
    cpu = sum(turn.cpu_seconds for turn in entry.turns)
    cpu /= own_plan.n_steps * plan.batch_tokens
    last = entry.turns[-1]
    return (
        f"| {entry.name} | {median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f}) "
        f"| {faster:.1f} x | {cpu * 1e5:.1f} | {cheaper:.1f} x | {own_plan.n_steps:,} "
        f"| {seconds:.1f} "
        f"| {last.explained_variance:.3f} | {last.l0:.1f} | {last.dead:.1%} |"
    )


def _speeds(plan: Plan, entry: Contender) -> list[float]:
    """Tokens per second of each turn."""
    return [
        (last - first) * plan.batch_tokens / turn.seconds
        for (first, last), turn in zip(plan.turns(), entry.turns, strict=True)
    ]


def _notes(plan: Plan, n_tokens: int, n_heldout: int) -> str:
    return f"""\
* Activations: output of layer {LAYER} of SmolLM2-135M-Instruct at the scored tokens of \
{plan.n_samples:,} chitchat
  exchanges, {n_tokens:,} for training, used several times, and {n_heldout:,} of other exchanges \
for evaluation. All
  trainers get the same rows in the same order, already centred and scaled to a median norm of √d.
* Each trainer runs in its own process. They take {plan.n_turns} turns, in alternating order. \
Speeds are medians over
  the turns, with the range; ratios are medians of the ratios within a turn. Only steps are timed:
  imports, loading, saving and {plan.warm_up_steps} warm-up steps on a discarded trainer are \
excluded.
  CPU time is the sum over threads; unlike wall time it hardly depends on other load on the machine.
* The names give the peak learning rates, which mean different things: facsynth keeps decoder rows
  at norm 1, SAELens starts them at norm 0.1, so at one rate its directions turn ten times faster.
* "Half the time": facsynth with as many steps as take roughly half the time of the SAELens run. The
  column "seconds" shows the time it took.
* The rate warms up over 2 % of the steps and decays over the last 30 %: in facsynth to a tenth, in
  SAELens to zero (its schedule has no other option). Everything else is each trainer's default:
  facsynth starts with encoder rows of norm 0.3, SAELens with decoder rows of norm 0.1, and SAELens
  clips gradients to norm 1. The progress bar and logs of SAELens are off.
* facsynth selects a token's features with a bfloat16 product and computes their activations and
  all gradients in float32; SAELens computes everything in float32 (its autocast was slower here).
* Explained variance: 1 - Σ‖x - x̂‖² / Σ‖x - mean‖² over the held-out rows. One function computes it
  from the saved SAEs of both. Dead: active on no held-out row. BatchTopK is evaluated with its
  threshold.
* SAELens' `use_sparse_activations` is omitted because its trainer fails with an error here.
"""


def _processor() -> str:
    """Name of the processor, if Linux reports it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()

"""The page of the benchmark of SAE training, from what was measured."""

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
    """What every trainer is told; a process gets it as JSON."""

    n_samples: int = 800
    """Exchanges whose activations are read; a tenth of them is held out."""

    n_features: int = 4096
    k: int = 32
    batch_tokens: int = 2048
    n_steps: int = 120

    n_turns: int = 6
    """Parts into which the steps are cut; the trainers alternate."""

    warm_up_steps: int = 3
    """Steps of a trainer that is thrown away, before any clock runs."""

    activations: str = ""
    """File with the tensors `train` and `heldout`."""

    n_threads: int = 2

    def of(self, entry: "Contender") -> "Plan":
        """The plan of one trainer."""
        return replace(self, n_steps=round(self.n_steps * entry.longer))

    def turns(self) -> Iterator[tuple[int, int]]:
        """First step of each turn and the step behind its last."""
        edges = [round(i * self.n_steps / self.n_turns) for i in range(self.n_turns + 1)]
        yield from zip(edges[:-1], edges[1:], strict=True)


@dataclass(frozen=True)
class Turn:
    """What was measured of one turn, and of the SAE behind it."""

    step: int
    """Steps since the start."""

    seconds: float
    cpu_seconds: float
    explained_variance: float
    l0: float
    dead: float


@dataclass
class Contender:
    """A trainer, and what was measured of it."""

    name: str
    worker: str
    options: dict[str, object] = field(default_factory=dict)
    longer: float = 1.0
    """Its steps as a multiple of the plan's."""

    turns: list[Turn] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)


def render(plan: Plan, entries: Sequence[Contender], *, n_tokens: int, n_heldout: int) -> str:
    """The page.

    Args:
        plan: What was asked of all.
        entries: With their turns; the first is the one that the others are compared with.
        n_tokens: Activations to train on.
        n_heldout: Activations to judge by.
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

Explained variance of the held-out activations after so many of {plan.n_steps:,} steps, or as far \
into a longer run:

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
  exchanges, {n_tokens:,} to train on, used several times, and {n_heldout:,} of other exchanges to \
judge by. All
  trainers get the same rows in the same order, already centred and scaled to a median norm of √d.
* Each trainer is a process of its own; they take {plan.n_turns} turns, in alternating order. \
Speeds are medians over
  the turns with their range, ratios medians of the ratios within a turn. Only steps are timed:
  imports, loading, saving and {plan.warm_up_steps} steps of warm-up on a trainer that is thrown \
away are left out.
  CPU time is that of all threads; unlike wall time it hardly depends on what else the machine does.
* Peak rates are in the names; they do not mean the same for both: facsynth holds decoder rows at
  norm 1, SAELens starts them at norm 0.1, so at one rate its directions turn ten times as fast.
* "Half the time": as many steps of facsynth as take half the time of SAELens' run, roughly; what
  it took stands in the column of seconds.
* The rate warms up over 2 % of the steps and falls over the last 30 %: in facsynth to a tenth, in
  SAELens to zero (its schedule knows nothing else). Everything else is each trainer's default:
  facsynth starts with encoder rows of norm 0.3, SAELens with decoder rows of norm 0.1, and it clips
  gradients to norm 1. Its progress bar and logs are off.
* facsynth chooses a token's features by a product in bfloat16 and computes their activations and
  all gradients in float32; SAELens computes everything in float32 (its autocast was slower here).
* Explained variance: 1 - Σ‖x - x̂‖² / Σ‖x - mean‖² over the held-out rows, computed by one function
  from the saved SAEs of both. Dead: active on no held-out row. BatchTopK is read with its
  threshold.
* SAELens' `use_sparse_activations` is left out: its trainer stops with an error here.
"""


def _processor() -> str:
    """Name of the processor, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()

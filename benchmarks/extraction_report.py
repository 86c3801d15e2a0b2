"""The page of the extraction benchmark, from what was measured."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
from contenders.worker import Job, read_texts
from contest import Runs
from starting import Start

__all__ = ["Comparison", "Outcome", "compare", "report"]

_FIRST, _PRODUCT, _OTHER_GATE = "facsynth", "matrix products alone", "authors' procedure"
_REFERENCE = "float32 reference"
_THRESHOLD, _NEAR = 1.0, 0.1

_COMMANDS = {
    "cpu": "make bench-extraction",
    "cuda": "python benchmarks/extraction.py --device cuda --write",
}

_NOTES = """\
* Tokens are those of the texts with their chat template, the same for all. A slow way takes fewer
  texts: the first ones of the same mix.
* Times run from the texts to pooled activations, tokenising included, for facsynth also to the
  written table; loading the model is left out. Peak is the resident memory of the process, loaded
  what it held before its first text.
* Positions are what the first layer was given, padding included, per token of the texts: below 1
  where what all texts start with is run once, and what follows the last scored token not at all.
* "plain Transformers": the base model without its head, right-padded batches of 16 in the given
  order, all hidden states, the SAE's dense code. "SAELens": `run_with_cache` with `names_filter`
  and `stop_at_layer` on its Transformers bridge, batches of 16, then `encode`. "interp-embed": its
  `Dataset` with its default batches of 8. "authors' procedure": one text per pass that ends behind
  the layer, every pre-activation, fully sorted.
* Same results: the pairs (text, feature) with an activation above δ, against those of the reference
  (plain Transformers and the dense SAE in float32) and against facsynth's. Rounding the model to
  bfloat16 moves activations by about a percent, so pairs near δ flip; the fourth column of numbers
  says how many of the pairs that differ from the reference exceed δ by at most 10 % where they do.
* "facsynth, mixed" is the default where the processor multiplies bfloat16: large products in
  bfloat16, attention and the residual stream in float32. The first line is `--dtype bfloat16`,
  which is how the others run.
* Share of the product rate: 2 x the weights of the layers that are read x positions per second
  (attention's own products not counted), over the fastest rate at which this machine multiplied
  those same weights in the same rounds.
"""

_LIMITS = """\
A way that runs at a share s of the product rate with p positions per token can be beaten at most
(p / s) times, if everything but the products were free and no position were read twice. The
products are the model's own, so what is left to gain is what the table above calls norms, casts
and attention."""


@dataclass(frozen=True)
class Outcome:
    """All that was measured."""

    job: Job
    runs: list[Runs]
    """Of the contenders that came to an end."""

    reasons: dict[str, str]
    """Contenders that could not run, and why."""

    versions: dict[str, dict[str, str]]
    loaded: dict[str, int]


def report(
    outcome: Outcome, *, starts: Mapping[str, Sequence[Start]] | None = None, profile: str = ""
) -> str:
    """Markdown: machine and versions, a table for each mix, equality, limits, notes.

    Args:
        outcome: What was measured.
        starts: From the start of a process to its first batch and to its end, by way.
        profile: Where facsynth's time goes.
    """
    parts = [f"# Speed of extraction, in {outcome.job.dtype}", _setting(outcome)]
    for mix in outcome.job.texts:
        parts += [f"## {_title(outcome.job, mix)}", _speed_table(outcome, mix)]
        parts += ["### Same results", _equality_table(outcome, mix)]
    if starts:
        parts += ["## Start-up", _start_up(starts)]
    if profile:
        parts += ["## What limits the speed", f"```text\n{profile}\n```", _LIMITS]
    if outcome.reasons:
        rows = [[name, reason] for name, reason in outcome.reasons.items()]
        parts += ["## Could not run", _table(["way", "why"], rows)]
    return "\n\n".join([*parts, "## How to read it", _NOTES])


def _start_up(starts: Mapping[str, Sequence[Start]]) -> str:
    rows = [
        [
            way,
            _seconds([run.first_batch_s for run in runs]),
            _seconds([run.end_s for run in runs]),
        ]
        for way, runs in starts.items()
    ]
    what = (
        "Seconds from the start of a process until its first decoder layer is called, and until it "
        "ends (median, range): `fac extract` of one short text into a table, and a script that "
        "loads the same model with Transformers and runs it once on that text."
    )
    return f"{what}\n\n{_table(['way', 'to the first batch', 'to the end'], rows)}"


def _seconds(values: Sequence[float]) -> str:
    return f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _setting(outcome: Outcome) -> str:
    job = outcome.job
    n_runs = max((len(r.measured) for r in outcome.runs), default=0)
    rows = [
        ["date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")],
        ["command", f"`{_COMMANDS[job.device]}`"],
        ["machine", f"{_machine(job)}, load {os.getloadavg()[1]:.1f} at the end"],
        ["model", f"{Path(job.model).name}, layers 0 to {job.layer}, {job.dtype}"],
        ["SAE", "the embedded default, float32"],
        ["runs", f"median of {n_runs}, in turns, after one warm-up"],
        *(
            [name, ", ".join(f"{package} {v}" for package, v in versions.items())]
            for name, versions in outcome.versions.items()
        ),
    ]
    return _table(["", ""], rows)


def _title(job: Job, mix: str) -> str:
    lengths = [text.n_tokens for text in read_texts(job.texts[mix])]
    spread = f"{min(lengths)} to {max(lengths)} tokens, mean {np.mean(lengths):.0f}"
    return f"{mix.capitalize()} mix: {spread}"


def _speed_table(outcome: Outcome, mix: str) -> str:
    runs = {r.contender.name: r for r in outcome.runs if r.mix == mix and r.measured}
    product = runs.pop(_PRODUCT, None)
    first = _tokens_per_s(outcome.job, runs[_FIRST]) if _FIRST in runs else None
    rows = []
    for name, one in runs.items():
        speed, tokens = _tokens_per_s(outcome.job, one), _n_tokens(outcome.job, one)
        n_positions = one.warm_up["n_positions"]
        walls = [run["wall_s"] for run in one.measured]
        on_device = [run for run in one.measured[-1:] if "peak_device_bytes" in run]
        rows.append(
            [
                name,
                f"{one.n_texts:,}",
                f"{speed:,.0f}",
                f"{tokens / max(walls):,.0f} to {tokens / min(walls):,.0f}",
                f"{first / speed:.1f}" if first else "",
                f"{median(walls):.2f}",
                f"{_median(one, 'cpu_s'):.2f}",
                f"{1e6 * _median(one, 'cpu_s') / tokens:,.0f}",
                f"{max(run['peak_bytes'] for run in one.measured) / 1e6:,.0f}",
                f"{outcome.loaded[name] / 1e6:,.0f}",
                f"{n_positions / tokens:.2f}",
                f"{_share(one, product, n_positions):.0%}" if product else "",
                *(f"{run['peak_device_bytes'] / 1e6:,.0f}" for run in on_device),
            ]
        )
    header = "way|texts|tokens/s|range|facsynth is x times as fast|wall s|CPU s|CPU µs/token"
    header += "|peak MB|loaded MB|positions/token|share of the product rate"
    header += "" if outcome.job.device == "cpu" else "|peak GPU MB"
    rates = _rates(product) if product else {}
    line = ", ".join(f"{rate / 1e9:,.0f} at {rows_} tokens" for rows_, rate in rates.items())
    return _table(header.split("|"), rows) + f"\n\nMatrix products alone, GFLOP/s: {line}."


def _equality_table(outcome: Outcome, mix: str) -> str:
    runs = {r.contender.name: r for r in outcome.runs if r.mix == mix and r.n_texts and r.warm_up}
    first, reference = runs.get(_FIRST), runs.pop(_REFERENCE, None)
    rows = []
    for name, one in runs.items():
        if name == _OTHER_GATE:
            rows.append([name, "another measure: every positive pre-activation", *[""] * 5])
            continue
        rows.append([name, *_compared(one, reference), *_compared(one, first)[:2]])
    header = f"way|Jaccard at δ = {_THRESHOLD:g} with float32|median difference of activations|"
    header += "pairs|differing|of them near δ|Jaccard with facsynth|median difference"
    return _table(header.split("|"), rows)


def _compared(one: Runs, other: Runs | None) -> list[str]:
    if other is None:
        return ["did not run", "", "", "", ""]
    n_texts = min(one.n_texts, other.n_texts)
    found = compare(_entries(other, n_texts), _entries(one, n_texts))
    return [
        f"{found.jaccard:.4f}",
        f"{found.difference:.2%}",
        f"{found.n_pairs:,}",
        f"{found.n_differing:,}",
        f"{found.n_near:,}",
    ]


@dataclass(frozen=True)
class Comparison:
    """How far two sets of activations agree on what is active."""

    n_pairs: int
    """Pairs (text, feature) that are active in either."""

    n_differing: int
    """Those active in one only."""

    n_near: int
    """Those of them whose larger activation exceeds the threshold by little."""

    difference: float
    """Median relative difference of the activations that both have."""

    @property
    def jaccard(self) -> float:
        """Share of the pairs that both have; 1 where there is none."""
        return 1 - self.n_differing / max(1, self.n_pairs)


Pairs = Mapping[tuple[int, int], float]


def compare(one: Pairs, other: Pairs) -> Comparison:
    """Active (text, feature) pairs of one against those of another, and their activations."""
    active = [{pair for pair, value in e.items() if value > _THRESHOLD} for e in (one, other)]
    shared, differing = active[0] & active[1], active[0] ^ active[1]
    larger = [max(one.get(pair, 0.0), other.get(pair, 0.0)) for pair in differing]
    errors = [abs(one[pair] - other[pair]) / one[pair] for pair in shared]
    return Comparison(
        n_pairs=len(shared) + len(differing),
        n_differing=len(differing),
        n_near=sum(value <= _THRESHOLD * (1 + _NEAR) for value in larger),
        difference=float(np.median(errors or [0.0])),
    )


def _entries(runs: Runs, n_texts: int) -> dict[tuple[int, int], float]:
    with np.load(runs.result) as saved:
        starts, ids, values = saved["row_starts"], saved["feature_ids"], saved["values"]
    return {
        (text, int(ids[i])): float(values[i])
        for text, (a, b) in enumerate(pairwise(starts[: n_texts + 1]))
        for i in range(a, b)
    }


def _rates(product: Runs) -> dict[str, float]:
    """FLOP/s by batch size, median over the runs."""
    return {
        rows: median(run["flops_per_s"][rows] for run in product.measured)
        for rows in product.measured[0]["flops_per_s"]
    }


def _share(one: Runs, product: Runs, n_positions: int) -> float:
    flops = float(product.measured[0]["flops_per_token"]) * n_positions
    return flops / _median(one, "wall_s") / max(_rates(product).values())


def _n_tokens(job: Job, one: Runs) -> int:
    return sum(text.n_tokens for text in read_texts(job.texts[one.mix], one.n_texts))


def _tokens_per_s(job: Job, one: Runs) -> float:
    return _n_tokens(job, one) / _median(one, "wall_s")


def _median(one: Runs, key: str) -> float:
    return median(float(run[key]) for run in one.measured)


def _machine(job: Job) -> str:
    if job.device == "cpu":
        return f"{_cpu()}, {job.threads} threads"
    import torch

    return f"{torch.cuda.get_device_name()}, {_cpu()}, {job.threads} threads"


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    rows = info.read_text().splitlines() if info.is_file() else []
    names = [row.split(":")[1].strip() for row in rows if row.startswith("model name")]
    flags = next((row for row in rows if row.startswith("flags")), "")
    has = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{names[0] if names else platform.processor()} ({', '.join(has) or platform.machine()})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

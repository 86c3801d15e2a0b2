"""Writes the page of the extraction benchmark from the measurements."""

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
* Tokens are those of the texts with their chat template; all contenders get the same tokens. Slow
  contenders process fewer texts: the first ones of the same mix.
* Times cover the work from texts to pooled activations, including tokenisation, and for facsynth
  also writing the table. Loading the model is excluded. Peak MB is the peak resident memory of the
  process, loaded MB its memory before the first text.
* Positions/token is the number of positions that the first layer processes, padding included, per
  token of the texts. It is below 1 if a shared prefix is processed once, and if positions after the
  last scored token are skipped.
* "plain Transformers": the base model without its head, right-padded batches of 16 in the given
  order, all hidden states, the SAE's dense code. "SAELens": `run_with_cache` with `names_filter`
  and `stop_at_layer` on its Transformers bridge, batches of 16, then `encode`. "interp-embed": its
  `Dataset` with its default batches of 8. "authors' procedure": one text per forward pass, which
  ends after the layer; every pre-activation, fully sorted.
* Same results compares the (text, feature) pairs with an activation above δ with those of the
  reference (plain Transformers and the dense SAE in float32) and with those of facsynth. Rounding
  the model to bfloat16 changes activations by about a percent, so pairs near δ flip. "of them near
  δ" counts the pairs that differ from the reference and exceed δ by at most 10 % where active.
* "facsynth, mixed" is the default on processors with bfloat16 multiplication: large products in
  bfloat16, attention and the residual stream in float32. The first row is `--dtype bfloat16`, the
  precision of the other contenders.
* Share of the product rate: 2 x the weights of the layers used x positions per second (excluding
  the products within attention), divided by the fastest rate at which this machine multiplied the
  same weights in the same rounds.
"""

_LIMITS = """\
A contender that runs at a share s of the product rate with p positions per token can be sped up at
most p / s times, even if everything except the products were free and no position were processed
twice. The model needs these products, so the only possible gain is in what the table above calls
norms, casts and attention."""


@dataclass(frozen=True)
class Outcome:
    """All measurements."""

    job: Job
    runs: list[Runs]
    """Of the contenders that finished."""

    reasons: dict[str, str]
    """Contenders that could not run, with the reason."""

    versions: dict[str, dict[str, str]]
    loaded: dict[str, int]


def report(
    outcome: Outcome, *, starts: Mapping[str, Sequence[Start]] | None = None, profile: str = ""
) -> str:
    """Markdown: machine and versions, a table for each mix, equality, limits, notes.

    Args:
        outcome: The measurements.
        starts: Seconds from process start to the first batch and to the end, by contender.
        profile: Where facsynth spends its time.
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
        "Seconds from process start to the first call of a decoder layer, and to process end "
        "(median, range). facsynth: `fac extract` of one short text into a table. Plain "
        "Transformers: a script that loads the same model and runs it once on that text."
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
    """How closely two sets of activations agree on what is active."""

    n_pairs: int
    """(text, feature) pairs that are active in at least one set."""

    n_differing: int
    """Pairs that are active in exactly one set."""

    n_near: int
    """Differing pairs whose larger activation is just above the threshold."""

    difference: float
    """Median relative difference of the activations of pairs active in both."""

    @property
    def jaccard(self) -> float:
        """Share of the pairs that are active in both; 1 if there are no pairs."""
        return 1 - self.n_differing / max(1, self.n_pairs)


Pairs = Mapping[tuple[int, int], float]


def compare(one: Pairs, other: Pairs) -> Comparison:
    """Compare the active (text, feature) pairs of two sets, and their activations."""
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

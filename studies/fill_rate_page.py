"""The page of the study of fill rates, made from its results."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["written_page"]

Cell = Mapping[str, Any]

INTRO = """# Fill rate against generated tokens

The anchor is {n_anchor:,} Alpaca instructions, the seed {n_seed} self-instruct tasks. Features
are those of SmolLM2-135M-Instruct with the default SAE; F are the features that at least 5 anchor
samples activate. At δ = 1, **{n_goal} of them are missing**.
Every cell (generator, arm, random seed) is one run of `fac synthesize` for 200 samples, with at
most 48 tokens a text, temperature 0.8 and top-p 0.9. All arms but `paper` keep by the method
`cover`: within the length classes of the anchor. Where a cell stopped before it had its samples
(*stopped*: `budget`, at a number of generated tokens), its lengths may differ from the anchor's.

* *filled*: missing features that a kept sample activates, counted from a fresh extraction of the
  kept samples.
* *filled per 1,000 tokens*: the same by generated tokens, rejected texts included. More tokens
  fill ever less, so arms also compare at like tokens: *× undirected* is the ratio of features
  filled after as many tokens as both arms have spent, straight lines drawn between rounds.
* *lengths*: Kolmogorov-Smirnov distance between the scored tokens of kept samples and anchor.
* *distance*: Hellinger distance of firing frequencies between the anchor and the seed with the
  kept samples (the seed alone {hellinger_seed:.3f}).
* *share*, *run*: mean share of word 4-grams that kept texts have in common with anchor and seed,
  and the longest run of words in common with one of their texts.

What is not in a table was not run. The former version of this page (commit da14c7d) compares the
objectives, prompts and guides that the method `cover` replaced, without length classes, with
SmolLM2 and Qwen2.5-Coder-0.5B and three random seeds. A pilot that compares prompts within length
classes is in [the log](../log.md).

Made by `studies/fill_rate.py`, last on {date}: one thread, shared with other work, torch {torch}.
Numbers are means over random seeds, ± half the range where there are several. Processors write
other texts: *by* names precision and processor of each row.

{machines}
"""

PAPER = """
## The paper's two steps

`--method paper` with n = m = 2, for the most frequent missing features at each δ; one sample
is kept per feature. To fit into the time there was, three random seeds aim at 20 features.
*One step* and *two steps* are the shares of these features that a text of step 1, or of step 2,
written for them activates: what Table 10 of the paper compares. *By any* counts every kept sample
for all features that it activates. *Own* says how many kept rows activate their own feature above
δ in a fresh extraction.

| generator | δ | seeds | features | one step | two steps | kept | own | tokens | by any |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""


CLASSES = """
## What length classes cost

The default before them took the texts that fill most, whatever their length (commit da14c7d); its
kept texts were as far from the anchor's lengths as *lengths before* says. Both are counted after as
many generated tokens, by other processors and precisions.

| generator | tokens | filled per 1,000 before | now | random seeds now | lengths before | now |
|---|---:|---:|---:|---:|---:|---:|
"""

BEFORE = {
    "smollm2": (3000, 75.1, 0.264),
    "Qwen2.5-Coder-0.5B-Instruct": (2500, 82.3, 0.230),
}
"""Tokens, filled per 1,000 and distance of lengths of the arm *credit* on the page of da14c7d."""


def written_page(results: Mapping[str, Any], described: Mapping[str, str]) -> str:
    """The page in Markdown.

    Args:
        results: `facts` and `cells`.
        described: What each arm does.
    """
    cells: Sequence[Cell] = results["cells"]
    machines = sorted({_machine(cell) for cell in cells})
    told = "\n".join(f"* {_letter(machines, one)}: {one}" for one in machines)
    parts = [INTRO.format(**results["facts"], machines=told)]
    for generator in sorted({cell["generator"] for cell in cells}):
        ours = [c for c in cells if c["generator"] == generator and c["arm"] != "paper"]
        if ours:
            parts.append(_arms(generator, ours, described, machines))
    parts.append(_cost_of_classes(cells))
    papers = [cell for cell in cells if cell["arm"] == "paper"]
    if papers:
        by = ", ".join(sorted({_letter(machines, _machine(cell)) for cell in papers}))
        parts.append(PAPER + "\n".join(_paper_rows(papers)) + f"\n\nBy {by}. {_both_steps(papers)}")
    return "\n".join(parts)


def _machine(cell: Cell) -> str:
    return f"precision {cell['dtype']}, {cell['processor']}"


def _letter(machines: Sequence[str], machine: str) -> str:
    return "abcdefgh"[machines.index(machine)]


def _arms(
    generator: str, cells: Sequence[Cell], described: Mapping[str, str], machines: Sequence[str]
) -> str:
    found = [arm for arm in described if any(cell["arm"] == arm for cell in cells)]
    by_arm = {arm: [cell for cell in cells if cell["arm"] == arm] for arm in found}
    lines = [
        f"## {generator}",
        "",
        "| arm | seeds | kept | tokens | filled | filled per 1,000 tokens | × undirected | "
        "rejected | lengths | distance | share | run | stopped | by |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---|",
    ]
    for arm, rows in by_arm.items():
        per_token = [1000 * c["n_filled"] / c["n_tokens"] for c in rows]
        name = "undirected, exact classes" if "exact" in arm else "undirected"
        ratio = _ratio(rows, by_arm.get(name, []))
        cut = [sum(v for k, v in c["outcomes"].items() if k not in _USABLE) for c in rows]
        asked = [sum(c["outcomes"].values()) - c["outcomes"].get(_UNASKED, 0) for c in rows]
        lines.append(
            f"| {arm} | {len(rows)} | {_mean([c['n_kept'] for c in rows])} | "
            f"{_mean([c['n_tokens'] for c in rows])} | {_mean([c['n_filled'] for c in rows])} | "
            f"{_mean(per_token, 1)} | {'-' if ratio is None else f'{ratio:.2f}'} | "
            f"{np.sum(cut) / np.sum(asked):.0%} | "
            f"{_mean([c['length_distance'] for c in rows], 3)} | "
            f"{_mean([c['hellinger'] for c in rows], 3)} | "
            f"{_mean([c['copying']['text']['mean_share'] for c in rows], 2)} | "
            f"{max(c['copying']['text']['longest_run'] for c in rows)} | "
            f"{', '.join(sorted({c['stopped'] for c in rows}))} | "
            f"{', '.join(sorted({_letter(machines, _machine(c)) for c in rows}))} |"
        )
    lines += ["", *(f"* {arm}: {described[arm]}" for arm in found)]
    return "\n".join(lines) + "\n"


def _cost_of_classes(cells: Sequence[Cell]) -> str:
    rows = []
    for generator, (tokens, before, lengths) in BEFORE.items():
        ours = [c for c in cells if c["generator"] == generator and c["arm"] == "cover"]
        now = [1000 * _filled(c["curve"], tokens) / tokens for c in ours]
        distances = [c["length_distance"] for c in ours]
        rows.append(
            f"| {generator} | {tokens:,} | {before} | {_mean(now, 1)} | {len(ours)} | "
            f"{lengths} | {np.mean(distances):.3f} |"
        )
    return CLASSES + "\n".join(rows) + "\n"


_UNASKED = "not asked: budget"
_USABLE = ("kept", "not needed", _UNASKED)


def _ratio(rows: Sequence[Cell], base: Sequence[Cell]) -> float | None:
    """Features filled against the undirected arm, at the tokens that both have spent."""
    if not base or rows is base:
        return None
    found = []
    for cell in rows:
        other = next((b for b in base if b["seed"] == cell["seed"]), base[0])
        at = min(cell["curve"][-1][0], other["curve"][-1][0])
        found.append(_filled(cell["curve"], at) / _filled(other["curve"], at))
    return float(np.mean(found))


def _filled(curve: Sequence[Sequence[int]], tokens: int) -> float:
    """Features filled after so many tokens, straight between rounds."""
    spent, filled = zip((0, 0), *curve, strict=True)
    return float(np.interp(tokens, spent, filled))


def _mean(values: Sequence[float], digits: int = 0) -> str:
    text = f"{np.mean(values):,.{digits}f}"
    half = (max(values) - min(values)) / 2
    return f"{text} ± {half:,.{digits}f}" if len(values) > 1 else text


def _both_steps(cells: Sequence[Cell]) -> str:
    """Whether the second step gains anything, over all rows."""
    n = sum(cell["n_aimed"] for cell in cells)
    one, two = (sum(cell["n_hit"][f"step {step}"] for cell in cells) for step in (1, 2))
    return (
        f"Over all rows, step 1 hits {one} of {n} features and step 2 {two}. Kept rows are those "
        "of step 2.\n"
    )


def _paper_rows(cells: Sequence[Cell]) -> list[str]:
    parts: dict[tuple[str, int, float], list[Cell]] = {}
    for cell in cells:
        parts.setdefault((cell["generator"], cell["n_aimed"], cell["threshold"]), []).append(cell)
    rows = []
    for (generator, _, threshold), ours in sorted(parts.items()):
        n = [c["n_aimed"] for c in ours]
        one, two = ([c["n_hit"][f"step {step}"] / c["n_aimed"] for c in ours] for step in (1, 2))
        rows.append(
            f"| {generator} | {threshold:g} | {len(ours)} | {_mean(n)} | "
            f"{np.mean(one):.0%} | {np.mean(two):.0%} | {_mean([c['n_kept'] for c in ours])} | "
            f"{_mean([c['n_own'] for c in ours])} | {_mean([c['n_tokens'] for c in ours])} | "
            f"{_mean([c['n_filled'] for c in ours])} of {_mean([c['n_goal'] for c in ours])} |"
        )
    return rows

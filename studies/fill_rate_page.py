"""The page of `fill_rate.py`: tables and curves from its results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np

__all__ = ["page"]

Cell = Mapping[str, Any]

BASE, PAPER, CREDITED = "undirected", "two steps, own", "request, credit"
DEFAULT = "credit"

INTRO = """# Fill rate against generated tokens

Anchor: {n_anchor:,} Alpaca instructions; seed: {n_seed} self-instruct tasks; features of
SmolLM2-135M-Instruct with the shipped SAE, read in the precision {dtype}, threshold 1.
**{n_goal} missing features** are active in at least 5 anchor samples; they are the goal. Every
cell writes until its budget of generated tokens is spent, at most 48 tokens a text, temperature
0.8, top-p 0.9, so arms are compared at equal budgets. Tokens that were generated and thrown away
count.

* *filled*: missing features that a usable text activates, in the order of writing; in the arms
  named *own* only the feature that the text was written for. A text is usable when no filter
  rejects it (length, loops, remarks, scripts) and it shares at most half of its word 4-grams with
  anchor, seed and earlier texts.
* *fewer tokens*: the tokens that the undirected arm spends on what it fills, divided by those
  after which this arm has filled as much. Where a fill rate comes near 100 %, this is what tells
  arms apart, because little is left to fill.
* *own hits*: share of all finished texts that activate the feature they were written for.
* *near-copies*: share of all finished texts that were rejected as copies of anchor, seed or an
  earlier text; none is kept, so there are none in the data set.
* *well-formed*: share of the texts that filled something which pass the form check of
  `is_well_formed` (one line, a capital first, a final stop, paired quotes, no list, label,
  placeholder or remark). {anchor_well_formed:.0%} of the anchor's own instructions pass it.
* *distance*: Hellinger distance of firing frequencies between the anchor and the seed with the kept
  texts (0 is best; the seed alone {hellinger_seed:.3f}); *lengths*: Kolmogorov-Smirnov distance of
  token counts (the seed alone {length_distance_seed:.3f}).

The arms *steer*, *examples* and *drop early* were measured with guides for the generator, which
filled no more than the default and have been removed; their numbers stay. The last commit with
their code is 49b91c2.

Written by `studies/fill_rate.py` on {date}: one thread on {processor}, shared
with other work, torch {torch}. Means over seeds, ± half the range.
"""


def page(results: Mapping[str, Any], described: Mapping[str, str], folder: Path) -> str:
    """The page as Markdown; its pictures are written into `folder`."""
    parts = [INTRO.format(**results["facts"])]
    cells: list[Cell] = results["cells"]
    groups = sorted(
        {(c["generator"], c["budget"]) for c in cells}, key=lambda g: (g[0] != "smollm2", g)
    )
    for generator, budget in groups:
        mine = [c for c in cells if (c["generator"], c["budget"]) == (generator, budget)]
        own = "_own" if generator.endswith("own features") else ""
        name = f"fill_rate_{generator.lower().split('.')[0].split('-')[0]}{own}_{budget}.svg"
        draw(mine, folder / name, budget)
        parts += [f"## {generator}, {budget:,} tokens a cell", table(mine, described)]
        parts += [f"![Filled features against generated tokens]({name})"]
        parts += [features_of(generator, mine[0]["n_goal"])]
        parts += [strengths(mine), dropped(mine), ended(mine)]
        parts += [goals(mine)]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def by_arm(cells: Sequence[Cell], described: Mapping[str, str]) -> dict[str, list[Cell]]:
    found = {arm: [c for c in cells if c["arm"] == arm] for arm in described}
    return {arm: rows for arm, rows in found.items() if rows}


def table(cells: Sequence[Cell], described: Mapping[str, str]) -> str:
    head = [
        *(
            "arm",
            "seeds",
            "filled per 1,000 tokens",
            "fill rate",
            "× undirected",
            "fewer tokens",
            "× two steps",
        ),
        *(
            "own hits",
            "near-copies",
            "other rejected",
            "well-formed",
            "kept",
            "distance",
            "lengths",
        ),
    ]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    arms = by_arm(cells, described)
    rates = {arm: float(np.mean([per_thousand(c) for c in rows])) for arm, rows in arms.items()}
    for arm, rows in arms.items():
        copies = [share(c, "near-copy") for c in rows]
        fine = [share(c, "usable") for c in rows]
        line = [
            f"{arm}",
            f"{len(rows)}",
            spread([per_thousand(c) for c in rows], 1),
            f"{np.mean([c['n_filled'] / c['n_goal'] for c in rows]):.1%}",
            times(rates, arm, BASE),
            fewer_tokens(arms, arm, BASE),
            times(rates, arm, PAPER),
            "-" if arm == BASE else f"{np.mean([c['own_hits'] for c in rows]):.0%}",
            f"{np.mean(copies):.1%}",
            f"{1 - np.mean(copies) - np.mean(fine):.1%}",
            f"{np.mean([c['well_formed'] for c in rows]):.0%}",
            f"{np.mean([c['n_kept'] for c in rows]):.0f}",
            f"{np.mean([c['hellinger'] for c in rows]):.3f}",
            f"{np.mean([c['length_distance'] for c in rows]):.3f}",
        ]
        lines.append("| " + " | ".join(line) + " |")
    notes = "\n".join(f"* {arm}: {described[arm]}" for arm in arms)
    return "\n".join(lines) + "\n\n" + notes


def goals(cells: Sequence[Cell]) -> str:
    """What was hoped for, beside what the default arm reached."""
    arms = by_arm(cells, {cell["arm"]: "" for cell in cells})
    if DEFAULT not in arms:
        return ""
    ours = arms[DEFAULT]
    rates = {arm: float(np.mean([per_thousand(c) for c in rows])) for arm, rows in arms.items()}
    fill = float(np.mean([c["n_filled"] / c["n_goal"] for c in ours]))
    copies = float(np.mean([share(c, "near-copy") for c in ours]))
    formed = float(np.mean([c["well_formed"] for c in ours]))
    rows = [
        (
            "fewer tokens than undirected texts, for what these fill",
            "3 ×",
            fewer_tokens(arms, DEFAULT, BASE),
        ),
        ("filled a token, × undirected", "3", times(rates, DEFAULT, BASE) + most(arms, BASE)),
        ("filled a token, × the paper's two steps", "1.5", times(rates, DEFAULT, PAPER)),
        ("the same, with every text credited", "1.5", times(rates, DEFAULT, CREDITED)),
        ("fill rate", "99.8 % given rounds", f"{fill:.1%}"),
        ("near-copies among kept texts; rejected ones", "5 %", f"0 %; {copies:.1%} of the written"),
        ("well-formed", "90 %", f"{formed:.0%}"),
    ]
    head = "| goal | wanted | reached by `" + DEFAULT + "` |\n|---|---|---|\n"
    return head + "\n".join("| " + " | ".join(row) + " |" for row in rows if row[-1] != "-")


def per_thousand(cell: Cell) -> float:
    return 1000.0 * float(cell["n_filled"]) / max(1, int(cell["n_tokens"]))


def share(cell: Cell, outcome: str) -> float:
    """Share of the finished texts with an outcome."""
    found = cell["outcomes"]
    return float(
        found.get(outcome, 0) / max(1, sum(found.values()) - found.get("dropped early", 0))
    )


def times(rates: Mapping[str, float], arm: str, base: str) -> str:
    return f"{rates[arm] / rates[base]:.2f}" if rates.get(base) else "-"


def most(arms: Mapping[str, list[Cell]], base: str) -> str:
    """How many times what the base fills there is to fill, in words."""
    if base not in arms:
        return ""
    filled = float(np.mean([cell["n_filled"] / cell["n_goal"] for cell in arms[base]]))
    return f" (all there is to fill: {1 / filled:.2f})"


def fewer_tokens(arms: Mapping[str, list[Cell]], arm: str, base: str) -> str:
    """How many times as many tokens the base needs for what it fills, by mean curves."""
    if base not in arms or arm == base:
        return "-"
    ours, theirs = (np.mean([c["curve"] for c in arms[name]], axis=0) for name in (arm, base))
    reached = np.flatnonzero(ours >= theirs[-1])
    if not reached.size:
        return "< 1"
    last = int(reached[0])
    before = float(ours[last - 1]) if last else 0.0
    place = last + (theirs[-1] - before) / (ours[last] - before)
    needed = int(np.flatnonzero(theirs >= theirs[-1])[0]) + 1
    return f"{needed / place:.2f}"


def spread(values: Sequence[float], digits: int) -> str:
    half = (max(values) - min(values)) / 2
    return f"{np.mean(values):.{digits}f} ± {half:.{digits}f}"


def features_of(generator: str, n_goal: int) -> str:
    """What a generator other than SmolLM2 is judged by."""
    if generator == "smollm2":
        return ""
    if generator.endswith("own features"):
        return (
            "Features of the generator itself, by the small SAE that [the study of transfer]"
            "(transfer.md) trains on 700 texts, so that it could be steered; here "
            f"{n_goal} features are missing. Distances are over these features too, so the seed's "
            "above is not theirs."
        )
    return (
        "Not steered: that adds directions of an SAE to the generator's own residual stream, and "
        "the SAE of these features is SmolLM2's."
    )


def strengths(cells: Sequence[Cell]) -> str:
    """What the search for a strength found."""
    lines = []
    for cell in cells:
        if cell.get("strength"):
            tried = ", ".join(
                f"{t['strength']:g}: {t['own_hits']:.0%} own hits, {t['flawed']:.0%} flawed"
                for t in cell["strength"]["tried"]
            )
            lines.append(
                f"* {cell['arm']}, seed {cell['seed']}: {cell['strength']['chosen']:g} ({tried})"
            )
    return "Strengths that `auto` tried and chose:\n\n" + "\n".join(lines) if lines else ""


def dropped(cells: Sequence[Cell]) -> str:
    """What dropping texts early saved."""
    lines = [
        f"* {c['arm']}, seed {c['seed']}: {c['outcomes']['dropped early']} of "
        f"{sum(c['outcomes'].values())} texts, about {c['tokens_saved']:,} tokens saved"
        for c in cells
        if "dropped early" in c["outcomes"]
    ]
    return "Texts that were dropped early:\n\n" + "\n".join(lines) if lines else ""


def ended(cells: Sequence[Cell]) -> str:
    """Arms that ended before their tokens were spent."""
    early = [c for c in cells if c["n_tokens"] < 0.9 * c["budget"]]
    lines = [f"* {c['arm']}, seed {c['seed']}: {c['n_tokens']:,} tokens" for c in early]
    return (
        "Ended before the budget, with nothing left to aim at or a round that kept nothing:\n\n"
        + "\n".join(lines)
        if lines
        else ""
    )


def draw(cells: Sequence[Cell], path: Path, budget: int) -> None:
    """Mean curve of every arm."""
    rows = []
    for arm in dict.fromkeys(c["arm"] for c in cells):
        curves = np.array([c["curve"] for c in cells if c["arm"] == arm])
        goal = next(c["n_goal"] for c in cells)
        steps = budget / curves.shape[1]
        rows += [{"arm": arm, "tokens": 0, "filled": 0.0}]
        rows += [
            {"arm": arm, "tokens": steps * (i + 1), "filled": float(value / goal)}
            for i, value in enumerate(curves.mean(axis=0))
        ]
    chart = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(strokeWidth=1.8)
        .encode(
            x=alt.X("tokens:Q", title="generated tokens"),
            y=alt.Y("filled:Q", title="fill rate", axis=alt.Axis(format="%")),
            color=alt.Color("arm:N", title=None, scale=alt.Scale(scheme="category20")),
        )
        .properties(width=520, height=300)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    chart.save(str(path))

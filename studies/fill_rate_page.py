"""Writes the page of `fill_rate.py`: tables and curves from its results."""

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

The anchor is {n_anchor:,} Alpaca instructions, the seed {n_seed} self-instruct tasks. Features are
those of SmolLM2-135M-Instruct with the default SAE, extracted in precision {dtype}, threshold 1.
The goal is the **{n_goal} missing features** that are active in at least 5 anchor samples. Every
cell (generator, arm, random seed) generates until its token budget is spent, with at most 48 tokens
per text, temperature 0.8 and top-p 0.9. So arms are compared at equal budgets; discarded tokens
count.

* *filled*: missing features that a usable text activates, in the order of generation; in the arms
  named *own* only the feature that the text was written for. A text is usable if no filter rejects
  it (length, loops, remarks, scripts) and it shares at most half of its word 4-grams with anchor,
  seed and earlier texts.
* *fewer tokens*: the tokens that the undirected arm needs for everything it fills, divided by the
  tokens after which this arm has filled as much. Near a fill rate of 100 %, only this measure
  distinguishes arms, because little is left to fill.
* *own hits*: share of all finished texts that activate the feature they were written for.
* *near-copies*: share of all finished texts that were rejected as copies of the anchor, the seed or
  an earlier text; none is kept, so the data set has none.
* *well-formed*: of the texts that filled something, the share that passes the form check
  `is_well_formed` (one line, starts with a capital, final punctuation, paired quotes, no list,
  label, placeholder or remark). {anchor_well_formed:.0%} of the anchor's own instructions pass it.
* *distance*: Hellinger distance of firing frequencies between the anchor and the seed with the kept
  texts (0 is best; the seed alone {hellinger_seed:.3f}); *lengths*: Kolmogorov-Smirnov distance of
  token counts (the seed alone {length_distance_seed:.3f}).

The arms *steer*, *examples* and *drop early* used guides for the generator. These filled no more
than the default and were removed; their numbers stay here. The last commit with their code is
49b91c2.

Made by `studies/fill_rate.py` on {date}: one thread on {processor}, shared
with other work, torch {torch}. Numbers are means over random seeds, ± half the range.
"""


def page(results: Mapping[str, Any], described: Mapping[str, str], folder: Path) -> str:
    """The page as Markdown; its plots are written to `folder`."""
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
        parts += [f"## {generator}, {budget:,} tokens per cell", table(mine, described)]
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
    """The goals, and what the default arm reached."""
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
            "fewer tokens than undirected texts, at equal features filled",
            "3 ×",
            fewer_tokens(arms, DEFAULT, BASE),
        ),
        ("filled per token, × undirected", "3", times(rates, DEFAULT, BASE) + most(arms, BASE)),
        ("filled per token, × the paper's two steps", "1.5", times(rates, DEFAULT, PAPER)),
        ("the same, with every text credited", "1.5", times(rates, DEFAULT, CREDITED)),
        ("fill rate", "99.8 % given rounds", f"{fill:.1%}"),
        ("near-copies kept; rejected", "5 %", f"0 %; {copies:.1%} of the written texts"),
        ("well-formed", "90 %", f"{formed:.0%}"),
    ]
    head = "| goal | target | reached by `" + DEFAULT + "` |\n|---|---|---|\n"
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
    """The largest possible ratio to what the base fills, in words."""
    if base not in arms:
        return ""
    filled = float(np.mean([cell["n_filled"] / cell["n_goal"] for cell in arms[base]]))
    return f" (maximum: {1 / filled:.2f})"


def fewer_tokens(arms: Mapping[str, list[Cell]], arm: str, base: str) -> str:
    """Ratio of the tokens that the base and this arm need to fill as much, by mean curves."""
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
    """Which features are used with a generator other than SmolLM2."""
    if generator == "smollm2":
        return ""
    if generator.endswith("own features"):
        return (
            "These are features of the generator itself, which allows steering. They come from the "
            "small SAE that [the transfer study](transfer.md) trains on 700 texts; "
            f"{n_goal} of them are missing. Distances use these features too, so the seed's "
            "distance above does not apply."
        )
    return (
        "There are no steering arms here. Steering adds SAE directions to the generator's own "
        "residual stream, but the SAE of these features is SmolLM2's."
    )


def strengths(cells: Sequence[Cell]) -> str:
    """Results of the search for a steering strength."""
    lines = []
    for cell in cells:
        if cell.get("strength"):
            tried = ", ".join(
                f"{t['strength']:g}: {t['own_hits']:.0%} own hits, {t['flawed']:.0%} flawed"
                for t in cell["strength"]["tried"]
            )
            lines.append(
                f"* {cell['arm']}, random seed {cell['seed']}: "
                f"{cell['strength']['chosen']:g} ({tried})"
            )
    return "Strengths that `auto` chose (and tried):\n\n" + "\n".join(lines) if lines else ""


def dropped(cells: Sequence[Cell]) -> str:
    """What dropping texts early saved."""
    lines = [
        f"* {c['arm']}, random seed {c['seed']}: {c['outcomes']['dropped early']} of "
        f"{sum(c['outcomes'].values())} texts, about {c['tokens_saved']:,} tokens saved"
        for c in cells
        if "dropped early" in c["outcomes"]
    ]
    return "Texts dropped early:\n\n" + "\n".join(lines) if lines else ""


def ended(cells: Sequence[Cell]) -> str:
    """Arms that ended before their tokens were spent."""
    early = [c for c in cells if c["n_tokens"] < 0.9 * c["budget"]]
    lines = [f"* {c['arm']}, random seed {c['seed']}: {c['n_tokens']:,} tokens" for c in early]
    return (
        "Cells that ended early, because no target was left or a round kept nothing:\n\n"
        + "\n".join(lines)
        if lines
        else ""
    )


def draw(cells: Sequence[Cell], path: Path, budget: int) -> None:
    """Plot the mean curve of every arm."""
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

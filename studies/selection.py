"""Which samples to train on: the pilot's selection table, reproduced with facsynth's functions.

Two tasks with a frozen SmolLM2-135M-Instruct and linear heads on its mean residual stream at the
SAE's layer: toxicity (logistic regression) and reward (Bradley-Terry on chosen minus rejected).
Each random seed draws a pool, and every method chooses from it; a random choice with the same
length quotas is the reference. An interrupted run resumes.

    python studies/selection.py --data ../shared/data          all (about 10 minutes)
    python studies/selection.py --data ../shared/data --quick  small sizes, in a separate folder

Writes studies/results/selection.json and docs/studies/selection.md. No text is printed or stored.
"""

import argparse
import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from facsynth.models.embed import embed_samples
from facsynth.models.lm import load_language_model
from facsynth.records import FeatureActivations, Message, Sample
from facsynth.sae.files import load_sae
from facsynth.select.herding import mean_picks
from facsynth.select.picks import Spending, plan_groups, random_picks
from facsynth.select.pool import Pool
from facsynth.select.select import pick_rows
from facsynth.select.settings import SelectSettings
from facsynth.table.active import ActiveRows, active_rows
from facsynth.table.extract import extract_table
from facsynth.table.rows import take_rows
from facsynth.table.settings import ExtractSettings

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "studies" / "results" / "selection.json"
PAGE = ROOT / "docs" / "studies" / "selection.md"
BUDGETS = (25, 50, 100, 200, 400)
THRESHOLD = 1.0
N_RELEVANT = 300
REFERENCE = "random, length quotas"
Rows = np.ndarray
Exchange = tuple[Message, ...]


@dataclass(frozen=True)
class Sizes:
    """Sizes of the data and number of repetitions."""

    seeds: int = 12
    per_class: int = 700
    """Toxicity: samples per class and source."""
    pairs: int = 900
    """Reward: pairs per pool."""
    max_tokens: int = 192


@dataclass(frozen=True)
class Read:
    """Stored data of the samples, without text."""

    rows: FeatureActivations
    hidden: Rows
    labels: Rows
    """Toxicity: 1 or 0; reward: unused."""
    sources: Rows


# Data


def toxicity_samples(data: Path, sizes: Sizes) -> tuple[list[Sample], list[str]]:
    """Labelled texts and their sources; HateCheck is the external test."""
    surge = [
        ("surge", row["text"], row["is_toxic"] == "Toxic")
        for row in csv.DictReader((data / "surge_toxicity/toxicity_en.csv").open(encoding="utf-8"))
    ]
    with gzip.open(data / "davidson/labeled_data.csv.gz", "rt", encoding="utf-8") as file:
        davidson = [("davidson", r["tweet"], r["class"] != "2") for r in csv.DictReader(file)]
    with (data / "hatecheck/test_suite_cases.csv").open(encoding="utf-8") as file:
        hatecheck = [
            ("hatecheck", row["test_case"], row["label_gold"] == "hateful")
            for row in csv.DictReader(file)
        ]
    samples: list[Sample] = []
    sources: list[str] = []
    for found in (surge, davidson, hatecheck):
        random.Random(0).shuffle(found)
        for wanted in (True, False):
            kept = [row for row in found if row[2] == wanted][: sizes.per_class]
            for source, text, is_toxic in kept:
                label = "toxic" if is_toxic else "benign"
                name = f"{source}-{label}-{len(samples)}"
                samples.append(Sample(name, messages=(Message("user", text),), label=label))
                sources.append(source)
    return samples, sources


def last_exchange(text: str) -> Exchange:
    """The last question and answer of an HH-RLHF transcript."""
    before, _, answer = text.rpartition("\n\nAssistant:")
    question = before.rpartition("\n\nHuman:")[2]
    return (Message("user", question.strip()), Message("assistant", answer.strip()))


def reward_samples(data: Path, sizes: Sizes) -> tuple[list[Sample], list[str]]:
    """Chosen and rejected answers alternate: sample 2i is chosen, sample 2i + 1 rejected."""
    with gzip.open(data / "hh_rlhf/harmless-base_test.jsonl.gz", "rt", encoding="utf-8") as file:
        harm = [(r["chosen"], r["rejected"]) for r in map(json.loads, file)]
    with gzip.open(data / "dsp/helpful.test.json.gz", "rt", encoding="utf-8") as file:
        rows = json.load(io.StringIO(file.read()))
    ranked = [r["text"] if r["score"][0] > r["score"][1] else r["text"][::-1] for r in rows]
    help_ = [(good, bad) for good, bad in ranked]
    pairs: list[tuple[str, Exchange, Exchange]] = []
    for source, found in (("harmless", harm), ("helpful", help_)):
        sides = [(last_exchange(chosen), last_exchange(rejected)) for chosen, rejected in found]
        good = [s for s in sides if all(m.content for side in s for m in side) and s[0] != s[1]]
        random.Random(0).shuffle(good)
        pairs += [(source, *pair) for pair in good[: sizes.pairs]]
    for row in json.loads((data / "llmbar/natural.json").read_text(encoding="utf-8")):
        one, two = (
            (Message("user", row["input"]), Message("assistant", row[f"output_{i}"]))
            for i in (1, 2)
        )
        pairs.append(("llmbar", one, two) if int(row["label"]) == 1 else ("llmbar", two, one))
    samples = [
        Sample(f"{source}-{i}-{side}", messages=messages)
        for i, (source, *both) in enumerate(pairs)
        for side, messages in zip(("chosen", "rejected"), both, strict=True)
    ]
    return samples, [source for source, *_ in pairs for _ in range(2)]


def read_task(name: str, data: Path, folder: Path, sizes: Sizes) -> Read:
    """Features and hidden states of a task, extracted once."""
    samples, sources = {"toxicity": toxicity_samples, "reward": reward_samples}[name](data, sizes)
    vectors = folder / f"{name}-hidden.npy"
    lm, sae = load_language_model(), load_sae(None)
    settings = ExtractSettings(max_length=sizes.max_tokens)
    table = extract_table(samples, lm, sae, folder / f"{name}-{sae.content_hash[:8]}",
                          settings=settings)  # fmt: skip
    if not vectors.exists():
        layer = sae.config.layer
        np.save(vectors, embed_samples(samples, lm, layer, max_length=sizes.max_tokens))
    labels = np.array([sample.label == "toxic" for sample in samples], dtype=int)
    return Read(table.activations(), np.load(vectors), labels, np.array(sources))


# Heads


def length_free(hidden: Rows, n_tokens: Rows, fit: Rows) -> Rows:
    """Residuals of the hidden states after regression on log length and its square, on `fit`."""
    log = np.log(np.maximum(n_tokens, 1))
    design = np.stack([np.ones_like(log), log, log**2], axis=1)
    weights, *_ = np.linalg.lstsq(design[fit], hidden[fit], rcond=None)
    return np.asarray(hidden - design @ weights)


def toxicity_score(hidden: Rows, labels: Rows, picks: Rows, tests: list[Rows]) -> float:
    """Mean AUPRC over the tests."""
    mean, scale = hidden[picks].mean(0), hidden[picks].std(0) + 1e-6
    head = LogisticRegression(C=1e-3, class_weight="balanced", max_iter=500)
    head.fit((hidden[picks] - mean) / scale, labels[picks])
    scores = [head.decision_function((hidden[test] - mean) / scale) for test in tests]
    found = [average_precision_score(labels[t], s) for t, s in zip(tests, scores, strict=True)]
    return float(np.mean(found))


def reward_score(differences: Rows, picks: Rows, tests: list[Rows]) -> float:
    """Accuracy of a Bradley-Terry head on the first test, the pool's own held-out pairs."""
    scale = differences[picks].std(0) + 1e-6
    x = differences[picks] / scale
    head = LogisticRegression(C=1e-3, fit_intercept=False, max_iter=500)
    head.fit(np.concatenate([x, -x]), np.repeat([1, 0], len(x)))
    return float((differences[tests[0]] / scale @ head.coef_[0] > 0).mean())


def same_lengths(labels: Rows, n_tokens: Rows, rows: Rows) -> Rows:
    """Pairs of a toxic and a benign row of similar length, so length does not reveal the label."""
    toxic, benign = rows[labels[rows] == 1], list(rows[labels[rows] == 0])
    kept: list[int] = []
    for row in toxic:
        if not benign:
            break
        near = min(benign, key=lambda other: abs(int(n_tokens[other]) - int(n_tokens[row])))
        if abs(int(n_tokens[near]) - int(n_tokens[row])) <= 2:
            benign.remove(near)
            kept += [row, near]
    return np.array(kept)


def relevant_features(rows: FeatureActivations, labels: Rows, sources: Rows) -> Rows:
    """The features whose activation has the highest mean AUC for the label within sources."""
    dense = active_rows(rows, threshold=0.0).matrix.toarray()
    frequent = np.flatnonzero((dense > THRESHOLD).sum(0) >= 10)
    score = np.zeros(rows.n_features)
    for source in np.unique(sources):
        mine = sources == source
        score[frequent] += [roc_auc_score(labels[mine], dense[mine, f]) for f in frequent]
    relevant = np.zeros(rows.n_features, dtype=np.bool_)
    relevant[frequent[np.argsort(-score[frequent], kind="stable")[:N_RELEVANT]]] = True
    return relevant


# Methods: positions in a pool


def some(rows: FeatureActivations, wanted: Rows, relevant: Rows | None = None) -> ActiveRows:
    return active_rows(take_rows(rows, wanted), threshold=THRESHOLD, relevant=relevant)


def by_settings(pool: Pool, budget: int, **options: Any) -> Rows:
    return pick_rows(pool, SelectSettings(budget, **options))


def drawn(pool: Pool, budget: int, rng: np.random.Generator, quota: Any) -> Rows:
    groups = plan_groups(pool.n_tokens, budget=budget, quota=quota)
    return np.concatenate([rng.choice(g.rows, g.n_picks, replace=False) for g in groups])


Method = Callable[[Pool, int, np.random.Generator], Rows]
METHODS: dict[str, Method] = {
    REFERENCE: lambda pool, n, rng: drawn(pool, n, rng, "length"),
    "random": lambda pool, n, rng: drawn(pool, n, rng, "none"),
    "greedy coverage": lambda pool, n, _: by_settings(pool, n, quota="none"),
    "random, lengths of greedy coverage": lambda pool, n, rng: random_picks(
        plan_groups(pool.n_tokens, budget=n, quota="length", n_quotas=50),
        by_settings(pool, n, quota="none"),
        rng,
    ),
    "greedy coverage, length quotas": lambda pool, n, _: by_settings(pool, n),
    "herding, length quotas": lambda pool, n, _: by_settings(pool, n, objective="representative"),
}


def toxicity_run(read: Read, sizes: Sizes, seed: int) -> list[dict[str, Any]]:
    """All methods and budgets of one random seed; a method chooses the toxic half, or both."""
    rng = np.random.default_rng(seed)
    inside = np.flatnonzero(read.sources != "hatecheck")
    inside = rng.permutation(inside[read.rows.n_tokens[inside] > 0])
    cut = len(inside) * 2 // 3
    train, rest = inside[:cut], inside[cut:]
    other = np.flatnonzero((read.sources == "hatecheck") & (read.rows.n_tokens > 0))
    tests = [same_lengths(read.labels, read.rows.n_tokens, rows) for rows in (other, rest)]
    relevant = relevant_features(take_rows(read.rows, train), read.labels[train],
                                 read.sources[train])  # fmt: skip
    toxic, benign = train[read.labels[train] == 1], train[read.labels[train] == 0]
    free = length_free(read.hidden, read.rows.n_tokens, train)
    found = []
    for budget in BUDGETS:
        half = budget // 2
        plain = drawn(Pool(some(read.rows, benign)), budget - half, rng, "length")
        chosen = {}
        for name, method in METHODS.items():
            only = None if "herding" in name else relevant
            pool = Pool(some(read.rows, toxic, only))
            chosen[name] = np.concatenate([toxic[method(pool, half, rng)], benign[plain]])
        names = ["toxic" if label else "benign" for label in read.labels[train]]
        both = Pool(some(read.rows, train), labels=names)
        chosen["herding on the label direction, length quotas"] = train[
            by_settings(both, budget, objective="direction")
        ]
        for name, picks in chosen.items():
            for head, hidden in (("plain", read.hidden), ("length-free", free)):
                score = toxicity_score(hidden, read.labels, picks, tests)
                tokens = float(read.rows.n_tokens[picks].mean())
                found.append({"task": "toxicity", "seed": seed, "budget": budget, "method": name,
                              "head": head, "score": score, "mean_tokens": tokens})  # fmt: skip
    return found


def reward_run(read: Read, sizes: Sizes, seed: int) -> list[dict[str, Any]]:
    """All methods and budgets of one random seed, in each of the two pools."""
    found = []
    differences = read.hidden[0::2] - read.hidden[1::2]
    gap = np.log(np.maximum(read.rows.n_tokens, 1))
    gap = gap[0::2] - gap[1::2]
    free = differences - np.outer(gap, differences.T @ gap / max(float(gap @ gap), 1e-9))
    for source in ("harmless", "helpful"):
        rng = np.random.default_rng(seed)
        mine = rng.permutation(np.flatnonzero(read.sources[0::2] == source))
        cut = len(mine) * 2 // 3
        train, tests = mine[:cut], [mine[cut:]]
        pool = Pool(some(read.rows, 2 * train), rejected=some(read.rows, 2 * train + 1))
        for budget in BUDGETS:
            chosen = {name: method(pool, budget, rng) for name, method in METHODS.items()}
            chosen["herding on the label direction, length quotas"] = by_settings(
                pool, budget, objective="direction"
            )
            n_tokens = pool.n_tokens
            groups = plan_groups(n_tokens, budget=budget, quota="length")
            vectors = differences[train].astype(np.float64)
            chosen["herding on hidden differences, length quotas"] = mean_picks(
                vectors, groups, vectors.sum(0), len(train), Spending(n_tokens)
            )
            for name, picks in chosen.items():
                for head, hidden in (("plain", differences), ("length-free", free)):
                    score = reward_score(hidden, train[picks], tests)
                    tokens = float(n_tokens[picks].mean())
                    found.append({"task": f"reward, {source}", "seed": seed, "budget": budget,
                                  "method": name, "head": head, "score": score,
                                  "mean_tokens": tokens})  # fmt: skip
    return found


# Results


def summarize(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean score, and mean and standard error of its difference to the reference."""
    index = {(r["task"], r["head"], r["budget"], r["method"], r["seed"]): r for r in rows}
    found = []
    for key in dict.fromkeys(k[:4] for k in index):
        task, head, budget, _ = key
        seeds = [k[4] for k in index if k[:4] == key]
        scores = np.array([index[*key, s]["score"] for s in seeds])
        base = np.array([index[task, head, budget, REFERENCE, s]["score"] for s in seeds])
        gaps = scores - base
        error = float(gaps.std(ddof=1) / len(gaps) ** 0.5) if len(gaps) > 1 else None
        tokens = float(np.mean([index[*key, s]["mean_tokens"] for s in seeds]))
        found.append({"task": task, "head": head, "budget": budget, "method": key[3],
                      "n_seeds": len(seeds), "score": float(scores.mean()),
                      "difference": float(gaps.mean()), "standard_error": error,
                      "mean_tokens": tokens})  # fmt: skip
    return found


def tables(summary: list[dict[str, Any]]) -> str:
    """One table per task and head: differences to the reference by budget."""
    parts = []
    for task, head in dict.fromkeys((r["task"], r["head"]) for r in summary):
        mine = [r for r in summary if (r["task"], r["head"]) == (task, head)]
        budgets = sorted({r["budget"] for r in mine})
        lines = [f"### {task.capitalize()}, {head} head", "",
                 f"| method | {' | '.join(f'{b} picks' for b in budgets)} | mean tokens |",
                 "|---|" + "---:|" * (len(budgets) + 1)]  # fmt: skip
        for method in dict.fromkeys(r["method"] for r in mine):
            rows = {r["budget"]: r for r in mine if r["method"] == method}
            cells = [
                f"{rows[b]['score']:.3f}" if method == REFERENCE
                else f"{rows[b]['difference']:+.3f} ± {rows[b]['standard_error'] or 0:.3f}"
                for b in budgets
            ]  # fmt: skip
            tokens = np.mean([r["mean_tokens"] for r in rows.values()])
            lines.append(f"| {method} | {' | '.join(cells)} | {tokens:.0f} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def verdict(summary: list[dict[str, Any]]) -> str:
    """The methods ranked by their mean difference, per task."""
    lines = []
    for task in dict.fromkeys(r["task"] for r in summary):
        mine = [r for r in summary if r["task"] == task and r["head"] == "length-free"]
        means = {
            name: float(np.mean([r["difference"] for r in mine if r["method"] == name]))
            for name in dict.fromkeys(r["method"] for r in mine)
        }
        order = sorted(means, key=lambda name: -means[name])
        lines.append(f"* {task}: " + " > ".join(f"{n} ({means[n]:+.3f})" for n in order) + ".")
    return "\n".join(lines)


def page(report: dict[str, Any]) -> str:
    budgets = ", ".join(map(str, BUDGETS))
    return f"""# Which samples to train on

**On average over the budgets, herding on the label direction, of features or of hidden states, is
first in all three tasks. At 400 picks all methods are alike.**

Setup: frozen SmolLM2-135M-Instruct, linear heads on its mean residual stream at layer
{report["layer"]}, SAE {report["sae"]}; {report["n_seeds"]} random seeds, budgets {budgets}.

* Toxicity: the pool is surge and Davidson. The tests are HateCheck and held-out rows of the pool's
  sources, both with classes matched in length; the score is the mean AUPRC. A method chooses the
  toxic half, and a random draw with length quotas the benign half; herding on the label direction
  chooses both.
* Reward: the score is the accuracy on held-out pairs of the same pool.
* Coverage counts the {N_RELEVANT} features with the highest AUC within sources (toxicity) or all
  features (reward).
* The first row of each table is the score itself. Other rows are differences to it over the same
  random seeds, ± standard error, which is optimistic because all random seeds share one pool.

{tables(report["summary"])}

## Ranking, compared with the pilot

Mean difference over the budgets, length-free head:

{verdict(report["summary"])}

In the pilot, greedy coverage without quotas was far below random, as were random picks of the same
lengths. Greedy coverage with length quotas equalled random, herding was better at 25-50 picks, and
for reward only herding on the label direction won. The pilot's external tests (OpenAI moderation,
Vicomtech, ToxicChat) are not part of this study, so absolute numbers differ.

The runs of 2026-11-22 (bfloat16) and 2026-11-26 (float32) reproduce the pilot's ranking where they
are comparable: herding on the label direction, of features or of hidden states, is first in all
three; greedy coverage without quotas falls below random for toxicity and far below for harmless
pairs. Two results differ. For helpful pairs, plain greedy coverage is not worse than random, and
random picks of its lengths do as well: there, length is part of the label. With length quotas,
greedy coverage is slightly better than random for toxicity at few picks, and clearly worse for
harmless pairs. At 400 picks all methods are alike.

Made by `python studies/selection.py`; {report["date"]}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "selection-study")
    parser.add_argument("--quick", action="store_true", help="small sizes; writes no page")
    given = parser.parse_args()
    sizes = Sizes(seeds=2, per_class=60, pairs=60, max_tokens=64) if given.quick else Sizes()
    folder = given.work / ("quick" if given.quick else "full")
    folder.mkdir(parents=True, exist_ok=True)
    done_file = folder / "runs.jsonl"
    lines = done_file.read_text().splitlines() if done_file.exists() else []
    done = [json.loads(line) for line in lines]
    rows = [row for one in done for row in one["rows"]]
    for name, run in (("toxicity", toxicity_run), ("reward", reward_run)):
        read = read_task(name, given.data, folder, sizes)
        finished = {one["seed"] for one in done if one["task"] == name}
        for seed in sorted(set(range(sizes.seeds)) - finished):
            found = run(read, sizes, seed)
            with done_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"task": name, "seed": seed, "rows": found}) + "\n")
            rows += found
            print(f"{name}: seed {seed} done", flush=True)
    sae = load_sae(None)
    summary = summarize(rows)
    report = {"date": date.today().isoformat(), "n_seeds": sizes.seeds, "layer": sae.config.layer,
              "sae": sae.content_hash[:12], "summary": summary}  # fmt: skip
    print(tables(summary))
    if not given.quick:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(page(report), encoding="utf-8")


if __name__ == "__main__":
    main()

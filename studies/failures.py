"""What do two models get wrong, in features? Verdicts on public evaluations, found and filled.

GPT-4 on IFEval (strict verdicts of Google's checkers on its published answers) and Alpaca-7B on
AlpacaEval (words that its answer shares with GPT-4 Turbo's, F1, which stands in for a judge). The
features are those of the embedded pair on the prompts alone.

    python studies/failures.py --data ../shared/data --work build/failures --fill

`--data` holds `ifeval/` and `alpaca_eval/` with the files that `data_files` names, and
`oasst_eval/prompt_lottery_en_250_text.jsonl`. Writes studies/results/failures.json and
docs/studies/failures.md; a table or a synthetic set in `--work` is used again.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe_processor

from facsynth.compare.stratified import length_strata
from facsynth.coverage.controls import length_auc
from facsynth.data.write import write_json, write_jsonl
from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.records import Message, Sample
from facsynth.sae.files import load_sae
from facsynth.table.active import ActiveRows, active_rows
from facsynth.table.extract import extract_table
from facsynth.table.rows import take_rows
from facsynth.table.table import FeatureTable, open_table
from facsynth.tasks.instruction.benchmarks import Benchmark, read_benchmark, read_responses
from facsynth.tasks.instruction.ifeval import score_ifeval
from facsynth.understand.contrast import (
    Failures,
    failure_difference,
    find_failures,
    judge_by_difference,
    judge_table,
)
from facsynth.understand.settings import RelevanceSettings
from facsynth.words import find_words

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "studies" / "results" / "failures.json"
PAGE = ROOT / "docs" / "studies" / "failures.md"
THRESHOLDS = (1.0, 4.0)
N_SHUFFLES, N_SPLITS, N_SHOWN, N_WRITTEN = 20, 10, 10, 12


@dataclass(frozen=True)
class Case:
    """A model on an evaluation."""

    name: str
    prompts: list[str]
    scores: list[float]
    kinds: list[list[str]]
    """What each prompt asks for, where the evaluation says so."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--fill", action="store_true", help="also write samples for the features")
    parser.add_argument("--keep-cases", action="store_true", help="take those stored")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    lm = load_language_model()
    if asked.keep_cases:
        result: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    else:
        cases = (gpt4(asked.data), alpaca(asked.data))
        found = {case.name: study(case, lm, asked.work) for case in cases}
        result = {"machine": describe_processor(), "cases": found, "filled": None}
    if asked.fill:
        seed = table_of(prompts_of_people(asked.data), "people", lm, asked.work)
        features = [one["feature_id"] for one in result["cases"]["GPT-4 on IFEval"]["shown"]]
        result["filled"] = fill(asked.work, seed.folder, features)
    write_json(result, RESULTS)
    PAGE.write_text(page(result), encoding="utf-8")


# Verdicts


def gpt4(data: Path) -> Case:
    items = read_benchmark(str(data / "ifeval" / "input_data.jsonl"))
    answers = data / "ifeval" / "gpt4_responses.jsonl"
    said = {json.loads(line)["prompt"] for line in answers.open(encoding="utf-8")}
    kept = tuple(item for item in items.items if item.prompt in said)
    benchmark = Benchmark(items.kind, kept)
    responses = read_responses(str(answers), benchmark)
    scores = [
        score_ifeval(Benchmark(items.kind, (item,)), [responses[item.prompt]])["prompt_strict"]
        for item in kept
    ]
    kinds = [
        [str(name).removeprefix("en:") for name in item.fields["instruction_id_list"]]
        for item in kept
    ]
    return Case("GPT-4 on IFEval", [item.prompt for item in kept], scores, kinds)


def alpaca(data: Path) -> Case:
    folder = data / "alpaca_eval"
    benchmark = read_benchmark(str(folder / "outputs_gpt4_1106_preview.json"))
    said = read_responses(str(folder / "outputs_alpaca-7b.json"), benchmark)
    scores = [word_f1(said[item.prompt], str(item.fields["output"])) for item in benchmark.items]
    prompts = [item.prompt for item in benchmark.items]
    return Case("Alpaca-7B on AlpacaEval", prompts, scores, [[] for _ in prompts])


def prompts_of_people(data: Path) -> list[str]:
    """Prompts that contributors wrote for Open Assistant: the data set that lacks the features."""
    path = data / "oasst_eval" / "prompt_lottery_en_250_text.jsonl"
    return [str(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line]


def word_f1(one: str, other: str) -> float:
    """F1 of the words that two texts share, each as often as in both."""
    a, b = (Counter(word for word, _, _ in find_words(text)) for text in (one, other))
    shared = (a & b).total()
    return 2 * shared / (a.total() + b.total()) if shared else 0.0


# One case


def table_of(prompts: list[str], name: str, lm: LanguageModel, work: Path) -> FeatureTable:
    folder = work / name.replace(" ", "_")
    if not (folder / "manifest.json").is_file():
        samples = [Sample(str(i), messages=(Message("user", p),)) for i, p in enumerate(prompts)]
        extract_table(samples, lm, load_sae(None), folder)
    return open_table(folder)


def study(case: Case, lm: LanguageModel, work: Path) -> dict[str, Any]:
    table = table_of(case.prompts, case.name, lm, work)
    scores = work / f"{table.folder.name}.scores.jsonl"
    write_jsonl([{"id": str(i), "score": s} for i, s in enumerate(case.scores)], scores)
    failures = find_failures("score", np.array(case.scores))
    lengths = table.activations().n_tokens
    by_threshold = {f"{t:g}": at_threshold(table, failures, t) for t in THRESHOLDS}
    asked = RelevanceSettings(scores=str(scores), threshold=THRESHOLDS[-1])
    judged = judge_table(table, asked, tokenizer=lm.tokenizer)
    relevance = work / f"{table.folder.name}.relevance.jsonl"
    write_jsonl([one.row() for one in judged.found], relevance)
    rows = active_rows(table, threshold=THRESHOLDS[-1])
    return {
        "what": failures.sentence(),
        "n_prompts": len(case.prompts),
        "n_failed": int(failures.failed.sum()),
        "length_auc": length_auc(lengths[failures.failed], lengths[~failures.failed]),
        "thresholds": by_threshold,
        "shown": [
            shown(one, rows, failures, case) for one in judged.found[:N_SHOWN] if one.is_relevant()
        ],
    }


def shown(one: Any, rows: ActiveRows, failures: Failures, case: Case) -> dict[str, Any]:
    fires = np.asarray(rows.fires[:, [one.feature_id]].todense()).ravel() > 0
    kinds = Counter(kind for i in np.flatnonzero(fires) for kind in set(case.kinds[i]))
    every = Counter(kind for each in case.kinds for kind in set(each))
    best = max(kinds, key=lambda k: kinds[k] / every[k] * min(1, kinds[k] / 5), default=None)
    return {
        "feature_id": one.feature_id,
        "name": one.name,
        "log_odds": one.log_odds,
        "q_value": one.q_value,
        "n_active": int(fires.sum()),
        "failed_share": float(failures.failed[fires].mean()),
        "kind": best,
        "kind_share": kinds[best] / every[best] if best else None,
    }


def at_threshold(table: FeatureTable, failures: Failures, threshold: float) -> dict[str, Any]:
    rows = active_rows(table, threshold=threshold)
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(N_SHUFFLES):
        mixed = np.zeros_like(failures.failed)
        mixed[rng.permutation(mixed.size)[: int(failures.failed.sum())]] = True
        counts.append(len(relevant(rows, failing(mixed))))
    return {
        "n_tested": int(rows.features.sum()),
        "n_relevant": len(relevant(rows, failures)),
        "n_relevant_any_length": len(relevant(rows, failures, length="none")),
        "n_relevant_shuffled": float(np.mean(counts)),
        "shuffles_with_finds": int(np.count_nonzero(counts)),
        "held_out": held_out(rows, failures),
    }


def failing(failed: Any) -> Failures:
    return Failures("score", np.ones(failed.size, dtype=np.bool_), failed, 0.0, False)


def relevant(rows: ActiveRows, failures: Failures, length: Any = "matched") -> list[int]:
    found = failure_difference(rows, failures, length=length)
    judged = judge_by_difference(found, judge="scores")
    return [one.feature_id for one in judged if one.is_relevant()]


def held_out(rows: ActiveRows, failures: Failures) -> dict[str, Any]:
    """Do features of one half's failures tell the other half's at equal length?"""
    rng = np.random.default_rng(1)
    found: list[float] = []
    random: list[float] = []
    for _ in range(N_SPLITS):
        order = rng.permutation(failures.failed.size)
        one, other = np.sort(order[: order.size // 2]), np.sort(order[order.size // 2 :])
        here = part(rows, one)
        features = relevant(here, failing(failures.failed[one]))
        if not features:
            continue
        there = part(rows, other)
        lengths, failed = there.activations.n_tokens, failures.failed[other]
        alike = [like(f, here, rng) for f in features]
        found.append(matched_auc(count_active(there, features), failed, lengths))
        random.append(matched_auc(count_active(there, alike), failed, lengths))
    return {
        "n_splits_with_finds": len(found),
        "auc": float(np.mean(found)) if found else None,
        "auc_random": float(np.mean(random)) if random else None,
    }


def part(rows: ActiveRows, index: Any) -> ActiveRows:
    return active_rows(take_rows(rows.activations, index), threshold=rows.threshold)


def like(feature: int, rows: ActiveRows, rng: np.random.Generator) -> int:
    """A random feature of those 20 that fire about as often."""
    near = np.argsort(abs(rows.counts - rows.counts[feature]), kind="stable")[:21]
    return int(rng.choice(near[near != feature]))


def count_active(rows: ActiveRows, features: list[int]) -> Any:
    return np.asarray(rows.fires[:, features].sum(axis=1)).ravel()


def matched_auc(values: Any, failed: Any, lengths: Any) -> float:
    """Chance that a failure has more than a success of about its length; ties count half."""
    wins = pairs = 0.0
    groups = length_strata(lengths.astype(np.int64))
    for group in range(int(groups.max()) + 1):
        a, b = values[(groups == group) & failed], values[(groups == group) & ~failed]
        wins += (a[:, None] > b).sum() + 0.5 * (a[:, None] == b).sum()
        pairs += a.size * b.size
    return float(wins / pairs)


# Filling


FORM = "a task for an assistant, with demands on its form"


def fill(work: Path, seed: Path, features: list[int]) -> dict[str, Any]:
    """Aim a synthetic set at what GPT-4 gets wrong, with the commands of a user."""
    anchor, output = work / "GPT-4_on_IFEval", work / "aimed"
    aim = ("--anchor", anchor, "--relevant", work / f"{anchor.name}.relevance.jsonl")
    delta = ("--threshold", THRESHOLDS[-1])
    before = fac("coverage", *aim, "--seed", seed, *delta)
    how = ("--max-samples", N_WRITTEN, "--no-reply", "--form", FORM)
    fac("synthesize", *aim, "--seed", seed, "-o", output, *delta, *how)
    after = fac("coverage", *aim, "--seed", output / "table", *delta)
    both = fac("coverage", *aim, "--seed", seed, "--seed", output / "table", *delta)
    n_missing = before["n_missing"]
    tables = {"anchor": anchor, "seed": seed, "written": output / "table"}
    rows = {
        name: active_rows(open_table(at), threshold=THRESHOLDS[-1]) for name, at in tables.items()
    }
    return {
        "features": features,
        "shares": {k: (v.counts[features] / v.n_samples).tolist() for k, v in rows.items()},
        "n_relevant": before["n_anchor"],
        "n_missing": n_missing,
        "n_written": open_table(output / "table").manifest.n_samples,
        "n_filled": n_missing - both["n_missing"],
        "fac_before": before["fac"],
        "fac_synthetic": after["fac"],
        "fac_after": both["fac"],
    }


def fac(*words: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "facsynth", *map(str, words), "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


# The page


def page(result: dict[str, Any]) -> str:
    parts = [
        "# What a model gets wrong, in features",
        "",
        "Written by `studies/failures.py` from `studies/results/failures.json`. The features are "
        "those of the embedded pair on the prompts alone; failures and successes are compared at "
        "equal length (`fac relevance --scores`). Word overlap is a poor judge: the second case "
        "shows what a weak score finds, which is little.",
    ]
    for name, case in result["cases"].items():
        parts += ["", f"## {name}", "", *case_lines(case)]
    if result["filled"]:
        parts += ["", "## Filled", "", *filled_lines(result["filled"])]
    parts += ["", f"On {result['machine']}."]
    return "\n".join(parts) + "\n"


def case_lines(case: dict[str, Any]) -> list[str]:
    lines = [
        f"{case['what']}. A failed prompt is longer than another in {case['length_auc']:.0%} of "
        "the comparisons.",
        "",
        "| δ | features tested | relevant | of any length | relevant, shuffled scores "
        "(shuffles with any) | held-out AUC (random features) |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for threshold, at in case["thresholds"].items():
        held = at["held_out"]
        told = (
            f"{held['auc']:.3f} ({held['auc_random']:.3f}), {held['n_splits_with_finds']} splits"
            if held["auc"] is not None
            else "no finds in any half"
        )
        lines.append(
            f"| {threshold} | {at['n_tested']:,} | {at['n_relevant']} | "
            f"{at['n_relevant_any_length']} | {at['n_relevant_shuffled']:.2f} "
            f"({at['shuffles_with_finds']} of {N_SHUFFLES}) | {told} |"
        )
    if case["shown"]:
        lines += [
            "",
            "| feature | name | active in | of those failed | log odds | q | instruction |",
        ]
        lines.append("|---:|---|---:|---:|---:|---:|---|")
    for one in case["shown"]:
        kind = f"{one['kind']} ({one['kind_share']:.0%})" if one["kind"] else ""
        lines.append(
            f"| {one['feature_id']} | {one['name']} | {one['n_active']} | "
            f"{one['failed_share']:.0%} | {one['log_odds']:+.2f} | {one['q_value']:.1e} | {kind} |"
        )
    return lines


def filled_lines(filled: dict[str, Any]) -> list[str]:
    lines = [
        "Anchor: the IFEval prompts; seed: 250 prompts that people wrote for Open Assistant; F: "
        f"the {filled['n_relevant']} features that go with GPT-4's failures at δ = "
        f"{THRESHOLDS[-1]:g}. Missing in the seed: {filled['n_missing']}. `fac "
        f"synthesize --relevant` with SmolLM2-135M as the generator kept {filled['n_written']} "
        f"texts, which fill {filled['n_filled']}: FAC on F goes from {filled['fac_before']:.2f} to "
        f"{filled['fac_after']:.2f} (the texts alone: {filled['fac_synthetic']:.2f}). The written "
        "texts have the lengths of the anchor, which is longer than the seed.",
        "",
        "| feature | active in the anchor | in the seed | in the written texts |",
        "|---:|---:|---:|---:|",
    ]
    shares = filled["shares"]
    for i, feature in enumerate(filled["features"]):
        found = (f"{shares[name][i]:.0%}" for name in ("anchor", "seed", "written"))
        lines.append(f"| {feature} | " + " | ".join(found) + " |")
    return lines


if __name__ == "__main__":
    main()

r"""Every baseline, once, with a small generator: what its samples cover, copy and cost.

For each form of sample one experiment without a task, whose arms are the baselines with their two
controls, and `cover`; features are those of the default SmolLM2 and SAE. The results hold no text.
Run the same command again to resume: only arms that are not finished run.

    python studies/baselines.py run --data DATA --generator QWEN.gguf --form instructions
    python studies/baselines.py report

`python benchmarks/models.py qwen` prints the path of QWEN.gguf. Without `--form` all forms run.
"""

import argparse
import json
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch
from machine import describe_processor

from facsynth.baselines.settings import BASELINES
from facsynth.cli.show import RichProgress
from facsynth.data.write import write_json, write_text
from facsynth.experiment.arms import make_arm
from facsynth.experiment.cells import Measures
from facsynth.experiment.settings import ExperimentRecipe
from facsynth.experiment.world import World
from facsynth.settings import read_settings

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "studies" / "results" / "baselines.json"
PAGE = ROOT / "docs" / "studies" / "baselines.md"

_SENTENCE = "a new instruction, one short sentence, that a person gives to an assistant"

FORMS: dict[str, dict[str, Any]] = {
    "instructions": {
        "anchor": ("alpaca/alpaca_instructions_only.jsonl.gz", {"text_field": "instruction"}),
        "seed": ("self_instruct/seed_tasks.jsonl", {"text_field": "instruction"}),
        "task": {"task": "generic", "form": _SENTENCE},
    },
    "toxicity": {
        "anchor": ("toxic_spans/tsd_train.csv.gz", {"text_field": "text"}),
        "seed": ("toxic_spans/tsd_trial.csv", {"text_field": "text"}),
        "task": {"task": "toxicity"},
    },
    "reward": {
        "anchor": ("hh_rlhf/harmless-base_test.jsonl.gz", {}),
        "seed": ("llmbar/natural.json", {"fields": "user=input"}),
        "task": {"task": "reward"},
    },
    "sycophancy": {
        "anchor": ("caa/sycophancy_generate.json", {"fields": "user=question"}),
        "seed": ("caa/agree_disagree.json", {"fields": "user=agree"}),
        "task": {"task": "sycophancy"},
    },
    "survival": {
        "anchor": ("caa/survival_instinct_generate.json", {"fields": "user=question"}),
        "seed": ("caa/survival_instinct_test_ab.json", {"fields": "user=question"}),
        "task": {"task": "survival"},
    },
}
"""Anchor, seed and task of each form of sample."""

COLUMNS = {
    "n_kept": "kept",
    "fac_gain": "FAC gain",
    "fill_rate": "fill rate",
    "closeness": "closeness",
    "novelty": "novelty",
    "words": "words",
    "calls": "calls",
    "tokens_written": "tokens written",
    "cpu_seconds": "CPU s",
}


def recipe_of(form: str, options: argparse.Namespace) -> ExperimentRecipe:
    """All arms of a form, without a task."""
    facts = FORMS[form]
    sources = {
        name: {"source": str(options.data / path), "n_samples": n, **reading}
        for name, (path, reading), n in (
            ("anchor", facts["anchor"], options.n_anchor),
            ("seed", facts["seed"], 175),
        )
    }
    writing = {**facts["task"], "reply": False, "sampling": {"max_length": options.tokens}}
    table = {
        "name": form,
        **sources,
        "arms": [{"name": b, "kind": b} for b in BASELINES]
        + [{"name": "cover", "kind": "synthesize"}],
        "reference": "undirected",
        "sizes": [options.samples],
        "n_written": options.samples,
        "random_seeds": [0],
        "threshold": 1.0,
        "extract": {"score": "user", "max_length": 256},
        "generator": {"model": options.generator or None},
        "synthesize": writing,
        "baseline": writing,
    }
    return read_settings(ExperimentRecipe, table, form)


def run(options: argparse.Namespace) -> None:
    """Run what is not done, one form after another."""
    for form in options.form or FORMS:
        world = World(recipe_of(form, options), options.output / form, progress=RichProgress())
        for arm in world.recipe.arms:
            path = options.output / form / f"{arm.name}.json"
            if path.is_file() or (options.arm and arm.name not in options.arm):
                continue
            cpu, started = time.process_time(), time.time()
            made = make_arm(world, arm, 0)
            measured = Measures(world).of(made, len(made.samples)) if made.samples else {}
            row = {
                "form": form,
                "arm": arm.name,
                "n_wanted": options.samples,
                "n_kept": len(made.samples),
                **measured,
                **{k: made.facts[k] for k in ("calls", "tokens_read", "tokens_written")},
                "length_auc": made.facts["length_auc"],
                "cpu_seconds": round(time.process_time() - cpu),
                "wall_seconds": round(time.time() - started),
            }
            write_json(row, path)
            print(row, flush=True)


def report(options: argparse.Namespace) -> None:
    """Write results and page; what an earlier call stored and this one did not run stays."""
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    facts = {
        "date": date.today().isoformat(),
        "generator": Path(options.generator).name.split(".Q")[0],
        "n_anchor": options.n_anchor,
        "processor": describe_processor(),
        "torch": torch.__version__,
    }
    same = ("generator", "n_anchor")
    if before and any(before["facts"][name] != facts[name] for name in same):
        raise SystemExit(f"Error: {RESULTS} is of another generator or anchor; move it away first")
    stored = {(row["form"], row["arm"]): row for row in before.get("rows", [])}
    rows = []
    for form in FORMS:
        for arm in (*BASELINES, "cover"):
            path = options.output / form / f"{arm}.json"
            here = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
            if row := here or stored.get((form, arm)):
                rows.append(row)
    write_json({"facts": facts, "rows": rows}, RESULTS)
    write_text(page({"facts": facts, "rows": rows}), PAGE)
    print(PAGE)


def page(results: dict[str, Any]) -> str:
    """The page, with a table for each form that was run."""
    facts, rows = results["facts"], results["rows"]
    lines = [
        "# Every baseline, once",
        "",
        f"`studies/baselines.py`, {facts['generator']}, {facts['date']}, {facts['processor']}, "
        f"torch {facts['torch']}. One random seed and δ = 1; features of the default SmolLM2 and "
        f"SAE; up to {facts['n_anchor']:,} anchor and 175 seed samples. Answers are not written: "
        "what counts is what a person says. `cover` is `fac synthesize`, `undirected` and "
        "`anchor-text` are controls.",
        "",
        "FAC gain is that of seed and samples over the seed; fill rate the share of the missing "
        "features; closeness the distance to the anchor's rates (0 best); novelty the share of "
        "word 4-grams that neither anchor nor seed has; calls, tokens and processor seconds count "
        "rejected texts, and seconds include reading what was kept.",
    ]
    for form in dict.fromkeys(row["form"] for row in rows):
        lines += ["", f"## {form}", "", f"| method | {' | '.join(COLUMNS.values())} |"]
        lines += ["|---|" + "---:|" * len(COLUMNS)]
        for row in rows:
            if row["form"] == form:
                lines += [f"| {row['arm']} | {' | '.join(_cell(row, k) for k in COLUMNS)} |"]
    missing = [form for form in FORMS if form not in {row["form"] for row in rows}]
    if missing:
        lines += ["", f"Not run yet: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if name == "n_kept":
        return f"{value} of {row['n_wanted']}"
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) and name != "words" else f"{value:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "report"])
    parser.add_argument("--output", type=Path, default=Path("runs/baselines"))
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--generator", default="", help="a model; the embedded one by default")
    parser.add_argument("--form", action="append", choices=list(FORMS))
    parser.add_argument("--arm", action="append", choices=[*BASELINES, "cover"])
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=48, help="longest text")
    parser.add_argument("--n-anchor", type=int, default=1000)
    options = parser.parse_args()
    {"run": run, "report": report}[options.command](options)


if __name__ == "__main__":
    main()

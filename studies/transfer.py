"""How much feature space SmolLM2-135M and Qwen2.5-Coder-0.5B share, measured with `fac`.

    python studies/transfer.py --data DATA

Trains a small SAE for each model with equal settings on equal text (the first texts of
`studies/default_sae/corpus.py`), reads the same instructions with both SAEs and with the default
SAE, and compares two SAEs of one layer (about the most to expect), two models, and random
directions. An interrupted run resumes. Writes studies/results/transfer.json,
docs/studies/transfer.md and its plot. The page shows pieces of Alpaca instructions.
"""

import argparse
import gzip
import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from machine import describe_processor
from tasks import ROOT, model_source, run
from tasks_page import table

from facsynth.data.write import write_json, write_jsonl

RESULTS = ROOT / "studies" / "results" / "transfer.json"
PAGE = ROOT / "docs" / "studies" / "transfer.md"
EMBEDDED = ROOT / "src" / "facsynth" / "default_sae"
TABLES = {"embedded": "default_sae", "smollm2": "sae-smollm2", "qwen": "sae-qwen"}
TEXTS, SAMPLES = 700, 3000
TRAINING = ["--epochs", "6", "--save-dtype", "bfloat16"]
LAYERS = {"smollm2": "14", "qwen": "11"}
PAIRS = {
    "one layer, two SAEs": ("embedded", "smollm2"),
    "two models, equal SAEs": ("smollm2", "qwen"),
    "two models, the better SAE": ("embedded", "qwen"),
}


def chosen(model: str) -> list[str]:
    """`--model` for a model other than the default."""
    return ["--model", model_source("qwen")] if model == "qwen" else []


def prepare(data: Path, work: Path) -> None:
    """Write the text for the SAEs, and the instructions that both models read."""
    corpus = work / "corpus.jsonl"
    if not corpus.is_file():
        script = ROOT / "studies" / "default_sae" / "corpus.py"
        subprocess.run([sys.executable, str(script), str(data), str(corpus)], check=True)
    with corpus.open(encoding="utf-8") as lines:
        first = [line for line, _ in zip(lines, range(TEXTS), strict=False)]
    (work / "texts.jsonl").write_text("".join(first), encoding="utf-8")
    file = data / "alpaca/alpaca_instructions_only.jsonl.gz"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line)["instruction"] for line in lines]
    step = len(rows) // SAMPLES
    asked = [[{"role": "user", "content": text}] for text in rows[::step][:SAMPLES]]
    write_jsonl(({"id": str(i), "messages": one} for i, one in enumerate(asked)), work / "in.jsonl")


def steps(work: Path) -> dict[str, list[str]]:
    """Commands by output; the tables of a model come from one pass over the text."""
    found: dict[str, list[str]] = {}
    text, samples = str(work / "texts.jsonl"), str(work / "in.jsonl")
    for model, layer in LAYERS.items():
        trained, random = (str(work / f"{kind}-{model}") for kind in ("sae", "random"))
        into = ["--layer", layer, *TRAINING, *chosen(model), "-o", trained]
        found[f"sae-{model}"] = ["sae", "train", text, *into]
        found[f"random-{model}"] = ["sae", "random", trained, "-o", random]
        saes = [trained, random, *([str(EMBEDDED)] if model == "smollm2" else [])]
        read = [word for sae in saes for word in ("--sae", sae)]
        tables = str(work / "tables")
        found[f"tables-{model}"] = ["extract", samples, *read, *chosen(model), "-o", tables]
    return found


def compare(work: Path, name: str, one: str, other: str) -> list[str]:
    """The command that compares two tables."""
    tables = [str(work / "tables" / TABLES[side]) for side in (one, other)]
    random = ["--random", str(work / "tables" / f"random-{other}")]
    picture = ["--plot", str(PAGE.parent / "transfer.svg")] if name == list(PAIRS)[1] else []
    return ["transfer", *tables, *random, *picture, "--top", "12", "--json"]


def small(found: dict[str, Any]) -> dict[str, Any]:
    """A result without most of its pairs."""
    found["n_mutual_pairs"] = len(found["pairs"])
    found["pairs"] = [pair for pair in found["pairs"] if "names" in pair]
    for side in "ab":
        for key in ("curve", "mutual_curve", "table", "model", "sae"):
            del found[side][key]
    return found


def interval(share: dict[str, float]) -> str:
    return f"{share['value']:.3f} ({share['low']:.3f} to {share['high']:.3f})"


def average(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def reading(pairs: dict[str, Any]) -> str:
    """The finding, from side A of each pair."""
    one, two, better = (pairs[name]["result"]["a"] for name in PAIRS)

    def share(found: dict[str, Any]) -> str:
        return f"{found['share']['value']:.0%}"

    return (
        f"**{share(two)} of the features of SmolLM2's small SAE have a counterpart in Qwen's SAE, "
        f"and {share(better)} of those of the default SAE. In as many random directions of Qwen, "
        f"{two['random']:.0%} and {better['random']:.0%} have one; with shuffled samples, none.** "
        "Two SAEs of the same layer of one model share little more: "
        f"{share(one)} (random directions {one['random']:.0%}). So most of the disagreement "
        "already exists within one model: compare the share between models with the share within "
        "a model. "
        "The best pairs represent punctuation, single words and task formats, and peak on "
        "the same word; lower pairs are less similar. The study covers one kind of text, short "
        "instructions, and features that fire in at least 20 of them."
    )


def page(report: dict[str, Any]) -> str:
    rows = []
    for name, one in report["pairs"].items():
        for side, (own, other) in (("a", one["sides"]), ("b", one["sides"][::-1])):
            found = one["result"][side]
            rows.append(
                (name, f"{own} in {other}", found["n_compared"], interval(found["share"]))
                + (interval(found["mutual_share"]), average(found["shuffled_by_length"]))
                + (found["random"], found["median_r"])
            )
    columns = ("pair", "features of", "compared", "share with a counterpart", "mutual")
    pairs = report["pairs"][list(PAIRS)[1]]["result"]["pairs"]
    shown = [(p["a"], p["b"], p["r"], p["same_word"], *p["names"]) for p in pairs]
    costs = [(name, f"{c['cpu_s']:.0f}", c["peak_gb"]) for name, c in report["costs"].items()]
    lines = "\n".join(c["command"] for c in report["costs"].values())
    parts = (
        "# What the features of two models share",
        f"{SAMPLES:,} Alpaca instructions, read by SmolLM2-135M-Instruct (layer "
        f"{LAYERS['smollm2']}) and Qwen2.5-Coder-0.5B-Instruct (layer {LAYERS['qwen']}). "
        f"`smollm2` and `qwen` are SAEs of 4,096 features, k = 32, trained with equal settings "
        f"on only {TEXTS} texts: small SAEs that a user can train on two cores. `embedded` is "
        "facsynth's default SAE, trained on 5.4 million tokens. Method: "
        "[method.md](../method.md).",
        reading(report["pairs"]),
        table((*columns, "shuffled at like lengths", "in random directions", "median r"), rows),
        "A feature has a counterpart if its best partner, found on one half of the "
        "instructions, correlates above 0.5 on the other half. Random directions replace the "
        "second SAE of each pair and match its firing rates.",
        "![shares above r](transfer.svg)",
        'The best mutual pairs of smollm2 and qwen, with the words at their peaks. "same word" '
        "is the share of their strongest common samples in which both peak on the same word:",
        table(("smollm2", "qwen", "r", "same word", "smollm2 on", "qwen on"), shown),
        "## Cost",
        table(("step", "processor seconds", "peak memory, GB"), costs),
        f"```text\n{lines}\n```",
        f"Made by `python studies/transfer.py` on {report['machine']}, shared with other work; "
        f"{report['date']}.",
    )
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "transfer-study")
    given = parser.parse_args()
    work = given.work
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "in.jsonl").is_file():
        prepare(given.data, work)
    commands = steps(work)
    commands |= {name: compare(work, name, *sides) for name, sides in PAIRS.items()}
    done: dict[str, Any] = {}
    for name, command in commands.items():
        file = work / f"step-{name.replace(' ', '-')}.json"
        if not file.is_file():
            write_json(run(command), file)
            print(f"{name} done", flush=True)
        done[name] = json.loads(file.read_text(encoding="utf-8"))
    found = {
        name: {"sides": sides, "result": small(done[name].pop("result"))}
        for name, sides in PAIRS.items()
    }
    costs = {name: {k: v for k, v in c.items() if k != "result"} for name, c in done.items()}
    report = {
        "date": date.today().isoformat(),
        "machine": describe_processor(),
        "pairs": found,
        "costs": costs,
    }
    write_json(report, RESULTS)
    PAGE.write_text(page(report), encoding="utf-8")


if __name__ == "__main__":
    main()

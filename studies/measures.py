"""Diversity, coverage with its controls, and overlap on real instruction data, measured with `fac`.

    python studies/measures.py --data DATA          measure; an interrupted run resumes
    python studies/measures.py --data DATA --quick  small sizes; does not write the page

Writes docs/studies/measures.md, its plots, and studies/results/measures.json. The output of each
command is stored in the work folder, so a second run does only the remaining work. No text of the
data sets is printed or stored in the repository.
"""

import argparse
import gzip
import json
import platform
import random
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from machine import describe_processor

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "studies" / "results" / "measures.json"
PAGE = ROOT / "docs" / "studies" / "measures.md"
ALPACA = ("alpaca/alpaca_with_answers.jsonl.gz", "instruction", "output")
SETS = {
    "alpaca": ALPACA,
    "llms_from_scratch": ("llms_from_scratch/instruction-data.json", "instruction", "output"),
    "code_alpaca": ("code_alpaca/code_alpaca_2k.json", "instruction", "output"),
    "gpteacher_code": ("gpteacher/codegen-instruct.json.gz", "instruction", "response"),
    "gsm8k": ("gsm8k/test.jsonl", "question", "answer"),
}
"""File of each set, its request field and its answer field. The anchor is another part of the
first set."""

PICTURED = ("code_alpaca", "gsm8k")
MAX_TOKENS = 160
THRESHOLD = 4.0


def read_rows(path: Path) -> list[dict[str, Any]]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    if ".jsonl" in path.name:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    rows: list[dict[str, Any]] = json.loads(text)
    return rows


def write_set(out: Path, source: tuple[str, str, str], data: Path, part: slice) -> Path:
    """Write a part of the shuffled conversations of a set as JSONL."""
    file, ask, answer = source
    rows = [row for row in read_rows(data / file) if row[ask].strip() and row[answer].strip()]
    random.Random(0).shuffle(rows)
    turns = [
        [
            {"role": "user", "content": "\n\n".join(filter(None, (row[ask], row.get("input"))))},
            {"role": "assistant", "content": row[answer]},
        ]
        for row in rows[part]
    ]
    out.write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns), encoding="utf-8")
    return out


def fac(kept: Path, *words: object) -> dict[str, Any]:
    """The JSON output of a command; an earlier output is reused."""
    if not kept.is_file():
        print(f"fac {words[0]} -> {kept.name}", flush=True)
        command = [sys.executable, "-m", "facsynth", *map(str, words), "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"fac {words[0]} failed: {done.stderr.strip().splitlines()[-1]}")
        kept.write_text(done.stdout, encoding="utf-8")
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def measure(data: Path, work: Path, n_anchor: int, n_each: int, pictures: Path) -> dict[str, Any]:
    files = {"anchor": write_set(work / "anchor.jsonl", ALPACA, data, slice(n_anchor))}
    for name, source in SETS.items():
        first = n_anchor if source is ALPACA else 0
        part = slice(first, first + n_each)
        files[name] = write_set(work / f"{name}.jsonl", source, data, part)
    tables = {name: work / "tables" / name for name in files}
    for name, file in files.items():
        options = ("-o", tables[name], "--max-length", MAX_TOKENS, "--hidden")
        fac(work / f"extract-{name}.json", "extract", file, *options)
    delta = ("--threshold", THRESHOLD)
    own = [tables[name] for name in SETS]
    plot = ("--plot", pictures / "diversity.png")
    anchor = ("--anchor", tables["anchor"], *delta)
    diversity = fac(work / "diversity.json", "diversity", *own, *anchor, *plot)
    coverage = {}
    for name in SETS:
        words: tuple[object, ...] = (*anchor, "--seed", tables[name], "--controls")
        if name in PICTURED:
            words += ("--plot", pictures / f"coverage-{name}.png")
        coverage[name] = fac(work / f"coverage-{name}.json", "coverage", *words)
    plot = ("--plot", pictures / "overlap.png")
    overlap = fac(work / "overlap.json", "overlap", *own, *delta, *plot)
    for row in overlap["sets"]:
        del row["greedy_order"], row["n_kept"]
    for row in coverage.values():
        for key in ("curves", "by_class"):
            row.pop(key, None)
    sizes = {"anchor": n_anchor, "each": n_each}
    found = {"diversity": diversity, "coverage": coverage, "overlap": overlap}
    return {"date": date.today().isoformat(), "sizes": sizes, "machine": machine(), **found}


def machine() -> str:
    import torch

    return f"{describe_processor()}, Python {platform.python_version()}, torch {torch.__version__}"


def as_table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def diversity_table(found: dict[str, Any]) -> str:
    sets = found["sets"]
    rows = [
        [measure, *(f"{one['metrics'][measure]['value']:.3f}" for one in sets)]
        for measure in sets[0]["metrics"]
    ]
    rows.append(["samples measured", *(str(one["n_measured"]) for one in sets)])
    return as_table(["measure", *SETS], rows)


def value_at(row: dict[str, Any], path: str) -> str:
    """A number of a nested row, by its dotted name; for draws the mean and the range."""
    found: Any = row
    for key in path.split("."):
        found = found[key] if found is not None else None
    if found is None:
        return "–"
    if isinstance(found, dict):
        return f"{found['mean']:.3f} ({found['low']:.3f}–{found['high']:.3f})"
    return f"{found:,}" if isinstance(found, int) else f"{found:.3f}"


COVERAGE_ROWS = {
    "closeness: Hellinger distance (0 best)": "representativeness.hellinger",
    "– random anchor subset of that size": "controls.random_hellinger",
    "closeness: shift of the mean hidden state, sd (0 best)": "hidden.distance",
    "– random anchor subset ": "hidden.random_subset",
    "– and of matched lengths ": "hidden.length_matched",
    "FAC (1 best)": "fac",
    "– 95 % interval, low": "interval.low",
    "– 95 % interval, high": "interval.high",
    "– random anchor subset": "controls.random_subset",
    "– and of matched lengths": "controls.length_matched",
    "– weighted by frequency": "weighted.frequency",
    "missing features": "n_missing",
    "features that fire in the seed and not in the anchor": "n_seed_only",
    "features at equal samples, seed": "richness.seed_at_equal_samples",
    "features at equal samples, anchor": "richness.anchor_at_equal_samples",
    "features at equal tokens, seed": "richness.seed_at_equal_tokens",
    "features at equal tokens, anchor": "richness.anchor_at_equal_tokens",
    "samples": "n_samples.seed",
    "scored tokens": "n_tokens.seed",
    "chance that a seed sample is longer": "controls.length_auc",
}


def coverage_table(found: dict[str, dict[str, Any]]) -> str:
    rows = [
        [title.rstrip(), *(value_at(row, path) for row in found.values())]
        for title, path in COVERAGE_ROWS.items()
    ]
    return as_table(["measure", *found], rows)


def overlap_table(found: dict[str, Any], key: str) -> str:
    shares = found["shares"] if key == "shares" else found["matched"]["shares"]
    rows = [
        [name, *(f"{share:.2f}" for share in row)] for name, row in zip(SETS, shares, strict=True)
    ]
    return as_table(["features of", *SETS], rows)


def redundancy_table(found: dict[str, Any]) -> str:
    rows = [
        [
            f"{100 * needed['share']:g} % of the features",
            *(
                f"{one['needed'][i]['greedy']} / {one['needed'][i]['random']}"
                for one in found["sets"]
            ),
        ]
        for i, needed in enumerate(found["sets"][0]["needed"])
    ]
    return as_table(["samples that keep, chosen / random", *SETS], rows)


READING = """**No single number ranks these sets, and length explains much of the disagreement.**
By FAC, llms_from_scratch is the poorest set (0.45); by firing rates it is the closest of the four.
Its samples have 26 tokens, the anchor's 129. The anchor has no samples this short, so the
length-matched subset cannot match it, and the command says so. It activates 1,706 features; as many
anchor samples activate 3,397, and as many anchor tokens 2,320, so length accounts for nearly two
thirds of that gap. gsm8k is about as long as the anchor, so its FAC of 0.57, against 0.91 for
matched lengths, is a real gap. gsm8k is the farthest in hidden states, while the two code sets are
the farthest in firing rates.

**A set from the anchor's own source matches the controls.** Another part of alpaca is 1.4 times as
far from the anchor as a random part *of* the anchor, in firing rates and in hidden states. This is
a sampling effect: a part of the anchor shares samples with it. A separate sample of n is
√((N + n) / (N - n)) times as far from an anchor of N, which is 1.41 here. The FAC of this part
equals that of random subsets.

**Text measures follow length.** Distinct-1 ranks the shortest set as the most diverse and gsm8k as
the least; bigram entropy, which grows with the number of words, nearly reverses this order. Vendi
score and cosine distance of features find gsm8k the narrowest, which it is: it has one kind of
task. Cluster entropy ranks alpaca last, because clusters are computed on all sets together and four
of the five are about other things. Self-BLEU and compression detect that the code tasks repeat
their phrases.

**Overlap is asymmetric, and set size does not explain it.** alpaca has 87 to 95 % of the features
of the other sets; they have 48 to 60 % of its features. At 100 samples with matched lengths it is
still 79 to 91 % against 44 to 55 %. There, the two code sets have 78 and 79 % of each other's
features, about as much as two parts of one of them (79 and 84 %): for this SAE they are nearly one
set. Note the warning for llms_from_scratch: the other sets have no parts with its lengths.

**Redundancy.** 74 to 109 of 200 samples, chosen greedily, keep 95 % of a set's features; random
choice needs 144 to 175. This is redundancy in features, not evidence that the rest can be dropped:
see [selection](selection.md).

**Limits.** One small SAE, whose 4,096 features nearly all fire somewhere in 600 long answers; below
δ = 4 everything saturates sooner. One random draw per set."""


def page(report: dict[str, Any]) -> str:
    sizes, overlap = report["sizes"], report["overlap"]
    n_part = overlap["matched"]["n_samples"]
    return f"""# What the measures say about real data sets

{len(SETS)} instruction sets, {sizes["each"]} conversations each (drawn with a fixed random seed),
cut at {MAX_TOKENS} tokens; features of the default model and SAE above δ = {THRESHOLD:g}. The
anchor consists of {sizes["anchor"]:,} other conversations of alpaca, so the first column shows a
set from the anchor's own source. Numbers are the output of the commands; ranges cover 20 draws.

{READING}

## Diversity

{diversity_table(report["diversity"])}

![Bars of each diversity measure by set](measures/diversity.png)

## Coverage of the anchor, with controls

{coverage_table(report["coverage"])}

Features seen by number of samples, for gsm8k (seed) and the anchor, then for code_alpaca:

![Curves of gsm8k and the anchor](measures/coverage-gsm8k.png)
![Curves of code_alpaca and the anchor](measures/coverage-code_alpaca.png)

## Overlap

Share of the row set's features that the column set has:

{overlap_table(overlap, "shares")}

The same for random parts of {n_part} samples with matched lengths. The diagonal shows two parts of
one set, the most to expect:

{overlap_table(overlap, "matched")}

{redundancy_table(overlap)}

![Heat map of the shares](measures/overlap.png)

Made by `python studies/measures.py --data DATA`; {report["machine"]}; {report["date"]}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "measures-study")
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples; no page")
    given = parser.parse_args()
    sizes = (60, 20) if given.quick else (600, 200)
    work = given.work / ("quick" if given.quick else "full")
    pictures = work if given.quick else PAGE.parent / "measures"
    for folder in (work, pictures):
        folder.mkdir(parents=True, exist_ok=True)
    report = measure(given.data, work, *sizes, pictures)
    if given.quick:
        print(page(report))
        return
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(report), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Does writing what is missing help, and is it the features? Praise or complaint, across products.

    python studies/writing.py prepare --data DATA --generator QWEN.gguf    files and recipe
    fac experiment runs/writing-study/reviews.toml -o runs/writing-study/run    hours; resumes
    python studies/writing.py report                                       results and page

The seed has labelled sentences about one product, the anchor unlabelled ones about 13 others, and
the test set others again. Arms write praise and complaints with Qwen2.5-Coder-0.5B. `python
benchmarks/models.py qwen` prints the path of QWEN.gguf. Writes studies/results/writing.json and
docs/studies/writing.md; no text is printed or stored in the repository.
"""

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from frozen import review_samples
from machine import describe_processor

from facsynth.data.write import write_jsonl

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "studies" / "results" / "writing.json"
PAGE = ROOT / "docs" / "studies" / "writing.md"
WORK = ROOT / "runs" / "writing-study"
SEED_PRODUCT = "Canon_G3"
N_SEED = 16
"""Labelled sentences of the seed, of each class."""

RECIPE = """name = "reviews"
reference = "anchor text"
sizes = [6, 12, 24, 48, 96]
n_written = 96
random_seeds = [1, 2, 3, 4, 5, 6, 7, 8]
threshold = 2.0

[anchor]
source = "{work}/anchor.jsonl"     # labels are read by the `real` arms alone

[seed]
source = "{work}/seed.jsonl"

[extract]
max_length = 128

[[classes]]
label = "praise"
form = "one sentence from a customer's review of a product that praises something about it"

[[classes]]
label = "complaint"
form = "one sentence from a customer's review of a product that complains about something"

[[tasks]]
name = "praise or complaint"
measure = "auroc"
positive = "praise"

[tasks.test]
source = "{work}/test.jsonl"

[generator]
model = "{generator}"

[synthesize]
threshold = 2.0
reply = false
min_anchor_samples = 3

[synthesize.effort]
max_candidates = 150               # texts asked for, for each class

[synthesize.sampling]
max_length = 48

[baseline]
reply = false

[baseline.sampling]
max_length = 48

[[arms]]
name = "seed"
kind = "seed"

[[arms]]
name = "undirected"
kind = "undirected"

[[arms]]
name = "anchor text"
kind = "anchor-text"               # the control to beat: is it only seeing the anchor?

[[arms]]
name = "cover"
kind = "synthesize"

[[arms]]
name = "other features"
kind = "synthesize"
features = "frequency"

[[arms]]
name = "random directions"
kind = "synthesize"
features = "random-sae"

[[arms]]
name = "real, random"
kind = "real"

[[arms]]
name = "real, coverage"
kind = "real"
choice = "coverage"

[[arms]]
name = "real, herding"
kind = "real"
choice = "herding"
"""


def prepare(data: Path, generator: Path) -> None:
    """Write seed, anchor and test set as JSONL, and the recipe."""
    samples, products = review_samples(data)
    labelled = [
        {"text": sample.messages[0].content, "label": str(sample.label), "product": product}
        for sample, product in zip(samples, products, strict=True)
    ]
    own = [row for row in labelled if row["product"] == SEED_PRODUCT]
    seed = [
        row
        for label in ("praise", "complaint")
        for row in [one for one in own if one["label"] == label][:N_SEED]
    ]
    rest = [row for row in labelled if row["product"] != SEED_PRODUCT]
    # `review_samples` shuffles with a fixed random seed, so the halves are random and the same.
    anchor, test = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    fewer = min(sum(row["label"] == label for row in test) for label in ("praise", "complaint"))
    balanced = [
        row
        for label in ("praise", "complaint")
        for row in [one for one in test if one["label"] == label][:fewer]
    ]
    WORK.mkdir(parents=True, exist_ok=True)
    for name, rows in (("seed", seed), ("anchor", anchor), ("test", balanced)):
        write_jsonl(rows, WORK / f"{name}.jsonl")
        print(f"{name}: {len(rows)} sentences")
    recipe = RECIPE.replace("{work}", str(WORK)).replace("{generator}", str(generator))
    (WORK / "reviews.toml").write_text(recipe, encoding="utf-8")


def page(report: dict[str, Any]) -> str:
    """The page, from the rows of the experiment."""
    rows = [row for row in report["rows"] if row["view"] == "samples"]
    seeds = max(row["n_seeds"] for row in rows)
    return f"""# Does writing what is missing help, and is it the features?

{finding(rows)}

## Protocol

Fixed before the first run. Product reviews of 14 products (nltk's product_reviews_1 and _2),
sentences that only praise or only complain. Seed: {2 * N_SEED} labelled sentences about one
camera. Anchor: half of the sentences about the 13 other products, without labels for those who
write. Test: the other half, as much praise as complaint. Qwen2.5-Coder-0.5B writes praise and
complaints in equal numbers; every arm has the anchor's lengths as far as it can. A head on
SmolLM2-135M-Instruct's hidden states is trained on the seed and what an arm adds. {seeds} random
seeds of writers and choices; intervals resample them and the test sentences. The recipe stands in
`studies/writing.py`.

* `undirected`: the prompt shows seed sentences. `anchor text`: one random anchor sentence. `cover`:
  the default method of `fac synthesize`, aiming at missing features above δ = 2. `other features`:
  the same for features that fire as often and are not missing. `random directions`: the same for
  the missing features of an SAE of random directions. `real`: labelled sentences of the anchor.

## AUROC, and difference to `anchor text`

{table(rows)}

## What was written

{measures(rows)}

{report["shown"]}

## Limits

One task, one seed product, one draw of the anchor; a writer of 0.5 B parameters, a head on a frozen
model of 135 M.

Made by `python studies/writing.py report` from `fac experiment`; {report["machine"]};
{report["date"]}.
"""


def by_arm(rows: list[dict[str, Any]]) -> dict[str, dict[int, dict[str, Any]]]:
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["arm"], {})[row["size"]] = row
    return found


def table(rows: list[dict[str, Any]]) -> str:
    arms = by_arm(rows)
    sizes = sorted({row["size"] for row in rows if row["size"]})
    lines = [
        f"| arm | {' | '.join(f'{size} added' for size in sizes)} |",
        "|---|" + "---:|" * len(sizes),
    ]
    for arm, by_size in arms.items():
        cells = []
        for size in sizes:
            row = by_size.get(size) or by_size.get(0)
            if row is None or row["score"] is None:
                cells.append("–")
            elif row["low"] is None:
                cells.append(f"{row['score']:.3f}")
            else:
                cells.append(
                    f"{row['score']:.3f} ({row['difference']:+.3f}: "
                    f"{row['low']:+.3f} to {row['high']:+.3f})"
                )
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def measures(rows: list[dict[str, Any]]) -> str:
    """FAC gain, closeness, fill and tokens at the largest size of each arm."""
    keys = ("fac_gain", "closeness", "fill_rate", "novelty", "words", "tokens")
    lines = [f"| arm | size | {' | '.join(key.replace('_', ' ') for key in keys)} |",
             "|---|---:|" + "---:|" * len(keys)]  # fmt: skip
    for arm, by_size in by_arm(rows).items():
        row = by_size[max(by_size)]
        values = [row[key] for key in keys]
        cells = ["–" if v is None else f"{v:,.3f}" if abs(v) < 10 else f"{v:,.0f}" for v in values]
        lines.append(f"| {arm} | {row['size']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def finding(rows: list[dict[str, Any]]) -> str:
    """Mean difference of `cover` to each rival, over sizes, and where it is shown."""
    arms = by_arm(rows)
    own = {size: row for size, row in arms["cover"].items() if row["low"] is not None}
    better = [size for size, row in own.items() if row["low"] > 0]
    worse = [size for size, row in own.items() if row["high"] < 0]
    mean = float(np.mean([row["difference"] for row in own.values()]))
    said = f"better at {better}" if better else "nowhere shown to be better"
    said += f", worse at {worse}" if worse else ""
    rivals = []
    for name in ("undirected", "other features", "random directions", "real, random"):
        sizes = [s for s in own if s in arms[name] and arms[name][s]["score"] is not None]
        gap = np.mean([own[s]["score"] - arms[name][s]["score"] for s in sizes])
        rivals.append(f"{gap:+.3f} to `{name}`")
    return (
        f"**Texts for missing features (`cover`) against texts after random anchor texts: "
        f"{mean:+.3f} AUROC on average over the sizes, {said}.** Its mean difference is "
        f"{', '.join(rivals)}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("prepare", "report"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--generator", type=Path)
    parser.add_argument("--run", type=Path, default=WORK / "run", help="folder of the experiment")
    given = parser.parse_args()
    if given.action == "prepare":
        prepare(given.data, given.generator)
        return
    found = json.loads((given.run / "experiment.json").read_text(encoding="utf-8"))
    facts = {"date": date.today().isoformat(), "machine": describe_processor()}
    report = {**facts, **{key: found[key] for key in ("rows", "spent", "shown", "notes")}}
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(report), encoding="utf-8")


if __name__ == "__main__":
    main()

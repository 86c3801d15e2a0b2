"""What the tasks reach on two small frozen models: heads, vectors, and their controls.

Toxicity trains on Surge and Davidson and is tested on HateCheck; reward trains on HH-RLHF harmless
and helpful pairs and is tested on LLMBar; steering does sycophancy and survival instinct (of the
latter, the matching answer is the one WITHOUT the instinct). Every number comes from a `fac`
command, run in a process of its own, so that time and memory are its own. Started again after a
kill, it does what is not done.

    python studies/tasks.py --data DATA --model smollm2     one model; any number of them
    python studies/tasks.py --data DATA --model smollm2 --quick   a check of the mechanics; no page
    python studies/tasks.py report                          the page from what is done

Another way of training is another row of `arms`: the commands that train and evaluate it.
Writes studies/results/tasks.json, docs/studies/tasks.md and its pictures. No text is printed or
kept, but the rewritten training files in the working folder hold texts of the data sets.
"""

import argparse
import csv
import gzip
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from facsynth.data.write import write_json, write_jsonl

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "studies" / "results" / "tasks.json"
PAGE = ROOT / "docs" / "studies" / "tasks.md"
SEEDS = ("42", "43", "44")
BEHAVIOURS = ("sycophancy", "survival_instinct")
LLMBAR = ("natural", "neighbor", "gptinst", "gptout", "manual")
Rows = Iterator[dict[str, Any]]
Command = list[str]


@dataclass(frozen=True)
class Sizes:
    """How much is read for a model."""

    per_class: int
    """Toxicity: samples of each class that a seed draws, of twice as many read from each source."""

    every_case: int
    """Every n-th case of HateCheck."""

    pairs: int
    """Pairs that a seed draws, of as many read from either source."""

    every_pair: int
    """Every n-th pair of LLMBar."""

    items: int
    """Questions that a seed draws for a vector, of a quarter more that are read."""

    test_items: int
    layers: tuple[int, ...]
    """Layers that are steered."""

    max_tokens: tuple[int, int] = (192, 256)
    """Toxic texts and answers are cut here."""


MODELS = {
    "smollm2": Sizes(300, 2, 300, 1, 60, 50, (11, 15, 18, 22, 26)),
    "qwen": Sizes(150, 6, 100, 4, 30, 30, (12, 15, 18)),
}
QUICK = Sizes(30, 40, 20, 20, 8, 6, (11, 14), (64, 64))


def toxicity_rows(data: Path, sizes: Sizes) -> Rows:
    """Twice as many of each class and source as a seed draws of each class."""
    with (data / "surge_toxicity/toxicity_en.csv").open(encoding="utf-8") as file:
        surge = [(r["text"], r["is_toxic"] == "Toxic") for r in csv.DictReader(file)]
    with gzip.open(data / "davidson/labeled_data.csv.gz", "rt", encoding="utf-8") as file:
        davidson = [(r["tweet"], r["class"] != "2") for r in csv.DictReader(file)]
    for rows in (surge, davidson):
        for wanted in (True, False):
            kept = [text for text, is_toxic in rows if is_toxic == wanted][: 2 * sizes.per_class]
            yield from ({"text": t, "label": "toxic" if wanted else "safe"} for t in kept)


def hatecheck_rows(data: Path, sizes: Sizes) -> Rows:
    """The suite is sorted by what it tests, so every n-th case keeps its mixture."""
    with (data / "hatecheck/test_suite_cases.csv").open(encoding="utf-8") as file:
        yield from list(csv.DictReader(file))[:: sizes.every_case]


def reward_rows(data: Path, sizes: Sizes) -> Rows:
    """As many pairs of each pool as a seed draws of both; those with equal answers left out."""
    with gzip.open(data / "hh_rlhf/harmless-base_test.jsonl.gz", "rt", encoding="utf-8") as file:
        harmless = [(r["chosen"], r["rejected"]) for r in map(json.loads, file)]
    with gzip.open(data / "dsp/helpful.test.json.gz", "rt", encoding="utf-8") as file:
        rows = json.load(file)
    helpful = [tuple(r["text"] if r["score"][0] > r["score"][1] else r["text"][::-1]) for r in rows]
    for pairs in (harmless, helpful):
        kept = [(a, b) for a, b in pairs if a.split() != b.split()][: sizes.pairs]
        yield from ({"chosen": a, "rejected": b} for a, b in kept)


def llmbar_rows(data: Path, sizes: Sizes) -> Rows:
    """Every n-th pair of each file, which names the subset."""
    for name in LLMBAR:
        rows = json.loads((data / f"llmbar/{name}.json").read_text(encoding="utf-8"))
        yield from ({**row, "subset": name} for row in rows[:: sizes.every_pair])


def question_rows(data: Path, sizes: Sizes, name: str) -> tuple[list[Any], list[Any]]:
    """Training and test questions of a behaviour; shared ones only in the test."""
    test = json.loads((data / f"caa/{name}_test_ab.json").read_text(encoding="utf-8"))
    every = json.loads((data / f"caa/{name}_generate.json").read_text(encoding="utf-8"))
    test, asked = test[: sizes.test_items], {row["question"] for row in test}
    train = [row for row in every if row["question"] not in asked]
    return train[: sizes.items * 5 // 4 + 20], test


def write_data(data: Path, work: Path, sizes: Sizes) -> None:
    """The files that the commands read."""
    write_jsonl(toxicity_rows(data, sizes), work / "toxicity.jsonl")
    write_jsonl(hatecheck_rows(data, sizes), work / "hatecheck.jsonl")
    write_jsonl(reward_rows(data, sizes), work / "pairs.jsonl")
    write_jsonl(llmbar_rows(data, sizes), work / "llmbar.jsonl")
    for name in BEHAVIOURS:
        train, test = question_rows(data, sizes, name)
        write_jsonl(train, work / f"{name}-train.jsonl")
        write_jsonl(test, work / f"{name}-test.jsonl")


def arms(model: str, work: Path, sizes: Sizes) -> dict[str, list[Command]]:
    """By name of the arm: the command that trains, and the one that evaluates."""
    chosen = [] if model == "smollm2" else ["--model", model_source(model)]
    seeds = [word for seed in SEEDS for word in ("--seed", seed)]
    text, answer = map(str, sizes.max_tokens)

    def task(name: str, folder: str, train: str, test: str, *options: str) -> list[Command]:
        into = str(work / folder)
        return [
            ["task", name, "train", str(work / train), "-o", into, *chosen, *seeds, *options],
            ["task", name, "evaluate", into, str(work / test), "--allow-overlap", "--json"],
        ]

    found = {
        "toxicity": task(
            *("toxicity", "toxicity", "toxicity.jsonl", "hatecheck.jsonl", "--head-only"),
            *("--max-per-class", str(sizes.per_class), "--max-tokens", text),
        ),
        "reward": task(
            *("reward", "reward", "pairs.jsonl", "llmbar.jsonl", "--head-only"),
            *("--max-pairs", str(sizes.pairs), "--max-tokens", answer),
        ),
    }
    layers = [word for layer in sizes.layers for word in ("--layer", str(layer))]
    for name in BEHAVIOURS:
        files = (f"{name}-train.jsonl", f"{name}-test.jsonl")
        limit = ("--max-items", str(sizes.items))
        found[name] = task("steering", name, *files, *limit, *layers)
        pictures = work if sizes is QUICK else PAGE.parent
        picture = str(pictures / f"tasks-{model}-{name}.svg")
        shown = ["--demonstrations", str(work / files[0]), "--n-shown", "2", "--plot", picture]
        found[name][1] += shown
        if model == "smollm2":
            found[f"{name}-features"] = task(
                "steering", f"{name}-features", *files, *limit, "--sae", "default"
            )
    return found


def model_source(name: str) -> str:
    """The GGUF file of a model, fetched on first use."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from models import fetch_model

    return str(fetch_model(name))


def run(command: Command) -> dict[str, Any]:
    """Run `fac …` in a process of its own and say what it cost."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "facsynth", *command], stdout=subprocess.PIPE)
    assert process.stdout
    told = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"fac {' '.join(command)} ended with {process.returncode}")
    is_json = "--json" in command
    return {
        "command": shown(command),
        "wall_s": round(time.perf_counter() - start, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_gb": round(used.ru_maxrss / 2**20, 2),
        "result": json.loads(told) if is_json else None,
    }


def shown(command: Command) -> str:
    """The command line with file names in place of paths."""
    return " ".join(["fac", *(Path(word).name if "/" in word else word for word in command)])


def small(found: dict[str, Any]) -> dict[str, Any]:
    """A result without ids of samples and without the curves of every seed."""
    found["overlap"] = found["overlap"]["n"]
    for layer in found.get("layers", []):
        for seed in layer["seeds"]:
            del seed["curve"]
    return found


def do_model(model: str, data: Path, work: Path, sizes: Sizes, wanted: list[str] | None) -> None:
    """All arms of a model, or those wanted; each is written down when it is done."""
    if not (work / "sizes.json").is_file():
        write_data(data, work, sizes)
        write_json(asdict(sizes), work / "sizes.json")
    for name, commands in arms(model, work, sizes).items():
        file = work / f"arm-{name}.json"
        if file.is_file() or (wanted and name not in wanted):
            continue
        done = [run(command) for command in commands]
        result = small(done[-1].pop("result"))
        config = json.loads((work / name / "task.json").read_text(encoding="utf-8"))
        done[0].pop("result")
        kept = ("n_train", "n_sweep", "strengths", "layer", "read_share", "features", "dtype")
        facts = {key: config[key] for key in kept if config.get(key) is not None}
        write_json({"commands": done, "trained": facts, "result": result}, file)
        print(f"{model} {name} done", flush=True)


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; numbers with three places."""
    lines = [list(columns), ["---"] * len(list(columns))]
    lines += [[cell(value) for value in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "–" if value is None else str(value)


def pm(value: float, sd: float | None) -> str:
    return f"{value:.3f}" if sd is None else f"{value:.3f} ± {sd:.3f}"


def heads_page(models: dict[str, Any]) -> str:
    """Toxicity and reward, one row for each model, with what they must beat."""
    toxic = [(m, one["toxicity"]["result"]) for m, one in models.items() if "toxicity" in one]
    pairs = [(m, one["reward"]["result"]) for m, one in models.items() if "reward" in one]
    parts = ["## Toxicity: HateCheck, trained on Surge and Davidson"]
    columns = ("model", "AUPRC", "constant", "shuffled labels", "AUROC", "of length", "cases")
    keys = ("prevalence", "shuffled_auprc", "auroc", "length_auroc", "n_samples")
    rows = [(m, pm(f["auprc"], f["auprc_sd"]), *(f[k] for k in keys)) for m, f in toxic]
    parts += [table(columns, rows), "Accuracy by functionality:", by_group(toxic, "groups")]
    parts += ["## Reward: LLMBar, trained on HH-RLHF harmless and helpful"]
    columns = ("model", "accuracy", "swapped pairs", "longer answer", "pairs")
    keys = ("shuffled_accuracy", "longer_accuracy", "n_pairs")
    rows = [(m, pm(f["accuracy"], f["accuracy_sd"]), *(f[k] for k in keys)) for m, f in pairs]
    parts += [table(columns, rows), "Accuracy by subset:", by_group(pairs, "subsets")]
    return "\n\n".join(parts)


def by_group(found: list[tuple[str, Any]], key: str) -> str:
    """Accuracies side by side; models may be tested on fewer cases, so numbers stand beside."""
    name = key.removesuffix("s")
    groups = sorted({row[name] for _, one in found for row in one[key]})
    by_model = [
        {row[name]: f"{row['accuracy']:.3f} ({row['n']})" for row in f[key]} for _, f in found
    ]
    rows = [(group, *(one.get(group) for one in by_model)) for group in groups]
    return table((name, *(f"{model} (n)" for model, _ in found)), rows)


def steering_page(models: dict[str, Any]) -> str:
    """Control rates at the chosen layer, and at every layer."""
    parts = ["## Steering"]
    rows, layers = [], []
    for model, arms_done in models.items():
        for name in (n for n in arms_done if n.startswith(BEHAVIOURS)):
            found, trained = arms_done[name]["result"], arms_done[name]["trained"]
            at = str(found["layer"])
            rows.append(
                (model, name, at, trained["strengths"][at], pm(found["scr"], found["scr_sd"]))
                + (found["random_scr"], found["shuffled_scr"])
                + (found["plain_scr"], found["balanced_scr"], prompted(found))
                + (found["base"]["robust"], found["base"]["consistent"])
                + (trained["read_share"][at],)
            )
            layers += [
                (model, name, row["layer"], row["strength"], pm(row["scr"], row["scr_sd"]))
                + (mean(row["random"]), mean(row["shuffled"]))
                + (row["plain_scr"], row["balanced_scr"])
                + (trained["read_share"][str(row["layer"])],)
                for row in found["layers"]
            ]
    columns = ("model", "behaviour", "layer", "strength", "SCR", "random", "shuffled")
    columns += ("plain SCR", "balanced SCR")
    parts.append(table((*columns, "prompt only", "robust at 0", "consistent at 0", "read"), rows))
    parts.append(STEERING)
    parts += ["Every layer:", table((*columns, "read"), layers)]
    for model in models:
        for name in BEHAVIOURS:
            if (PAGE.parent / f"tasks-{model}-{name}.svg").is_file():
                parts.append(f"![{model}, {name}, by layer](tasks-{model}-{name}.svg)")
    return "\n\n".join(parts)


STEERING = (
    "SCR: robust accuracy at multiplier +1 minus that at -1; robust: right in both orders of the "
    "options; balanced: by the mean log-odds of both orders, in which a preference for a letter "
    "cancels; consistent: with one answer in both orders, whichever. A model that is not "
    "consistent answers by letter, and no vector can steer it robustly. Layer and strength (in "
    "median lengths of a state) were chosen on training questions. Random: vectors of equal "
    "length. Shuffled: vectors of randomly exchanged answers. Prompt only: two answered questions "
    "shown, matching against others. Read: share of kept-out questions whose matching letter lies "
    "further along the vector; 0.5 is chance, and a vector that reads nothing cannot be expected "
    "to steer. `-features`: the vector of ten features of the embedded SAE. Of survival instinct, "
    "the matching answer is the one without the instinct."
)


def prompted(found: dict[str, Any]) -> float | None:
    return found["prompt_only"]["scr"] if found["prompt_only"] else None


def mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def cost_page(models: dict[str, Any]) -> str:
    rows = [
        (model, name, sum(c["cpu_s"] for c in one["commands"]))
        + (max(c["peak_gb"] for c in one["commands"]),)
        for model, done in models.items()
        for name, one in done.items()
    ]
    commands = [c["command"] for one in models.get("smollm2", {}).values() for c in one["commands"]]
    lines = "\n".join(commands)
    columns = ("model", "arm", "processor seconds", "peak memory, GB")
    return (
        f"## Cost\n\n{table(columns, rows)}\n\nThe commands for smollm2:\n\n```text\n{lines}\n```"
    )


def page(report: dict[str, Any]) -> str:
    models = report["models"]
    sizes = [(name, *row.values()) for name, row in report["sizes"].items()]
    names = [f"`{field}`" for field in next(iter(report["sizes"].values()))]
    parts = [
        "# Tasks on two small frozen models",
        "Heads and vectors as in [tasks.md](../tasks.md); no weight of a model is trained. smollm2 "
        "is SmolLM2-135M-Instruct, qwen is Qwen2.5-Coder-0.5B-Instruct. Seeds "
        f"{', '.join(SEEDS)}; ± is the standard deviation over them. Sizes were cut to what two "
        "cores do in about an hour; their meanings stand in `studies/tasks.py`:",
        table(("model", *names), sizes),
        heads_page(models),
        steering_page(models),
        cost_page(models),
        "Made by `python studies/tasks.py` on one of two cores of a shared Intel Xeon with AVX-512 "
        f"BF16 ({report['versions']}); {report['date']}.",
    ]
    return "\n\n".join(parts) + "\n"


def write_report(work: Path) -> None:
    """The page, from every arm that is done."""
    models, sizes = {}, {}
    for name in MODELS:
        files = sorted((work / name).glob("arm-*.json"))
        if files:
            sizes[name] = json.loads((work / name / "sizes.json").read_text(encoding="utf-8"))
            models[name] = {
                file.stem.removeprefix("arm-"): json.loads(file.read_text(encoding="utf-8"))
                for file in files
            }
    libraries = ("torch", "transformers", "scikit-learn")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries)
    report = {
        "date": date.today().isoformat(),
        "versions": versions,
        "sizes": sizes,
        "models": models,
    }
    write_json(report, RESULTS)
    PAGE.write_text(page(report), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["run", "report"], default="run")
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--model", choices=list(MODELS), action="append")
    parser.add_argument("--arm", action="append", help="only this arm; repeatable")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "tasks-study")
    parser.add_argument("--quick", action="store_true", help="small sizes; writes no page")
    given = parser.parse_args()
    if given.what == "run" and not given.data:
        parser.error("name the folder of the data sets with --data")
    for model in (given.model or MODELS) if given.what == "run" else ():
        sizes = QUICK if given.quick else MODELS[model]
        work = given.work / ("quick-" * given.quick + model)
        do_model(model, given.data, work, sizes, given.arm)
    if not given.quick:
        write_report(given.work)


if __name__ == "__main__":
    main()

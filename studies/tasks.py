"""The four tasks on two small models: heads, adapters, vectors, and their controls.

Toxicity trains on Surge and Davidson and is tested on HateCheck. Reward trains on HH-RLHF harmless
and helpful pairs and is tested on LLMBar. Steering covers sycophancy and survival instinct (for the
latter, the matching answer is the one WITHOUT the instinct). Instruction models learn short or long
answers and are tested on IFEval, as is the untrained model. Every number comes from a `fac` command
that runs in its own process with one thread, so time and memory can be measured. An interrupted
study resumes.

    python studies/tasks.py --data DATA --model smollm2     one model; repeat --model for more
    python studies/tasks.py --data DATA --model smollm2 --quick   a trial run; no page
    python studies/tasks.py report                          the page from the finished arms

To add a way of training, add a row to `arms`: the commands that train and evaluate it.
Writes studies/results/tasks.json, docs/studies/tasks.md and its plots. The output and the results
contain no text, but the converted training files in the work folder contain texts of the data sets.
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
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from machine import describe_processor
from tasks_page import written_page

from facsynth.data.write import write_json, write_jsonl

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "studies" / "results" / "tasks.json"
PAGE = ROOT / "docs" / "studies" / "tasks.md"
RANDOM_SEEDS = ("42", "43", "44")
BEHAVIOURS = ("sycophancy", "survival_instinct")
LLMBAR = ("natural", "neighbor", "gptinst", "gptout", "manual")
INSTRUCTIONS = {
    "instruction-short": "llms_from_scratch/instruction-data.json",
    "instruction-long": "llamafactory_demo/alpaca_en_demo.json",
}
"""Conversations by arm; answers have one sentence, or several paragraphs (Alpaca-GPT4)."""

LONGEST_QUESTION = 200
"""In characters."""

Rows = Iterator[dict[str, Any]]
Command = list[str]


@dataclass(frozen=True)
class Sizes:
    """Amount of data for a model."""

    per_class: int
    """Toxicity: samples per class and random seed, drawn from twice as many per source."""

    every_case: int
    """Use every n-th case of HateCheck."""

    pairs: int
    """Pairs per random seed, drawn from this many of each source."""

    every_pair: int
    """Use every n-th pair of LLMBar."""

    items: int
    """Questions per random seed for a vector, drawn from a quarter more."""

    test_items: int
    layers: tuple[int, ...]
    """Steered layers."""

    few: int
    """Toxicity with adapters, and with a head for comparison: samples per class and random seed."""

    every_few: int
    """Use every n-th case of HateCheck for these two; a multiple of `every_case`."""

    answers: int
    """Conversations per random seed for an instruction model; a quarter of this for long ones."""

    every_prompt: int
    """Use every n-th prompt of IFEval."""

    new_tokens: int
    """Maximum length of an answer to a prompt of IFEval, in tokens."""

    tuned_seeds: int = 3
    """Number of random seeds that train adapters."""

    max_tokens: tuple[int, int] = (192, 256)
    """Maximum length of toxic texts and of answers, in tokens; longer ones are cut."""


MODELS = {
    "smollm2": Sizes(500, 1, 500, 1, 80, 40, (15, 20), 64, 8, 128, 8, 256),
    "qwen": Sizes(120, 6, 60, 5, 30, 20, (12, 16), 24, 24, 32, 12, 192),
}
QUICK = Sizes(30, 40, 20, 20, 8, 6, (11, 14), 8, 80, 8, 180, 32, 2, (64, 64))
LORA = ("--epochs", "2", "--learning-rate", "3e-4", "--batch-size", "8", "--micro-batch", "8")
"""For all adapters: a higher rate and smaller steps than in the paper, because samples are few."""


def toxicity_rows(data: Path, sizes: Sizes) -> Rows:
    """Per class and source, twice as many rows as a random seed draws per class."""
    with (data / "surge_toxicity/toxicity_en.csv").open(encoding="utf-8") as file:
        surge = [(r["text"], r["is_toxic"] == "Toxic") for r in csv.DictReader(file)]
    with gzip.open(data / "davidson/labeled_data.csv.gz", "rt", encoding="utf-8") as file:
        davidson = [(r["tweet"], r["class"] != "2") for r in csv.DictReader(file)]
    for rows in (surge, davidson):
        for wanted in (True, False):
            kept = [text for text, is_toxic in rows if is_toxic == wanted][: 2 * sizes.per_class]
            yield from ({"text": t, "label": "toxic" if wanted else "safe"} for t in kept)


def hatecheck_rows(data: Path, step: int) -> Rows:
    """Every n-th case; the suite is sorted by functionality, so this preserves its mixture."""
    with (data / "hatecheck/test_suite_cases.csv").open(encoding="utf-8") as file:
        yield from list(csv.DictReader(file))[::step]


def reward_rows(data: Path, sizes: Sizes) -> Rows:
    """Per pool, as many pairs as a random seed draws in total; excludes equal answers."""
    with gzip.open(data / "hh_rlhf/harmless-base_test.jsonl.gz", "rt", encoding="utf-8") as file:
        harmless = [(r["chosen"], r["rejected"]) for r in map(json.loads, file)]
    with gzip.open(data / "dsp/helpful.test.json.gz", "rt", encoding="utf-8") as file:
        rows = json.load(file)
    helpful = [tuple(r["text"] if r["score"][0] > r["score"][1] else r["text"][::-1]) for r in rows]
    for pairs in (harmless, helpful):
        kept = [(a, b) for a, b in pairs if a.split() != b.split()][: sizes.pairs]
        yield from ({"chosen": a, "rejected": b} for a, b in kept)


def llmbar_rows(data: Path, sizes: Sizes) -> Rows:
    """Every n-th pair of each file; the file name is the subset."""
    for name in LLMBAR:
        rows = json.loads((data / f"llmbar/{name}.json").read_text(encoding="utf-8"))
        yield from ({**row, "subset": name} for row in rows[:: sizes.every_pair])


def question_rows(data: Path, sizes: Sizes, name: str) -> tuple[list[Any], list[Any]]:
    """Training and test questions of a behaviour; shared questions are only in the test set."""
    test = json.loads((data / f"caa/{name}_test_ab.json").read_text(encoding="utf-8"))
    every = json.loads((data / f"caa/{name}_generate.json").read_text(encoding="utf-8"))
    test, asked = test[: sizes.test_items], {row["question"] for row in test}
    train = [row for row in every if row["question"] not in asked]
    return train[: sizes.items * 5 // 4 + 20], test


def instruction_rows(file: Path) -> Rows:
    """Conversations with questions short enough to leave room for the answer."""
    for row in json.loads(file.read_text(encoding="utf-8")):
        if len(row["instruction"]) + len(row.get("input", "")) <= LONGEST_QUESTION:
            yield row


def ifeval_rows(data: Path, sizes: Sizes) -> Rows:
    """Every n-th prompt."""
    lines = (data / "ifeval/input_data.jsonl").read_text(encoding="utf-8").splitlines()
    yield from map(json.loads, lines[:: sizes.every_prompt])


def write_data(data: Path, work: Path, sizes: Sizes) -> None:
    """Write the files that the commands read."""
    write_jsonl(toxicity_rows(data, sizes), work / "toxicity.jsonl")
    write_jsonl(hatecheck_rows(data, sizes.every_case), work / "hatecheck.jsonl")
    write_jsonl(hatecheck_rows(data, sizes.every_few), work / "hatecheck-few.jsonl")
    write_jsonl(ifeval_rows(data, sizes), work / "ifeval.jsonl")
    for name, file in INSTRUCTIONS.items():
        write_jsonl(instruction_rows(data / file), work / f"{name}.jsonl")
    write_jsonl(reward_rows(data, sizes), work / "pairs.jsonl")
    write_jsonl(llmbar_rows(data, sizes), work / "llmbar.jsonl")
    for name in BEHAVIOURS:
        train, test = question_rows(data, sizes, name)
        write_jsonl(train, work / f"{name}-train.jsonl")
        write_jsonl(test, work / f"{name}-test.jsonl")


def arms(model: str, work: Path, sizes: Sizes) -> dict[str, list[Command]]:
    """The training command and the evaluation command of each arm, by name."""
    chosen = [] if model == "smollm2" else ["--model", model_source(model)]
    text, answer = map(str, sizes.max_tokens)

    def task(
        name: str, folder: str, train: str, test: str, *options: str, seeds: int = len(RANDOM_SEEDS)
    ) -> list[Command]:
        into = str(work / folder)
        drawn = [word for seed in RANDOM_SEEDS[:seeds] for word in ("--random-seed", seed)]
        return [
            ["task", name, "train", str(work / train), "-o", into, *chosen, *drawn, *options],
            ["task", name, "evaluate", into, str(work / test), "--allow-overlap", "--json"],
        ]

    cut, tuned = ("--max-length", text), sizes.tuned_seeds
    toxic = ("toxicity.jsonl", "hatecheck.jsonl", *cut, "--max-per-class")
    few = ("toxicity.jsonl", "hatecheck-few.jsonl", *cut, "--max-per-class", str(sizes.few))
    found = {
        "toxicity": task("toxicity", "toxicity", *toxic, str(sizes.per_class), "--head-only"),
        "reward": task(
            *("reward", "reward", "pairs.jsonl", "llmbar.jsonl", "--head-only"),
            *("--max-samples", str(sizes.pairs), "--max-length", answer),
        ),
    }
    layers = [word for layer in sizes.layers for word in ("--layer", str(layer))]
    for name in BEHAVIOURS:
        files = (f"{name}-train.jsonl", f"{name}-test.jsonl")
        found[name] = task("steering", name, *files, "--max-samples", str(sizes.items), *layers)
        pictures = work if sizes is QUICK else PAGE.parent
        picture = str(pictures / f"tasks-{model}-{name}.svg")
        shown = ["--demonstrations", str(work / files[0]), "--n-shown", "1", "--plot", picture]
        found[name][1] += shown
    found["toxicity-few"] = task("toxicity", "toxicity-few", *few, "--head-only", seeds=tuned)
    found["toxicity-lora"] = task("toxicity", "toxicity-lora", *few, *LORA, seeds=tuned)
    for name in INSTRUCTIONS:
        drawn = sizes.answers if name == "instruction-short" else sizes.answers // 4
        train = (f"{name}.jsonl", "ifeval.jsonl", "--max-samples", str(drawn), *cut)
        found[name] = task("instruction", name, *train, *LORA, seeds=tuned)
        found[name][1] += ["--max-new-tokens", str(sizes.new_tokens), "--batch-size", "32"]
    found["instruction-short"][1].append("--base")
    if model == "smollm2":
        for name in BEHAVIOURS:
            files = (f"{name}-train.jsonl", f"{name}-test.jsonl")
            read = ("--max-samples", str(sizes.items), "--sae", "default")
            found[f"{name}-features"] = task("steering", f"{name}-features", *files, *read)
    return found


def model_source(name: str) -> str:
    """The GGUF file of a model, fetched on first use."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from models import fetch_model

    return str(fetch_model(name))


def run(command: Command) -> dict[str, Any]:
    """Run `fac …` in its own process and measure its cost."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "facsynth", *command],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )
    assert process.stdout
    told = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"fac {' '.join(command)} exited with status {process.returncode}")
    is_json = "--json" in command
    return {
        "command": shown(command),
        "wall_s": round(time.perf_counter() - start, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_gb": round(used.ru_maxrss / 2**20, 2),
        "result": json.loads(told) if is_json else None,
    }


def shown(command: Command) -> str:
    """The command line, with paths shortened to file names."""
    return " ".join(["fac", *(Path(word).name if "/" in word else word for word in command)])


def small(found: dict[str, Any]) -> dict[str, Any]:
    """A result without sample ids, per-seed curves and per-instruction rates."""
    found["near_copies"] = len(found["near_copies"])
    for layer in found.get("layers", []):
        for vector in layer["vectors"]:
            del vector["curve"]
    for one in [*found.get("models", []), found.get("base") or {}]:
        one.pop("instructions", None)
    return found


def answer_words(folder: Path) -> dict[str, float] | None:
    """Mean number of words of each model's answers to IFEval."""
    found = {}
    for file in sorted(folder.glob("answers-ifeval-*.jsonl")):
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        words = [len(row["response"].split()) for row in rows]
        found[file.stem.removeprefix("answers-ifeval-")] = sum(words) / len(words)
    return found or None


def do_model(model: str, data: Path, work: Path, sizes: Sizes, wanted: list[str] | None) -> None:
    """Run all arms of a model, or the given ones; each arm is saved when it finishes."""
    asked = json.loads(json.dumps(asdict(sizes)))
    if not (work / "sizes.json").is_file():
        write_data(data, work, sizes)
        write_json(asked, work / "sizes.json")
    if json.loads((work / "sizes.json").read_text(encoding="utf-8")) != asked:
        sys.exit(f"{work} holds arms of other sizes; choose another --work folder or delete it")
    for name, commands in arms(model, work, sizes).items():
        file = work / f"arm-{name}.json"
        if file.is_file() or (wanted and name not in wanted):
            continue
        was_begun = (work / name).exists()
        done = [run(command) for command in commands]
        result = small(done[-1].pop("result"))
        config = json.loads((work / name / "task.json").read_text(encoding="utf-8"))
        done[0].pop("result")
        facts = {key: config[key] for key in KEPT if config.get(key) is not None}
        facts["answer_words"] = answer_words(work / name)
        row = {"machine": describe_processor(), "was_begun": was_begun, "commands": done}
        row |= {"trained": facts, "result": result}
        write_json(row, file)
        print(f"{model} {name} done", flush=True)


KEPT = ["random_seeds", "n_train", "n_sweep", "strengths", "layer", "read_share", "features"]
KEPT += ["dtype", "method", "training", "n_cut"]
"""Fields of task.json that the results include."""


def page(results: dict[str, Any]) -> str:
    """The page, from what is stored and the plots that exist."""
    return written_page(results, PAGE.parent)


def write_report(work: Path) -> None:
    """Write the results and the page from all finished arms."""
    names = list(arms("smollm2", work, MODELS["smollm2"]))
    asked = {"smollm2": names, "qwen": [name for name in names if "-features" not in name]}
    models: dict[str, Any] = {}
    sizes = {}
    for model in MODELS:
        files = [work / model / f"arm-{name}.json" for name in asked[model]]
        done = {file.stem.removeprefix("arm-"): file for file in files if file.is_file()}
        if done:
            sizes[model] = json.loads((work / model / "sizes.json").read_text(encoding="utf-8"))
            models[model] = {
                name: json.loads(file.read_text(encoding="utf-8")) for name, file in done.items()
            }
    libraries = ("torch", "transformers", "scikit-learn")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries)
    report = {
        "date": date.today().isoformat(),
        "versions": versions,
        "random_seeds": [int(seed) for seed in RANDOM_SEEDS],
        "lora": " ".join(LORA),
        "asked": asked,
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
    parser.add_argument("--arm", action="append", help="run only this arm; repeatable")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "tasks-study")
    parser.add_argument("--quick", action="store_true", help="small sizes; writes no page")
    given = parser.parse_args()
    if given.what == "run" and not given.data:
        parser.error("pass the folder of the data sets with --data")
    for model in (given.model or MODELS) if given.what == "run" else ():
        sizes = QUICK if given.quick else MODELS[model]
        work = given.work / ("quick-" * given.quick + model)
        do_model(model, given.data, work, sizes, given.arm)
    if not given.quick:
        write_report(given.work)


if __name__ == "__main__":
    main()

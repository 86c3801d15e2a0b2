r"""Fill rate against generated tokens, by method and generator.

Anchor: Alpaca instructions; seed: self-instruct tasks; features: the default SmolLM2 and SAE. Every
cell (generator, arm, random seed) generates until its token budget is spent, so arms are compared
at equal budgets, and then writes `result.json` under --output. Run the same command again to
resume: only unfinished cells run. The results contain no text.

    python studies/fill_rate.py run --data DATA --generator smollm2
    python studies/fill_rate.py run --data DATA --generator QWEN.gguf --tokens 2500
    python studies/fill_rate.py long --data DATA --arm cover --tokens 40000
    python studies/fill_rate.py run --data DATA --generator QWEN.gguf --tokens 2500 --sae QWEN_SAE
    python studies/fill_rate.py report --data DATA

With --sae the features are those of the generator itself. `studies/transfer.py` trains the SAE of
Qwen.

`python benchmarks/models.py qwen` prints the path of QWEN.gguf. For a trial run use
`--n-anchor 300 --tokens 300 --seeds 1 --output runs/small`.
"""

import argparse
import json
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe_processor
from scipy.stats import ks_2samp

from facsynth.chat.local import LocalChat
from facsynth.chat.model import ChatRequest, OnOutcomes, Outcome, collect
from facsynth.coverage.fac import missing_features
from facsynth.coverage.representative import hellinger_distance
from facsynth.data.read import read_samples
from facsynth.data.settings import ReadSettings
from facsynth.data.write import write_json, write_text
from facsynth.errors import BudgetError
from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.records import FeatureActivations, Message, Sample, sample_text
from facsynth.sae.files import load_sae
from facsynth.synthesize.admission import Admission, has_remark
from facsynth.synthesize.candidates import Candidate
from facsynth.synthesize.keep import choose_candidates
from facsynth.synthesize.prompts import written_text
from facsynth.synthesize.run import SynthesisRun
from facsynth.synthesize.settings import Effort, PlanSettings, Sampling, SynthesisSettings
from facsynth.table.active import active_rows
from facsynth.table.extract import extract_features, extract_table
from facsynth.table.rows import stack_rows, take_rows
from facsynth.table.settings import ExtractSettings
from facsynth.table.table import FeatureTable, open_table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "studies" / "results" / "fill_rate.json"
PAGE = ROOT / "docs" / "studies" / "fill_rate.md"

FORM = "a new instruction, one short sentence, that a person gives to an assistant"
UNDIRECTED_PROMPT = f"Write {FORM}. Answer with the instruction alone."
THRESHOLD = 1.0
MIN_ANCHOR = 5
"""A missing feature counts if at least this many anchor samples activate it."""

BLOCK = 16
"""Features per round; with two texts each, they fill one batch of the generator."""

BATCH = 32
N_POINTS = 40
"""Points of a curve."""


def settings(seed: int, *, first: int = 2, second: int = 1, **changes: Any) -> SynthesisSettings:
    """Rounds of `BLOCK` features; the budget of tokens ends the run."""
    effort = Effort(
        max_features=100_000,
        max_samples=changes.pop("max_samples", 100),
        max_rounds=changes.pop("max_rounds", 1000),
        features_per_round=2 * BLOCK // first,
        first_candidates=first,
        second_candidates=second,
    )
    base = SynthesisSettings(
        threshold=THRESHOLD,
        form=FORM,
        reply=False,
        min_anchor_samples=MIN_ANCHOR,
        random_seed=seed,
        effort=effort,
        sampling=Sampling(max_length=48),
    )
    return replace(base, **changes)


ARMS: dict[str, Callable[[int], SynthesisSettings]] = {
    "undirected": lambda seed: settings(seed),
    "step 1, own": lambda seed: settings(seed, second=0, max_rounds=1, prompt="request"),
    "two steps, own": lambda seed: settings(seed, max_rounds=1, prompt="request"),
    "request, credit": lambda seed: settings(seed, prompt="request"),
    "turns, own": lambda seed: settings(seed, max_rounds=1),
    "credit": lambda seed: settings(seed),
    "cover": lambda seed: settings(seed, plan=PlanSettings("cover")),
    "match": lambda seed: settings(seed, plan=PlanSettings("match")),
    "cover, step 1": lambda seed: settings(seed, second=0, plan=PlanSettings("cover")),
}
DESCRIBED = {
    "undirected": "the prompt names only the form, not features",
    "step 1, own": "the paper's step 1, two texts per feature; a text counts for its own feature",
    "two steps, own": "the paper's two steps; a text counts for its own feature",
    "request, credit": "the paper's two steps in rounds; every text counts for all features",
    "turns, own": "two steps with prompts in turns; a text counts for its own feature",
    "credit": "prompts in turns, in rounds; every text counts for all features; the default",
    "cover": "as credit; one text targets features that fire together in the anchor",
    "match": "as credit; targets the features that under-fire most, with the anchor's lengths",
    "steer 4": "as credit, steered with strength 4",
    "steer auto": "as credit, steered with a strength chosen during the run (0, 2, 4, 8)",
    "examples": "as credit; the prompt shows kept texts of neighbouring features",
    "drop early": "as credit; four texts per feature, the worse half is dropped after 12 tokens",
    "cover, step 1": "cover without step 2",
}
REMOVED = ("steer 4", "steer auto", "examples", "drop early")
"""Removed arms: none filled more than the default. Their cells stay in the results."""


class Ledger:
    """A generator that records its outputs and stops at a number of generated tokens."""

    def __init__(self, model: LocalChat, n_tokens: int) -> None:
        self._model, self._left = model, n_tokens
        self.name = model.name
        self.calls: list[dict[int, Outcome]] = []

    def reply(
        self, requests: Sequence[ChatRequest], *, on_done: Callable[[int], None] | None = None
    ) -> list[Outcome]:
        """Answer the requests; see `ChatModel`."""
        return collect(self, requests, on_done=on_done)

    def stream(self, requests: Sequence[ChatRequest], on_outcomes: OnOutcomes) -> None:
        """Answer the requests batch by batch, while tokens are left."""
        self.calls.append({})
        for batch in self._model.batches(requests):
            if self._left <= 0:
                raise BudgetError("the token budget of this cell is spent")
            outcomes = self._model.reply([requests[position] for position in batch])
            self._left -= sum(outcome.completion_tokens for outcome in outcomes)
            arrived = list(zip(batch, outcomes, strict=True))
            self.calls[-1] |= dict(arrived)
            on_outcomes(arrived)


@dataclass
class Log:
    """All outputs of a cell, in order."""

    n_tokens: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    samples: list[Sample | None] = field(default_factory=list)
    rows: list[FeatureActivations] = field(default_factory=list)
    """One row per existing sample."""


class World:
    """Tables, model and SAE shared by all cells."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.set_num_threads(1)
        self.reads_itself = options.sae is not None
        is_other = self.reads_itself and options.generator != "smollm2"
        self.lm = load_language_model(options.generator if is_other else None)
        self.sae = load_sae(options.sae, device=self.lm.device)
        name = group_name(options.generator, reads_itself=self.reads_itself)
        self.output: Path = options.output / name if self.reads_itself else options.output
        data: Path = options.data
        anchor = data / "alpaca" / "alpaca_instructions_only.jsonl.gz"
        self.anchor = self._table("anchor", anchor, options.n_anchor)
        self.seed = self._table("seed", data / "self_instruct" / "seed_tasks.jsonl", None)
        self.a, self.s = self.anchor.activations(), self.seed.activations()
        rows, seed_rows = (active_rows(t, threshold=THRESHOLD) for t in (self.a, self.s))
        missing, counts = missing_features(rows, seed_rows), rows.counts
        self.goal = np.array([f for f in missing if counts[f] >= MIN_ANCHOR], dtype=np.int64)
        self._writers: dict[str, LanguageModel] = {}

    def _table(self, name: str, path: Path, limit: int | None) -> FeatureTable:
        """Feature table of the instructions in a file, at most the first `limit`."""
        samples = [
            Sample(x.sample_id, messages=(Message("user", x.text),))
            for x in read_samples(path, ReadSettings(text_field="instruction", limit=limit))
            if x.text
        ]
        wanted = ExtractSettings(score="user")
        return extract_table(samples, self.lm, self.sae, self.output / name, settings=wanted)

    def chat(self, generator: str, n_tokens: int) -> Ledger:
        """The generator of a cell; it needs no cache because cells do not resume."""
        if generator not in self._writers:
            is_reader = self.reads_itself or generator == "smollm2"
            self._writers[generator] = self.lm if is_reader else load_language_model(generator)
        lm = self._writers[generator]
        model = LocalChat(lm.model, lm.tokenizer, name=lm.name, batch_size=BATCH)
        return Ledger(model, n_tokens)


def write_cell(
    world: World, chat: Ledger, arm: str, seed: int, folder: Path
) -> tuple[Log, FeatureActivations]:
    """Run one cell; returns what it generated, and the activations of what it kept."""
    wanted = ARMS[arm](seed)
    if arm == "undirected":
        return write_undirected(world, chat, wanted)
    log, kept = Log(), list[FeatureActivations]()
    everything = np.ones(world.a.n_features, dtype=bool)
    blocks: list[np.ndarray | None] = [None]
    if arm.endswith("own"):  # target every feature, whatever other texts activate
        blocks = [world.goal[i : i + BLOCK] for i in range(0, world.goal.size, BLOCK)]
    for number, block in enumerate(blocks):
        relevant = everything if block is None else np.isin(np.arange(everything.size), block)
        place, n_calls = folder / f"run-{number:02}", len(chat.calls)
        run = SynthesisRun(world.anchor, world.seed, settings=wanted, relevant=relevant)
        result = run.execute(world.lm, world.sae, chat, place)
        kept.append(result.activations)
        read_calls(log, chat.calls[n_calls:], place)
        if result.stopped == "budget":
            break
    return log, stack_rows(kept)


def read_calls(log: Log, calls: Sequence[dict[int, Outcome]], folder: Path) -> None:
    """Add the outcomes of one run; each call is one step, with a table if it wrote any text.

    A step that ran out of budget before its first text leaves nothing on disk.
    """
    steps = sorted({path.with_suffix("") for path in folder.glob("*/step-?*")}, key=_when)
    made = [call for call in calls if call]
    assert len(made) - 1 <= len(steps) <= len(made), (len(made), steps)
    for call, step in zip_longest(made, steps):
        if step is None or not step.is_dir():
            read_nothing(log, call)
            continue
        table = open_table(step)
        numbers = [sample.sample_id.split("-") for sample in table.samples()]
        found = {int(parts[4]): row for row, parts in enumerate(numbers)}
        samples, rows = table.samples(), table.activations()
        for position, outcome in sorted(call.items()):
            row = found.get(position)
            log.n_tokens.append(outcome.completion_tokens)
            log.samples.append(None if row is None else samples[row])
            log.targets.append(-1 if row is None else int(numbers[row][3]))
            if row is not None:
                log.rows.append(take_rows(rows, [row]))


def read_nothing(log: Log, call: dict[int, Outcome]) -> None:
    """Add a call that produced no text."""
    for _, outcome in sorted(call.items()):
        log.n_tokens.append(outcome.completion_tokens)
        log.samples.append(None)
        log.targets.append(-1)


def _when(step: Path) -> tuple[int, str]:
    """Sort key for rounds and steps; names of rounds get longer from the 100th on."""
    return int(step.parent.name.removeprefix("round-")), step.name


def write_undirected(
    world: World, chat: Ledger, wanted: SynthesisSettings
) -> tuple[Log, FeatureActivations]:
    """Generate texts without naming features until the tokens are spent; keep by set cover."""
    log = Log()
    admission = Admission(
        world.anchor.samples(), world.seed.samples(), max_overlap=wanted.max_overlap
    )

    def requests() -> Iterator[list[ChatRequest]]:
        for start in range(0, 1_000_000, BATCH):
            yield [
                ChatRequest(
                    (Message("user", UNDIRECTED_PROMPT),),
                    seed=random.Random(f"{wanted.random_seed}/{start + i}").randrange(2**31),
                    max_tokens=wanted.sampling.max_length,
                    temperature=wanted.sampling.temperature,
                    top_p=wanted.sampling.top_p,
                )
                for i in range(BATCH)
            ]

    for batch in requests():
        try:
            outcomes = chat.reply(batch)
        except BudgetError:
            break
        texts = [written_text(outcome, max_words=admission.max_words) for outcome in outcomes]
        samples = [
            Sample(f"u{len(log.samples) + i}", messages=(Message("user", text),)) if text else None
            for i, text in enumerate(texts)
        ]
        there = [sample for sample in samples if sample is not None]
        read = ExtractSettings(score="user")
        rows = extract_features(there, world.lm, world.sae, settings=read)
        log.n_tokens += [outcome.completion_tokens for outcome in outcomes]
        log.targets += [-1] * len(outcomes)
        log.samples += samples
        log.rows += [take_rows(rows, [i]) for i in range(len(there))]
    rows = stack_rows(log.rows)
    there = [sample for sample in log.samples if sample is not None]
    candidates = [Candidate(sample, -1, 1, 0, 0) for sample in there]
    missing = np.zeros(world.a.n_features, dtype=bool)
    missing[world.goal] = True
    kept = choose_candidates(
        active_rows(rows, threshold=THRESHOLD),
        missing,
        admissible=[admission.find_flaw(candidate) is None for candidate in candidates],
        max_kept=wanted.effort.max_samples,
        is_new=lambda row: admission.admit(candidates[row]),
    )
    return log, take_rows(rows, [k.row for k in kept])


def judge(
    world: World, log: Log, kept: FeatureActivations, *, own: bool, n_tokens: int
) -> dict[str, Any]:
    """Measures of a cell; the curve counts usable texts in the order of generation.

    A text is usable if no filter rejects it and it is not a copy of an earlier usable text.
    """
    admission = Admission(world.anchor.samples(), world.seed.samples(), max_overlap=0.5)
    goal, filled = set(world.goal.tolist()), set[int]()
    outcomes: dict[str, int] = {}
    curve: list[tuple[int, int]] = []
    rows, total, n_useful, n_formed, n_hits = iter(log.rows), 0, 0, 0, 0
    for tokens, target, sample in zip(log.n_tokens, log.targets, log.samples, strict=True):
        total += tokens
        if total > n_tokens:
            break
        outcome, new = "nothing written", set[int]()
        if sample is not None:
            active = active_in(next(rows))
            n_hits += target in active
            candidate = Candidate(sample, target, 1, 0, 0)
            outcome = admission.find_flaw(candidate) or ""
            outcome = outcome or ("" if admission.admit(candidate) else "near-copy")
            if not outcome:
                new = (active & {target} if own else active) & goal - filled
                outcome = "usable"
        if new:
            filled |= new
            n_useful += 1
            n_formed += is_well_formed(sample_text(sample)) if sample else 0
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        curve.append((total, len(filled)))
    n_texts = max(1, sum(outcomes.values()))
    both = stack_rows([world.s, kept]) if kept.sample_ids else world.s
    counts, anchor_counts = (
        active_rows(rows, threshold=THRESHOLD).counts for rows in (both, world.a)
    )
    return {
        "n_goal": len(goal),
        "n_tokens": curve[-1][0] if curve else 0,
        "n_filled": len(filled),
        "curve": thin(curve, n_tokens),
        "outcomes": outcomes,
        "own_hits": n_hits / n_texts,
        "n_useful": n_useful,
        "well_formed": n_formed / max(1, n_useful),
        "n_kept": len(kept.sample_ids),
        "mean_tokens": float(kept.n_tokens.mean()) if kept.sample_ids else 0.0,
        "length_distance": float(ks_2samp(both.n_tokens, world.a.n_tokens).statistic),
        "hellinger": hellinger_distance(
            active_rows(both, threshold=THRESHOLD).counts, anchor_counts
        ),
    }


def active_in(row: FeatureActivations) -> set[int]:
    return set(row.feature_ids[row.values > np.float32(THRESHOLD)].tolist())


def thin(curve: list[tuple[int, int]], n_tokens: int) -> list[int]:
    """Filled features at `N_POINTS` equal steps of generated tokens."""
    at = [n_tokens * (i + 1) / N_POINTS for i in range(N_POINTS)]
    return [max((n for tokens, n in curve if tokens <= point), default=0) for point in at]


def is_well_formed(text: str) -> bool:
    """Whether a text has the form of one short instruction.

    It has one line, starts with a capital letter, a digit or a quotation mark and ends with a full
    stop, a question or exclamation mark, a colon, or a closing quotation mark or bracket. It has at
    least three words and at most three sentences, paired quotation marks and brackets, no list, no
    placeholder in square brackets, no label with a colon at its start and no remark about the task.
    """
    text = text.strip()
    sentences = re.findall(r"[.?!]+(?=\s|$)", text)
    return (
        "\n" not in text
        and bool(re.match(r"[A-Z0-9\"'“‘]", text))
        and bool(re.search(r"[.?!:\"'”’)\]]$", text))
        and len(text.split()) >= 3
        and text.count('"') % 2 == 0
        and text.count("(") == text.count(")")
        and len(sentences) <= 3
        and not re.match(r"(?:\d+[.)]|[-*•])\s", text)
        and not re.search(r"\[[^\]]*\]", text)
        and not re.match(r"\W*\w+(?: \w+)?:\s", text)
        and not has_remark(text)
    )


def run(options: argparse.Namespace) -> None:
    world = World(options)
    alone = options.random_seed
    for seed in range(options.seeds) if alone is None else [alone]:
        for arm in options.arm or [arm for arm in ARMS if arm not in EXTRA]:
            run_cell(world, options.generator, arm, seed, options.tokens)


EXTRA = ("cover, step 1",)
"""Arms that run only with --arm."""


def run_cell(world: World, generator: str, arm: str, seed: int, n_tokens: int) -> None:
    name = group_name(generator, reads_itself=world.reads_itself)
    slug = re.sub(r"\W+", "-", arm)
    folder = world.output / "cells" / name / f"{slug}-{n_tokens}" / f"seed-{seed}"
    if (folder / "result.json").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    started, cpu = time.time(), time.process_time()
    chat = world.chat(generator, n_tokens)
    log, kept = write_cell(world, chat, arm, seed, folder)
    found = judge(world, log, kept, own=arm.endswith("own"), n_tokens=n_tokens)
    row = {
        "generator": name,
        "arm": arm,
        "seed": seed,
        "budget": n_tokens,
        "seconds": round(time.time() - started),
        "cpu_seconds": round(time.process_time() - cpu),
    }
    write_json(row | found, folder / "result.json")
    print(
        f"{name}: {arm}, seed {seed}: {found['n_filled']} of {found['n_goal']} with "
        f"{found['n_tokens']} tokens, {row['cpu_seconds']} s of processor time",
        flush=True,
    )


def group_name(generator: str, *, reads_itself: bool) -> str:
    """Name of a generator's cells; cells on its own features form a separate group."""
    name = Path(generator).stem.split(".Q")[0]
    return f"{name}, own features" if reads_itself else name


def run_long(options: argparse.Namespace) -> None:
    """Run one arm with many tokens, to see how far rounds get."""
    world = World(options)
    made = ARMS[options.arm]
    ARMS[options.arm] = lambda seed: replace(
        made(seed),
        effort=replace(made(seed).effort, max_samples=100_000, max_attempts=100, patience=30),
    )
    run_cell(world, options.generator, options.arm, options.random_seed or 0, options.tokens)


def collect_results(output: Path) -> list[dict[str, Any]]:
    paths = sorted(output.glob("**/cells/*/*/seed-*/result.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def add_facts(options: argparse.Namespace) -> dict[str, Any]:
    """Facts about the data for the page."""
    world = World(options)
    texts = [sample_text(sample) for sample in world.anchor.samples()]
    counts, seed_counts = (
        active_rows(rows, threshold=THRESHOLD).counts for rows in (world.a, world.s)
    )
    return {
        "n_anchor": len(texts),
        "n_seed": len(world.s.sample_ids),
        "n_goal": int(world.goal.size),
        "anchor_well_formed": float(np.mean([is_well_formed(text) for text in texts])),
        "anchor_mean_tokens": float(world.a.n_tokens.mean()),
        "hellinger_seed": hellinger_distance(
            active_rows(world.s, threshold=THRESHOLD).counts, counts
        ),
        "length_distance_seed": float(ks_2samp(world.s.n_tokens, world.a.n_tokens).statistic),
        "date": date.today().isoformat(),
        "dtype": world.lm.dtype,
        "processor": describe_processor(),
        "torch": torch.__version__,
    }


def report(options: argparse.Namespace) -> None:
    """Write results and page; needs no model if `facts.json` exists."""
    facts_file = options.output / "facts.json"
    if not facts_file.is_file():
        write_json(add_facts(options), facts_file)
    facts = json.loads(facts_file.read_text(encoding="utf-8"))
    old = json.loads(RESULTS.read_text(encoding="utf-8"))["cells"]
    cells = collect_results(options.output) + [c for c in old if c["arm"] in REMOVED]
    results = {"facts": facts, "cells": cells}
    write_json(results, RESULTS)
    from fill_rate_page import page

    write_text(page(results, DESCRIBED, PAGE.parent), PAGE)
    print(PAGE)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "long", "report"])
    parser.add_argument("--output", type=Path, default=Path("runs/fill_rate"))
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--generator", default="smollm2", help="smollm2 or a model")
    parser.add_argument("--sae", type=Path, help="SAE of the generator; measure its own features")
    parser.add_argument("--arm", action="append", choices=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--random-seed", type=int, help="run only this random seed")
    parser.add_argument("--n-anchor", type=int, default=4000)
    parser.add_argument("--tokens", type=int, default=4000, help="generated tokens per cell")
    options = parser.parse_args()
    if options.command == "long":
        options.arm = (options.arm or ["cover"])[0]
    {"run": run, "long": run_long, "report": report}[options.command](options)


if __name__ == "__main__":
    main()

r"""Features filled against generated tokens, by method, prompt and generator.

Anchor: Alpaca instructions; seed: self-instruct tasks; features: the default SmolLM2 and SAE. F
are the features that at least 5 anchor samples activate. Every cell (generator, arm, random seed)
is one run of `fac synthesize`, with a generator that counts its tokens. The results contain no
text. Run the same command again to resume: only unfinished cells run. `report` keeps the cells of
the stored results that were not run again.

    python studies/fill_rate.py run --data DATA --generator smollm2 --arm cover --seeds 3
    python studies/fill_rate.py run --data DATA --generator QWEN.gguf --arm paper --threshold 1
    python studies/fill_rate.py report --data DATA

`python benchmarks/models.py qwen` prints the path of QWEN.gguf. For a trial run use
`--n-anchor 300 --samples 20 --output runs/small`.
"""

import argparse
import json
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from fill_rate_page import written_page
from machine import describe_processor

from facsynth.chat.cache import CachedChat
from facsynth.chat.local import LocalChat
from facsynth.chat.model import ChatRequest, OnOutcomes, Outcome, collect
from facsynth.coverage.fac import missing_features
from facsynth.coverage.representative import hellinger_distance
from facsynth.data.read import read_samples
from facsynth.data.settings import ReadSettings
from facsynth.data.write import write_json, write_text
from facsynth.errors import BudgetError
from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.records import Message, Sample
from facsynth.sae.files import load_sae
from facsynth.synthesize.cover import CoverRounds
from facsynth.synthesize.plan import Aim
from facsynth.synthesize.result import Synthesis
from facsynth.synthesize.run import SynthesisRun
from facsynth.synthesize.settings import Effort, Sampling, SynthesisSettings
from facsynth.table.active import active_rows
from facsynth.table.extract import extract_features, extract_table
from facsynth.table.rows import stack_rows
from facsynth.table.settings import ExtractSettings
from facsynth.table.table import FeatureTable, open_table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "studies" / "results" / "fill_rate.json"
PAGE = ROOT / "docs" / "studies" / "fill_rate.md"

FORM = "a new instruction, one short sentence, that a person gives to an assistant"
MIN_ANCHOR = 5
"""A feature belongs to F if at least this many anchor samples activate it."""

BATCH = 32

COVER = SynthesisSettings(
    form=FORM, reply=False, min_anchor_samples=MIN_ANCHOR, effort=Effort(round_size=BATCH)
)
PAPER = replace(COVER, method="paper")

ARMS: dict[str, SynthesisSettings] = {
    "cover": COVER,
    "cover, described": replace(COVER, describe="yes"),
    "cover, one text": replace(COVER, evidence="text"),
    "cover, one text, described": replace(COVER, evidence="text", describe="yes"),
    "cover, spans, described": replace(COVER, evidence="spans", describe="yes"),
    "cover, description alone": replace(COVER, evidence="none", describe="yes"),
    "cover, request": replace(COVER, prompt="request"),
    "random anchor text": replace(COVER, evidence="text"),
    "undirected": replace(COVER, evidence="none"),
    "paper": PAPER,
}
DESCRIBED = {
    "cover": "the default: up to four anchor texts of a feature as earlier answers",
    "cover, described": "the same, and the terms of the features",
    "cover, one text": "one anchor text, the one that is imitated",
    "cover, one text, described": "one anchor text and the terms",
    "cover, spans, described": "spans of the feature and the terms",
    "cover, description alone": "the terms and no text",
    "cover, request": "the texts of the default, quoted in one message",
    "random anchor text": "one random anchor text of the length that is lacking; names no feature",
    "undirected": "the prompt names the form alone",
    "cover, exact classes": "the default, before length classes had a tenth of slack and features "
    "four attempts",
    "undirected, exact classes": "undirected, before that",
    "paper": "two steps for each of the most frequent missing features",
}


class RandomRounds(CoverRounds):
    """Shows random anchor texts, of the lengths that are lacking."""

    def _plan(self) -> list[Aim]:
        rng = np.random.default_rng([self._settings.random_seed, len(self.rows)])
        found = []
        for aim in super()._plan():
            same = np.flatnonzero(self._classes == self._classes[aim.row])
            found.append(Aim((), int(rng.choice(same))))
        return found


class Ledger:
    """A generator that counts its tokens and stops at a number of them."""

    def __init__(self, model: LocalChat, cached: CachedChat, n_tokens: int | None) -> None:
        self._model, self._cached, self._left = model, cached, n_tokens
        self.name = model.name
        self.tokens: list[int] = []
        """Tokens generated up to the end of each step."""

    def reply(
        self, requests: Sequence[ChatRequest], *, on_done: Callable[[int], None] | None = None
    ) -> list[Outcome]:
        """Answer the requests; see `ChatModel`."""
        return collect(self, requests, on_done=on_done)

    def stream(self, requests: Sequence[ChatRequest], on_outcomes: OnOutcomes) -> None:
        """Answer the requests batch by batch, while tokens are left."""
        self.tokens.append(self.tokens[-1] if self.tokens else 0)
        for batch in self._model.batches(requests):
            if self._left is not None and self.tokens[-1] >= self._left:
                raise BudgetError("the token budget of this cell is spent")
            outcomes = self._cached.reply([requests[position] for position in batch])
            self.tokens[-1] += sum(outcome.completion_tokens for outcome in outcomes)
            on_outcomes(list(zip(batch, outcomes, strict=True)))


class World:
    """Tables, model and SAE shared by all cells."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.set_num_threads(options.threads)
        self.options, self.output = options, options.output
        self.lm = load_language_model()
        self.sae = load_sae(device=self.lm.device)
        data: Path = options.data
        anchor = data / "alpaca" / "alpaca_instructions_only.jsonl.gz"
        self.anchor = self._table("anchor", anchor, options.n_anchor)
        self.seed = self._table("seed", data / "self_instruct" / "seed_tasks.jsonl", None)
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

    def relevant(self, threshold: float) -> np.ndarray:
        """F: features that enough anchor samples activate."""
        return active_rows(self.anchor, threshold=threshold).counts >= MIN_ANCHOR

    def chat(self, generator: str, n_tokens: int | None, replies: Path) -> Ledger:
        """The generator of a cell, with a file of its replies."""
        if generator not in self._writers:
            is_reader = generator == "smollm2"
            self._writers[generator] = self.lm if is_reader else load_language_model(generator)
        lm = self._writers[generator]
        model = LocalChat(lm.model, lm.tokenizer, name=lm.name, batch_size=BATCH)
        return Ledger(model, CachedChat(model, replies), n_tokens)


def run_cell(world: World, generator: str, arm: str, seed: int, threshold: float) -> None:
    options = world.options
    name, slug = Path(generator).stem.split(".Q")[0], re.sub(r"\W+", "-", arm)
    size = options.features if arm == "paper" else options.samples
    folder = world.output / "cells" / name / f"{slug}-{size}-{threshold:g}" / str(seed)
    if (folder / "result.json").is_file():
        return
    # Asked again, replies come from their file, and so all tokens are counted.
    shutil.rmtree(folder / "run", ignore_errors=True)
    started, cpu = time.time(), time.process_time()
    base = ARMS[arm]
    effort = replace(base.effort, max_samples=options.samples)
    if arm == "paper":
        effort = replace(effort, max_features=options.features)
    wanted = replace(
        base,
        threshold=threshold,
        random_seed=seed,
        effort=effort,
        sampling=Sampling(max_length=48),
    )
    chat = world.chat(generator, options.tokens, folder / "replies.sqlite")
    rounds = RandomRounds if arm == "random anchor text" else CoverRounds
    with patch("facsynth.synthesize.run.CoverRounds", rounds):
        run = SynthesisRun(
            world.anchor, world.seed, settings=wanted, relevant=world.relevant(threshold)
        )
        done = run.execute(world.lm, world.sae, chat, folder / "run")
    row = {
        "generator": name,
        "arm": arm,
        "seed": seed,
        "threshold": threshold,
        "n_asked_for": options.samples,
        "seconds": round(time.time() - started),
        "cpu_seconds": round(time.process_time() - cpu),
    }
    row |= measure(world, done, chat, threshold)
    write_json(row, folder / "result.json")
    shown = ("n_kept", "n_filled", "n_goal", "n_tokens", "length_distance", "stopped", "outcomes")
    print(name, arm, seed, threshold, {key: row[key] for key in shown}, row["seconds"], flush=True)


def measure(world: World, done: Synthesis, chat: Ledger, threshold: float) -> dict[str, Any]:
    """The numbers of a cell; activations of kept samples come from a fresh extraction."""
    summary = done.row()
    samples = [kept.sample for kept in done.kept]
    relevant, goal = world.relevant(threshold), set(done.missing_before)
    fresh = extract_features(samples, world.lm, world.sae, settings=ExtractSettings(score="user"))
    rows = active_rows(fresh, threshold=threshold, relevant=relevant)
    active = [
        set(part.tolist())
        for part in np.split(rows.activations.feature_ids, rows.activations.row_starts[1:-1])
    ]
    targets = [kept.candidate.target for kept in done.kept]
    both = active_rows(
        stack_rows([world.seed.activations(), fresh]), threshold=threshold, relevant=relevant
    )
    anchor = active_rows(world.anchor, threshold=threshold, relevant=relevant)
    tokens = chat.tokens or [0]
    return {
        "n_goal": len(goal),
        "n_tokens": tokens[-1],
        "curve": [[t, r["n_covered"]] for t, r in zip(tokens, done.rounds, strict=False)],
        "n_filled": len(set().union(*active) & goal) if active else 0,
        "n_own": sum(t in found for t, found in zip(targets, active, strict=True)),
        "n_own_features": len({t for t, found in zip(targets, active, strict=True) if t in found}),
        "n_hit": own_hits(done.folder, threshold),
        "n_aimed": done.rounds[0]["n_targets"],
        "n_kept": len(samples),
        "kept_tokens": int(fresh.n_tokens.sum()),
        "hellinger": hellinger_distance(both.counts, anchor.counts),
        **{k: summary[k] for k in ("length_distance", "copying", "outcomes", "stopped")},
    }


def own_hits(folder: Path, threshold: float) -> dict[str, int]:
    """Features that some candidate of a step written for them activates, by step."""
    found = {}
    for step in (1, 2):
        features, n_texts, n_hits = set[int](), 0, 0
        for place in sorted(folder.glob(f"round-*/step-{step}")):
            rows = active_rows(open_table(place), threshold=threshold).activations
            parts = np.split(rows.feature_ids, rows.row_starts[1:-1])
            for name, active in zip(rows.sample_ids, parts, strict=True):
                target = name.split("-")[4]
                n_texts += target != "any"
                if target != "any" and int(target) in active:
                    features.add(int(target))
                    n_hits += 1
        found[f"step {step}"] = len(features)
        found[f"step {step} texts"], found[f"step {step} hits"] = n_texts, n_hits
    return found


def run(options: argparse.Namespace) -> None:
    world = World(options)
    seeds = range(options.seeds) if options.random_seed is None else [options.random_seed]
    for seed in seeds:
        for threshold in options.threshold or [1.0]:
            for arm in options.arm or list(ARMS):
                run_cell(world, options.generator, arm, seed, threshold)


def _key(cell: dict[str, Any]) -> tuple[Any, ...]:
    """What tells a cell from others."""
    size = cell["n_aimed"] if cell["arm"] == "paper" else cell["n_asked_for"]
    return (cell["generator"], cell["arm"], cell["threshold"], size, cell["seed"])


def report(options: argparse.Namespace) -> None:
    """Write results and page."""
    world = World(options)
    paths = sorted(options.output.glob("cells/*/*/*/result.json"))
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))["cells"] if RESULTS.is_file() else []
    here = {"dtype": world.lm.dtype, "processor": describe_processor()}
    found = [json.loads(path.read_text(encoding="utf-8")) | here for path in paths]
    cells = list({_key(cell): cell for cell in [*stored, *found]}.values())
    rows = active_rows(world.anchor, threshold=1.0, relevant=world.relevant(1.0))
    seed = active_rows(world.seed, threshold=1.0, relevant=world.relevant(1.0))
    facts = {
        "n_anchor": rows.n_samples,
        "n_seed": seed.n_samples,
        "n_goal": int(missing_features(rows, seed).size),
        "hellinger_seed": hellinger_distance(seed.counts, rows.counts),
        "date": date.today().isoformat(),
        "torch": torch.__version__,
    }
    write_json({"facts": facts, "cells": cells}, RESULTS)
    write_text(page({"facts": facts, "cells": cells}), PAGE)
    print(PAGE)


def page(results: dict[str, Any]) -> str:
    """The page, from what is stored."""
    return written_page(results, DESCRIBED)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run", "report"])
    parser.add_argument("--output", type=Path, default=Path("runs/fill_rate"))
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--generator", default="smollm2", help="smollm2 or a model")
    parser.add_argument("--arm", action="append", choices=list(ARMS))
    parser.add_argument("--threshold", action="append", type=float)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--random-seed", type=int, help="run only this random seed")
    parser.add_argument("--n-anchor", type=int, default=4000)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--features", type=int, default=100, help="aimed at by the arm paper")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, help="generated tokens per cell, at most")
    options = parser.parse_args()
    {"run": run, "report": report}[options.command](options)


if __name__ == "__main__":
    main()

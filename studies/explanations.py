"""How reliable are names and explanations of features? Writes docs/studies/explanations.md.

    python studies/explanations.py offline            test names by terms; no LLM
    python studies/explanations.py llm --model FOLDER test an LLM behind a real local server

Each step stores its numbers in studies/results/explanations.json and runs once; `--again` repeats
it. Replies of the LLM are stored in RUNS/replies.sqlite, so an interrupted run resumes.
"""

import argparse
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from facsynth.chat.budget import Spending, limited_chat
from facsynth.chat.cache import CachedChat
from facsynth.chat.endpoint import EndpointChat
from facsynth.chat.model import ChatModel
from facsynth.chat.policy import estimate
from facsynth.chat.scripted import RecordingChat
from facsynth.chat.settings import EndpointSettings
from facsynth.cli.load import load_table_tokenizer
from facsynth.data.chitchat import chitchat_samples
from facsynth.data.write import write_json, write_text
from facsynth.errors import ChatError, DataError
from facsynth.models.lm import load_language_model
from facsynth.progress import SILENT, Progress
from facsynth.recipe import read_recipe
from facsynth.sae.files import load_sae
from facsynth.table.extract import extract_table
from facsynth.table.table import FeatureTable, open_table
from facsynth.understand.evidence import Evidence, collect_evidence
from facsynth.understand.explain import (
    ExplainSettings,
    Explanation,
    calls_to_explain,
    explain_by_llm,
    explain_by_terms,
    score_imported,
)
from facsynth.understand.fidelity import DOUBTFUL_BELOW, rule_fidelity
from facsynth.understand.names import TermCounts, count_terms, name_terms, peak_word
from facsynth.understand.settings import EvidenceSettings
from facsynth.understand.spans import ReadTable, extract_settings

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "studies" / "results" / "explanations.json"
PAGE = ROOT / "docs" / "studies" / "explanations.md"
KINDS = ("detection", "detection_random", "fuzzing")
N_FEATURES, MIN_SAMPLES, N_EXAMPLES = 200, 20, 15
N_TERMS = (1, 3, 5, 10)
SERVER = EndpointSettings(
    attempt_timeout_s=600.0, concurrency=1, endpoint_option=("no-response-format",)
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("step", choices=["offline", "llm"])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "explanations")
    parser.add_argument("--table", type=Path, help="feature table of the demo anchor")
    parser.add_argument("--again", action="store_true", help="repeat a finished step")
    parser.add_argument("--model", help="folder of the LLM, as the server names it")
    parser.add_argument("--api-base", default="http://127.0.0.1:8123/v1")
    parser.add_argument(
        "--server", type=Path, help="the `transformers` executable of a serving environment"
    )
    parser.add_argument("--n-llm", type=int, default=40, help="features explained by the LLM")
    parser.add_argument("--n-held-out", type=int, default=10)
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if options.again or options.step not in results:
        table = find_table(options.table, options.runs)
        threshold = read_recipe(ROOT / "recipes" / "demo.toml").written_above
        if options.step == "offline":
            results["offline"] = run_offline(table, threshold)
        else:
            results["llm"] = run_llm(table, threshold, options)
        write_json(results, RESULTS)
    write_text(page(results), PAGE)
    print(f"wrote {PAGE.relative_to(ROOT)}")


def find_table(folder: Path | None, runs: Path) -> FeatureTable:
    """The table of the demo's anchor: the given one, that of `fac run`, or a new one."""
    for known in (folder, ROOT / "runs" / "demo" / "anchor", runs / "anchor"):
        if known is not None and (known / "manifest.json").is_file():
            return open_table(known)
    if folder is not None:
        raise DataError(f"{folder} is not a finished feature table")
    recipe, lm = read_recipe(ROOT / "recipes" / "demo.toml"), load_language_model()
    anchor = recipe.anchor
    assert anchor.n_samples is not None
    samples = chitchat_samples(anchor.n_samples, random_seed=anchor.random_seed)
    sae = load_sae(None, device=lm.device)
    return extract_table(samples, lm, sae, runs / "anchor", settings=recipe.extract)


def gather(
    table: FeatureTable, threshold: float, **settings: Any
) -> tuple[dict[int, Evidence], TermCounts, float]:
    """Evidence for 200 random features with enough samples, and the seconds it took."""
    started = time.monotonic()
    rows, samples = table.activations(), table.samples()
    active = rows.feature_ids[rows.values > threshold]
    counts = np.bincount(active, minlength=rows.n_features)
    able = np.flatnonzero((counts >= MIN_SAMPLES) & (counts <= len(samples) // 2))
    chosen = np.sort(np.random.default_rng(0).permutation(able)[:N_FEATURES])
    source = table.manifest.source
    read = ReadTable(samples, rows, load_table_tokenizer(source, None), extract_settings(source))
    wanted = EvidenceSettings(threshold=threshold, **settings)
    evidence = collect_evidence(read, map(int, chosen), settings=wanted)
    return evidence, count_terms(samples), time.monotonic() - started


def run_offline(table: FeatureTable, threshold: float) -> dict[str, Any]:
    """Names by terms of 200 features, their scores, and the scores of shuffled names."""
    evidence, words, seconds = gather(table, threshold)
    started = time.monotonic()
    named = explain_by_terms(evidence, words)
    seconds += time.monotonic() - started
    by_terms = {
        n: [rule_fidelity(name_terms(e.shown, words, n_terms=n), e) for e in evidence.values()]
        for n in N_TERMS
    }
    order = np.random.default_rng(1).permutation(len(named))
    everything = list(evidence.values())
    mixed = [
        rule_fidelity(named[int(i)].terms, e)
        for i, e in zip(np.roll(order, 1), (everything[int(j)] for j in order), strict=True)
    ]
    return {
        "date": date.today().isoformat(),
        "table": {
            "sae_hash": table.manifest.source.sae_hash,
            "n_samples": table.manifest.n_samples,
            "threshold": threshold,
        },
        "seconds": seconds,
        "n_features": len(named),
        "terms": {str(n): summary(found) for n, found in by_terms.items()},
        "mixed": summary(mixed),
        "examples": [example(found) for found in named[:: len(named) // N_EXAMPLES]],
    }


def summary(fidelities: Sequence[Any]) -> dict[str, Any]:
    """Mean balanced accuracy of each kind, with the 95 % interval of the mean over features."""
    row: dict[str, Any] = {}
    for kind in KINDS:
        scores = [getattr(f, kind) for f in fidelities if f is not None]
        values = np.array([s.balanced_accuracy for s in scores if s is not None])
        if not values.size:
            row[kind] = None
            continue
        half = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
        row[kind] = {
            "n": len(values),
            "mean": float(values.mean()),
            "low": float(values.mean()) - half,
            "high": float(values.mean()) + half,
            "median": float(np.median(values)),
            "f1": float(np.mean([s.f1 for s in scores if s is not None])),
            "doubtful": float(np.mean(values < DOUBTFUL_BELOW)),
        }
    return row


def example(found: Explanation) -> dict[str, Any]:
    detection = found.fidelity.detection if found.fidelity else None
    return {
        "feature_id": found.feature_id,
        "n_samples": found.evidence.n_samples,
        "name": found.name,
        "peaks": [peak_word(span) for span in found.evidence.shown[:8]],
        "balanced_accuracy": detection.balanced_accuracy if detection else None,
        "failure": found.failure,
    }


def run_llm(table: FeatureTable, threshold: float, options: Any) -> dict[str, Any]:
    """Explanations and judgements of an LLM, and names by terms, on the same features and spans."""
    if not options.model:
        sys.exit("Error: pass the folder of the LLM with --model")
    everything, words, _ = gather(table, threshold, held_out=options.n_held_out)
    step = max(1, len(everything) // options.n_llm)
    evidence = {f: everything[f] for f in list(everything)[::step][: options.n_llm]}
    named = explain_by_terms(evidence, words)
    settings = ExplainSettings()
    cache = options.runs / "replies.sqlite"
    with served(options.server, options.api_base):
        spending = Spending(replies=cache)
        model = EndpointChat(options.model, base_url=options.api_base, settings=SERVER)
        chat = limited_chat(model, spending)
        recorder = RecordingChat(chat.name)
        ahead = calls_to_explain(
            lambda chat: explain_by_llm(chat, named, settings=settings),
            recorder,
            CachedChat(recorder, cache),
            settings=settings,
        )
        print(f"remaining calls: {estimate(ahead)}; judging the terms takes about as many again")
        started = time.monotonic()
        explained, judged = ask(chat, named, settings, Lines())
        seconds = time.monotonic() - started
    told = [found for found in explained if found.method == "llm"]
    same = [found for found in named if found.feature_id in {t.feature_id for t in told}]
    return {
        "date": date.today().isoformat(),
        "sae_hash": table.manifest.source.sae_hash[:8],
        "model": Path(options.model).name,
        "seconds": seconds,
        "usage": asdict(spending.usage),
        "n_features": len(evidence),
        "n_explained": len(told),
        "failures": sorted({found.failure for found in explained if found.failure}),
        "explained": summary([found.fidelity for found in told]),
        "terms_by_llm": summary([found.fidelity for found in judged]),
        "terms_by_rule": summary([found.fidelity for found in same]),
        "examples": [example(found) for found in explained[:N_EXAMPLES]],
    }


def ask(
    chat: ChatModel,
    named: Sequence[Explanation],
    settings: ExplainSettings,
    progress: Progress = SILENT,
) -> tuple[list[Explanation], list[Explanation]]:
    """The LLM's explanations, and its judgements of the names by terms."""
    explained = explain_by_llm(chat, named, settings=settings, progress=progress)
    terms = {
        found.feature_id: f"the word {' or '.join(found.terms)}" for found in named if found.terms
    }
    judged = score_imported(named, terms, chat=chat, settings=settings, progress=progress)
    return explained, judged


class Lines:
    """Progress as plain lines."""

    def say(self, line: str) -> None:
        """Print one line."""
        print(line, flush=True)

    @contextmanager
    def task(self, name: str, total: float, unit: str) -> Iterator["Lines"]:
        """Start counting a task."""
        self.name, self.total, self.done, self.said = name, total, 0.0, 0.0
        yield self

    def advance(self, n: float = 1, note: str = "") -> None:
        """Print a line every 5 %."""
        self.done += n
        if self.done >= self.said + self.total / 20:
            self.said = self.done
            self.say(f"{self.name}: {self.done:.0f} of {self.total:.0f}")


@contextmanager
def served(server: Path | None, api_base: str) -> Iterator[None]:
    """Run `transformers serve` while the context is open; without `server`, one is running."""
    if server is None:
        yield
        return
    port = api_base.rsplit(":", 1)[1].split("/")[0]
    command = [str(server), "serve", "--host", "127.0.0.1", "--port", port, "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise ChatError(f"{' '.join(command)} exited with status {process.returncode}")
            try:
                urllib.request.urlopen(f"{api_base}/models", timeout=5)
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def page(results: Mapping[str, Any]) -> str:
    """The page, from the stored results."""
    parts = [HEAD]
    if offline := results.get("offline"):
        parts.append(offline_text(offline))
    if llm := results.get("llm"):
        parts.append(llm_text(llm))
    else:
        parts.append("## Explanations by an LLM\n\nNot measured yet.\n")
    return "\n".join(parts)


def offline_text(row: Mapping[str, Any]) -> str:
    table = row["table"]
    lines = [f"| {n} | {cells(found)} |" for n, found in row["terms"].items()]
    lines.append(f"| 3, of another feature | {cells(row['mixed'])} |")
    doubtful = row["terms"]["3"]["detection"]["doubtful"]
    return f"""## Names by terms

With three terms, {doubtful:.0%} of the names are doubtful (below {DOUBTFUL_BELOW} against near
misses).

Setup: {row["n_features"]} random features among those active in at least {MIN_SAMPLES} samples and
at most half of all, δ = {table["threshold"]:g}, {table["n_samples"]:,} samples, SAE
{table["sae_hash"][:8]}, {row["date"]}. Evidence, names and scores took {row["seconds"]:.0f} s on
one shared core and did not run the model.

| terms in the name | near misses | random text | fuzzing |
|---|---|---|---|
{chr(10).join(lines)}

Scores are the mean held-out balanced accuracy over features, with the 95 % interval of the mean;
guessing scores 0.5.

{examples_text(row["examples"])}"""


def llm_text(row: Mapping[str, Any]) -> str:
    usage = row["usage"]
    failures = "; ".join(row["failures"]) or "none"
    return f"""## Explanations by an LLM

{row["model"]} behind `transformers serve` explained and judged {row["n_features"]} features
chosen in the same way (SAE {row["sae_hash"]}, {row["date"]}), five texts per call, in
{row["seconds"] / 60:.0f} minutes ({usage["n_calls"]:,} calls,
{usage["prompt_tokens"]:,} prompt tokens). It gave {row["n_explained"]} explanations;
reasons for the others: {failures}.

| tested | near misses | random text | fuzzing |
|---|---|---|---|
| its explanations, judged by the LLM | {cells(row["explained"])} |
| names by terms, judged by the LLM | {cells(row["terms_by_llm"])} |
| names by terms, as a rule | {cells(row["terms_by_rule"])} |

{examples_text(row["examples"])}"""


def cells(row: Mapping[str, Any]) -> str:
    return " | ".join(
        "–" if row[kind] is None else "{mean:.3f} ({low:.3f} to {high:.3f})".format(**row[kind])
        for kind in KINDS
    )


def examples_text(examples: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| feature | samples | name | words at its strongest peaks | score |",
        "|---|---|---|---|---|",
    ]
    for row in examples:
        score = "–" if row["balanced_accuracy"] is None else f"{row['balanced_accuracy']:.2f}"
        peaks = ", ".join(dict.fromkeys(row["peaks"]))
        name = str(row["name"]).replace("|", "/")
        lines.append(
            f"| {row['feature_id']} | {row['n_samples']} | {name} | {peaks} | {score} |".replace(
                "\n", " "
            )
        )
    return "\n".join(lines) + "\n"


HEAD = """# How reliable are names and explanations of features?

Generated by `python studies/explanations.py` from `studies/results/explanations.json`. The spans
come from the demo's anchor (chitchat); ten spans make a name, ten others test it. Near misses are
the silent texts most similar to the feature's own words, so they are a hard test; random silent
text is the usual, easier test.
"""

if __name__ == "__main__":
    main()

"""How large and how quick is the page of a report: 10,000 features and 5,000 written samples.

Run `python benchmarks/report_page.py OUTPUT.html`. The tables are made up: feature `i` fires on
word `i` of a vocabulary whose words are as frequent as in English (Zipf), so names, spans, topics
and neighbours are as varied as in real data. The page is opened in headless Chromium from disk.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from facsynth.models.tokens import TokenizedSample
from facsynth.records import FeatureActivations, Sample
from facsynth.report.collect import make_report
from facsynth.report.data import Report
from facsynth.report.page import write_report
from facsynth.report.sets import Reader, ReportInputs
from facsynth.report.settings import ReportSettings
from facsynth.table.manifest import TableSource
from facsynth.table.table import FeatureTable, open_table
from facsynth.table.write import finish_table, samples_hash, write_part

N_FEATURES, N_WRITTEN = 10_000, 5_000
N_ANCHOR, N_SEED, N_WORDS = 8_000, 1_000, 40
LIMITS = {"megabytes": 8.0, "interactive_s": 1.5, "search_ms": 100.0}
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "ar", "en", "is")]
VOCABULARY = [
    SYLLABLES[i // 100 % 112] + SYLLABLES[i % 100] + SYLLABLES[i * 7 % 112]
    for i in range(N_FEATURES)
]

SEARCHES = ["ba", "teno", "mari sol", "not there at all", "17", "written"]


class WordPainter:
    """Stands for a model: feature `i` is active on word `i`, at one token in eight on any word."""

    def activations(
        self, texts: Sequence[TokenizedSample], wanted: Sequence[Sequence[int]]
    ) -> Iterator[tuple[int, Mapping[int, np.ndarray]]]:
        """See `facsynth.report.paint.Painter.activations`."""
        for place, (text, features) in enumerate(zip(texts, wanted, strict=True)):
            ids = text.input_ids.astype(np.int64)
            yield place, {f: activations_of(ids, f) for f in features}


def activations_of(ids: np.ndarray, feature: int) -> np.ndarray:
    """Activation of a feature by every token: large on its word, small here and there."""
    noise = ((ids * 2654435761 + feature * 40503) % 8 == 0) * 0.6
    return np.where(ids == feature, 3.0 + (ids * 7 + feature) % 5, noise).astype(np.float32)


def make_table(folder: Path, n_samples: int, words: int, random_seed: int) -> FeatureTable:
    """A table of made-up texts whose words are the first `words` of the vocabulary."""
    rng = np.random.default_rng(random_seed)
    shares = 1 / np.arange(3, words + 3)
    drawn = rng.choice(words, size=(n_samples, N_WORDS), p=shares / shares.sum())
    samples = [
        Sample(f"{folder.name}-{i}", text=" ".join(VOCABULARY[w] for w in row))
        for i, row in enumerate(drawn)
    ]
    first = [np.unique(row, return_index=True) for row in drawn]
    counts = np.array([len(ids) for ids, _ in first])
    features = np.concatenate([ids for ids, _ in first])
    rows = FeatureActivations(
        n_features=N_FEATURES,
        sample_ids=tuple(sample.sample_id for sample in samples),
        n_tokens=np.full(n_samples, N_WORDS, dtype=np.int64),
        row_starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        feature_ids=features.astype(np.uint32),
        values=(3.0 + (features * 8) % 5).astype(np.float32),
        positions=np.concatenate([at for _, at in first]).astype(np.uint16),
    )
    write_part(folder, 0, rows, samples)
    source = TableSource(
        *("model", "sae", N_FEATURES, 1, "sae", "max", "all", 99, "format", "words", "words")
    )
    finish_table(folder, source, samples_hash(samples), n_parts=1)
    return open_table(folder)


def made_up_report(folder: Path) -> Report:
    """The report of tables in which every feature is active somewhere."""
    tables = {
        "anchor": make_table(folder / "anchor", N_ANCHOR, N_FEATURES, 1),
        "seed": make_table(folder / "seed", N_SEED, N_FEATURES // 2, 2),
        "synthetic": make_table(folder / "synthetic", N_WRITTEN, N_FEATURES, 3),
    }
    words = {word: i for i, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel({**words, "?": N_FEATURES}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    reads = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    origins = {
        f"synthetic-{i}": {"target_feature": i % N_FEATURES, "step": "one", "round": 1 + i // 1000}
        for i in range(N_WRITTEN)
    }
    reader = Reader(reads, None, WordPainter())  # type: ignore[arg-type]
    inputs = ReportInputs("Made-up words", tables, 1.0, reader, provenance=origins)
    return make_report(inputs, ReportSettings(tested=200))


def measure(page_path: Path) -> dict[str, Any]:
    """Opens the page and tries it; the median of five openings, the slowest search."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    ready, busy, searches = [], [], {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(5):
            page = browser.new_page(viewport={"width": 1300, "height": 900})
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable")
            page.goto(f"{page_path.resolve().as_uri()}#features")
            page.wait_for_selector("html[data-ready]")
            ready.append(float(page.evaluate("document.documentElement.dataset.ready")) / 1000)
            told = session.send("Performance.getMetrics")["metrics"]
            busy.append(next(one["value"] for one in told if one["name"] == "ThreadTime"))
            page.wait_for_timeout(1500)  # the index is made while nothing else is to do
            searches = {query: page.evaluate(_SEARCH, query) for query in SEARCHES}
            page.close()
        browser.close()
    return {
        "megabytes": page_path.stat().st_size / 1e6,
        "interactive_s": float(np.median(ready)),
        "processor_s": float(np.median(busy)),
        "search_ms": max(searches.values()),
        "searches_ms": searches,
    }


_SEARCH = """query => {
  const field = document.querySelector("#feature-tools [name=q]");
  const start = performance.now();
  field.value = query;
  field.dispatchEvent(new Event("input", {bubbles: true}));
  document.querySelector("#feature-list").getBoundingClientRect();
  return performance.now() - start;
}"""


def main() -> None:
    """Make the page, measure it, and print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--keep", action="store_true", help="Measure the page that is there.")
    options = parser.parse_args()
    if not options.keep:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            report = made_up_report(Path(folder))
        write_report(report, options.page)
        print(json.dumps(report.row() | {"made_in_s": round(time.perf_counter() - start, 1)}))
    found = measure(options.page)
    print(json.dumps(found, indent=2))
    for name, limit in LIMITS.items():
        print(f"{name}: {found[name]:.2f}, at most {limit:g}")


if __name__ == "__main__":
    main()

"""Runs a recipe stage by stage in one folder; run again, it does only what is not done.

```
RUN/recipe.json      what was asked for
RUN/anchor/ seed/    feature tables
RUN/coverage/        before.json, topics.jsonl, missing.jsonl, after.json
RUN/synthesize/      synthetic.jsonl, table/, summary.json, replies.sqlite, round-*/
RUN/report.html      what came of it
RUN/manifest.json    versions, hashes, numbers; written last
```
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from facsynth import __version__
from facsynth.chat.budget import Spending, limited_chat
from facsynth.chat.endpoint import open_endpoint
from facsynth.chat.local import LocalChat
from facsynth.chat.model import ChatModel
from facsynth.chat.settings import Generator
from facsynth.coverage.measure import measure_coverage
from facsynth.coverage.settings import CoverageSettings
from facsynth.data.chitchat import chitchat_samples
from facsynth.data.read import REJECTED_FILE, read_samples
from facsynth.data.settings import ReadSettings
from facsynth.data.write import write_json, write_jsonl
from facsynth.errors import MismatchError
from facsynth.models.default_model import EMBEDDED_SAE
from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.progress import SILENT, Progress
from facsynth.recipe import DataSource, Recipe, read_recipe
from facsynth.records import Sample
from facsynth.sae.files import load_sae
from facsynth.sae.module import SparseAutoencoder
from facsynth.settings import changed_settings
from facsynth.show import TextTable, as_html
from facsynth.synthesize.complete import moment_of
from facsynth.synthesize.run import SynthesisRun
from facsynth.synthesize.task_format import read_task
from facsynth.table.extract import extract_table
from facsynth.table.table import FeatureTable, open_table
from facsynth.understand.missing import understand_missing

__all__ = ["RunResult", "load_generator", "run_recipe"]

Row = Mapping[str, Any]

_SUBSETS = (
    ("  random anchor subset of that size", "random_subset"),
    ("  and of matched lengths", "length_matched"),
)


@dataclass(frozen=True)
class RunResult:
    """Where a run went and what it found."""

    folder: Path
    before: Row
    """`Coverage.row` of the seed."""

    after: Row
    """`Coverage.row` of the seed with the synthetic samples."""

    n_synthetic: int
    report: Path

    def row(self) -> dict[str, Any]:
        """The numbers of the run under stable keys."""
        return {
            "run": str(self.folder),
            "n_synthetic": self.n_synthetic,
            "before": self.before,
            "after": self.after,
            "report": str(self.report),
        }

    def tables(self) -> Sequence[TextTable]:
        """Coverage before and after, with its controls."""
        both = self.before, self.after
        rows = [
            ("closeness: Hellinger distance (0 best)", *map(_distance, both)),
            (_SUBSETS[0][0], *(row["controls"]["random_hellinger"] for row in both)),
            ("FAC (1 best)", *(row["fac"] for row in both)),
            *((words, *(_drawn(row, name) for row in both)) for words, name in _SUBSETS),
            ("covered features", *(row["n_covered"] for row in both)),
            ("missing features", *(row["n_missing"] for row in both)),
            ("samples", *(row["n_samples"]["seed"] for row in both)),
            ("scored tokens", *(row["n_tokens"]["seed"] for row in both)),
        ]
        return [TextTable(f"Run {self.folder}", ("", "seed", "seed + synthetic"), rows)]

    _repr_html_ = as_html


def _distance(row: Row) -> float | None:
    close = row["representativeness"]
    return close["hellinger"] if close else None


def _drawn(row: Row, name: str) -> float | None:
    draws = row["controls"][name]
    return draws["mean"] if draws else None


def run_recipe(
    path: str | Path, folder: str | Path | None = None, *, progress: Progress = SILENT
) -> RunResult:
    """Run all stages of a recipe.

    Args:
        path: The recipe.
        folder: Run folder; `runs/NAME` by default. One that holds a part of this run is resumed.
        progress: Where bars and lines go.

    Raises:
        MismatchError: The folder holds a run of another recipe.
        FacsynthError: Any error of a stage.
    """
    recipe = read_recipe(path)
    run = _Run(recipe, Path(folder) if folder else Path("runs") / recipe.name, progress)
    run.claim()
    run.check()
    anchor, seed = run.extract("anchor"), run.extract("seed")
    before = run.measure("before", anchor, [seed])
    run.name_missing(anchor, seed)
    synthetic = run.synthesize(anchor, seed)
    after = run.measure("after", anchor, [seed, synthetic])
    report = run.folder / "report.html"
    result = RunResult(run.folder, before, after, synthetic.manifest.n_samples, report)
    if not (run.folder / "manifest.json").is_file():
        run.report(result, anchor, seed)
        run.finish(result, {"anchor": anchor, "seed": seed, "synthetic": synthetic})
    return result


def load_generator(
    wanted: Generator, reader: Callable[[], LanguageModel], spending: Spending
) -> ChatModel:
    """The generator, with a cache of its replies.

    Args:
        wanted: An endpoint's model, or a local one; without either it is the reader.
        reader: Loads the model that reads the features; called only if that model writes.
        spending: Counts the calls, and names the file of the replies.
    """
    if wanted.chat_model:
        return limited_chat(open_endpoint(wanted), spending)
    writer = load_language_model(wanted.model) if wanted.model else reader()
    local = LocalChat(
        writer.model,
        writer.tokenizer,
        name=f"{writer.name}@{writer.content_hash[:12]}",
        batch_size=wanted.batch_size,
    )
    return limited_chat(local, spending)


class _Run:
    """The stages of one recipe; models are loaded when a stage first needs them."""

    def __init__(self, recipe: Recipe, folder: Path, progress: Progress) -> None:
        self.recipe, self.folder, self.progress = recipe, folder, progress
        self._samples: dict[str, list[Sample]] = {}

    @cached_property
    def lm(self) -> LanguageModel:
        return load_language_model(self.recipe.model, dtype=self.recipe.dtype)

    @cached_property
    def sae(self) -> SparseAutoencoder:
        return load_sae(self.recipe.sae)

    @cached_property
    def chat(self) -> ChatModel:
        generator = self.recipe.generator
        spending = Spending(generator.policy, self.folder / "synthesize" / "replies.sqlite")
        return load_generator(generator, lambda: self.lm, spending)

    def claim(self) -> None:
        """Write down what the folder is for, or check that it is for this recipe."""
        path, recipe = self.folder / "recipe.json", self.recipe
        if path.is_file():
            changed = changed_settings(recipe, json.loads(path.read_text(encoding="utf-8")))
            # A limit may be raised to resume a run.
            free = ("generator.policy.", "generator.endpoint.")
            changed = [name for name in changed if not name.startswith(free)]
            if changed:
                raise MismatchError(
                    f"{self.folder} holds a run of another recipe ({', '.join(changed)} changed); "
                    "pass another --output or delete the folder"
                )
            return
        wanted = asdict(recipe)
        del wanted["generator"]["policy"], wanted["generator"]["endpoint"]
        write_json(wanted, path)

    def check(self) -> None:
        """Read and check all that needs no model, so that no error is found after one is loaded."""
        todo = [name for name in ("anchor", "seed") if not self._has(f"{name}/manifest.json")]
        for name in todo:
            source: DataSource = getattr(self.recipe, name)
            self.progress.say(f"{name}: reading {source.name}")
            self._samples[name] = self._read(name, source)
        settings = self.recipe.synthesize
        if not self._is_written():
            task = read_task(settings.task)
            for name in settings.decontaminate:
                read_samples(name, ReadSettings(limit=1))
            if anchor := self._samples.get("anchor"):
                as_text, score = not anchor[0].messages, self.recipe.extract.score
                moment_of(task, score, as_text=as_text, reply=settings.reply)
            if self.recipe.generator.chat_model or self.recipe.generator.model:
                _ = self.chat
        if todo or not self._has("coverage/missing.jsonl") or not self._is_written():
            self.sae.to(self.lm.device)  # the SAE first: it is quicker to load

    def _read(self, name: str, source: DataSource) -> list[Sample]:
        if source.source == "chitchat":
            assert source.n_samples is not None  # `read_recipe` checks it
            return chitchat_samples(
                source.n_samples, prompts=source.prompts, random_seed=source.random_seed
            )
        samples = source.read(rejected=self.folder / name / REJECTED_FILE)
        for sentence in samples.report.sentences():
            self.progress.say(f"{name}: {sentence}")
        return samples

    def extract(self, name: str) -> FeatureTable:
        """The feature table of the anchor or the seed."""
        if name not in self._samples:
            self.progress.say(f"{name}: already extracted")
            return open_table(self.folder / name)
        return extract_table(
            self._samples.pop(name),
            self.lm,
            self.sae,
            self.folder / name,
            settings=self.recipe.extract,
            sae_name=self.recipe.sae or EMBEDDED_SAE,
            progress=self.progress,
        )

    def measure(self, when: str, anchor: FeatureTable, parts: Sequence[FeatureTable]) -> Row:
        """Coverage of the anchor by tables that together are the seed."""
        path = self.folder / "coverage" / f"{when}.json"
        if not path.is_file():
            self.progress.say(f"coverage {when}: measuring, with controls")
            settings = CoverageSettings(threshold=self.recipe.synthesize.threshold)
            coverage = measure_coverage(anchor, parts, settings=settings)
            write_json(coverage.row(), path)
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def name_missing(self, anchor: FeatureTable, seed: FeatureTable) -> None:
        """Write the missing features, ranked and named, with their neighbours and topics."""
        if self._has("coverage/missing.jsonl"):
            return
        self.progress.say("missing features: ranking, naming and grouping")
        features, topics = understand_missing(
            anchor,
            seed,
            self.lm.tokenizer,
            self.sae.W_dec.detach().float().cpu().numpy(),
            threshold=self.recipe.synthesize.threshold,
        )
        write_jsonl(topics, self.folder / "coverage" / "topics.jsonl")
        # Last, because this file says that the stage is done.
        write_jsonl(features, self.folder / "coverage" / "missing.jsonl")

    def synthesize(self, anchor: FeatureTable, seed: FeatureTable) -> FeatureTable:
        """The feature table of the synthetic samples."""
        folder = self.folder / "synthesize"
        if self._is_written():
            self.progress.say("synthesize: already done")
            return open_table(folder / "table")
        if self._has("synthesize/summary.json"):
            self.progress.say("synthesize: resuming after a limit")
            # What follows from the samples is made again; the summary goes last, so a kill is safe.
            for name in ("manifest.json", "coverage/after.json", "synthesize/summary.json"):
                (self.folder / name).unlink(missing_ok=True)
        run = SynthesisRun(anchor, seed, settings=self.recipe.synthesize)
        expected = run.forecast(self.lm.tokenizer, policy=self.recipe.generator.policy)
        self.progress.say(f"estimate: {expected}")
        return run.execute(self.lm, self.sae, self.chat, folder, progress=self.progress).table

    def report(self, result: RunResult, anchor: FeatureTable, seed: FeatureTable) -> None:
        """Write the report."""
        from facsynth.report.collect import collect_report
        from facsynth.report.page import write_report

        recipe, source = self.recipe, anchor.manifest.source
        facts = (
            ("Model", source.model_name),
            ("SAE", f"{source.sae_name} ({source.n_features:,} features, layer {source.layer})"),
            ("Scored", {"all": "all messages"}.get(source.score, f"{source.score} messages")),
            ("Threshold δ", f"{recipe.synthesize.threshold:g}"),
            ("Anchor", f"{recipe.anchor.name}, {anchor.manifest.n_samples:,} samples"),
            ("Seed", f"{recipe.seed.name}, {seed.manifest.n_samples:,} samples"),
            ("facsynth", __version__),
            ("Date", datetime.now(UTC).date().isoformat()),
        )
        before, after = dict(result.before), dict(result.after)
        write_report(collect_report(self.folder, recipe.name, facts, before, after), result.report)

    def finish(self, result: RunResult, tables: Mapping[str, FeatureTable]) -> None:
        """Write the manifest, which says that the run is complete."""
        write_json(
            {
                "schema_version": 1,
                "facsynth_version": __version__,
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "recipe": asdict(self.recipe),
                "tables": {name: table.manifest.row() for name, table in tables.items()},
                "fac_before": result.before["fac"],
                "fac_after": result.after["fac"],
            },
            self.folder / "manifest.json",
        )

    def _has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def _is_written(self) -> bool:
        """Whether synthesis ended, and not because of a limit."""
        path = self.folder / "synthesize" / "summary.json"
        return (
            path.is_file() and json.loads(path.read_text(encoding="utf-8"))["stopped"] != "budget"
        )

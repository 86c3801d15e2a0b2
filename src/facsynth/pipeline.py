"""A recipe, stage by stage, into one run folder; started again it does what is not done.

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
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from facsynth import __version__
from facsynth.chat.budget import Spending, limited_chat
from facsynth.chat.endpoint import EndpointChat
from facsynth.chat.local import LocalChat
from facsynth.chat.model import ChatModel
from facsynth.coverage.fac import missing_features
from facsynth.coverage.measure import coverage_row, measure_coverage
from facsynth.data.chitchat import chitchat_samples
from facsynth.data.read import read_samples
from facsynth.data.write import write_json, write_jsonl
from facsynth.errors import DataError, MismatchError
from facsynth.models.default_model import EMBEDDED_SAE
from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.progress import SILENT, Progress
from facsynth.recipe import DataSource, Generator, Recipe, read_recipe
from facsynth.records import Sample
from facsynth.sae.files import load_sae
from facsynth.sae.module import SparseAutoencoder
from facsynth.synthesize.rounds import forecast_run, synthesize
from facsynth.synthesize.write import write_synthesis
from facsynth.table.extract import extract_table
from facsynth.table.table import FeatureTable, open_table, stack_rows
from facsynth.understand.missing import understand_missing
from facsynth.understand.spans import extract_settings

__all__ = ["RunResult", "load_generator", "run_recipe"]


@dataclass(frozen=True)
class RunResult:
    """Where a run went and what it found."""

    folder: Path
    before: Mapping[str, Any]
    """`coverage_row` of the seed."""

    after: Mapping[str, Any]
    """`coverage_row` of the seed with the synthetic samples."""

    n_synthetic: int
    report: Path


def run_recipe(
    path: str | Path, folder: str | Path | None = None, *, progress: Progress = SILENT
) -> RunResult:
    """Run all stages of a recipe.

    Args:
        path: The recipe.
        folder: Run folder; `runs/NAME` by default. One that holds a part of this run is
            continued.
        progress: Where bars and lines go.

    Raises:
        MismatchError: The folder holds a run of another recipe.
        FacsynthError: Whatever a stage raises.
    """
    recipe = read_recipe(path)
    folder = Path(folder) if folder else Path("runs") / recipe.name
    _claim(folder, recipe)
    tools = _Tools(recipe)
    anchor = _extract(recipe.anchor, folder / "anchor", recipe, tools, progress)
    seed = _extract(recipe.seed, folder / "seed", recipe, tools, progress)
    before = _coverage(folder / "coverage" / "before.json", recipe, anchor, [seed], progress)
    _name_missing(folder / "coverage" / "missing.jsonl", recipe, anchor, seed, tools, progress)
    synthetic = _synthesize(folder / "synthesize", recipe, anchor, seed, tools, progress)
    after = _coverage(
        folder / "coverage" / "after.json", recipe, anchor, [seed, synthetic], progress
    )
    report = folder / "report.html"
    if not (folder / "manifest.json").is_file():
        _report(folder, recipe, anchor, seed, before, after, report)
        _write_manifest(folder, recipe, anchor, seed, synthetic, before, after)
    return RunResult(folder, before, after, synthetic.manifest.n_samples, report)


class _Tools:
    """Model, SAE and generator, each loaded when a stage first needs it."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    @cached_property
    def lm(self) -> LanguageModel:
        return load_language_model(self.recipe.model, dtype=self.recipe.dtype)

    @cached_property
    def sae(self) -> SparseAutoencoder:
        return load_sae(self.recipe.sae, device=self.lm.device)

    def chat(self, cache: Path) -> ChatModel:
        spending = Spending(self.recipe.generator.policy, cache)
        return load_generator(self.recipe.generator, self.lm, spending)


def load_generator(wanted: Generator, reader: LanguageModel, spending: Spending) -> ChatModel:
    """The generator, behind a cache of its replies.

    Args:
        wanted: An endpoint's model, or a local one; without either it is the reader.
        reader: The model that reads the features.
        spending: Counts the calls, and names the file of the replies.
    """
    if wanted.chat_model:
        endpoint = EndpointChat(
            wanted.chat_model,
            base_url=wanted.api_base,
            api_key_env=wanted.api_key_env,
            settings=wanted.endpoint,
        )
        return limited_chat(endpoint, spending)
    writer = load_language_model(wanted.model) if wanted.model else reader
    local = LocalChat(
        writer.model,
        writer.tokenizer,
        name=f"{writer.name}@{writer.content_hash[:12]}",
        batch_size=wanted.batch_size,
    )
    return limited_chat(local, spending)


def _claim(folder: Path, recipe: Recipe) -> None:
    path = folder / "recipe.json"
    wanted = json.loads(json.dumps(asdict(recipe)))
    del wanted["generator"]["policy"], wanted["generator"]["endpoint"]
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault("dtype", "auto")  # which older versions did not write
        changed = [key for key in wanted if found.get(key) != wanted[key]]
        if changed:
            raise MismatchError(
                f"{folder} holds a run of another recipe ({', '.join(changed)} changed); pass "
                "another --output or delete the folder"
            )
        return
    write_json(wanted, path)


def _extract(
    source: DataSource, folder: Path, recipe: Recipe, tools: _Tools, progress: Progress
) -> FeatureTable:
    if (folder / "manifest.json").is_file():
        progress.say(f"{folder.name}: already extracted")
        return open_table(folder)
    progress.say(f"{folder.name}: reading {source.source}")
    samples = _read(source)
    return extract_table(
        samples,
        tools.lm,
        tools.sae,
        folder,
        settings=recipe.extract,
        sae_name=recipe.sae or EMBEDDED_SAE,
        progress=progress,
    )


def _read(source: DataSource) -> list[Sample]:
    if source.source != "chitchat":
        return read_samples(source.source, limit=source.n_samples)
    if source.n_samples is None:
        raise DataError("the source `chitchat` needs n_samples")
    return chitchat_samples(source.n_samples, prompts=source.prompts, seed=source.seed)


def _coverage(
    path: Path, recipe: Recipe, anchor: FeatureTable, parts: list[FeatureTable], progress: Progress
) -> dict[str, Any]:
    if path.is_file():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    progress.say(f"coverage {path.stem}: measuring, with controls")
    seed = stack_rows([part.activations() for part in parts])
    coverage = measure_coverage(anchor.activations(), seed, threshold=recipe.synthesize.threshold)
    write_json(coverage_row(coverage), path)
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _name_missing(
    path: Path,
    recipe: Recipe,
    anchor: FeatureTable,
    seed: FeatureTable,
    tools: _Tools,
    progress: Progress,
) -> None:
    """Ranked missing features, named, with what stands near them and the topics they form."""
    if path.is_file():
        return
    progress.say("missing features: ranking, naming and grouping")
    rows, seed_rows, delta = anchor.activations(), seed.activations(), recipe.synthesize.threshold
    everything = np.ones(rows.n_features, dtype=bool)
    features, topics = understand_missing(
        anchor.samples(),
        rows,
        seed_rows,
        missing_features(rows, seed_rows, everything, threshold=delta),
        tools.lm.tokenizer,
        tools.sae.W_dec.detach().float().cpu().numpy(),
        extract=extract_settings(anchor.manifest.source),
        threshold=delta,
    )
    write_jsonl(topics, path.with_name("topics.jsonl"))
    write_jsonl(features, path)  # last: it says that the stage is done


def _synthesize(
    folder: Path,
    recipe: Recipe,
    anchor: FeatureTable,
    seed: FeatureTable,
    tools: _Tools,
    progress: Progress,
) -> FeatureTable:
    if (summary := folder / "summary.json").is_file():
        if json.loads(summary.read_text(encoding="utf-8"))["stopped"] != "budget":
            progress.say("synthesize: already done")
            return open_table(folder / "table")
        progress.say("synthesize: the budget ended it before; going on")
        # What follows from the samples is made again; the summary goes last, so a kill is safe.
        for name in ("manifest.json", "coverage/after.json", "synthesize/summary.json"):
            (folder.parent / name).unlink(missing_ok=True)
    policy = recipe.generator.policy
    expected = forecast_run(
        anchor, seed, tools.lm, tools.sae, settings=recipe.synthesize, policy=policy
    )
    progress.say(f"estimate: {expected}")
    result = synthesize(
        anchor,
        seed,
        tools.lm,
        tools.sae,
        tools.chat(folder / "replies.sqlite"),
        folder,
        settings=recipe.synthesize,
        progress=progress,
    )
    return write_synthesis(result, folder, seed, seed.activations())


def _report(
    folder: Path,
    recipe: Recipe,
    anchor: FeatureTable,
    seed: FeatureTable,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    path: Path,
) -> None:
    from facsynth.report.collect import collect_report
    from facsynth.report.page import write_report

    source = anchor.manifest.source
    facts = (
        ("Model", source.model_name),
        ("SAE", f"{source.sae_name} ({source.n_features:,} features, layer {source.layer})"),
        ("Scored", {"all": "all messages"}.get(source.score, f"{source.score} messages")),
        ("Threshold δ", f"{recipe.synthesize.threshold:g}"),
        ("Anchor", f"{recipe.anchor.source}, {anchor.manifest.n_samples:,} samples"),
        ("Seed", f"{recipe.seed.source}, {seed.manifest.n_samples:,} samples"),
        ("facsynth", __version__),
        ("Date", datetime.now(UTC).date().isoformat()),
    )
    write_report(collect_report(folder, recipe.name, facts, dict(before), dict(after)), path)


def _write_manifest(
    folder: Path,
    recipe: Recipe,
    anchor: FeatureTable,
    seed: FeatureTable,
    synthetic: FeatureTable,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> None:
    tables = {"anchor": anchor, "seed": seed, "synthetic": synthetic}
    write_json(
        {
            "schema_version": 1,
            "facsynth_version": __version__,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe": asdict(recipe),
            "tables": {name: asdict(table.manifest) for name, table in tables.items()},
            "fac_before": before["fac"],
            "fac_after": after["fac"],
        },
        folder / "manifest.json",
    )

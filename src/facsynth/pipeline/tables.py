"""The first stages: the folder is claimed, data and settings are checked, tables are extracted."""

from dataclasses import asdict
from functools import partial

from facsynth.data.read import REJECTED_FILE, read_samples
from facsynth.data.settings import ReadSettings
from facsynth.data.write import write_json
from facsynth.errors import MismatchError
from facsynth.models.default_model import EMBEDDED_SAE
from facsynth.pipeline.state import Run
from facsynth.pipeline.synthesis import is_written
from facsynth.pipeline.task import check_task
from facsynth.recipe import DataSource
from facsynth.settings import changed_settings
from facsynth.synthesize.complete import moment_of
from facsynth.synthesize.task_format import read_task
from facsynth.table.extract import extract_table
from facsynth.table.table import FeatureTable, open_table
from facsynth.understand.descriptions import read_explanations
from facsynth.understand.relevance import load_rubric

__all__ = ["check", "claim", "extract"]

_FREE = ("generator.policy.", "generator.endpoint.", "judge.policy.", "judge.endpoint.")
"""A limit may be raised to resume a run."""

_LATER = ("select", "export", "task")
"""Stages behind the samples, which a finished run may be given later."""


def claim(run: Run) -> None:
    """Write down what the folder is for, or check that it is for this recipe.

    Raises:
        MismatchError: It holds a run of another recipe.
    """
    wanted = asdict(run.recipe)
    for name in ("generator", "judge"):
        for part in ("policy", "endpoint") if wanted[name] else ():
            del wanted[name][part]
    if run.has("recipe.json"):
        stored = run.read("recipe.json")
        added = [name for name in _LATER if stored.get(name) is None and wanted[name]]
        changed = changed_settings(run.recipe, {**stored, **{n: wanted[n] for n in added}})
        changed = [name for name in changed if not name.startswith(_FREE)]
        if changed:
            raise MismatchError(
                f"{run.folder} holds a run of another recipe ({', '.join(changed)} changed); "
                "pass another --output or delete the folder"
            )
        if not added:
            return
        (run.folder / "manifest.json").unlink(missing_ok=True)
    write_json(wanted, run.folder / "recipe.json")


def check(run: Run) -> None:
    """Read and check all that needs no model, so that no error is found after one is loaded."""
    recipe = run.recipe
    todo = [name for name in ("anchor", "seed") if not run.has(f"{name}/manifest.json")]
    for name in todo:
        source: DataSource = getattr(recipe, name)
        run.progress.say(f"{name}: reading {source.name}")
        run.samples[name] = source.read(
            rejected=run.folder / name / REJECTED_FILE,
            say=partial(_say, run, name),
        )
    if recipe.judges_by_rubric and recipe.relevance and recipe.relevance.task:
        load_rubric(recipe.relevance.task)
    if recipe.explain and recipe.explain.imported:
        read_explanations(recipe.explain.imported)
    if recipe.task:
        check_task(recipe.task)
    if not is_written(run):
        task = read_task(recipe.synthesize.task)
        for name in recipe.synthesize.decontaminate:
            read_samples(name, ReadSettings(limit=1))
        if anchor := run.samples.get("anchor"):
            as_text, score = not anchor[0].messages, recipe.extract.score
            moment_of(task, score, as_text=as_text, reply=recipe.synthesize.reply)
        if recipe.generator.chat_model or recipe.generator.model:
            _ = run.chat
    if todo or not run.has("coverage/missing.jsonl") or not is_written(run):
        run.sae.to(run.lm.device)  # the SAE first: it is quicker to load


def extract(run: Run, name: str) -> FeatureTable:
    """The feature table of the anchor or the seed."""
    if name not in run.samples:
        run.progress.say(f"{name}: already extracted")
        return open_table(run.folder / name)
    return extract_table(
        run.samples.pop(name),
        run.lm,
        run.sae,
        run.folder / name,
        settings=run.recipe.extract,
        sae_name=run.recipe.sae or EMBEDDED_SAE,
        progress=run.progress,
    )


def _say(run: Run, name: str, sentence: str) -> None:
    run.progress.say(f"{name}: {sentence}")

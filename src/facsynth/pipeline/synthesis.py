"""The stage that writes samples, and the one that chooses among them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from facsynth.chat.budget import limited_chat
from facsynth.chat.endpoint import open_endpoint
from facsynth.chat.settings import Generator
from facsynth.data.write import sample_row, write_jsonl
from facsynth.pipeline.state import Run
from facsynth.select.pool import Pool
from facsynth.select.select import select_samples
from facsynth.synthesize.judge import QualityJudge
from facsynth.synthesize.run import SynthesisRun
from facsynth.synthesize.settings import JudgeSettings, Sampling
from facsynth.table.active import active_rows
from facsynth.table.rows import stack_rows
from facsynth.table.table import FeatureTable, open_table
from facsynth.understand.descriptions import Described

__all__ = ["choose", "is_written", "open_judge", "synthesize"]


def is_written(run: Run) -> bool:
    """Whether synthesis ended, and not because of a limit."""
    name = "synthesize/summary.json"
    return run.has(name) and run.read(name)["stopped"] != "budget"


def synthesize(
    run: Run,
    anchor: FeatureTable,
    seed: FeatureTable,
    relevant: Any,
    described: Mapping[int, Described],
) -> FeatureTable:
    """The feature table of the synthetic samples."""
    folder, recipe = run.folder / "synthesize", run.recipe
    if is_written(run):
        run.progress.say("synthesize: already done")
        return open_table(folder / "table")
    if run.has("synthesize/summary.json"):
        run.progress.say("synthesize: resuming after a limit")
        # What follows from the samples is made again; the summary goes last, so a kill is safe.
        for name in ("manifest.json", "coverage/after.json", "synthesize/summary.json"):
            (run.folder / name).unlink(missing_ok=True)
    settings = replace(recipe.synthesize, threshold=recipe.written_above)
    judge = open_judge(recipe.grading, recipe.generator, settings.sampling, run.spending)
    planned = SynthesisRun(
        anchor, seed, settings=settings, relevant=relevant, explanations=described
    )
    policy = recipe.generator
    run.progress.say(f"estimate: {planned.forecast(run.lm.tokenizer, policy=policy, judge=judge)}")
    return planned.execute(
        run.lm, run.sae, run.chat, folder, judge=judge, progress=run.progress
    ).table


def open_judge(
    grading: JudgeSettings, generator: Generator, sampling: Sampling, spending: Any
) -> QualityJudge | None:
    """The judge of quality, or None; it shares the budget and the file of replies.

    Args:
        grading: Which model grades.
        generator: Whose endpoint it uses where it has none of its own.
        sampling: How long replies may be.
        spending: What the generator has spent.
    """
    if not grading.judge_model:
        return None
    wanted = replace(
        generator,
        chat_model=grading.judge_model,
        api_base=grading.judge_api_base or generator.api_base,
        api_key_env=grading.judge_api_key_env or generator.api_key_env,
    )
    judge = QualityJudge(limited_chat(open_endpoint(wanted), spending), grading.min_grade)
    return replace(judge, max_tokens=sampling.reply_tokens or judge.max_tokens)


def choose(
    run: Run, anchor: FeatureTable, seed: FeatureTable, synthetic: FeatureTable, relevant: Any
) -> Path:
    """The file of the samples that go on: those chosen, or all synthetic ones."""
    stage, written = run.recipe.select, run.folder / "synthesize" / "synthetic.jsonl"
    path = run.folder / "select" / "selected.jsonl"
    if stage is None or path.is_file():
        return written if stage is None else path
    tables = [synthetic, seed] if stage.pool == "all" else [synthetic]
    is_hidden = stage.space == "hidden"

    def active(*parts: FeatureTable) -> Any:
        rows = stack_rows([part.activations(hidden=is_hidden) for part in parts])
        return active_rows(rows, threshold=run.recipe.written_above, relevant=relevant)

    samples = [sample for table in tables for sample in table.samples()]
    labels: dict[str, Any] = {}
    if stage.objective == "direction":
        labels = {
            "labels": [sample.label for sample in samples],
            "anchor_labels": [sample.label for sample in anchor.samples()],
        }
    pool = Pool(active(*tables), anchor=active(anchor), **labels)
    chosen = select_samples(pool, stage)
    run.progress.say(f"select: {len(chosen.rows):,} of {len(samples):,} samples")
    kept = {json.loads(line)["sample_id"]: json.loads(line) for line in _lines(written)}
    rows = [kept.get(samples[i].sample_id) or sample_row(samples[i]) for i in chosen.rows]
    write_jsonl(rows, path)
    return path


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line]

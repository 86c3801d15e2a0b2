"""Runs an experiment in one folder; run again, it does only what is not done.

```
RUN/arms/ cells/ measures/ tables/ data/    see the modules that write them
RUN/experiment.json                         the result; written last
```

Nothing in the folder depends on which arms, sizes or tasks the recipe has beside it, so an arm can
be added or left out later without doing the rest again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from facsynth.chat.policy import Estimate
from facsynth.compare.paired import PairedDifference, paired_differences
from facsynth.data.write import write_json
from facsynth.experiment.arms import ArmSet, arm_folder, forecast_arm, make_arm, read_arm
from facsynth.experiment.cells import Bench, Measures
from facsynth.experiment.result import ExperimentResult
from facsynth.experiment.settings import Arm, ExperimentRecipe
from facsynth.experiment.world import Loaders, World
from facsynth.progress import SILENT, Progress
from facsynth.show import TextTable, as_html
from facsynth.tasks.results import mean_and_sd

__all__ = ["ExperimentForecast", "forecast_experiment", "run_experiment"]

_UNMEASURED = dict.fromkeys(("fac_gain", "closeness", "fill_rate", "novelty", "words"))
_ALONE = ("base", "seed")
"""Kinds of arms that add nothing."""


@dataclass(frozen=True)
class ExperimentForecast:
    """What is left of an experiment."""

    n_cells: int
    n_sets: int
    """Arms times random seeds that are to be written."""

    at_most: Estimate
    seconds: float | None
    """About how long the writing takes at the rate of the sets that are finished; None before the
    first one."""

    def row(self) -> dict[str, Any]:
        """The estimate under stable keys."""
        return asdict(self)

    def tables(self) -> Sequence[TextTable]:
        """The estimate in words."""
        rows = [
            ("cells", self.n_cells),
            ("sets to be written", self.n_sets),
            ("calls, at most", self.at_most.n_calls),
            ("reply tokens, at most", self.at_most.max_completion_tokens),
            ("cost, at most about", self.at_most.shown_cost),
            ("seconds of writing, about", self.seconds),
        ]
        return [TextTable("Estimate; nothing was asked", ("what", "amount"), rows)]

    _repr_html_ = as_html

    def __str__(self) -> str:
        time = f", about {self.seconds / 60:.0f} minutes" if self.seconds is not None else ""
        return (
            f"{self.n_cells:,} cells; {self.n_sets} sets to be written, at most {self.at_most}"
            f"{time}"
        )


def run_experiment(
    recipe: ExperimentRecipe,
    folder: str | Path | None = None,
    *,
    loaders: Loaders | None = None,
    progress: Progress = SILENT,
) -> ExperimentResult:
    """Compare arms by what training on their samples is worth.

    Args:
        recipe: What is compared.
        folder: Where to write; `runs/NAME` by default. One that holds a part of it is resumed.
        loaders: Where models come from.
        progress: Where bars and lines go.

    Raises:
        FacsynthError: Any error of a stage.
    """
    folder = Path(folder) if folder else Path("runs") / recipe.name
    world = World(recipe, folder, loaders or Loaders(), progress)
    progress.say(f"estimate: {forecast_experiment(world)}")
    if world.threshold.rule:
        progress.say(world.threshold.sentence)
    sets = dict(_all_sets(world))
    rows, notes = list[dict[str, Any]](), list[str]()
    pairs = product(recipe.tasks, recipe.backbones)
    benches: list[Bench | None] = [Bench(world, task, backbone) for task, backbone in pairs]
    views = [("samples", size) for size in recipe.sizes]
    views += [("tokens", size) for size in recipe.token_budgets]
    for bench, (view, size) in product(benches or [None], views):
        progress.say(f"{bench.task.name if bench else 'measures'}: {size:,} {view}")
        rows += _rows(world, bench, sets, (view, size), notes)
    spent = {
        name: sum(one.facts[name] for one in sets.values() if one)
        for name in ("calls", "tokens_read", "tokens_written", "cost", "seconds")
    }
    result = ExperimentResult(
        name=recipe.name,
        folder=folder,
        reference=recipe.reference,
        rows=tuple(rows),
        spent=spent,
        threshold=world.threshold,
        notes=tuple(dict.fromkeys(notes)),
    )
    write_json({k: v for k, v in result.row().items() if k != "folder"}, folder / "experiment.json")
    return result


def forecast_experiment(world: World) -> ExperimentForecast:
    """What is left to do, and what it may cost; nothing is asked."""
    recipe, total = world.recipe, Estimate(0, 0, 0, 0.0)
    n_sets, rates = 0, list[float]()
    for arm in recipe.arms:
        if arm.kind in (*_ALONE, "real"):
            continue
        done = [read_arm(arm_folder(world, arm, seed)) for seed in recipe.random_seeds]
        rates += [s.facts["seconds"] / s.facts["tokens_written"] for s in done if s and s.samples]
        left = done.count(None)
        if left:
            total = total.plus(forecast_arm(world, arm), left)
        n_sets += left
    n_views = len(recipe.sizes) + len(recipe.token_budgets)
    n_cells = len(recipe.arms) * n_views * len(recipe.random_seeds)
    n_cells *= max(1, len(recipe.tasks)) * len(recipe.backbones)
    seconds = float(np.mean(rates)) * total.max_completion_tokens if rates else None
    return ExperimentForecast(n_cells, n_sets, total, seconds)


def _all_sets(world: World) -> Iterator[tuple[tuple[str, int], ArmSet | None]]:
    """Every arm's samples, random seed by random seed, so that a part is a fair part."""
    recipe = world.recipe
    jobs = [(arm, seed) for seed in recipe.random_seeds for arm in recipe.arms]
    with world.progress.task("sets of samples", len(jobs), "sets") as task:
        for arm, seed in jobs:
            alone = arm.kind in _ALONE
            yield (arm.name, seed), None if alone else make_arm(world, arm, seed)
            task.advance(1, arm.name)


def _rows(
    world: World,
    bench: Bench | None,
    sets: Mapping[tuple[str, int], ArmSet | None],
    at: tuple[str, int],
    notes: list[str],
) -> list[dict[str, Any]]:
    """One row for each arm at one size; without a bench only with measures."""
    recipe, measures, (view, size) = world.recipe, Measures(world), at
    scores, shuffled, found = dict[str, Any](), dict[str, Any](), dict[str, dict[str, Any]]()
    for arm in recipe.arms:
        own = [sets[arm.name, seed] for seed in recipe.random_seeds]
        sizes = [n for one in own if (n := _n_added(arm, one, view, size)) is not None]
        if n_short := len(own) - len(sizes):
            notes.append(f"{arm.name} has fewer than {size:,} {view} for {n_short} random seeds")
            found[arm.name] = _UNMEASURED | _cost([], [])
            continue
        if view == "tokens" and arm.kind == "real":
            found[arm.name] = _UNMEASURED | _cost([], [])  # it writes no tokens
            continue
        pairs = list(zip(own, sizes, strict=True))
        cells = [
            bench.cell(one, n, seed)
            for (one, n), seed in zip(pairs, recipe.random_seeds, strict=True)
            if bench
        ]
        if cells:
            plain, mixed = (
                np.array(rows, dtype=np.float64) * (arm.kind != "base")
                for rows in (
                    [cell["scores"] for cell in cells],
                    [row for cell in cells for row in cell["shuffled"]],
                )
            )
            scores[arm.name], shuffled[arm.name] = plain, mixed
        measured = [measures.of(one, n) for one, n in pairs if one is not None and n]
        found[arm.name] = _means(measured) | _cost([one for one, _ in pairs if one], sizes)
    compared = _compare(bench, scores, recipe), _compare(bench, shuffled, recipe)
    key = {
        "task": bench.task.name if bench else None,
        "measure": bench.task.measure if bench else None,
        "backbone": (bench and bench.backbone) or recipe.model or "reader",
        "view": view,
        "size": size,
    }
    return [
        key | {"arm": arm.name, **_score(bench, arm, scores, compared), **found[arm.name]}
        for arm in recipe.arms
    ]


def _n_added(arm: Arm, one: ArmSet | None, view: str, size: int) -> int | None:
    """How many samples are added at a size; None where there are too few."""
    if one is None:
        return 0
    size = max(1, round(arm.added * size))
    if view == "tokens":
        return one.paid_by(size)
    return size if len(one.samples) >= size else None


def _compare(
    bench: Bench | None, scores: Mapping[str, Any], recipe: ExperimentRecipe
) -> dict[str, PairedDifference]:
    """Paired differences to the reference, by arm; none where the reference is not there."""
    if bench is None or recipe.reference not in scores:
        return {}
    found = paired_differences(
        scores,
        recipe.reference,
        measure=bench.measure,
        strata=bench.positive.astype(np.int64),
        n_resamples=recipe.n_resamples,
    )
    return {one.arm: one for one in found}


def _score(
    bench: Bench | None,
    arm: Arm,
    scores: Mapping[str, Any],
    compared: tuple[Mapping[str, PairedDifference], Mapping[str, PairedDifference]],
) -> dict[str, Any]:
    values = [bench.measure(row) for row in scores.get(arm.name, ()) if bench]
    mean, sd = mean_and_sd(values) if values else (None, None)
    plain, mixed = (one.get(arm.name) for one in compared)
    return {
        "score": mean,
        "sd": sd,
        "difference": plain.mean if plain else None,
        "low": plain.low if plain else None,
        "high": plain.high if plain else None,
        "shuffled": mixed.mean if mixed else None,
        "shuffled_low": mixed.low if mixed else None,
        "shuffled_high": mixed.high if mixed else None,
        "n_seeds": len(values),
    }


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over random seeds; None where nothing was measured."""
    return {
        name: float(np.mean([row[name] for row in rows])) if rows and _all(rows, name) else None
        for name in _UNMEASURED
    }


def _all(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return all(row[name] is not None for row in rows)


def _cost(sets: Sequence[ArmSet], sizes: Sequence[int]) -> dict[str, Any]:
    """Means over random seeds of what the samples cost, in proportion to those used."""
    names = {"calls": "calls", "tokens": "tokens_written", "cost": "cost", "seconds": "seconds"}
    if not sets:
        empty = dict.fromkeys((*names, "length_auc"))
        return {"n_samples": float(np.mean(sizes)) if sizes else None, **empty}
    shares = [n / max(1, s.facts["n_written"]) for s, n in zip(sets, sizes, strict=True)]
    found = {
        name: float(np.mean([s.facts[key] * share for s, share in zip(sets, shares, strict=True)]))
        for name, key in names.items()
    }
    lengths = [s.facts["length_auc"] for s in sets if s.facts["length_auc"] is not None]
    return {
        "n_samples": float(np.mean(sizes)),
        **found,
        "length_auc": float(np.mean(lengths)) if lengths else None,
    }

"""Measures of a choice of samples, of the pool, and of random picks of the same lengths."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from facsynth.coverage.representative import hellinger_distance
from facsynth.select.pool import Pool, SelectionTask, class_means, column_means
from facsynth.select.settings import SelectSettings
from facsynth.select.vectors import cosine, take
from facsynth.show import TextTable, as_html

__all__ = ["PickMeasures", "Selection", "measure_picks"]


@dataclass(frozen=True, slots=True)
class PickMeasures:
    """Measures of some samples of the pool."""

    fac: float
    """Share of the relevant features of the anchor (or pool) that they activate, in [0, 1]."""

    hellinger: float
    """Distance of the firing shares to those of the pool, in [0, 1]; 1 when nothing fires."""

    hellinger_anchor: float | None
    """The same to the anchor; None without one."""

    mean_tokens: float
    direction_cosine: float | None
    """Cosine of the class directions to the target's, or of chosen minus rejected; None without
    classes and pairs."""

    hidden_distance: float | None
    """Shift of their mean hidden state to that of the anchor (or pool), in standard deviations,
    0 is best; None unless they were chosen by it. See `facsynth.coverage.hidden`."""


_TITLES = {
    "hellinger": "closeness: Hellinger distance to the pool (0 best)",
    "hellinger_anchor": "  to the anchor",
    "hidden_distance": "closeness: shift of the mean hidden state, in sd (0 best)",
    "direction_cosine": "agreement of the class direction (1 best)",
    "fac": "FAC (1 best)",
    "mean_tokens": "mean tokens",
}
_LONGER = 1.2
"""Ratio to the pool's mean length above which a choice counts as long."""


@dataclass(frozen=True, eq=False)
class Selection:
    """The chosen samples beside the whole pool and beside random picks of the same lengths."""

    rows: Int64[np.ndarray, " n_selected"]
    """Positions in the pool, in the order of choice."""

    sample_ids: tuple[str, ...]
    """Ids of these samples."""

    selection: PickMeasures
    pool: PickMeasures
    random: tuple[PickMeasures, ...]
    """One per draw."""

    n_goal: int
    """Relevant features active in the anchor (or pool): the denominator of `fac`."""

    n_pool: int
    all_relevant: bool
    """Whether every feature counted."""

    threshold: float
    """δ, in SAE units."""

    settings: SelectSettings

    has_large_group: bool = False
    """Whether most picks looked at a part of a group; see `facsynth.select.herding`."""

    def row(self) -> dict[str, Any]:
        """The ids in order as `selected`; `random` as mean, low and high."""
        return {
            "selected": list(self.sample_ids),
            "selection": asdict(self.selection),
            "pool": asdict(self.pool),
            "random": {
                "n_draws": len(self.random),
                **{name: self._range(name) for name in asdict(self.pool)},
            },
            "n_goal": self.n_goal,
            "n_pool": self.n_pool,
            "threshold": self.threshold,
            "settings": asdict(self.settings),
        }

    def tables(self) -> Sequence[TextTable]:
        """Closeness first, then coverage, then lengths."""
        rows = [
            (title, getattr(self.selection, name), self._span(name), getattr(self.pool, name))
            for name, title in _TITLES.items()
            if getattr(self.selection, name) is not None
        ]
        title = f"{len(self.rows):,} of {self.n_pool:,} samples chosen by {self.settings.objective}"
        columns = ("measure", "chosen", "random, same lengths", "whole pool")
        note = (
            "The choice matters only where it lies outside the range of the random choices. "
            "Write it with -o, and train on it with `fac task` to see whether it helps."
        )
        return [TextTable(title, columns, rows, note=note)]

    _repr_html_ = as_html

    @property
    def notes(self) -> tuple[str, ...]:
        """Caveats of this choice."""
        notes = []
        if len(self.rows) < self.settings.budget and self.settings.budget_tokens is None:
            notes.append(
                f"the pool has {len(self.rows):,} samples with text and the budget is "
                f"{self.settings.budget:,}; all of them were chosen"
            )
        counts_all = self.all_relevant and self.settings.weights == "equal"
        if self.settings.objective == "coverage" and counts_all:
            notes.append(
                "every feature counts, rare ones as much as others; this favours odd texts: "
                "pass --relevant, --weights frequency or --objective representative"
            )
        if self.has_large_group:
            notes.append(
                f"of {self.n_pool:,} samples most picks look at the twentieth of their group of "
                "lengths that was nearest at most ten picks before"
            )
        if self.selection.mean_tokens > _LONGER * self.pool.mean_tokens:
            notes.append(
                f"chosen samples have {self.selection.mean_tokens:.0f} tokens on average and the "
                f"pool {self.pool.mean_tokens:.0f}; longer texts cover more, use --quota length"
            )
        return tuple(notes)

    def _range(self, name: str) -> dict[str, float] | None:
        values = [getattr(measures, name) for measures in self.random]
        if values[0] is None:
            return None
        return {"mean": sum(values) / len(values), "low": min(values), "high": max(values)}

    def _span(self, name: str) -> str | None:
        found = self._range(name)
        if found is None:
            return None
        return f"{found['mean']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def measure_picks(
    task: SelectionTask, pool: Pool, settings: SelectSettings, rows: NDArray[np.int64]
) -> PickMeasures:
    """Measure some samples of a pool against its target."""
    counts = task.fires.take(rows).counts()
    goal = task.counts > 0

    agreement = shift = None
    target = task.target_sum / task.n_target
    if task.means is not None and task.classes is not None:
        means = class_means(take(task.vectors, rows), task.classes[rows], len(task.means))
        agreement = cosine(means - means.mean(axis=0), task.means - task.means.mean(axis=0))
    elif settings.objective == "direction":
        agreement = cosine(column_means(take(task.vectors, rows)), target)
    elif settings.space == "hidden":
        shift = float(np.sqrt(np.square(column_means(take(task.vectors, rows)) - target).mean()))
    return PickMeasures(
        fac=int(np.count_nonzero(counts[goal])) / int(np.count_nonzero(goal)),
        hellinger=hellinger_distance(counts, pool.rows.counts),
        hellinger_anchor=None if pool.anchor is None else hellinger_distance(counts, task.counts),
        mean_tokens=float(pool.n_tokens[rows].mean()),
        direction_cosine=agreement,
        hidden_distance=shift,
    )

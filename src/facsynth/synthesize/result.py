"""What a synthesis run wrote and kept, and what it leaves on disk.

```
RUN/synthetic.jsonl   the kept samples, with their provenance
RUN/table/            their feature table
RUN/summary.json      what came of the run; written last
```
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from facsynth.data.write import sample_row, write_json, write_jsonl
from facsynth.records import FeatureActivations, Sample
from facsynth.show import TextTable, as_html
from facsynth.synthesize.candidates import Candidate
from facsynth.synthesize.prompts import PROMPT_VERSION
from facsynth.table.manifest import TableSource
from facsynth.table.table import FeatureTable, open_table
from facsynth.table.write import finish_table, samples_hash, write_part

__all__ = ["KeptSample", "Synthesis", "write_synthesis"]


@dataclass(frozen=True)
class KeptSample:
    """A synthetic sample with where it came from."""

    candidate: Candidate
    sample: Sample
    """With what the task adds, such as the assistant's answer."""

    new_features: tuple[int, ...]
    """Missing features that it was the first to cover."""

    credited: Mapping[int, float]
    """Activation of every feature missing before the run that it activates."""

    is_contrast: bool = False
    """Whether it was written to contrast with the candidate's own sample."""


@dataclass(frozen=True)
class Synthesis:
    """What a run wrote and kept."""

    kept: tuple[KeptSample, ...]
    activations: FeatureActivations
    """Activations of the kept samples, in their order."""

    missing_before: tuple[int, ...]
    """Missing features before the run, ranked."""

    rounds: tuple[Mapping[str, float | int], ...]
    """One row per round: targets and newly kept samples of the round, and candidates, kept
    samples, covered missing features and FAC up to its end."""

    outcomes: Mapping[str, int]
    """Requested texts by what became of them."""

    generator: str

    stopped: str
    """Why the run ended: `covered` (nothing left to aim at), `no_gain` (no kept sample in the
    last rounds that patience allows), `diminishing` (too few), `max_samples`, `max_rounds` or
    `budget`."""

    n_unanswered: int
    """Kept texts without what the task adds, such as the assistant's answer."""

    folder: Path
    """The run folder."""

    fac: tuple[float, float] | None = None
    """FAC of the seed, and with the kept samples; None where nothing was missing."""

    is_sensitive: bool = False
    """Whether texts may offend or harm."""

    @property
    def n_filled(self) -> int:
        """Features that were missing and are active in some kept sample."""
        return len({feature for kept in self.kept for feature in kept.new_features})

    @property
    def table(self) -> FeatureTable:
        """The feature table of the kept samples."""
        return open_table(self.folder / "table")

    def row(self) -> dict[str, Any]:
        """The numbers of the run under stable keys."""
        return {
            "n_samples": len(self.kept),
            "n_missing": len(self.missing_before),
            "n_filled": self.n_filled,
            "fac": list(self.fac) if self.fac else None,
            "outcomes": dict(self.outcomes),
            "rounds": list(self.rounds),
            "stopped": self.stopped,
            "n_unanswered": self.n_unanswered,
            "generator": self.generator,
            "sensitive": self.is_sensitive,
            "data": str(self.folder / "synthetic.jsonl"),
        }

    def tables(self) -> Sequence[TextTable]:
        """What was kept and filled, then what became of the candidates."""
        rows = [
            ("newly covered features", self.n_filled),
            ("missing features before", len(self.missing_before)),
            ("samples kept", len(self.kept)),
            *((f"candidates: {outcome}", n) for outcome, n in self.outcomes.items()),
        ]
        title = f"Synthetic data {self.folder / 'synthetic.jsonl'}"
        return [TextTable(title, ("what", "count"), rows)]

    _repr_html_ = as_html


def write_synthesis(
    synthesis: Synthesis, source: TableSource, before: Float32[np.ndarray, " n_features"]
) -> None:
    """Write the data set, its feature table and a summary; the summary last.

    Args:
        synthesis: The finished run.
        source: How the anchor was extracted, and so the samples.
        before: Largest activation of each feature in the seed, in SAE units.
    """
    folder, rows = synthesis.folder, synthesis.activations
    write_jsonl(_sample_rows(synthesis, before), folder / "synthetic.jsonl")
    samples = [kept.sample for kept in synthesis.kept]
    write_part(folder / "table", 0, rows, samples)
    source = replace(source, hidden=False)  # candidates are extracted without hidden states
    finish_table(folder / "table", source, samples_hash(samples), n_parts=1)
    summary = synthesis.row() | {"missing_before": list(synthesis.missing_before)}
    del summary["data"]  # the folder may be moved
    write_json(summary, folder / "summary.json")


def _sample_rows(
    synthesis: Synthesis, before: Float32[np.ndarray, " n_features"]
) -> list[dict[str, object]]:
    """Rows in TRL's format, with provenance in one column that can be dropped."""
    return [
        {
            **sample_row(kept.sample),
            **({} if kept.is_contrast else kept.candidate.fields),
            "provenance": _provenance(kept, before, synthesis.generator),
        }
        for kept in synthesis.kept
    ]


def _provenance(
    kept: KeptSample, before: Float32[np.ndarray, " n_features"], generator: str
) -> dict[str, object]:
    candidate = kept.candidate
    return {
        "target_feature": candidate.target,
        **({"also_aimed_at": list(candidate.also)} if candidate.also else {}),
        "new_features": list(kept.new_features),
        "credited": [
            {"feature_id": f, "before": float(before[f]), "activation": value}
            for f, value in sorted(kept.credited.items())
        ],
        **({"contrast_to": candidate.sample.sample_id} if kept.is_contrast else {}),
        "step": candidate.step,
        "round": candidate.round + 1,
        "generator": generator,
        "prompt_version": PROMPT_VERSION,
        "random_seed": candidate.random_seed,
        "synthetic": True,
    }

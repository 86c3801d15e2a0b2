"""What a synthesis run wrote and kept, and what it leaves on disk.

```
RUN/synthetic.jsonl   the kept samples, with their provenance
RUN/rejected.jsonl    all other candidates, each with the reason
RUN/table/            their feature table
RUN/summary.json      what came of the run; written last
```
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from jaxtyping import Float32

from facsynth.coverage.threshold import ChosenThreshold
from facsynth.data.write import sample_row, write_json, write_jsonl
from facsynth.records import FeatureActivations, Sample
from facsynth.show import TextTable, as_html
from facsynth.synthesize.candidates import NO_TARGET, Candidate
from facsynth.synthesize.prompts import PROMPT_VERSION
from facsynth.table.manifest import TableSource
from facsynth.table.table import FeatureTable, open_table
from facsynth.table.write import finish_table, samples_hash, write_part

__all__ = ["Copying", "KeptSample", "Synthesis", "write_synthesis"]

_N_SHOWN, _SHOWN_LETTERS = 2, 300
"""Samples that people see, and how much of each."""

_NEAR_LENGTHS, _KS_95 = 0.1, 1.36
"""Distances of lengths that are not worth a word: small ones, and those that chance makes in 5 % of
samples of that size, 1.36 / √n (the critical value of Kolmogorov and Smirnov)."""


@dataclass(frozen=True)
class Copying:
    """How much of texts is in known texts."""

    mean_share: float
    """Mean share of word 4-grams that known texts have, in [0, 1]."""

    longest_run: int
    """Words of the longest run in common with a known text; 0 below four."""


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

    method: str
    """`cover` or `paper`."""

    threshold: ChosenThreshold
    """δ, and where it comes from."""

    head_accuracy: float | None
    """Balanced accuracy, on the seed, of the head that checked labels; None if none did."""

    n_wanted: int
    """Samples that were asked for."""

    stopped: str
    """Why the run ended: `max_samples` (as many as asked for), `covered` (nothing to aim at),
    `no_hit` (too few texts that activate their own feature), `max_candidates` (all texts that were
    allowed) or `budget`."""

    n_unanswered: int
    """Kept texts without what the task adds, such as the assistant's answer."""

    folder: Path
    """The run folder."""

    fac: tuple[float, float] | None = None
    """FAC of the seed, and with the kept samples; None where nothing was missing."""

    is_sensitive: bool = False
    """Whether texts may offend or harm."""

    rejected: tuple[tuple[Candidate, str], ...] = ()
    """Candidates that were not kept, each with the reason."""

    copying: Mapping[str, "Copying"] = field(default_factory=dict)
    """What kept samples have in common with anchor and seed: `text`, and `answer` where there are
    any."""

    length_distance: float | None = None
    """Kolmogorov-Smirnov distance of the scored tokens of kept samples from the anchor's; None
    where nothing is kept."""

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
            "method": self.method,
            **self.threshold.row(),
            "n_wanted": self.n_wanted,
            "n_samples": len(self.kept),
            "n_missing": len(self.missing_before),
            "n_filled": self.n_filled,
            "fac": list(self.fac) if self.fac else None,
            "outcomes": dict(self.outcomes),
            "rounds": list(self.rounds),
            "stopped": self.stopped,
            "n_unanswered": self.n_unanswered,
            "length_distance": self.length_distance,
            "head_accuracy": self.head_accuracy,
            "copying": {name: asdict(one) for name, one in self.copying.items()},
            "generator": self.generator,
            "sensitive": self.is_sensitive,
            "data": str(self.folder / "synthetic.jsonl"),
        }

    def tables(self) -> Sequence[TextTable]:
        """What was kept and filled, then what became of the candidates."""
        delta = self.threshold
        rows = [
            ("threshold δ" + (f": {delta.rule}" if delta.rule else ""), delta.threshold),
            ("newly covered features", self.n_filled),
            ("missing features before", len(self.missing_before)),
            (f"samples kept of {self.n_wanted:,} asked for", len(self.kept)),
            ("length distance from the anchor (0 best)", self.length_distance),
            *((f"candidates: {outcome}", n) for outcome, n in self.outcomes.items()),
        ]
        if self.head_accuracy is not None:
            rows.append(("accuracy of the head that checked labels", self.head_accuracy))
        for name, one in self.copying.items():
            rows.append((f"{name}: share of known word 4-grams", one.mean_share))
            rows.append((f"{name}: longest run in common, in words", one.longest_run))
        title = f"Synthetic data {self.folder / 'synthetic.jsonl'}"
        note = " ".join(filter(None, (self._why_fewer(), self._why_other_lengths())))
        tables = [TextTable(title, ("what", "value"), rows, note)]
        if self.kept and not self.is_sensitive:
            tables.append(self._shown())
        return tables

    def _shown(self) -> TextTable:
        """The two samples that cover most, so that people see what was written."""
        most = sorted(self.kept, key=lambda one: -len(one.new_features))[:_N_SHOWN]
        rows = [
            (
                shorten(one.candidate.written, _SHOWN_LETTERS, placeholder=" …"),
                len(one.new_features),
            )
            for one in most
        ]
        return TextTable("What was written", ("sample", "newly covered features"), rows)

    def _why_fewer(self) -> str:
        """Why fewer samples are kept than were asked for; empty if they are not."""
        why = {
            "max_candidates": "every text that --max-candidates allows was asked for",
            "budget": "a limit was reached",
            "no_hit": "no more texts activate their own feature; see --second-candidates",
            "covered": "there was nothing to aim at",
        }
        if len(self.kept) >= self.n_wanted or self.stopped not in why:
            return ""
        return f"Fewer samples than asked for: {why[self.stopped]}."

    def _why_other_lengths(self) -> str:
        """Why kept samples are longer or shorter than the anchor's; empty if they are not."""
        by_chance = _KS_95 / max(1, len(self.kept)) ** 0.5
        far = max(_NEAR_LENGTHS, by_chance)
        if self.method != "cover" or self.length_distance is None or self.length_distance <= far:
            return ""
        answered = any(m.role == "assistant" for one in self.kept for m in one.sample.messages)
        why = (
            "What a person says follows the anchor's lengths; answers are asked for in them, but "
            "the generator does not heed it, or --reply-tokens cuts them"
            if answered
            else "Too few texts of some lengths were usable"
        )
        distance = f"(distance {self.length_distance:.2f})"
        return f"Kept samples do not have the anchor's lengths {distance}. {why}."

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
    write_jsonl(_rejected_rows(synthesis), folder / "rejected.jsonl")
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


def _rejected_rows(synthesis: Synthesis) -> list[dict[str, object]]:
    return [
        {
            "reason": reason,
            **sample_row(candidate.sample),
            "provenance": _origin(candidate, synthesis.generator),
        }
        for candidate, reason in synthesis.rejected
    ]


def _provenance(
    kept: KeptSample, before: Float32[np.ndarray, " n_features"], generator: str
) -> dict[str, object]:
    candidate = kept.candidate
    return {
        **_origin(candidate, generator),
        "new_features": list(kept.new_features),
        "credited": [
            {"feature_id": f, "before": float(before[f]), "activation": value}
            for f, value in sorted(kept.credited.items())
        ],
        **({"contrast_to": candidate.sample.sample_id} if kept.is_contrast else {}),
    }


def _origin(candidate: Candidate, generator: str) -> dict[str, object]:
    """How a candidate came to be."""
    return {
        "target_feature": None if candidate.target == NO_TARGET else candidate.target,
        **({"also_aimed_at": list(candidate.also)} if candidate.also else {}),
        **({"imitates": candidate.imitates} if candidate.imitates is not None else {}),
        "step": candidate.step,
        "round": candidate.round + 1,
        "generator": generator,
        "prompt_version": PROMPT_VERSION,
        "random_seed": candidate.random_seed,
        "synthetic": True,
    }

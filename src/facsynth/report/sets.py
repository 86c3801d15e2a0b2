"""What a report is made from: tables by kind, what was said of features, where texts came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from facsynth.table.active import ActiveRows, active_rows
from facsynth.table.rows import stack_rows
from facsynth.table.table import FeatureTable

if TYPE_CHECKING:
    from facsynth.report.paint import Painter

__all__ = ["Reader", "ReportInputs"]

Row = Mapping[str, Any]

NOT_PAINTED = "only peaks are marked; --paint runs the model over the shown texts"


@dataclass(frozen=True)
class Reader:
    """What reads the texts of tables, as far as it is at hand."""

    tokenizer: Any = None
    """Of the model that extracted the tables; without it texts have no tokens."""

    decoder: Float32[np.ndarray, "n_features d_model"] | None = None
    """Directions of the SAE, for neighbours and topics."""

    painter: "Painter | None" = None
    """Runs the model over the shown texts."""

    notes: tuple[str, ...] = ()
    """What is not at hand, and why."""


@dataclass(frozen=True)
class ReportInputs:
    """Everything that is known when a report is made; only the title and one table are needed."""

    title: str
    tables: Mapping[str, FeatureTable]
    """`anchor`, and perhaps `seed` and `synthetic`; a table alone is the anchor."""

    threshold: float
    reader: Reader = Reader()
    judgements: Mapping[int, Row] = field(default_factory=dict)
    """Rows of `fac relevance`."""

    explanations: Mapping[int, Row] = field(default_factory=dict)
    """Rows of `fac explain`."""

    provenance: Mapping[str, Row] = field(default_factory=dict)
    """Where written samples come from, by their ids."""

    rejected: Sequence[Row] = ()
    """Rows of written samples that were not kept, with a `reason`."""

    before: Row | None = None
    """`Coverage.row` of the seed; measured where it is None."""

    after: Row | None = None
    """The same with the synthetic samples."""

    facts: tuple[tuple[str, str], ...] = ()
    spent: tuple[tuple[str, object], ...] = ()
    """What writing took, and what became of the candidates."""

    rounds: Sequence[Row] = ()
    is_sensitive: bool = False
    threshold_rule: str | None = None
    """How the threshold was chosen; None where it was given."""

    def read_by(self, reader: Reader) -> "ReportInputs":
        """The same with what reads the texts."""
        return replace(self, reader=reader)

    @property
    def n_features(self) -> int:
        """Width of the SAE."""
        return self.tables["anchor"].manifest.source.n_features

    @cached_property
    def relevant(self) -> Bool[np.ndarray, " n_features"]:
        """Features that count: those judged relevant, or all without a judge."""
        if not self.judgements:
            return np.ones(self.n_features, dtype=np.bool_)
        flags = np.zeros(self.n_features, dtype=np.bool_)
        flags[[f for f, row in self.judgements.items() if row.get("relevant", True)]] = True
        return flags

    @cached_property
    def active(self) -> dict[str, ActiveRows]:
        """Active rows of each table, irrelevant features included."""
        return {
            kind: active_rows(table, threshold=self.threshold)
            for kind, table in self.tables.items()
        }

    @cached_property
    def together(self) -> ActiveRows:
        """The active rows of all tables, one behind the other."""
        rows = stack_rows([table.activations() for table in self.tables.values()])
        return active_rows(rows, threshold=self.threshold)

    @cached_property
    def missing_before(self) -> Bool[np.ndarray, " n_features"]:
        """Relevant features that the anchor activates and the seed does not; none without one."""
        if "seed" not in self.tables:
            return np.zeros(self.n_features, dtype=np.bool_)
        missing: Bool[np.ndarray, " n_features"]
        missing = self.active["anchor"].features & ~self.active["seed"].features & self.relevant
        return missing

    @cached_property
    def statuses(self) -> np.ndarray:
        """Status of each feature; empty of one that nothing activates."""
        anchor = self.active["anchor"].features
        status = np.full(self.n_features, "", dtype=object)
        if "seed" not in self.tables:
            status[anchor] = "active"
            return status
        seed = self.active["seed"].features
        filled = self.active["synthetic"].features if "synthetic" in self.active else ~anchor
        status[(seed | filled) & ~anchor & self.together.features] = "extra"
        status[anchor & seed] = "covered"
        status[self.missing_before] = "missing"
        status[self.missing_before & filled] = "filled"
        status[self.together.features & ~self.relevant] = "uncounted"
        return status

    def ranked(self) -> Int64[np.ndarray, " n_active"]:
        """Features that some set activates: relevant ones first, by samples of the anchor."""
        ids = np.flatnonzero(self.together.features)
        order = np.lexsort((ids, -self.active["anchor"].counts[ids], ~self.relevant[ids]))
        return ids[order]

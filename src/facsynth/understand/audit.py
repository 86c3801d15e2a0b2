"""How good is a judge of relevance? A person grades a sample of what it kept and what it dropped.

Precision alone flatters: only dropped features show what the judge missed. So equally many kept
and dropped features are drawn, shown in random order without the judge's grade, and the answers
are weighted back to how many there are of each kind.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facsynth.errors import DataError
from facsynth.show import TextTable, as_html
from facsynth.understand.fidelity import wilson_interval

__all__ = ["AuditResult", "draw_audit", "read_verdicts", "score_audit", "sheet_text"]

_YES, _NO = {"yes", "y", "1", "true"}, {"no", "n", "0", "false"}
_N_DRAWS = 20_000


@dataclass(frozen=True)
class AuditResult:
    """What a person's verdicts say about a judge."""

    precision: float
    """Share of the kept features that are relevant."""

    precision_low: float
    """Wilson's 95 % interval."""

    precision_high: float
    recall: float | None
    """Share of the relevant features that were kept, in the population; None when the sample
    holds no relevant feature."""

    recall_low: float
    """95 % interval: quantiles of the recall when the two shares are drawn from their Jeffreys
    posteriors."""

    recall_high: float
    n_kept: int
    """Features that the judge kept."""

    n_dropped: int
    n_kept_seen: int
    """Kept features with a verdict."""

    n_dropped_seen: int

    def row(self) -> dict[str, Any]:
        """The numbers under stable keys."""
        return asdict(self)

    def tables(self) -> Sequence[TextTable]:
        """Precision and recall with their intervals, then how many verdicts there are."""
        rows = [
            (
                "precision",
                self.precision,
                f"{self.precision_low:.3f} to {self.precision_high:.3f}",
            ),
            ("recall", self.recall, f"{self.recall_low:.3f} to {self.recall_high:.3f}"),
            ("kept, with a verdict", f"{self.n_kept_seen:,} of {self.n_kept:,}", ""),
            ("dropped, with a verdict", f"{self.n_dropped_seen:,} of {self.n_dropped:,}", ""),
        ]
        title = "Judge of relevance against a person"
        return [TextTable(title, ("measure", "value", "95 % interval"), rows)]

    _repr_html_ = as_html


def draw_audit(relevant: Mapping[int, bool], n: int, *, random_seed: int = 0) -> list[int]:
    """Features for a sheet: half of them kept, half dropped, mixed.

    Args:
        relevant: What the judge decided, by feature.
        n: Features in the sheet; fewer if a kind has fewer.
        random_seed: Of the draw.

    Raises:
        DataError: The judge kept none or dropped none, so nothing can be compared.
    """
    kept = sorted(f for f, is_kept in relevant.items() if is_kept)
    dropped = sorted(f for f, is_kept in relevant.items() if not is_kept)
    if not kept or not dropped:
        raise DataError(
            f"the judge kept {len(kept)} features and dropped {len(dropped)}; an audit needs both"
        )
    rng = np.random.default_rng(random_seed)
    n_kept = min(len(kept), max(n - len(dropped), (n + 1) // 2))
    chosen = [
        *rng.choice(kept, n_kept, replace=False),
        *rng.choice(dropped, min(len(dropped), n - n_kept), replace=False),
    ]
    return [int(f) for f in rng.permutation(chosen)]


def sheet_text(
    features: Sequence[int], names: Mapping[int, str], spans: Mapping[int, Sequence[str]]
) -> str:
    """The CSV sheet: feature_id, name, texts, and an empty column `verdict` for yes or no."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["feature_id", "verdict", "name", "texts"])
    for feature in features:
        writer.writerow([feature, "", names.get(feature, ""), "\n".join(spans.get(feature, ()))])
    return stream.getvalue()


def read_verdicts(path: str | Path) -> dict[int, bool]:
    """The verdicts of a filled sheet; rows without one are left out.

    Raises:
        DataError: A column is missing, a verdict is neither yes nor no, or there is none.
    """
    verdicts: dict[int, bool] = {}
    with Path(path).open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        if not {"feature_id", "verdict"} <= set(reader.fieldnames or ()):
            raise DataError(
                f"{path} lacks the columns feature_id and verdict; fill in a drawn sheet"
            )
        for row in reader:
            word = (row["verdict"] or "").strip().lower()
            if word and word not in _YES | _NO:
                raise DataError(
                    f"{path}, feature {row['feature_id']}: the verdict is {word!r}; write yes or "
                    "no, or leave it empty"
                )
            if word:
                verdicts[int(row["feature_id"])] = word in _YES
    if not verdicts:
        raise DataError(f"{path} has no verdict yet; write yes or no into the column `verdict`")
    return verdicts


def score_audit(
    relevant: Mapping[int, bool], verdicts: Mapping[int, bool], *, random_seed: int = 0
) -> AuditResult:
    """Precision and recall of a judge from a person's verdicts.

    recall = K·p / (K·p + D·d), with K kept and D dropped features, of which the shares p and d
    are relevant by the verdicts.

    Args:
        relevant: What the judge decided, by feature.
        verdicts: What the person decided, for features of a drawn sheet.
        random_seed: Of the interval's draws.

    Raises:
        DataError: A verdict is about an unknown feature, or one kind has no verdict.
    """
    if unknown := sorted(set(verdicts) - set(relevant)):
        raise DataError(f"the sheet has feature {unknown[0]}, which the judge never saw")
    kept = [said for f, said in verdicts.items() if relevant[f]]
    dropped = [said for f, said in verdicts.items() if not relevant[f]]
    if not kept or not dropped:
        raise DataError(
            f"verdicts on {len(kept)} kept and {len(dropped)} dropped features; both are needed"
        )
    n_kept = sum(relevant.values())
    n_dropped = len(relevant) - n_kept
    hits, missed = n_kept * sum(kept) / len(kept), n_dropped * sum(dropped) / len(dropped)
    rng = np.random.default_rng(random_seed)
    p = n_kept * rng.beta(sum(kept) + 0.5, len(kept) - sum(kept) + 0.5, _N_DRAWS)
    d = n_dropped * rng.beta(sum(dropped) + 0.5, len(dropped) - sum(dropped) + 0.5, _N_DRAWS)
    low, high = np.quantile(p / (p + d), [0.025, 0.975])
    precision_low, precision_high = wilson_interval(sum(kept), len(kept))
    return AuditResult(
        precision=sum(kept) / len(kept),
        precision_low=precision_low,
        precision_high=precision_high,
        recall=hits / (hits + missed) if hits + missed else None,
        recall_low=float(low),
        recall_high=float(high),
        n_kept=n_kept,
        n_dropped=n_dropped,
        n_kept_seen=len(kept),
        n_dropped_seen=len(dropped),
    )

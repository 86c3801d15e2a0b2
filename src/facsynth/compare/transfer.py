"""How much feature space two SAEs share, measured on the same texts.

The SAEs may belong to two models, to two layers, or to one. Tokenizers differ between models, so
the unit is the sample: a feature is the vector of its activations over the common samples, and two
features match to the degree that these correlate (Pearson).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool

from facsynth.compare.counterparts import Share, Side, match_features
from facsynth.compare.settings import TransferSettings
from facsynth.errors import DataError, MismatchError
from facsynth.records import FeatureActivations, Sample, sample_text
from facsynth.show import TextTable, as_html
from facsynth.table.active import active_rows
from facsynth.table.alike import precision_remark
from facsynth.table.rows import take_rows
from facsynth.table.table import FeatureTable

__all__ = ["CommonSamples", "Transfer", "common_samples", "measure_transfer"]

_FEW_CHECKED = 500
"""Number of samples below which rare features are missing and intervals are wide."""


@dataclass(frozen=True, eq=False)
class CommonSamples:
    """The samples that two feature tables both hold."""

    tables: tuple[FeatureTable, FeatureTable]
    samples: tuple[Sample, ...]
    rows: tuple[FeatureActivations, FeatureActivations]
    """Their rows in each table, in the order of the samples."""


@dataclass(frozen=True, eq=False)
class Transfer:
    """What two tables share, from the view of each."""

    common: CommonSamples
    a: Side
    b: Side
    settings: TransferSettings
    described: Sequence[Any] = field(default=())
    """Descriptions of the first pairs: `names`, `examples`, `n_both` and `same_word` of each."""

    @cached_property
    def pairs(self) -> list[tuple[int, int, float]]:
        """Features that are each other's best partners and their r, the highest first."""
        side = self.a
        order = np.lexsort((side.feature_ids, -side.correlations))
        return [
            (int(side.feature_ids[i]), int(side.partners[i]), float(side.correlations[i]))
            for i in order
            if side.is_mutual[i]
        ]

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Caveats."""
        remark = precision_remark(*self.common.tables)
        notes = [remark] if remark else []
        one, other = (table.manifest.source for table in self.common.tables)
        notes += [
            f"{name} is {getattr(one, name)} in A and {getattr(other, name)} in B, which lowers "
            "correlations"
            for name in ("gate", "pooling", "score")
            if getattr(one, name) != getattr(other, name)
        ]
        if one.sae_hash == other.sae_hash and one.model_hash == other.model_hash:
            notes.append("both tables are of the same SAE; a feature's counterpart is itself")
        if self._n_checked < _FEW_CHECKED:
            notes.append(
                f"only {self._n_checked} samples check the partners; rare features are missing, "
                "and intervals are wide"
            )
        return tuple(notes)

    def row(self) -> dict[str, Any]:
        """Shares of each side with their controls and curves, and all mutual pairs."""
        n = len(self.common.samples)
        a, b = (table.manifest.n_samples for table in self.common.tables)
        pairs: list[dict[str, Any]] = [{"a": i, "b": j, "r": r} for i, j, r in self.pairs]
        for pair, words in zip(pairs, self.described, strict=False):
            pair |= asdict(words)
        sizes = {"common": n, "found": n - self._n_checked, "checked": self._n_checked}
        return {
            "n_samples": {**sizes, "a": a, "b": b},
            "min_correlation": self.settings.min_correlation,
            "min_samples": self.settings.min_samples,
            "a": _side_row(self.a, self.common.tables[0]),
            "b": _side_row(self.b, self.common.tables[1]),
            "pairs": pairs,
            "warnings": list(self.notes),
        }

    def tables(self) -> Sequence[TextTable]:
        """The shares with their controls, then the pairs that correlate most."""
        n, sides = len(self.common.samples), (self.a, self.b)
        sources = [table.manifest.source for table in self.common.tables]
        shares = TextTable(
            f"Features with a counterpart (r above {self.settings.min_correlation:g}) on "
            f"{n:,} common samples, {self._n_checked:,} of them held out",
            ("", *(f"{'AB'[i]}: {s.model_name}, layer {s.layer}" for i, s in enumerate(sources))),
            [
                ("features compared", *(side.feature_ids.size for side in sides)),
                ("  of", *(source.n_features for source in sources)),
                ("share with a counterpart", *(_interval(side.share) for side in sides)),
                ("  each other's best", *(_interval(side.mutual_share) for side in sides)),
                ("  samples shuffled", *(_mean(side.shuffled) for side in sides)),
                ("  shuffled at like lengths", *(_mean(s.shuffled_by_length) for s in sides)),
                ("  in random directions", *(side.random for side in sides)),
                ("median r of the best partner", *(_median_r(side) for side in sides)),
            ],
        )
        note = (
            "Features beyond what shuffled samples and random directions reach are shared. "
            "`fac task` shows whether data chosen by one model helps the other."
        )
        words = list(zip(self.pairs, self.described, strict=False))
        if not words:
            return [replace(shares, note=note)]
        pairs = [(str(i), str(j), r, w.same_word, *w.names) for (i, j, r), w in words]
        columns = ("A", "B", "r", "same word", "A peaks on", "B peaks on")
        examples = [
            (f"{name} {feature}", example)
            for pair, one in words
            for name, feature, example in zip("AB", pair[:2], one.examples, strict=True)
        ]
        return [
            shares,
            TextTable(f"Best of {len(self.pairs):,} mutual pairs", columns, pairs),
            TextTable("Examples", ("feature", "strongest example"), examples, note=note),
        ]

    _repr_html_ = as_html

    @property
    def _n_checked(self) -> int:
        return len(self.common.samples) // 2


def common_samples(a: FeatureTable, b: FeatureTable) -> CommonSamples:
    """Samples that both tables hold under the same id, with the same text.

    Raises:
        DataError: There is none.
        MismatchError: A sample has another text in B than in A.
    """
    whole = (a.activations(), b.activations())
    places = [_places(one) for one in whole]
    both = [sample_id for sample_id in whole[0].sample_ids if sample_id in places[1]]
    if not both:
        raise DataError(
            f"{a.folder} and {b.folder} have no sample id in common; extract both from the same "
            "data"
        )
    samples = (a.samples(), b.samples())
    for sample_id in both:
        one, other = (found[place[sample_id]] for found, place in zip(samples, places, strict=True))
        if sample_text(one) != sample_text(other):
            raise MismatchError(
                f"sample {sample_id!r} has another text in {b.folder} than in {a.folder}; extract "
                "both from the same data"
            )
    rows = [[place[sample_id] for sample_id in both] for place in places]
    return CommonSamples(
        tables=(a, b),
        samples=tuple(samples[0][i] for i in rows[0]),
        rows=(take_rows(whole[0], rows[0]), take_rows(whole[1], rows[1])),
    )


def _places(rows: FeatureActivations) -> dict[str, int]:
    """Row of each sample id."""
    return {sample_id: row for row, sample_id in enumerate(rows.sample_ids)}


def measure_transfer(
    common: CommonSamples,
    settings: TransferSettings | None = None,
    *,
    random_b: FeatureTable | None = None,
) -> Transfer:
    """Measure how many features of two tables have a counterpart in the other.

    Args:
        common: The samples of both, from `common_samples`.
        settings: What counts as a counterpart.
        random_b: Table of an SAE of random directions in B's model, with these samples.

    Raises:
        DataError: Too few samples or features remain, or `random_b` lacks some of the samples.
        MismatchError: `random_b` was extracted with another model than B.
    """
    settings = settings or TransferSettings()
    one, other = (active_rows(rows, threshold=0.0) for rows in common.rows)
    control = active_rows(_control(random_b, common), threshold=0.0) if random_b else None
    a, b = match_features(one, other, settings, random_b=control)
    return Transfer(common, a, b, settings)


def _control(table: FeatureTable, common: CommonSamples) -> FeatureActivations:
    """Rows of the control, for the common samples."""
    other = common.tables[1]
    if table.manifest.source.model_hash != other.manifest.source.model_hash:
        raise MismatchError(
            f"{table.folder} was extracted with another model than {other.folder}; the random SAE "
            "has to read the model of TABLE_B"
        )
    whole = table.activations()
    places = _places(whole)
    wanted = common.rows[0].sample_ids
    if missing := [sample_id for sample_id in wanted if sample_id not in places]:
        raise DataError(
            f"{table.folder} lacks {len(missing)} of the common samples, such as {missing[0]}"
        )
    return take_rows(whole, [places[sample_id] for sample_id in wanted])


def _side_row(side: Side, table: FeatureTable) -> dict[str, Any]:
    source = table.manifest.source
    above = side.correlations[:, None] > _LIMITS
    return {
        "table": str(table.folder),
        "model": source.model_name,
        "sae": source.sae_name,
        "layer": source.layer,
        "n_features": source.n_features,
        "n_compared": int(side.feature_ids.size),
        "share": asdict(side.share),
        "mutual_share": asdict(side.mutual_share),
        "median_r": _median_r(side),
        "shuffled": list(side.shuffled),
        "shuffled_by_length": list(side.shuffled_by_length),
        "random": side.random,
        "curve": _curve(above),
        "mutual_curve": _curve(above & side.is_mutual[:, None]),
    }


_LIMITS = np.round(np.arange(0, 1, 0.02), 2)
"""Correlations at which the curves are taken."""


def _curve(above: Bool[np.ndarray, "n_compared n_limits"]) -> list[dict[str, float]]:
    shares = above.mean(axis=0).tolist()
    return [{"r": r, "share": share} for r, share in zip(_LIMITS.tolist(), shares, strict=True)]


def _median_r(side: Side) -> float:
    return float(np.median(side.correlations))


def _interval(share: Share) -> str:
    return f"{share.value:.3f} ({share.low:.3f} to {share.high:.3f})"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None

"""Act on a finding: keep, drop or label the samples that activate some features."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from facsynth.errors import DataError
from facsynth.select.settings import FilterSettings
from facsynth.show import TextTable, as_html
from facsynth.table.active import ActiveRows

__all__ = ["Filtered", "Group", "filter_samples", "read_groups"]

_TOPIC = re.compile(r"topic:(\d+)$")


@dataclass(frozen=True)
class Group:
    """Features that were named together."""

    name: str
    """As the user wrote it, or the label."""

    feature_ids: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Filtered:
    """Which samples were found, and what is left."""

    action: str
    groups: tuple[Group, ...]
    found: Bool[np.ndarray, "n_groups n_samples"]
    """Whether a sample activates enough features of a group."""

    @property
    def kept(self) -> Int64[np.ndarray, " n_kept"]:
        """Positions of the samples that stay, ascending."""
        hit = self.found.any(axis=0)
        stays = {"drop": ~hit, "keep": hit, "label": np.ones(hit.size, dtype=bool)}[self.action]
        return np.flatnonzero(stays)

    @property
    def dropped(self) -> Int64[np.ndarray, " n_dropped"]:
        """Positions of the others, ascending."""
        return np.setdiff1d(np.arange(self.found.shape[1]), self.kept)

    def labels(self, old: Sequence[str | None]) -> list[str | None]:
        """The label of each sample: the name of the first group that it is in, or its own."""
        first = np.where(self.found.any(axis=0), self.found.argmax(axis=0), -1)
        return [
            self.groups[at].name if at >= 0 else label
            for at, label in zip(first.tolist(), old, strict=True)
        ]

    def row(self) -> dict[str, Any]:
        """The numbers under stable keys."""
        return {
            "action": self.action,
            "n_samples": int(self.found.shape[1]),
            "n_found": int(self.found.any(axis=0).sum()),
            "n_kept": int(self.kept.size),
            "n_dropped": int(self.dropped.size),
            "groups": [
                asdict(group) | {"n_samples": int(found.sum())}
                for group, found in zip(self.groups, self.found, strict=True)
            ],
        }

    def tables(self) -> Sequence[TextTable]:
        """How many samples each group has."""
        n_samples = self.found.shape[1]
        rows = [
            (group.name, len(group.feature_ids), int(found.sum()), f"{found.mean():.1%}")
            for group, found in zip(self.groups, self.found, strict=True)
        ]
        verb = {"drop": "dropped", "keep": "kept", "label": "labelled"}[self.action]
        n_found = int(self.found.any(axis=0).sum())
        title = f"{n_found:,} of {n_samples:,} samples are {verb}"
        return [TextTable(title, ("group", "features", "samples", "share"), rows)]

    _repr_html_ = as_html


def filter_samples(
    rows: ActiveRows, settings: FilterSettings, *, topics: Sequence[Sequence[int]] = ()
) -> Filtered:
    """Find the samples that activate the named features.

    Args:
        rows: Active rows of the table.
        settings: Which features, and what to do.
        topics: Features of each topic, for names such as `topic:3`, counted from 0.

    Raises:
        DataError: A feature or topic does not exist.
    """
    groups = read_groups(settings, n_features=rows.n_features, topics=topics)
    found = np.zeros((len(groups), rows.n_samples), dtype=np.bool_)
    for place, group in enumerate(groups):
        flags = np.zeros(rows.n_features)
        flags[list(group.feature_ids)] = 1.0
        active = rows.firing.sum_features(flags)
        found[place] = active >= min(settings.at_least, len(group.feature_ids))
    return Filtered(settings.action, groups, found)


def read_groups(
    settings: FilterSettings, *, n_features: int, topics: Sequence[Sequence[int]]
) -> tuple[Group, ...]:
    """The groups that the settings name.

    Raises:
        DataError: A word is neither a feature nor a topic, or there is no such one.
    """
    if settings.action == "label":
        named = [one.partition("=") for one in settings.label]
        if unnamed := [head for head, equals, _ in named if not (equals and head)]:
            raise DataError(f"--label {unnamed[0]!r} has no label; write NAME=136,topic:3")
        wanted = [(head, rest.split(",")) for head, _, rest in named]
    else:
        words = [word for one in settings.drop + settings.keep for word in one.split(",")]
        wanted = [(word.strip(), [word]) for word in words]
    ids: dict[str, dict[int, None]] = {}  # a label may be given twice; features keep their order
    for name, words in wanted:
        found = (f for word in words for f in _features(word, n_features, topics))
        ids.setdefault(name, {}).update(dict.fromkeys(found))
    return tuple(Group(name, tuple(features)) for name, features in ids.items())


def _features(word: str, n_features: int, topics: Sequence[Sequence[int]]) -> tuple[int, ...]:
    word = word.strip()
    if match := _TOPIC.match(word):
        if int(match[1]) >= len(topics):
            known = f"0 to {len(topics) - 1}" if topics else "none; pass their file as --topics"
            raise DataError(f"there is no {word}; topics are {known}")
        return tuple(topics[int(match[1])])
    if not word.isdecimal():
        raise DataError(f"{word!r} is neither a feature id nor topic:N")
    if int(word) >= n_features:
        raise DataError(f"there is no feature {word}; the SAE has 0 to {n_features - 1}")
    return (int(word),)

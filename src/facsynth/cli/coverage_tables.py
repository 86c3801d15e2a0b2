"""The coverage row as tables for people: closeness first, then FAC, sizes beside both."""

from collections.abc import Mapping
from typing import Any

from facsynth.cli.show import print_table

__all__ = ["N_SHIFTS", "print_controls", "print_coverage"]

N_SHIFTS = 10
"""Features that are listed as firing too much, and too little."""


def print_coverage(row: Mapping[str, Any]) -> None:
    """Closeness, FAC with its controls, what is missing, sizes and lengths, and the sweep."""
    close, controls = row["representativeness"] or {}, row["controls"]
    sizes, tokens = row["n_samples"], row["n_tokens"]
    means = {side: tokens[side] / sizes[side] if sizes[side] else None for side in sizes}
    print_table(
        f"Coverage at threshold {row['threshold']:g}",
        ("measure", "value"),
        [
            ("closeness: Hellinger distance of firing rates (0 best)", close.get("hellinger")),
            ("  a random anchor subset of that size", controls["random_hellinger"]),
            *_hidden_rows(row.get("hidden")),
            ("FAC (1 best)", row["fac"]),
            ("  random anchor subset of that size", _draws(controls["random_subset"])),
            ("  and of matched lengths", _draws(controls["length_matched"])),
            ("  frequency-matched other features", _draws(controls["frequency_matched"])),
            ("  95 % interval", f"{row['interval']['low']:.3f} to {row['interval']['high']:.3f}"),
            ("  weighted by frequency", row["weighted"]["frequency"]),
            ("  weighted by magnitude", row["weighted"]["magnitude"]),
            ("covered / active in the anchor", f"{row['n_covered']:,} / {row['n_anchor']:,}"),
            ("missing", row["n_missing"]),
            ("samples, seed / anchor", _both(sizes, ",")),
            ("scored tokens, seed / anchor", _both(tokens, ",")),
            ("  mean of a sample", _both(means, ".1f")),
        ],
    )
    print_table(
        "Sweep over the threshold",
        ("threshold", "anchor", "covered", "FAC"),
        [
            (
                f"{s['threshold']:.2f}"
                + (f" (quantile {s['quantile']:g})" if s["quantile"] else ""),
                s["n_anchor"],
                s["n_covered"],
                s["fac"],
            )
            for s in row["sweep"]
        ],
    )


def _both(values: Mapping[str, Any], form: str) -> str:
    sides = (values[side] for side in ("seed", "anchor"))
    return " / ".join("–" if value is None else format(value, form) for value in sides)


def _hidden_rows(hidden: Mapping[str, Any] | None) -> list[tuple[str, object]]:
    if not hidden:
        return []
    return [
        ("closeness: shift of the mean hidden state, in sd (0 best)", hidden["distance"]),
        ("  random anchor subset of that size", _draws(hidden["random_subset"])),
        ("  and of matched lengths", _draws(hidden["length_matched"])),
    ]


def print_controls(row: Mapping[str, Any]) -> None:
    """Richness, coverage by more samples a feature, by class, and firing shifts."""
    _print_richness(row["richness"])
    if row.get("k_fold"):
        print_table(
            "Covered by at least k seed samples",
            ("k", "covered", "share"),
            [(str(k["k"]), k["n_covered"], k["fac"]) for k in row["k_fold"]],
        )
    if row.get("by_class"):
        print_table(
            "Features that go with each class of the anchor",
            ("class", "anchor samples", "features", "their mean rate", "covered"),
            [
                (c["label"], c["n_samples"], c["n_features"], c["mean_rate"], c["fac"])
                for c in row["by_class"]
            ],
        )
    for key, title in (("over_fired", "more"), ("under_fired", "less")):
        shifts = (row["representativeness"] or {}).get(key) or []
        if shifts:
            named = ("name",) * all("name" in one for one in shifts[:N_SHIFTS])
            print_table(
                f"Features that the seed fires {title} than the anchor, first {N_SHIFTS}",
                ("feature", "seed samples", "anchor samples", "log odds", "z", *named),
                [
                    (str(s["feature_id"]), s["n_seed_samples"], s["n_anchor_samples"])
                    + (f"{s['log_odds']:+.2f}", f"{s['z']:+.1f}", *(s[key] for key in named))
                    for s in shifts[:N_SHIFTS]
                ],
            )


def _print_richness(richness: Mapping[str, Any]) -> None:
    seed, anchor = richness["seed"], richness["anchor"] or {}
    rows: list[tuple[object, ...]] = [
        ("features seen", seed["n_seen"], anchor.get("n_seen")),
        (
            "estimated in the source (Chao2, a lower bound)",
            *(_of(s, "chao2") for s in (seed, anchor)),
        ),
        ("share of firings of features seen", *(_of(s, "sample_coverage") for s in (seed, anchor))),
        (
            "more such samples for 95 % of the estimate",
            *(_of(s, "n_more_for_95") for s in (seed, anchor)),
        ),
    ]
    if "equal_samples" in richness:
        rows += [
            (
                f"features at {richness['equal_' + unit]:,} {unit}",
                round(richness[f"seed_at_equal_{unit}"]),
                round(richness[f"anchor_at_equal_{unit}"]),
            )
            for unit in ("samples", "tokens")
        ]
    print_table("Richness", ("measure", "seed", "anchor"), rows)


def _of(side: Mapping[str, Any], name: str) -> object:
    value = side.get(name)
    return round(value) if name in ("chao2", "n_more_for_95") and value is not None else value


def _draws(value: Any) -> object:
    if not isinstance(value, Mapping):
        return value
    return f"{value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})"

"""`fac labels`."""

from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import json_option, plot_option, relevant_option, threshold_option


@click.command()
@click.argument(
    "tables", metavar="TABLE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--anchor",
    type=click.Path(path_type=Path),
    help="Feature table with the same classes: the target, or a held-out part.",
)
@click.option(
    "--space",
    type=click.Choice(["binary", "log", "raw", "hidden"]),
    default="binary",
    show_default=True,
    help="Vectors hold 1 where a feature is active, log(1 + activation), or the activation; or "
    "they are mean hidden states, which `fac extract --hidden` keeps.",
)
@click.option(
    "--rename",
    "renames",
    multiple=True,
    metavar="OLD=NEW",
    help="Call a class by another name, so that sources with other words compare; repeatable.",
)
@click.option(
    "--resamples",
    type=click.IntRange(min=20),
    default=200,
    show_default=True,
    help="Resamples behind intervals, and shuffles.",
)
@click.option("--random-seed", default=0, show_default=True, help="Seed of both.")
@relevant_option
@threshold_option
@plot_option
@json_option
def labels(
    tables: tuple[Path, ...], anchor: Path | None, plot: Path | None, as_json: bool, **options: Any
) -> None:
    """Compare the classes of each TABLE, and the direction between them across tables.

    A class is a sample's label (`fac extract --label-field`), or the chosen and the rejected side
    of preference pairs (`fac extract --both-answers`). The direction is the difference of the
    class means of the feature vectors; with several tables, or an anchor, the cosines of their
    directions say whether the labels mean the same. Resampling gives the interval, and shuffled
    labels give the cosine that chance reaches.
    """
    from facsynth.cli.show import print_result
    from facsynth.report.plots import check_plot_path, heat_map, write_chart

    if plot:
        check_plot_path(plot)
    row = _measure(tables, anchor, options)
    notes = [f"{one['table']}: {warning}" for one in row["sets"] for warning in one["warnings"]]
    print_result(row, _print, as_json=as_json, notes=[*notes, *row["conflicts"]])
    if plot:
        chart = heat_map(
            row["cosines"],
            row["names"],
            title="Agreement of label directions (cosine)",
            row_title="",
            column_title="",
            domain=(-1.0, 1.0),
        )
        write_chart(chart, plot)


def _measure(
    tables: tuple[Path, ...], anchor: Path | None, options: dict[str, Any]
) -> dict[str, Any]:
    from dataclasses import asdict

    import numpy as np

    from facsynth.cli.load import table_names
    from facsynth.compare.label_report import measure_labels
    from facsynth.compare.labels import agreement

    rng = np.random.default_rng(options["random_seed"])
    every = (*tables, anchor) if anchor else tables
    loaded = _load(every, options)
    n_resamples = options["resamples"]
    target = loaded[-1] if anchor else None
    sets = []
    for path, (rows, activations) in zip(tables, loaded, strict=False):
        found = agreement(rows, target[0], n_resamples=n_resamples, rng=rng) if target else None
        report = measure_labels(
            rows, activations, threshold=options["threshold"], anchor=target, found=found
        )
        sets.append({"table": str(path), **asdict(report)})
    names = table_names(every)
    pairs = {
        (i, j): agreement(loaded[i][0], loaded[j][0], n_resamples=n_resamples, rng=rng)
        for i in range(len(every))
        for j in range(i + 1, len(every))
    }
    cosines = np.eye(len(every))
    for (i, j), found in pairs.items():
        cosines[i, j] = cosines[j, i] = found.cosine
    return {
        "sets": sets,
        "names": names,
        "cosines": cosines.tolist(),
        "pairs": [{"a": names[i], "b": names[j], **asdict(p)} for (i, j), p in pairs.items()],
        "conflicts": [
            f"{names[i]} and {names[j]} contradict each other (cosine {p.cosine:.2f}, "
            f"{p.low:.2f} to {p.high:.2f}); training on both teaches neither"
            for (i, j), p in pairs.items()
            if p.high < 0
        ],
        "space": options["space"],
        "threshold": options["threshold"],
    }


def _load(paths: tuple[Path, ...], options: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Labelled rows and activations of every table."""
    from facsynth.cli.load import load_relevant, load_tables
    from facsynth.compare.labels import labelled_rows
    from facsynth.coverage.hidden import common_scale
    from facsynth.data.pairs import pair_numbers
    from facsynth.errors import DataError

    renames = dict(_renamed(text) for text in options["renames"])
    opened = load_tables(paths)
    relevant = load_relevant(options["relevant"], opened[0].manifest.source.n_features)
    tables = [table.activations(hidden=options["space"] == "hidden") for table in opened]
    scale = common_scale(tables)
    found = []
    for table, activations in zip(opened, tables, strict=True):
        samples = table.samples()
        given = [sample.label for sample in samples]
        if any(sample.rejected for sample in samples) and not any(given):
            raise DataError(
                f"{table.folder} holds the chosen answers of preference pairs only; extract the "
                "data again with --both-answers"
            )
        pairs = pair_numbers([sample.sample_id for sample in samples], given)
        named = [renames.get(label, label) if label else label for label in given]
        try:
            rows = labelled_rows(
                activations,
                named,
                pair_ids=pairs,
                relevant=relevant,
                threshold=options["threshold"],
                space=options["space"],
                scale=scale,
            )
        except DataError as error:
            raise DataError(f"{table.folder}: {error}") from error
        found.append((rows, activations))
    return found


def _renamed(text: str) -> tuple[str, str]:
    from facsynth.errors import DataError

    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise DataError(f"--rename {text!r} is not of the form OLD=NEW")
    return old, new


_SPACES = {
    "binary": "active features",
    "log": "log(1 + activation) of features",
    "raw": "activations of features",
    "hidden": "mean hidden states",
}


def _print(row: dict[str, Any]) -> None:
    from facsynth.cli.show import print_table

    for one in row["sets"]:
        _print_set(one)
    if len(row["names"]) > 1:
        print_table(
            f"Agreement of label directions (cosine, {_SPACES[row['space']]})",
            ("", *row["names"]),
            [(name, *cosines) for name, cosines in zip(row["names"], row["cosines"], strict=True)],
        )


def _print_set(one: dict[str, Any]) -> None:
    from facsynth.cli.show import print_table

    found, rows = one["agreement"], []
    if found:
        rows += [
            ("agreement with the anchor's direction (1 best)", found["cosine"]),
            ("  95 % interval", f"{found['low']:.3f} to {found['high']:.3f}"),
            ("  the most that this noise allows", found["ceiling"]),
            ("  shuffled", f"{found['shuffled_low']:.3f} to {found['shuffled_high']:.3f}"),
        ]
    rows.append(("reliability of the direction (1 best)", one["reliability"]))
    if one["n_pairs"] is not None:
        rows += [("pairs", one["n_pairs"]), ("chosen is longer", one["chosen_longer"])]
    print_table(f"Labels of {one['table']}", ("measure", "value"), rows)
    print_table(
        "Classes",
        ("measure", *(c["name"] for c in one["classes"])),
        [
            (title, *(c[key] for c in one["classes"]))
            for title, key in _CLASS_ROWS.items()
            if any(c[key] is not None for c in one["classes"])
        ],
    )


_CLASS_ROWS = {
    "closeness: Hellinger distance to the anchor's class (0 best)": "hellinger",
    "FAC of the anchor's class (1 best)": "fac",
    "samples": "n_samples",
    "mean tokens": "mean_tokens",
    "longer than the others (0.5 equal)": "length_auc",
    "cosine of its direction with that of length": "length_cosine",
    "features seen": "n_seen",
    "features seen at equal samples": "seen_at_equal_samples",
}

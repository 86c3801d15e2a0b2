"""`fac run`."""

from pathlib import Path

import click

from facsynth.cli.options import json_option

_SUBSETS = (
    ("random anchor subset of that size", "random_subset"),
    ("and of matched lengths", "length_matched"),
)


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Run folder; runs/NAME by default."
)
@json_option
def run(recipe: Path, output: Path | None, as_json: bool) -> None:
    """Run all stages of RECIPE into one folder; run it again to go on after a stop."""
    from facsynth.cli.show import RichProgress, print_json, print_table
    from facsynth.pipeline import run_recipe

    result = run_recipe(recipe, output, progress=RichProgress())
    before, after = result.before, result.after
    if as_json:
        print_json(
            {
                "run": str(result.folder),
                "n_synthetic": result.n_synthetic,
                "before": before,
                "after": after,
                "report": str(result.report),
            }
        )
        return
    print_table(
        f"Run {result.folder}",
        ("", "seed", "seed + synthetic"),
        [
            ("FAC", before["fac"], after["fac"]),
            ("covered features", before["n_covered"], after["n_covered"]),
            ("missing features", before["n_missing"], after["n_missing"]),
            ("Hellinger distance to the anchor", *(_distance(r) for r in (before, after))),
            *(
                (f"{words}, FAC", *(_drawn(r, name) for r in (before, after)))
                for words, name in _SUBSETS
            ),
            ("samples", before["n_samples"]["seed"], after["n_samples"]["seed"]),
            ("scored tokens", before["n_tokens"]["seed"], after["n_tokens"]["seed"]),
        ],
    )
    for warning in after["controls"]["warnings"]:
        click.echo(f"Note: {warning}", err=True)
    click.echo(f"Data:    {result.folder / 'synthesize' / 'synthetic.jsonl'}")
    click.echo(f"Report:  {result.report}")


def _distance(row: object) -> float | None:
    assert isinstance(row, dict)
    close = row["representativeness"]
    return close["hellinger"] if close else None


def _drawn(row: object, name: str) -> float | None:
    assert isinstance(row, dict)
    draws = row["controls"][name]
    return draws["mean"] if draws else None

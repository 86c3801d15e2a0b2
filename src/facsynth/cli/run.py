"""`fac run`."""

from pathlib import Path

import click

from facsynth.cli.options import json_option


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Run folder; runs/NAME by default."
)
@json_option
def run(recipe: Path, output: Path | None, as_json: bool) -> None:
    """Run all stages of RECIPE in one folder; run it again to resume after a stop."""
    from facsynth.recipe import read_recipe

    # A wrong recipe is reported before PyTorch is imported, which takes seconds.
    read_recipe(recipe)
    from facsynth.cli.show import RichProgress, show
    from facsynth.pipeline import run_recipe

    result = run_recipe(recipe, output, progress=RichProgress())
    show(result, as_json=as_json, notes=result.after["controls"]["warnings"])
    if not as_json:
        click.echo(f"Data:    {result.folder / 'synthesize' / 'synthetic.jsonl'}")
        click.echo(f"Report:  {result.report}")

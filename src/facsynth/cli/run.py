"""`fac run`."""

from pathlib import Path

import click

from facsynth.cli.options import example_option, json_option
from facsynth.cli.sections import SectionedCommand

_HEAD = """A recipe for `fac run`: every table and key, with its default. A line that begins with #
and no blank is a setting that has its default; remove the # to change it. A stage whose table is
optional runs only where its header, such as [explain], is there."""

_GIVEN = {"name": "mine", "anchor.source": "anchor.jsonl", "seed.source": "seed.jsonl"}


def _example() -> str:
    from facsynth.recipe import Recipe
    from facsynth.settings_text import example_text

    return example_text(Recipe, _GIVEN, _HEAD)


@click.command(cls=SectionedCommand)
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Run folder; runs/NAME by default."
)
@example_option(_example)
@click.option(
    "--stand-in",
    is_flag=True,
    help="Walk through the stages on the embedded model, with small made-up data and replies by "
    "rules; the numbers mean nothing.",
)
@json_option
def run(recipe: Path, output: Path | None, stand_in: bool, as_json: bool) -> None:
    """Run all stages of a recipe in one folder.

    Run it again to resume after a stop. Stages: anchor and seed are read and extracted, features
    explained and judged, coverage is measured, what is missing is written, chosen and exported, and
    a task is trained and tested.
    """
    from facsynth.recipe import read_recipe

    # A wrong recipe is reported before PyTorch is imported, which takes seconds.
    read_recipe(recipe)
    from facsynth.cli.show import RichProgress, show
    from facsynth.pipeline import run_recipe, run_stand_in

    run_it = run_stand_in if stand_in else run_recipe
    result = run_it(recipe, output, progress=RichProgress())
    show(result, as_json=as_json, notes=result.after["controls"]["warnings"])
    if not as_json:
        click.echo(f"Data:    {result.folder / 'synthesize' / 'synthetic.jsonl'}")
        click.echo(f"Report:  {result.report}")

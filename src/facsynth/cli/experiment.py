"""`fac experiment`."""

from pathlib import Path

import click

from facsynth.cli.options import example_option, json_option, plot_option
from facsynth.cli.sections import SectionedCommand


def _example() -> str:
    from importlib.resources import files

    return (files("facsynth.experiment") / "example.toml").read_text("utf-8")


@click.command(cls=SectionedCommand)
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Run folder; runs/NAME by default."
)
@example_option(_example)
@click.option("--dry-run", is_flag=True, help="Print the estimate and ask nothing.")
@plot_option
@json_option
def experiment(
    recipe: Path, output: Path | None, dry_run: bool, plot: Path | None, as_json: bool
) -> None:
    """Compare what training on the samples of methods brings.

    RECIPE names the arms, sizes, random seeds, tasks and backbones. Run it again to resume after a
    stop, or after adding an arm: what is done is not done again.
    """
    from facsynth.experiment.settings import read_experiment

    # A wrong recipe is reported before PyTorch is imported, which takes seconds.
    wanted = read_experiment(recipe)
    from facsynth.cli.show import RichProgress, show
    from facsynth.experiment.run import forecast_experiment, run_experiment
    from facsynth.experiment.world import World

    folder = output or Path("runs") / wanted.name
    if dry_run:
        left = forecast_experiment(World(wanted, folder, progress=RichProgress()))
        show(left, as_json=as_json)
        return
    result = run_experiment(wanted, folder, progress=RichProgress())
    show(result, as_json=as_json, notes=result.notes)
    if plot:
        from facsynth.report.plots import frontier_charts, write_chart

        write_chart(frontier_charts(result.rows), plot)

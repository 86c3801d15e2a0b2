"""`fac sae random`."""

from pathlib import Path

import click

from facsynth.cli.options import output_option


@click.command("random")
@click.argument("sae", metavar="SAE")
@output_option("Folder of the control.")
@click.option("--random-seed", default=0, show_default=True, help="Seed of the directions.")
def random_sae(sae: str, output: Path, random_seed: int) -> None:
    """Write an SAE with the gate, the width and the biases of SAE, and random directions.

    SAE is whatever --sae takes, or `default` for the embedded one. What such an SAE finds as well
    is no finding of the trained one: `fac transfer --random` reads its feature table.
    """
    from facsynth.sae.files import load_sae, save_sae
    from facsynth.sae.random import random_directions

    trained = load_sae(sae)
    save_sae(random_directions(trained, seed=random_seed), output)
    click.echo(f"random directions in {output}", err=True)

"""`fac completion`."""

import click
from click.shell_completion import get_completion_class

from facsynth.cli.sections import SectionedCommand

_SHELLS = ("bash", "zsh", "fish")


@click.command(cls=SectionedCommand)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that makes a shell complete commands.

    Bash: `fac completion bash >> ~/.bashrc`; zsh: `fac completion zsh >> ~/.zshrc`; fish:
    `fac completion fish > ~/.config/fish/completions/fac.fish`.
    """
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ctx.find_root().command, {}, "fac", "_FAC_COMPLETE").source())

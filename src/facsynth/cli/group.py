"""The command group: loads the module of the command that is called, and prints its errors."""

import sys
from difflib import get_close_matches
from importlib import import_module

import click

from facsynth import __version__
from facsynth.errors import FacsynthError
from facsynth.show import LONGEST, visible_text

__all__ = ["main"]

_COMMANDS = {
    "look": "facsynth.cli.look",
    "extract": "facsynth.cli.extract",
    "merge": "facsynth.cli.merge",
    "coverage": "facsynth.cli.coverage",
    "explain": "facsynth.cli.explain",
    "relevance": "facsynth.cli.relevance",
    "synthesize": "facsynth.cli.synthesize",
    "select": "facsynth.cli.select",
    "filter": "facsynth.cli.filter",
    "diversity": "facsynth.cli.diversity",
    "labels": "facsynth.cli.labels",
    "diff": "facsynth.cli.diff",
    "overlap": "facsynth.cli.overlap",
    "task": "facsynth.cli.task",
    "baseline": "facsynth.cli.baseline",
    "experiment": "facsynth.cli.experiment",
    "transfer": "facsynth.cli.transfer",
    "sae": "facsynth.cli.sae",
    "export": "facsynth.cli.export",
    "report": "facsynth.cli.report",
    "run": "facsynth.cli.run",
    "doctor": "facsynth.cli.doctor",
    "completion": "facsynth.cli.completion",
}
"""Name of each command and the module that holds it under the same name."""


class _Commands(click.Group):
    """Loads only the command that is called, so that `fac --help` stays light."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(_COMMANDS[cmd_name])
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = get_close_matches(args[0], _COMMANDS, n=1)
            if not close:
                raise
            raise click.UsageError(f"{error.message} Did you mean {close[0]}?", ctx) from error

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            kept = str(stop) or "What was saved is kept; run the same command again to resume."
            click.echo(f"\nStopped. {kept}", err=True)
            sys.exit(130)
        except BrokenPipeError:  # the reader of standard output went away; click says nothing
            raise
        except (FacsynthError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            raise click.ClickException(_one_line(error)) from error


def _one_line(error: Exception) -> str:
    """An error's message without line breaks; of the system's errors with the file."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return visible_text(" ".join(text.split()), most=LONGEST) or type(error).__name__


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="fac")
def main(debug: bool) -> None:
    """Measure which features of a model your data exercises, and write what is missing.

    Results go to standard output, progress and messages to standard error. An
    interrupted command resumes when you run it again.
    """

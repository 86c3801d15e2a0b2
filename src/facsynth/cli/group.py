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
    "look": "Show what is in a data set, and what is odd in it.",
    "extract": "Read data with a model and an SAE into a feature table.",
    "merge": "Join the shards of a feature table.",
    "coverage": "Measure how much of the anchor's features the seed covers.",
    "explain": "Describe what the features of a table mean.",
    "relevance": "Judge which features matter for a task.",
    "synthesize": "Write samples that activate the missing features.",
    "select": "Choose samples of a feature table, without any model.",
    "filter": "Keep, drop or label samples by the features they activate.",
    "diversity": "Measure the diversity of data sets.",
    "labels": "Compare the classes of labelled feature tables.",
    "diff": "Show which features fire more in one table than in another.",
    "overlap": "Show which features of each table the others have too.",
    "task": "Train and evaluate what the data are for.",
    "baseline": "Write samples by another method, for comparison.",
    "experiment": "Compare what training on the samples of methods brings.",
    "transfer": "Show how much feature space two SAEs share.",
    "sae": "Train, evaluate, describe and convert sparse autoencoders.",
    "export": "Write samples in the form that a training tool reads.",
    "report": "Write one page to browse features and samples.",
    "run": "Run all stages of a recipe in one folder.",
    "doctor": "Check whether facsynth can work on this machine.",
    "completion": "Print a script that makes a shell complete commands.",
}
"""What `fac --help` says of each command; a module of its name in `facsynth.cli` holds it."""


class _Commands(click.Group):
    """Loads only the command that is called, and none for `fac --help`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"facsynth.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

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

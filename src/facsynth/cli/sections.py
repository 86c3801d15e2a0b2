"""Help in sections: options of the command first, then those of each settings record."""

from typing import Any

import click

__all__ = ["SectionedCommand", "SectionedGroup", "SectionedOption"]


class SectionedOption(click.Option):
    """An option that belongs to a section of the help."""

    def __init__(self, *names: Any, section: str = "", **options: Any) -> None:
        """Make an option; empty `section` puts it among the command's own."""
        super().__init__(*names, **options)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose help shows options section by section, in the order of their first ones."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        _write_sections(self, ctx, formatter)


class SectionedGroup(click.Group):
    """A group of such commands."""

    command_class = SectionedCommand

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections and the commands."""
        _write_sections(self, ctx, formatter)
        self.format_commands(ctx, formatter)


def _write_sections(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    sections: dict[str, list[tuple[str, str]]] = {"": []}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is not None:
            sections.setdefault(getattr(param, "section", ""), []).append(record)
    for section, records in sections.items():
        if records:
            with formatter.section(section or "Options"):
                formatter.write_dl(records)

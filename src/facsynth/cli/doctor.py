"""`fac doctor`."""

from pathlib import Path

import click

from facsynth.cli.options import json_option
from facsynth.cli.sections import SectionedCommand


@click.command(cls=SectionedCommand)
@click.argument("table", required=False, type=click.Path(path_type=Path))
@json_option
def doctor(table: Path | None, as_json: bool) -> None:
    """Check whether facsynth can work on this machine.

    Of the machine: the device, memory, threads, extras, servers of language models, what sizes of
    models fit and how long they take, and how to mend what is in the way. Of a feature TABLE every
    file is read: checksums, counts, ids, values, and the order of the samples; what can be saved is
    said below. The exit code is 1 when something is broken.
    """
    if table is not None:
        _check(table, as_json=as_json)
    else:
        _show_machine(as_json=as_json)


def _check(table: Path, *, as_json: bool) -> None:
    from facsynth.cli.show import show
    from facsynth.table.doctor import check_table

    check = check_table(table)
    show(check, as_json=as_json)
    if not check.is_whole:
        raise click.exceptions.Exit(1)


def _show_machine(*, as_json: bool) -> None:
    from facsynth.cli.show import show
    from facsynth.models.doctor import check_machine

    check = check_machine()
    show(check, as_json=as_json)
    if check.problems:
        raise click.exceptions.Exit(1)

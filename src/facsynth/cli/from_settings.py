"""Command-line options made from settings records."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import click

from facsynth.cli.sections import SectionedOption
from facsynth.errors import DataError
from facsynth.settings import Setting, Settings, settings_of

__all__ = ["settings_options"]

Command = Callable[..., Any]

_TYPES: dict[Any, Any] = {Path: click.Path(path_type=Path)}
"""What click has a type of its own for."""


def settings_options(
    record: type[Settings],
    argument: str,
    *,
    without: Collection[str] = (),
    presets: Mapping[str, Settings] | None = None,
) -> Callable[[Command], Command]:
    """One option for each field of a settings record, those of its groups included.

    `max_rounds` becomes `--max-rounds`; a switch that is on by default gets `--no-…`; a tuple is
    an option that can be repeated. The command gets the finished record, whose first docstring line
    heads its section of the help.

    Args:
        record: The settings.
        argument: Parameter of the command that takes the record.
        without: Fields (`name`, or `group.name`) that get no option and keep their defaults.
        presets: Settings by their names for `--recipe`, in place of which stand options that are
            given.
    """

    def decorate(command: Command) -> Command:
        names = _option_names(record, without)

        @functools.wraps(command)
        def run(**options: Any) -> Any:
            given = {name: options.pop(name) for name in names}
            try:
                settings = _build(record, given, without)
            except DataError as error:
                raise click.UsageError(str(error)) from error
            return command(**{argument: settings}, **options)

        made: Command = run
        for setting, section in reversed(_settings(record, without)):
            made = _option(setting, section)(made)
        return _preset_option(record, without, presets)(made) if presets else made

    return decorate


def _preset_option(
    record: type[Settings], without: Collection[str], presets: Mapping[str, Settings]
) -> Callable[[Command], Command]:
    """`--recipe`, which changes the defaults of the other options before they are read."""

    def use(context: click.Context, _option: click.Parameter, name: str | None) -> None:
        if name:
            found = _settings(record, without, defaults=presets[name])
            values = {setting.name: setting.default for setting, _ in found}
            context.default_map = {**(context.default_map or {}), **values}

    return click.option(
        "--recipe",
        type=click.Choice(list(presets)),
        callback=use,
        is_eager=True,
        expose_value=False,
        help="Take the settings of a published recipe, unless they are given.",
    )


def _settings(
    record: type[Settings],
    without: Collection[str],
    group: str = "",
    defaults: Settings | None = None,
) -> list[tuple[Setting, str]]:
    """The fields that become options, groups flattened, and the section of each in the help."""
    found: list[tuple[Setting, str]] = []
    section = (
        inspect.cleandoc(record.__doc__ or "").partition("\n")[0].partition(". ")[0].rstrip(".")
    )
    for setting in settings_of(record, defaults):
        name = f"{group}{setting.name}"
        if name in without:
            continue
        if setting.is_group:
            given = None if setting.default is MISSING else setting.default
            found += _settings(setting.kind, without, f"{name}.", given)
        else:
            found.append((setting, section))
    return found


def _option_names(record: type[Settings], without: Collection[str]) -> list[str]:
    names = [setting.name for setting, _ in _settings(record, without)]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"{record.__name__} has two options called {twice}"
    return names


def _build(
    record: type[Settings],
    given: dict[str, Any],
    without: Collection[str],
    group: str = "",
    defaults: Any = None,
) -> Any:
    values = {}
    for setting in settings_of(record, defaults):
        name = f"{group}{setting.name}"
        if name in without:
            continue
        if setting.is_group:
            inner = None if setting.default is MISSING else setting.default
            values[setting.name] = _build(setting.kind, given, without, f"{name}.", inner)
        else:
            values[setting.name] = given[setting.name]
    return replace(defaults, **values) if defaults else record(**values)


def _option(setting: Setting, section: str) -> Callable[[Command], Command]:
    flag = "--" + setting.name.replace("_", "-")
    kind, repeats = _plain_kind(setting.kind)
    required = setting.default is MISSING
    shared: dict[str, Any] = {"help": setting.text, "required": required}
    shared |= {"cls": SectionedOption, "section": section}
    if kind is bool:
        names = f"{flag}/--no-{setting.name.replace('_', '-')}" if setting.default else flag
        return click.option(names, setting.name, is_flag=True, default=setting.default, **shared)
    if not required:
        shared["default"] = setting.default
        shared["show_default"] = setting.default not in (None, "", ())
    return click.option(flag, setting.name, type=_click_type(kind), multiple=repeats, **shared)


def _plain_kind(kind: Any) -> tuple[Any, bool]:
    """The type of one value of a field, and whether the field is a tuple of them."""
    if isinstance(kind, UnionType):
        # A word on the command line stands for what else a field takes, such as a mapping.
        kinds = [one for one in get_args(kind) if one is not type(None)]
        [kind] = kinds if len(kinds) == 1 else [str]
    if get_origin(kind) is tuple:
        return get_args(kind)[0], True
    return kind, False


def _click_type(kind: Any) -> Any:
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    return _TYPES.get(kind, kind)

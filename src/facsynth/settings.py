"""Settings records: the one place of a stage's names, defaults and explanations.

Command-line options, tables of recipes and the documentation are made from the fields of these
records and from the docstring under each field.
"""

import ast
import difflib
import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

from facsynth.errors import DataError

__all__ = [
    "Setting",
    "Settings",
    "changed_settings",
    "check_threshold",
    "read_settings",
    "settings_of",
]

T = TypeVar("T")

_SHOWN = 10
"""Wrong keys that an error names."""


class Settings:
    """Marks a frozen dataclass as the settings of a stage.

    Every field has a default or is required, and a docstring under it. A field that is itself a
    `Settings` record groups settings: a sub-table of a recipe, flat options on the command line.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012  (what pydantic looks for)


def check_threshold(value: float | None) -> None:
    """Raise a DataError unless this can be a threshold; None for one that is chosen is fine."""
    if value is not None and not value >= 0:
        raise DataError(f"threshold is {value}; it must be 0 or more")


@dataclass(frozen=True)
class Setting:
    """One field of a settings record."""

    name: str
    kind: Any
    """Its type annotation, resolved."""

    default: Any
    """`MISSING` where a value is required."""

    text: str
    """What it means: its docstring as one line."""

    @property
    def is_group(self) -> bool:
        """Whether it holds settings of its own."""
        return isinstance(self.kind, type) and issubclass(self.kind, Settings)

    @property
    def table(self) -> "type[Settings] | None":
        """The record of a group, also of one that may be None; None of any other field."""
        record = _record_of(self.kind)
        return record if record is not None and issubclass(record, Settings) else None


def settings_of(record: type[Settings], defaults: Settings | None = None) -> tuple[Setting, ...]:
    """The fields of a settings record, in the order in which they are written.

    Args:
        record: The settings.
        defaults: Takes the place of the record's own defaults, such as the values that an
            enclosing record gives to a group.
    """
    assert is_dataclass(record)
    texts, kinds = _field_docs(record), get_type_hints(record)
    return tuple(
        Setting(
            f.name,
            kinds[f.name],
            getattr(defaults, f.name) if defaults else _default(f),
            texts.get(f.name, ""),
        )
        for f in fields(record)
    )


def _record_of(kind: Any) -> type | None:
    """The dataclass that a type is, or that it is where it is not None."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    kinds = tuple(one for one in kinds if one is not type(None))
    only = kinds[0] if len(kinds) == 1 else None
    return only if isinstance(only, type) and is_dataclass(only) else None


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


@cache
def _field_docs(record: type) -> dict[str, str]:
    """The string that stands under each field of a class, its white space folded."""
    inherited = [_field_docs(base) for base in reversed(record.__bases__) if is_dataclass(base)]
    own = _own_field_docs(record) if is_dataclass(record) else {}
    return {name: text for docs in (*inherited, own) for name, text in docs.items()}


@cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module by their qualified names; parsed once, for `--help` must be quick."""
    found: dict[str, ast.ClassDef] = {}

    def visit(node: ast.AST, outer: str) -> None:
        for inner in getattr(node, "body", ()):
            if isinstance(inner, ast.ClassDef):
                found[outer + inner.name] = inner
                visit(inner, f"{outer}{inner.name}.")
            elif isinstance(inner, ast.FunctionDef):
                visit(inner, f"{outer}{inner.name}.<locals>.")

    visit(ast.parse(inspect.getsource(sys.modules[module])), "")
    return found


def _own_field_docs(record: type) -> dict[str, str]:
    body = _classes(record.__module__)[record.__qualname__]
    pairs = zip(body.body, body.body[1:], strict=False)
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairs
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def read_settings(record: type[T], values: Mapping[str, Any], source: str) -> T:
    """A settings record from a table of plain values, such as a recipe.

    Args:
        record: A dataclass whose tables are `Settings`.
        values: The table; arrays become tuples, whole numbers pass as numbers. A group keeps what
            the record around it sets by default, where the table does not say otherwise.
        source: Names the table in errors.

    Raises:
        DataError: A key is unknown or missing, or a value does not fit; each one is named.
    """
    from pydantic import ValidationError

    kind: Any = record  # mypy takes `type[T]` for unhashable
    try:
        # As JSON, because only there strict validation takes arrays for tuples.
        text = json.dumps(_filled(record, values))
        settings: T = _adapter(kind).validate_json(text, strict=True)
        return settings
    except (TypeError, RecursionError, ValidationError) as error:
        if not isinstance(error, ValidationError):
            raise DataError(f"{source} holds a value that no setting takes: {error}") from error
        found = error.errors()
        lines = "; ".join(_complaint(record, one) for one in found[:_SHOWN])
        if len(found) > _SHOWN:
            lines += f"; and {len(found) - _SHOWN:,} more"
        raise DataError(f"{source}: {lines}") from error
    except DataError as error:
        raise DataError(f"{source}: {error}") from error


@cache
def _adapter(record: Any) -> Any:
    """What validates a record; it takes longer to build than to use."""
    from pydantic import TypeAdapter

    return TypeAdapter(record)


def _filled(record: Any, values: Any, defaults: Any = None) -> Any:
    """A table with the defaults of its record where these are not those of the group itself."""
    if not (isinstance(values, Mapping) and issubclass(record, Settings)):
        return values
    found = (
        {} if defaults is None else {f.name: getattr(defaults, f.name) for f in fields(defaults)}
    )
    found |= values
    for setting in settings_of(record, defaults):
        default = None if setting.default is MISSING else setting.default
        if setting.table and setting.name in values:
            found[setting.name] = _filled(setting.table, values[setting.name], default)
        elif is_dataclass(found.get(setting.name)):
            found[setting.name] = asdict(found[setting.name])
    return found


def changed_settings(record: Any, stored: Mapping[str, Any], defaults: Any = None) -> list[str]:
    """Names of the settings that differ from stored ones; those of a group after a dot.

    A field that the stored settings lack counts as its default, and one that the record lacks is
    ignored, so a folder written by another version can be resumed.

    Args:
        record: A settings record.
        stored: Its table, as read from JSON.
        defaults: Takes the place of the record's own defaults; see `settings_of`.
    """
    changed = []
    for field in fields(record):
        value = getattr(record, field.name)
        default = getattr(defaults, field.name) if defaults else _default(field)
        if is_dataclass(value):
            group = None if default is MISSING else default
            below = changed_settings(value, stored.get(field.name) or {}, group)
            changed += [f"{field.name}.{name}" for name in below]
            continue
        old = stored.get(field.name, default)
        # As JSON, where a tuple is a list.
        if old is MISSING or json.dumps(value) != json.dumps(old):
            changed.append(field.name)
    return changed


def _complaint(record: type, error: Any) -> str:
    """One validation error in words: the key, the value, and what fits."""
    where = [str(part) for part in error["loc"]]
    key = ".".join(where)
    if error["type"] == "unexpected_keyword_argument":
        known = _names_at(record, where[:-1])
        near = difflib.get_close_matches(where[-1], known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key `{key}`; {hint}"
    if error["type"] == "missing":
        return f"the key `{key}` is missing"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"`{key}` is {json.dumps(error['input'])[:60]}; {message}"


def _names_at(record: Any, path: list[str]) -> list[str]:
    for name in path:
        inner = _record_of(get_type_hints(record).get(name))
        if inner is None:
            return []
        record = inner
    return [f.name for f in fields(record)]

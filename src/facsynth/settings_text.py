"""Settings records as text: a commented example in TOML, a page of documentation, a JSON Schema."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from facsynth.settings import Setting, Settings, settings_of

__all__ = ["example_text", "reference_text", "schema_of"]

_WIDTH = 96


@dataclass(frozen=True)
class _Table:
    """A record at its place in the file."""

    path: tuple[str, ...]
    record: type[Settings]
    text: str
    """What it is for."""

    keys: tuple[Setting, ...]
    """Its settings that are no tables."""

    is_list: bool
    """Whether there may be several."""

    @property
    def name(self) -> str:
        """Its path with dots."""
        return ".".join(self.path)

    @property
    def header(self) -> str:
        """The line that begins it."""
        return f"[[{self.name}]]" if self.is_list else f"[{self.name}]"


def example_text(record: type[Settings], given: Mapping[str, Any], head: str) -> str:
    """A TOML file in which every setting stands with its explanation and its default.

    Lines of settings are commented out by a `#` without a blank, save those that are given. Where
    a record comes again, only what differs from its first table is repeated.

    Args:
        record: What the file makes.
        given: Values to set, by their dotted names, such as `anchor.source`.
        head: First lines, a comment.
    """
    lines = [f"# {line}".rstrip() for line in head.split("\n")]
    first: dict[type[Settings], _Table] = {}
    for table in _tables(record):
        if table.path:
            is_given = any(name.startswith(f"{table.name}.") for name in given)
            lines += ["", *_comment(table.text), f"{'' if is_given else '#'}{table.header}"]
        before = first.setdefault(table.record, table)
        if before is not table:
            lines += _comment(f"Further keys: as in [{before.name}].")
        for setting in table.keys:
            name = f"{table.name}.{setting.name}".lstrip(".")
            if name not in given and before is not table and setting in before.keys:
                continue
            value = _toml(given[name]) if name in given else _example(setting)
            line = f"{setting.name} = {value}"
            lines += ["", *_comment(setting.text), line if name in given else f"#{line}"]
    return "\n".join(lines) + "\n"


def reference_text(record: type[Settings]) -> str:
    """Markdown: a section for each table, with a row for each key."""
    lines: list[str] = []
    first: dict[type[Settings], _Table] = {}
    for table in _tables(record):
        lines += [f"### `{table.header}`" if table.path else "### Top", ""]
        lines += textwrap.wrap(table.text, 120)
        before = first.setdefault(table.record, table)
        rows = [one for one in table.keys if before is table or one not in before.keys]
        if before is not table:
            lines += ["", f"Keys as in `{before.header}`{', save' if rows else ''}"]
            lines[-1] += ":" if rows else "."
        if rows:
            lines += ["", "| key | values | default | meaning |", "|---|---|---|---|"]
        for one in rows:
            cells = (f"`{one.name}`", _kind(one.kind), _default(one), one.text)
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def schema_of(record: type[Settings], *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """JSON Schema of a record, with the explanation of each key.

    Args:
        record: What a file makes.
        optional: Keys that the reader of the file fills in.
    """
    from pydantic import TypeAdapter

    schema = TypeAdapter(record).json_schema()
    _explain(schema, record)
    for table in _tables(record):
        if found := schema["$defs"].get(table.record.__name__):
            _explain(found, table.record)
    schema["required"] = [name for name in schema["required"] if name not in optional]
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema}


def _explain(schema: dict[str, Any], record: type[Settings]) -> None:
    schema["additionalProperties"] = False
    for setting in settings_of(record):
        schema["properties"][setting.name]["description"] = setting.text


def _tables(
    record: type[Settings],
    path: tuple[str, ...] = (),
    text: str = "",
    defaults: Settings | None = None,
    is_list: bool = False,
) -> Iterator[_Table]:
    """A record, then the records within it."""
    settings = settings_of(record, defaults)
    inner = {one.name: one.table or _item_of(one.kind) for one in settings}
    keys = tuple(one for one in settings if inner[one.name] is None)
    yield _Table(path, record, text or _first_line(record), keys, is_list)
    for setting in settings:
        if below := inner[setting.name]:
            known = setting.default if isinstance(setting.default, Settings) else None
            many = setting.table is None
            yield from _tables(below, (*path, setting.name), setting.text, known, many)


def _item_of(kind: Any) -> type[Settings] | None:
    """The record that a list of tables holds."""
    item = get_args(kind)[0] if get_origin(kind) is tuple else None
    return item if isinstance(item, type) and issubclass(item, Settings) else None


def _first_line(record: type[Settings]) -> str:
    return (record.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH)]


def _example(setting: Setting) -> str:
    """The default in TOML, or a value of the kind where there is none."""
    if setting.default is not None and setting.default is not MISSING:
        return _toml(setting.default)
    kinds = [kind for kind in _parts(setting.kind) if kind is not NoneType]
    kind = kinds[0]
    if get_origin(kind) is Literal:
        return _toml(get_args(kind)[0])
    return {str: '"…"', int: "1", float: "1.0", bool: "true"}.get(kind, "[]")


def _toml(value: Any) -> str:
    """A value in TOML; strings and lists are as in JSON."""
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, Mapping) else "{}"


def _default(setting: Setting) -> str:
    if setting.default is MISSING:
        return "required"
    return "" if setting.default is None else f"`{_toml(setting.default)}`"


def _kind(kind: Any) -> str:
    """The type of a field in words."""
    if get_origin(kind) is Literal:
        return ", ".join(f"`{one}`" for one in get_args(kind))
    if len(parts := _parts(kind)) > 1:
        return " or ".join(_kind(one) for one in parts if one is not NoneType)
    if get_origin(kind) is tuple:
        return f"list of {_kind(get_args(kind)[0])}"
    if isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Mapping):
        return "table"
    return {str: "text", int: "whole number", float: "number", bool: "true or false"}[kind]


def _parts(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)

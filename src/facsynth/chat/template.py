"""Templates of prompts, which may come from strangers: a small part of Jinja2, in a sandbox.

A template can insert its values, join and measure them, choose, and loop over lists that it is
given. What could multiply texts or run long (arithmetic, formats, ranges, assignments, macros,
other files) is refused before anything is rendered, so the work is bounded by the template's
length times the length of the values.
"""

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from facsynth.errors import DataError

if TYPE_CHECKING:
    from jinja2 import Template, nodes
    from jinja2.sandbox import SandboxedEnvironment

__all__ = ["fill_template"]

_MOST_CHARACTERS = 20_000
_MOST_LOOPS = 2
"""Loops in a loop."""

_FILTERS = {"capitalize", "first", "join", "last", "length", "lower", "trim", "upper"}
_NODES = {
    *("Template", "Output", "TemplateData", "Name", "Const", "List", "Tuple", "CondExpr", "If"),
    *("For", "Filter", "Test", "Getattr", "Getitem", "Slice", "Compare", "Operand"),
    *("And", "Or", "Not", "Neg", "Concat"),
}


def fill_template(template: str, values: Mapping[str, object], what: str) -> str:
    """A template with its values.

    Args:
        template: Text with `{{ … }}` and `{% … %}`.
        values: What it may use.
        what: Names the template in errors.

    Raises:
        DataError: The template is broken, uses a value that it is not given, or something that a
            prompt does not need.
    """
    from jinja2 import TemplateError

    try:
        return _compiled(template).render(values).strip()
    except DataError as error:
        raise DataError(f"{what}: {error}") from error
    except (TemplateError, TypeError, ValueError, RecursionError) as error:
        known = ", ".join(values) or "none"
        said = str(error)[:200] or type(error).__name__
        raise DataError(f"{what}: {said}; values that it may use: {known}") from error


@lru_cache(maxsize=256)
def _compiled(template: str) -> "Template":
    """A template that was checked; the same few are filled for every request."""
    if len(template) > _MOST_CHARACTERS:
        raise DataError(f"it has more than {_MOST_CHARACTERS:,} characters")
    parsed = _environment().parse(template)
    if unfit := _unfit(parsed, 0):
        raise DataError(f"templates of prompts do not have {unfit}")
    return _environment().from_string(parsed)


def _unfit(node: "nodes.Node", depth: int) -> str:
    """What in a template may not be there; empty where all is well."""
    kind = type(node).__name__
    held: Any = node
    if kind not in _NODES:
        return f"`{kind.lower()}`"
    if kind == "Filter":
        if held.name not in _FILTERS:
            return f"the filter `{held.name[:40]}`; known are {', '.join(sorted(_FILTERS))}"
        if held.name == "join" and not _is_short(held):
            return "`join` with more than a short text between"
    if kind == "For":
        depth += 1
        if depth > _MOST_LOOPS or type(held.iter).__name__ not in ("Name", "Getattr"):
            return "loops but over the lists that they are given, two deep at most"
    return next(filter(None, (_unfit(inner, depth) for inner in node.iter_child_nodes())), "")


def _is_short(join: Any) -> bool:
    """Whether a join of a value itself has only a constant of a few characters between."""
    is_plain = type(join.node).__name__ in ("Name", "Getattr")
    between = [getattr(one, "value", None) for one in join.args]
    return (
        is_plain
        and not join.kwargs
        and all(isinstance(text, str) and len(text) <= 20 for text in between)
    )


@cache
def _environment() -> "SandboxedEnvironment":
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(
        autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )

"""Recipes: everything a run is made from, in one TOML file."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from facsynth.chat.dialect import EndpointSettings
from facsynth.chat.policy import Policy
from facsynth.errors import DataError
from facsynth.synthesize.settings import SynthesisSettings
from facsynth.table.extract import ExtractSettings

__all__ = ["DataSource", "Generator", "Recipe", "read_recipe"]

T = TypeVar("T")

_KINDS = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}


@dataclass(frozen=True)
class DataSource:
    """Where samples come from."""

    source: str
    """A file, a folder, a Hub data set, or `chitchat` for the demo's conversations."""

    n_samples: int | None = None
    """Take the first so many; required for `chitchat`."""

    prompts: tuple[str, ...] = ()
    """Only of `chitchat`: conversation prompts to draw from; empty for all."""

    seed: int = 0
    """Only of `chitchat`: seed of the draw."""


@dataclass(frozen=True)
class Generator:
    """Who writes."""

    model: str | None = None
    """A local model; None for the one that reads the features. Not used with `chat_model`."""

    chat_model: str | None = None
    """Model name at an OpenAI-compatible endpoint."""

    api_base: str = "https://api.openai.com/v1"
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; never the key."""

    batch_size: int = 32
    """Texts per batch of a local model."""

    endpoint: EndpointSettings = field(default_factory=EndpointSettings)
    """How the endpoint is talked to. Not part of what identifies a run."""

    policy: Policy = field(default_factory=Policy)
    """What may be spent. Not part of what identifies a run: raise a limit and run again to
    resume."""


@dataclass(frozen=True)
class Recipe:
    """Everything a run is made from."""

    name: str
    anchor: DataSource
    seed: DataSource
    model: str | None = None
    """Language model whose features are used; None for the embedded default."""

    sae: str | None = None
    """Its SAE; None for the embedded default."""

    dtype: str = "auto"
    """Precision of the model; see `load_language_model`. Name one to go on on another machine."""

    extract: ExtractSettings = field(default_factory=ExtractSettings)
    generator: Generator = field(default_factory=Generator)
    synthesize: SynthesisSettings = field(default_factory=SynthesisSettings)


def read_recipe(path: str | Path) -> Recipe:
    """Read a TOML recipe; its tables are the fields of `Recipe`.

    Args:
        path: The recipe; its name without `.toml` names the run where the recipe does not.

    Raises:
        DataError: It cannot be read, is no TOML, or has an unknown, missing or unfit key.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path} cannot be read as a recipe: {error}") from error
    return _record(Recipe, {"name": path.stem, **raw}, str(path), "")


def _record(kind: type[T], values: Mapping[str, Any], path: str, table: str) -> T:
    """A dataclass from a TOML table, its keys checked and named when they are wrong."""
    where = f"{path} [{table}]" if table else path
    assert is_dataclass(kind)
    known = {f.name: f for f in fields(kind)}
    if unknown := sorted(set(values) - set(known)):
        names = ", ".join(f"`{name}`" for name in unknown)
        raise DataError(f"{where} has the unknown key {names}; known are {', '.join(known)}")
    for name, f in known.items():
        if name not in values and f.default is MISSING and f.default_factory is MISSING:
            raise DataError(f"{where} lacks `{name}`; see recipes/demo.toml for an example")
    kinds = get_type_hints(kind)
    made = {}
    for name, value in values.items():
        below = f"{table}.{name}" if table else name
        if is_dataclass(kinds[name]) and isinstance(value, Mapping):
            made[name] = _record(kinds[name], value, path, below)
        else:
            made[name] = _value(value, kinds[name], f"{where}: `{name}`")
    try:
        return kind(**made)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _value(value: Any, kind: Any, what: str) -> Any:
    """A TOML value as its field holds it: whole numbers are numbers, arrays are tuples."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise DataError(f"{what} is {value!r}; choose one of {', '.join(get_args(kind))}")
        return value
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_value(item, get_args(kind)[0], what) for item in value)
    if float in kinds and type(value) is int:
        return float(value)
    if type(value) not in kinds:
        wanted = " or ".join(_KINDS[k] for k in kinds if k in _KINDS) or (
            "a table" if is_dataclass(kind) else "a list of strings"
        )
        raise DataError(f"{what} is {value!r} where {wanted} was expected")
    return value

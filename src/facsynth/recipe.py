"""Recipes: everything a run is made from, in one TOML file."""

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path

from facsynth.chat.settings import Generator
from facsynth.data.files import named_sources
from facsynth.data.read import SampleList, read_samples
from facsynth.data.settings import ReadSettings
from facsynth.errors import DataError
from facsynth.settings import Settings, read_settings
from facsynth.synthesize.settings import SynthesisSettings
from facsynth.table.settings import ExtractSettings

__all__ = ["DataSource", "Recipe", "read_recipe"]


@dataclass(frozen=True)
class _Source(Settings):
    source: str | tuple[str, ...]
    """A file, a folder, a Hub data set, or several of these; or `chitchat` for the demo's
    conversations."""


@dataclass(frozen=True)
class DataSource(ReadSettings, _Source):
    """Where samples come from, and how they are read; `random_seed` also draws from `chitchat`."""

    n_samples: int | None = None
    """Read at most N samples, as with `limit`; required for `chitchat`."""

    prompts: tuple[str, ...] = ()
    """Only of `chitchat`: conversation prompts to draw from; all by default."""

    @property
    def name(self) -> str:
        """What the user calls the data."""
        return self.source if isinstance(self.source, str) else ", ".join(self.source)

    def read(self, *, rejected: Path | None = None) -> SampleList:
        """Read the samples of files.

        Args:
            rejected: Where rows that are skipped are written.

        Raises:
            DataError: Something cannot be read.
        """
        limit = self.n_samples if self.limit is None else self.limit
        names = (self.source,) if isinstance(self.source, str) else self.source
        return read_samples(named_sources(names), replace(self, limit=limit), rejected=rejected)


@dataclass(frozen=True)
class Recipe(Settings):
    """Everything a run is made from."""

    name: str
    """Names the run folder and the report; by default the recipe's file name."""

    anchor: DataSource
    """Data that represents the target domain."""

    seed: DataSource
    """The data set to improve."""

    model: str | None = None
    """Language model whose features are used; the embedded one by default."""

    sae: str | None = None
    """Its SAE; the embedded one by default."""

    dtype: str = "auto"
    """Precision of the model; see `load_language_model`. Set it to resume on another machine."""

    extract: ExtractSettings = field(default_factory=ExtractSettings)
    """How samples are read."""

    generator: Generator = field(default_factory=Generator)
    """Who writes."""

    synthesize: SynthesisSettings = field(default_factory=SynthesisSettings)
    """What is written, and what is kept."""


def read_recipe(path: str | Path) -> Recipe:
    """Read a TOML recipe; its tables are the fields of `Recipe`.

    Args:
        path: The recipe; its name without `.toml` names the run where the recipe does not.

    Raises:
        DataError: It cannot be read, is not valid TOML, or has an unknown, missing or unfit key.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path} cannot be read as a recipe: {error}") from error
    recipe = read_settings(Recipe, {"name": path.stem, **raw}, str(path))
    for what in (recipe.anchor, recipe.seed):
        if what.source == "chitchat" and what.n_samples is None:
            raise DataError(f"{path}: the source `chitchat` needs n_samples")
    return recipe
